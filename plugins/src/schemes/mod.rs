//! The built-in schemes, one file each.

pub mod alibi;
pub mod causal;
pub mod chunked;
pub mod dilated;
pub mod documents;
pub mod dynamic_alibi;
pub mod key_lengths;
pub mod mrope;
pub mod prefix_lm;
pub mod rms_norm;
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
pub use mrope::{AxisLayout, MRope};
pub use prefix_lm::PrefixLm;
pub use rms_norm::RmsNorm;
pub use rope::{DynamicNtk, Llama3Rope, LongRope, ProportionalRope, Rope, Yarn};
pub use rope2d::Rope2d;
pub use sliding_window::SlidingWindow;

use crate::registry::Entry;

/// The entries of [`Registry::standard`](crate::Registry::standard): rotations, biases, masks.
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::of::<Rope>(),
        Entry::of::<Yarn>(),
        Entry::of::<Llama3Rope>(),
        Entry::of::<DynamicNtk>(),
        Entry::of::<LongRope>(),
        Entry::of::<ProportionalRope>(),
        Entry::of::<MRope>(),
        Entry::of::<Rope2d>(),
        Entry::of::<RmsNorm>(),
        Entry::of::<Alibi>(),
        Entry::of::<DynamicAlibi>(),
        Entry::of::<Causal>(),
        Entry::of::<SlidingWindow>(),
        Entry::of::<PrefixLm>(),
        Entry::of::<KeyLengths>(),
        Entry::of::<Documents>(),
        Entry::of::<Chunked>(),
        Entry::of::<Dilated>(),
    ]
}
