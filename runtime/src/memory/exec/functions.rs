//! The functions of a plan, by what they are for.

use bytemuck::Pod;

use crate::memory::{Function, Workspace};

/// The functions that a query tile takes.
#[derive(Clone, Copy)]
pub(super) struct Functions<'p> {
    pub(super) begin: Option<Function<'p>>,
    pub(super) reference: Option<Function<'p>>,
    pub(super) squares: Option<Function<'p>>,
    pub(super) guarded: Option<Function<'p>>,
    pub(super) scan: Option<Function<'p>>,
    pub(super) end: Option<Function<'p>>,
}

/// The functions that come in several shapes.
#[derive(Clone, Copy)]
pub(super) struct Shaped<'p> {
    pub(super) full: Option<Function<'p>>,
    pub(super) partial: Option<Function<'p>>,
}

/// Puts records where the scratch memory has a place for them.
pub(super) fn write<T: Pod>(scratch: &mut Workspace, start: usize, records: &[T]) {
    if let Some(slots) = scratch.slice_mut::<T>(start, records.len()) {
        slots.copy_from_slice(records);
    }
}
