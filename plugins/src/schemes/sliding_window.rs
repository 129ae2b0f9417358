//! Sliding window: a query attends to the keys near its own token.
//!
//! `i - w < j <= i`: `w` keys, the query's own included (Mistral, arXiv 2310.06825; Hugging Face counts the same way). The symmetric form
//! is `|i - j| <= w`: `2w + 1` keys (ModernBERT, arXiv 2412.13663).
//!
//! ```text
//! %mask = scheme sliding_window.mask @0 {window = 4096} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = const 4096 : i32
//! %7 = lt %5, %6 : bool[q, k]
//! %8 = le %j, %i : bool[q, k]
//! %mask = and %7, %8 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query attends to the keys near its own token.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SlidingWindow: "sliding_window" at Mask = "i - w < j <= i; symmetric: |i - j| <= w" {
        /// w: the keys seen, or how far the symmetric window reaches.
        #[range(0.., "a number of keys")]
        window: i32,
        /// Look ahead as far as back.
        symmetric: bool = false,
    }
}

impl SlidingWindow {
    /// A causal window of `window` keys, the query's own included: at least 1.
    pub fn new(window: i32) -> SlidingWindow {
        SlidingWindow::with_defaults(window)
    }

    /// Looks `window` keys ahead as well as back, beside the query's own.
    #[must_use]
    pub fn symmetric(self) -> SlidingWindow {
        SlidingWindow { symmetric: true, ..self }
    }
}

impl PositionScheme for SlidingWindow {
    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if self.window > 0 || self.symmetric {
            return Ok(());
        }
        Err(SchemeError::range("window", self.window, "a number of keys from 1, the query's own, or set `symmetric`"))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let (i, j) = (cx.q_index(), cx.k_index());
        if self.symmetric {
            return Ok((i - j).abs().le(self.window));
        }
        Ok((i - j).lt(self.window) & j.le(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("sliding_window.rs"), 8, |_| Box::new(SlidingWindow::new(4096)));
    }
}
