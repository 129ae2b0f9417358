//! Causal mask: a query attends to the keys up to its own token.
//!
//! `j <= i`, over token indices. With fewer queries than keys the queries are the last tokens (bottom-right aligned), unless the site
//! says otherwise.
//!
//! ```text
//! %mask = scheme causal.mask @0 : bool[q, k]
//! ```
//! becomes
//! ```text
//! %mask = le %j, %i : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query attends to the keys up to its own token.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Causal: "causal" at Mask = "j <= i";
}

impl PositionScheme for Causal {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.k_index().le(cx.q_index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("causal.rs"), 8, |_| Box::new(Causal));
    }
}
