//! Chunked mask: tokens see their own chunk alone.
//!
//! `floor(i / c) = floor(j / c)`. With the causal mask it is the local attention of Llama 4 (chunks of 8192).
//!
//! ```text
//! %mask = scheme chunked.mask @0 {chunk = 8192} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 8192 : i32
//! %6 = div %i, %5 : i32[q]
//! %7 = const 8192 : i32
//! %8 = div %j, %7 : i32[k]
//! %mask = eq %6, %8 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Tokens see their own chunk alone; join with causal.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Chunked: "chunked" at Mask = "floor(i / c) = floor(j / c)" {
        /// c: tokens of a chunk.
        #[range(1.., "a number of tokens")]
        chunk: i32,
    }
}

impl Chunked {
    /// Chunks of `chunk` tokens: at least 1.
    pub fn new(chunk: i32) -> Chunked {
        Chunked::with_defaults(chunk)
    }
}

impl PositionScheme for Chunked {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((cx.q_index() / self.chunk).eq(cx.k_index() / self.chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("chunked.rs"), 8, |_| Box::new(Chunked::new(8192)));
    }
}
