//! The built-in schemes, one file each.

pub mod alibi;
pub mod causal;
pub mod chunked;
pub mod dilated;
pub mod documents;
pub mod dynamic_alibi;
pub mod key_lengths;
pub mod prefix_lm;
pub mod rope;
pub mod rope2d;
pub mod sliding_window;

#[cfg(test)]
mod example;

pub use alibi::{Alibi, AlibiForm};
pub use causal::Causal;
pub use chunked::Chunked;
pub use dilated::Dilated;
pub use documents::Documents;
pub use dynamic_alibi::DynamicAlibi;
pub use key_lengths::KeyLengths;
pub use prefix_lm::PrefixLm;
pub use rope::Rope;
pub use rope2d::Rope2d;
pub use sliding_window::SlidingWindow;

use crate::registry::Entry;

/// The entries of [`Registry::standard`](crate::Registry::standard): rotations, biases, masks.
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        rope::entry(),
        rope2d::entry(),
        alibi::entry(),
        dynamic_alibi::entry(),
        causal::entry(),
        sliding_window::entry(),
        prefix_lm::entry(),
        key_lengths::entry(),
        documents::entry(),
        chunked::entry(),
        dilated::entry(),
    ]
}
