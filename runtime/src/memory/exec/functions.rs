//! The functions of a plan, by what they are for.

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

/// Those that come in several shapes.
#[derive(Clone, Copy)]
pub(super) struct Shaped<'p> {
    pub(super) full: Option<Function<'p>>,
    pub(super) partial: Option<Function<'p>>,
}

pub(super) fn write_words(scratch: &mut Workspace, start: usize, words: &[u64]) {
    if let Some(slots) = scratch.slice_mut::<u64>(start, words.len()) {
        slots.copy_from_slice(words);
    }
}
