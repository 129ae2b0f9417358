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

use rhumb_ir::{Attrs, Expr, Hook};

use crate::attrs::{AttrInfo, AttrKind, IntOrValue, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// A causal mask with a prefix that all see: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLm {
    prefix: IntOrValue,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "prefix_lm",
    summary: "a prefix is seen by all queries, the rest is causal",
    formula: "j < prefix or j <= i",
    attributes: &[AttrInfo::new(
        "prefix",
        AttrKind::IntOrValue,
        "",
        "tokens of the prefix; a value may vary over the batch",
    )],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        Ok(PrefixLm { prefix: required(attrs.int_or_value("prefix")?, "prefix", AttrKind::IntOrValue)? })
    })
}

impl PrefixLm {
    /// A prefix of so many tokens: a number from 0, or an `i32` value of the graph, such as an input over the batch.
    pub fn new(prefix: impl Into<IntOrValue>) -> PrefixLm {
        PrefixLm { prefix: prefix.into() }
    }
}

impl PositionScheme for PrefixLm {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("prefix".to_owned(), self.prefix.attr())])
    }

    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        match self.prefix {
            IntOrValue::Int(x) if !(0..=i64::from(i32::MAX)).contains(&x) => {
                Err(SchemeError::range("prefix", x, format!("a number of tokens from 0 to {}", i32::MAX)))
            }
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
