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

use rhumb_ir::{Expr, Hook};

use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// The causal mask, `j <= i`: see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causal;

const INFO: SchemeInfo = SchemeInfo {
    name: "causal",
    summary: "a query attends to the keys up to its own token",
    formula: "j <= i",
    attributes: &[],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |_| Ok(Causal))
}

impl PositionScheme for Causal {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

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
