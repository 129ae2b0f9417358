//! Why there is no bound.

use thiserror::Error;

/// Why there is no bound for a call.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BoundError {
    /// A tensor that is missing or does not fit.
    #[error("input `{name}` needs a tensor of shape {expected:?}, {}",
        found.as_ref().map_or_else(|| "and none is bound".to_owned(), |found| format!("not {found:?}")))]
    Input {
        /// The input.
        name: String,
        /// The shape that the lengths of the axes give it.
        expected: Vec<usize>,
        /// The shape bound, if there is one.
        found: Option<Vec<usize>>,
    },
    /// A value that memory does not hold with its errors.
    #[error(
        "`{line}` has more elements in this call than a bound can be computed of; use shorter axes (its shape is {shape:?})"
    )]
    TooLarge {
        /// The value, printed.
        line: String,
        /// Its shape, where it is known.
        shape: Vec<usize>,
    },
    /// An op that stands where the analysis has no place for it.
    #[error("there is no error bound of `{op}` here")]
    Unsupported {
        /// The op, printed.
        op: String,
    },
}

rhumb_ir::debug_as_display!(BoundError);
