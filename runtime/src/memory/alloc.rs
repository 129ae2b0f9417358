//! Alignment of working memory, and the error where there is none.

/// Alignment of a workspace: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// Memory for a call's working data could not be had.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of working memory could not be allocated; bind shorter sequences, or use fewer threads")]
#[non_exhaustive]
pub struct OutOfMemory {
    /// Bytes asked for; `usize::MAX` where the size itself overflows.
    pub bytes: usize,
}

rhumb_ir::debug_as_display!(OutOfMemory);

/// Makes room for more elements.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), OutOfMemory> {
    list.try_reserve(more).map_err(|_| OutOfMemory { bytes: more.saturating_mul(size_of::<T>()) })
}
