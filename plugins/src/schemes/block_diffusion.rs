//! Block diffusion: a noised sequence sees itself block by block, and the clean one before each block.
//!
//! Arriola et al.: *Block Diffusion* (arXiv 2503.09573), for training. The tokens are a sequence of `n` noised ones, then the same `n` clean
//! ones, both cut into blocks of `B`. A noised token sees the noised tokens of its own block, and the clean ones of the blocks before; a clean
//! token sees the clean ones up to the end of its own block.
//!
//! ```text
//! %mask = scheme block_diffusion.mask @0 {block = 16, length = 1024} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 1024 : i32
//! %6 = lt %i, %5 : bool[q]
//! %7 = const 1024 : i32
//! %8 = lt %j, %7 : bool[k]
//! %9 = const 1024 : i32
//! %10 = mod %i, %9 : i32[q]
//! %11 = const 16 : i32
//! %12 = div %10, %11 : i32[q]
//! %13 = const 1024 : i32
//! %14 = mod %j, %13 : i32[k]
//! %15 = const 16 : i32
//! %16 = div %14, %15 : i32[k]
//! %17 = eq %12, %16 : bool[q, k]
//! %18 = and %8, %17 : bool[q, k]
//! %19 = not %8 : bool[k]
//! %20 = lt %16, %12 : bool[q, k]
//! %21 = and %19, %20 : bool[q, k]
//! %22 = or %18, %21 : bool[q, k]
//! %23 = and %6, %22 : bool[q, k]
//! %24 = not %6 : bool[q]
//! %25 = not %8 : bool[k]
//! %26 = and %24, %25 : bool[q, k]
//! %27 = le %16, %12 : bool[q, k]
//! %28 = and %26, %27 : bool[q, k]
//! %mask = or %23, %28 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A noised sequence sees itself block by block, and the clean one before each block (arXiv 2503.09573).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BlockDiffusion: "block_diffusion" at Mask = "noised: own block, clean blocks before; clean: clean blocks to its own" {
        /// n: tokens of the noised sequence, and of the clean one after it.
        #[range(1..=1_000_000_000, "a number of tokens")]
        length: i32,
        /// B: tokens of a block.
        #[range(1.., "a number of tokens")]
        block: i32,
    }
}

impl BlockDiffusion {
    /// `length` noised tokens, then `length` clean ones, in blocks of `block`.
    pub fn new(length: i32, block: i32) -> BlockDiffusion {
        BlockDiffusion::with_defaults(length, block)
    }
}

impl PositionScheme for BlockDiffusion {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let (i, j) = (cx.q_index(), cx.k_index());
        let (q_noised, k_noised) = (i.lt(self.length), j.lt(self.length));
        let (q_block, k_block) = ((i % self.length) / self.block, (j % self.length) / self.block);
        let of_noised = (k_noised & q_block.eq(k_block)) | (!k_noised & k_block.lt(q_block));
        Ok((q_noised & of_noised) | (!q_noised & !k_noised & k_block.le(q_block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("block_diffusion.rs"), 8, |_| {
            Box::new(BlockDiffusion::new(1024, 16))
        });
    }
}
