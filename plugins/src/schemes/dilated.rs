//! Dilated window: every `d`-th key near the query.
//!
//! `|i - j| <= w and |i - j| mod d = 0` (LongNet, arXiv 2307.02486; Longformer, arXiv 2004.05150). Join with the causal mask for the
//! causal form.
//!
//! ```text
//! %mask = scheme dilated.mask @0 {dilation = 3, window = 12} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = abs %5 : i32[q, k]
//! %7 = const 12 : i32
//! %8 = le %6, %7 : bool[q, k]
//! %9 = const 3 : i32
//! %10 = mod %6, %9 : i32[q, k]
//! %11 = const 0 : i32
//! %12 = eq %10, %11 : bool[q, k]
//! %mask = and %8, %12 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Every d-th key near the query.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Dilated: "dilated" at Mask = "|i - j| <= w and |i - j| mod d = 0" {
        /// w: how far the window reaches, in tokens.
        #[range(0.., "a number of tokens")]
        window: i32,
        /// d: distance between the keys seen.
        #[range(1.., "a number of tokens")]
        dilation: i32,
    }
}

impl Dilated {
    /// Keys at most `window` tokens away (from 0), a multiple of `dilation` tokens (at least 1).
    pub fn new(window: i32, dilation: i32) -> Dilated {
        Dilated::with_defaults(window, dilation)
    }
}

impl PositionScheme for Dilated {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let distance = (cx.q_index() - cx.k_index()).abs();
        Ok(distance.le(self.window) & (distance % self.dilation).eq(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("dilated.rs"), 8, |_| Box::new(Dilated::new(12, 3)));
    }
}
