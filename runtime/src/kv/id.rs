//! Handles of sequences.

use std::fmt;

/// A sequence of a [`KvCache`](crate::KvCache).
///
/// A handle is stale once its sequence was freed: the next sequence in its place gets another. Caches that are asked for the same in the
/// same order give the same handles, so that one handle serves the caches of all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    /// Its place among the sequences.
    pub(super) slot: u32,
    /// Sequences that had the place before.
    pub(super) generation: u32,
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
