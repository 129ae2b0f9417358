//! Key lengths: keys past the end of their sequence are hidden.
//!
//! `j < length`, with a length of each call, one per sequence: padding on the right of a batch.
//!
//! ```text
//! %mask = scheme key_lengths.mask @0 {lengths = %lengths} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %mask = lt %j, %lengths : bool[k]
//! ```

use rhumb_ir::{Attrs, Expr, Hook};

use crate::attrs::{AttrInfo, AttrKind, IntOrValue, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// A number of keys per sequence: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLengths {
    lengths: IntOrValue,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "key_lengths",
    summary: "keys past the end of their sequence are hidden",
    formula: "j < length",
    attributes: &[AttrInfo::new(
        "lengths",
        AttrKind::IntOrValue,
        "",
        "keys of each sequence; a value may vary over the batch",
    )],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        Ok(KeyLengths { lengths: required(attrs.int_or_value("lengths")?, "lengths", AttrKind::IntOrValue)? })
    })
}

impl KeyLengths {
    /// So many keys: an `i32` value of the graph, such as an input over the batch, or a number from 0.
    pub fn new(lengths: impl Into<IntOrValue>) -> KeyLengths {
        KeyLengths { lengths: lengths.into() }
    }
}

impl PositionScheme for KeyLengths {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("lengths".to_owned(), self.lengths.attr())])
    }

    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        match self.lengths {
            IntOrValue::Int(x) if !(0..=i64::from(i32::MAX)).contains(&x) => {
                Err(SchemeError::range("lengths", x, format!("a number of keys from 0 to {}", i32::MAX)))
            }
            IntOrValue::Int(_) => Ok(()),
            lengths => cx.free_of("lengths", cx.int_or_value("lengths", lengths)?, &[cx.key_axis()]),
        }
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.k_index().lt(cx.int_or_value("lengths", self.lengths)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("key_lengths.rs"), 8, |cx| {
            Box::new(KeyLengths::new(cx.builder().input("lengths", rhumb_ir::Elem::I32, [])))
        });
    }
}
