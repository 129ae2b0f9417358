//! Block sparse: blocks of queries see the blocks of keys that a table names.
//!
//! `layout[i / B, j / B] = 1`: the pattern of BigBird (arXiv 2007.14062) and of block-sparse kernels, of windows, global and random blocks. The
//! layout is a constant of 0 and 1, row by row of query blocks, with `columns` key blocks to a row. Tokens past its end take the last block.
//!
//! ```text
//! %mask = scheme block_sparse.mask @0 {block = 64, columns = 2, layout = [1.0, 0.0, 1.0, 1.0]} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = table [1, 0, 1, 1] : i32[q_block, k_block]
//! %6 = const 64 : i32
//! %7 = div %i, %6 : i32[q]
//! %8 = gather %5 over q_block at %7 : i32[q, k_block]
//! %9 = const 64 : i32
//! %10 = div %j, %9 : i32[k]
//! %11 = gather %8 over k_block at %10 : i32[q, k]
//! %12 = const 0 : i32
//! %mask = ne %11, %12 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Blocks of queries see the blocks of keys that a table names (arXiv 2007.14062).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct BlockSparse: "block_sparse" at Mask = "layout[i / B, j / B] = 1" {
        /// Which blocks are seen: 1 or 0, row by row of query blocks.
        #[range(0.0..=1.0, "a list of 0 and 1")]
        layout: Vec<f64>,
        /// Key blocks in a row of the layout.
        #[range(1..=1_000_000, "a number of blocks")]
        columns: i32,
        /// B: tokens of a block.
        #[range(1.., "a number of tokens")]
        block: i32,
    }
}

impl BlockSparse {
    /// Blocks of `block` tokens: which key blocks each query block sees, row by row, `columns` to a row.
    pub fn new(layout: impl IntoIterator<Item = bool>, columns: i32, block: i32) -> BlockSparse {
        let layout = layout.into_iter().map(|seen| f64::from(u8::from(seen))).collect();
        BlockSparse::with_defaults(layout, columns, block)
    }
}

/// The most blocks of a layout.
const MOST: usize = 1 << 20;

impl PositionScheme for BlockSparse {
    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let (found, columns) = (self.layout.len(), self.columns as usize);
        if self.layout.iter().any(|x| x.fract() != 0.0) {
            return Err(SchemeError::range("layout", "a list of numbers between 0 and 1", "a list of 0 and 1"));
        }
        if found > 0 && found <= MOST && found.is_multiple_of(columns) {
            return Ok(());
        }
        let expected = format!("whole rows of {columns} blocks, at most {MOST} blocks in all");
        Err(SchemeError::range("layout", format!("a list of {found} numbers"), expected))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let columns = self.columns as u32;
        let rows = cx.axis("q_block", self.layout.len() as u32 / columns);
        let columns = cx.axis("k_block", columns);
        let seen: Vec<i32> = self.layout.iter().map(|x| *x as i32).collect();
        let of_query = cx.builder().int_table([rows, columns], &seen).gather(rows, cx.q_index() / self.block);
        Ok(of_query.gather(columns, cx.k_index() / self.block).ne(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("block_sparse.rs"), 8, |_| {
            Box::new(BlockSparse::new([true, false, true, true], 2, 64))
        });
    }
}
