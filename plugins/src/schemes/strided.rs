//! Strided: a query sees the last keys, and of those before every so many.
//!
//! Child et al.: *Sparse Transformers* (arXiv 1904.10509). `|i - j| < s`, or `i - j` is a multiple of the stride `s`. Join with the causal mask
//! for the causal form, in which the paper has it.
//!
//! ```text
//! %mask = scheme strided.mask @0 {stride = 128} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = abs %5 : i32[q, k]
//! %7 = const 128 : i32
//! %8 = lt %6, %7 : bool[q, k]
//! %9 = const 128 : i32
//! %10 = mod %6, %9 : i32[q, k]
//! %11 = const 0 : i32
//! %12 = eq %10, %11 : bool[q, k]
//! %mask = or %8, %12 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query sees the last keys, and of those before every so many (arXiv 1904.10509).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Strided: "strided" at Mask = "|i - j| < s or (i - j) mod s = 0" {
        /// s: the last keys seen, and the distance of those before.
        #[range(1.., "a number of tokens")]
        stride: i32,
    }
}

impl Strided {
    /// The last `stride` keys, and every `stride`-th: at least 1.
    pub fn new(stride: i32) -> Strided {
        Strided::with_defaults(stride)
    }
}

impl PositionScheme for Strided {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let distance = (cx.q_index() - cx.k_index()).abs();
        Ok(distance.lt(self.stride) | (distance % self.stride).eq(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("strided.rs"), 8, |_| Box::new(Strided::new(128)));
    }
}
