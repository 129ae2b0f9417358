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

use rhumb_ir::Expr;

use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Keys past the end of their sequence are hidden.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyLengths: "key_lengths" at Mask = "j < length" {
        /// Keys of each sequence; a value may vary over the batch.
        #[range(0.., "a number of keys")]
        lengths: IntOrValue,
    }
}

impl KeyLengths {
    /// So many keys: an `i32` value of the graph, such as an input over the batch, or a number from 0.
    pub fn new(lengths: impl Into<IntOrValue>) -> KeyLengths {
        KeyLengths::with_defaults(lengths.into())
    }
}

impl PositionScheme for KeyLengths {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        match self.lengths {
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
