//! Limits of views.

/// The most dimensions a view can have.
pub const MAX_RANK: usize = 8;

/// What the number of tokens of a page is a multiple of.
pub const PAGE_UNIT: usize = 16;
