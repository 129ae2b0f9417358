//! Values of a register tile of scores that other loops have made.

use cranelift_codegen::ir::Value as Ssa;

use super::{distance, runs};
use crate::codegen::expr::ExprEmitter;

/// Where such values lie.
#[derive(Clone, Copy)]
pub(super) struct Made<'t> {
    /// The address of each row's values by distance; none where there are no such values.
    pub(super) distances: &'t [Ssa],
    /// The address of each row's values by runs; none where there are no such values.
    pub(super) pairs: &'t [Ssa],
}

impl Made<'_> {
    /// Tells the emitter the values of a row, for a vector of queries `column` bytes from the first.
    pub(super) fn seed(self, emitter: &mut ExprEmitter<'_, '_>, row: usize, column: i32) {
        if let Some(address) = self.distances.get(row) {
            distance::seed(emitter, *address, column);
        }
        if let Some(address) = self.pairs.get(row) {
            runs::seed(emitter, *address, column);
        }
    }
}
