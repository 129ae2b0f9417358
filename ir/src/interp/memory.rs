//! Memory that may not be had.

use crate::graph::Graph;
use crate::op::Value;

use super::error::InterpError;

/// Memory that could not be had: so many bytes.
pub(super) struct NoRoom(usize);

impl NoRoom {
    pub(super) fn for_value(self, graph: &Graph, value: Value) -> InterpError {
        InterpError::OutOfMemory { line: graph.line(value), bytes: self.0 }
    }
}

/// An empty list with room for `count` elements.
pub(super) fn room<T>(count: usize) -> Result<Vec<T>, NoRoom> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| NoRoom(count.saturating_mul(size_of::<T>())))?;
    Ok(list)
}

/// A list of `count` times an element.
pub(super) fn filled<T: Clone>(count: usize, element: T) -> Result<Vec<T>, NoRoom> {
    let mut list = room(count)?;
    list.resize(count, element);
    Ok(list)
}
