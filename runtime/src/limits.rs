//! Limits of views.

/// The most dimensions a view can have.
pub const MAX_RANK: usize = 8;
