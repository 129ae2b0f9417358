//! Prefix-LM mask: a prefix is seen by all, the rest is causal.
//!
//! `j < prefix or j <= i` (T5, arXiv 1910.10683; PaliGemma). The prefix is a number, or a value of each call: one per sequence.
//! Not to be joined with the causal mask, which would hide the prefix again.
//!
//! ```text
//! %mask = scheme prefix_lm.mask @0 {prefix = 256} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 256 : i32
//! %6 = lt %j, %5 : bool[k]
//! %7 = le %j, %i : bool[q, k]
//! %mask = or %6, %7 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A prefix is seen by all queries, the rest is causal.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PrefixLm: "prefix_lm" at Mask = "j < prefix or j <= i" {
        /// Tokens of the prefix; a value may vary over the batch.
        #[range(0.., "a number of tokens")]
        prefix: IntOrValue,
    }
}

impl PrefixLm {
    /// A prefix of so many tokens: a number from 0, or an `i32` value of the graph, such as an input over the batch.
    pub fn new(prefix: impl Into<IntOrValue>) -> PrefixLm {
        PrefixLm::with_defaults(prefix.into())
    }
}

impl PositionScheme for PrefixLm {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        match self.prefix {
            IntOrValue::Int(_) => Ok(()),
            prefix => cx.free_of("prefix", cx.int_or_value("prefix", prefix)?, &[cx.key_axis()]),
        }
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let (i, j) = (cx.q_index(), cx.k_index());
        Ok(j.lt(cx.int_or_value("prefix", self.prefix)?) | j.le(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("prefix_lm.rs"), 8, |_| Box::new(PrefixLm::new(256)));
    }
}
