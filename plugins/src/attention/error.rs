//! Why an attention graph can't be built.

use rhumb_ir::VerifyError;
use thiserror::Error;

use crate::error::SchemeError;

/// Why an attention graph can't be built.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A size that must be at least 1.
    #[error("{what} can't be 0")]
    Zero {
        /// The size.
        what: &'static str,
    },
    /// Query heads that do not share key/value heads evenly.
    #[error("{heads} query heads can't share {kv_heads} key/value heads evenly")]
    Groups {
        /// Query heads.
        heads: u32,
        /// Key/value heads.
        kv_heads: u32,
    },
    /// A number outside its range.
    #[error("{what} can't be {found}")]
    Number {
        /// The number.
        what: &'static str,
        /// What was given.
        found: f64,
        /// The range.
        expected: &'static str,
    },
    /// What only a softmax has, asked of weights without one.
    #[error("weights that are not those of a softmax have no place for {what}")]
    WithoutSoftmax {
        /// What was asked for.
        what: &'static str,
    },
    /// A scheme that does not fit.
    #[error("scheme `{scheme}`: {source}")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// What is wrong.
        source: SchemeError,
    },
    /// Expressions that are not well formed, or names used twice.
    #[error(transparent)]
    Graph(#[from] VerifyError),
}

impl BuildError {
    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            BuildError::Zero { what: _ } => "give at least 1".to_owned(),
            BuildError::Groups { heads, kv_heads: _ } => {
                format!("use a number of key/value heads that divides {heads}")
            }
            BuildError::Number { what: _, found: _, expected } => format!("give {expected}"),
            BuildError::WithoutSoftmax { what } => format!("leave out {what}, or `weights_with`"),
            BuildError::Scheme { scheme: _, source } => source.hint(),
            BuildError::Graph(_) => "mend the expressions of `score_with`, `mask_with` and `scheme_with`".to_owned(),
        }
    }
}
