//! The built-in schemes, one file each.

pub mod alibi;
pub mod alibi2d;
pub mod axial_rope;
pub mod block_diffusion;
pub mod block_sparse;
pub mod causal;
pub mod chunked;
pub mod continuous_bias;
pub mod cope;
pub mod dape;
pub mod deberta;
pub mod decomposed;
pub mod dilated;
pub mod documents;
pub mod dynamic_alibi;
pub mod fire;
pub mod forget_gate;
pub mod kerple;
pub mod key_lengths;
pub mod learned_positions;
pub mod mrope;
pub mod neighbourhood;
pub mod offset_set;
pub mod pope;
pub mod prefix_lm;
pub mod qk_norm;
pub mod retention;
pub mod rope;
pub mod rope2d;
pub mod sandwich;
pub mod shaw;
pub mod shifted_window;
pub mod sinusoidal;
pub mod sliding_window;
pub mod softcap;
pub mod strided;
pub mod t5;
pub mod temperature;
pub mod token_tree;
pub mod transformer_xl;
pub mod window_table;
pub mod xpos;

mod shared;

#[cfg(test)]
mod example;

pub use alibi::{Alibi, AlibiForm};
pub use alibi2d::Alibi2d;
pub use axial_rope::AxialRope;
pub use block_diffusion::BlockDiffusion;
pub use block_sparse::BlockSparse;
pub use causal::Causal;
pub use chunked::Chunked;
pub use continuous_bias::ContinuousBias;
pub use cope::Cope;
pub use dape::Dape;
pub use deberta::Deberta;
pub use decomposed::Decomposed;
pub use dilated::Dilated;
pub use documents::Documents;
pub use dynamic_alibi::DynamicAlibi;
pub use fire::Fire;
pub use forget_gate::ForgetGate;
pub use kerple::Kerple;
pub use key_lengths::KeyLengths;
pub use learned_positions::LearnedPositions;
pub use mrope::{AxisLayout, MRope};
pub use neighbourhood::Neighbourhood;
pub use offset_set::OffsetSet;
pub use pope::Pope;
pub use prefix_lm::PrefixLm;
pub use qk_norm::QkNorm;
pub use retention::Retention;
pub use rope::{DynamicNtk, Llama3Rope, LongRope, ProportionalRope, Rope, Yarn};
pub use rope2d::Rope2d;
pub use sandwich::Sandwich;
pub use shaw::Shaw;
pub use shifted_window::ShiftedWindow;
pub use sinusoidal::Sinusoidal;
pub use sliding_window::SlidingWindow;
pub use softcap::Softcap;
pub use strided::Strided;
pub use t5::T5;
pub use temperature::Temperature;
pub use token_tree::TokenTree;
pub use transformer_xl::TransformerXl;
pub use window_table::WindowTable;
pub use xpos::XPos;

use crate::registry::Entry;

/// The entries of [`Registry::standard`](crate::Registry::standard): rotations, biases, what else becomes of queries, keys and scores, masks.
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
        Entry::of::<AxialRope>(),
        Entry::of::<XPos>(),
        Entry::of::<Pope>(),
        Entry::of::<Retention>(),
        Entry::of::<Alibi>(),
        Entry::of::<DynamicAlibi>(),
        Entry::of::<Alibi2d>(),
        Entry::of::<T5>(),
        Entry::of::<WindowTable>(),
        Entry::of::<ContinuousBias>(),
        Entry::of::<Decomposed>(),
        Entry::of::<Kerple>(),
        Entry::of::<Sandwich>(),
        Entry::of::<Fire>(),
        Entry::of::<ForgetGate>(),
        Entry::of::<Shaw>(),
        Entry::of::<TransformerXl>(),
        Entry::of::<Deberta>(),
        Entry::of::<Cope>(),
        Entry::of::<Dape>(),
        Entry::of::<Sinusoidal>(),
        Entry::of::<LearnedPositions>(),
        Entry::of::<QkNorm>(),
        Entry::of::<Temperature>(),
        Entry::of::<Softcap>(),
        Entry::of::<Causal>(),
        Entry::of::<SlidingWindow>(),
        Entry::of::<PrefixLm>(),
        Entry::of::<KeyLengths>(),
        Entry::of::<Documents>(),
        Entry::of::<Chunked>(),
        Entry::of::<Dilated>(),
        Entry::of::<Strided>(),
        Entry::of::<OffsetSet>(),
        Entry::of::<Neighbourhood>(),
        Entry::of::<ShiftedWindow>(),
        Entry::of::<BlockSparse>(),
        Entry::of::<BlockDiffusion>(),
        Entry::of::<TokenTree>(),
    ]
}
