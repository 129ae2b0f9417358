//! Why an attention graph can't be built.

use std::fmt;

use rhumb_ir::{Elem, VerifyError, one_of};
use thiserror::Error;

use super::quantised::elems;
use crate::error::SchemeError;

/// Why an attention graph can't be built.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A size that no axis can have.
    Size {
        /// The size.
        what: &'static str,
        /// What was given.
        found: i128,
    },
    /// Query heads that do not share key/value heads evenly.
    Groups {
        /// Query heads.
        heads: i128,
        /// Key/value heads.
        kv_heads: i128,
    },
    /// A number outside its range.
    Number {
        /// The number.
        what: &'static str,
        /// What was given.
        found: f64,
        /// The range.
        expected: &'static str,
    },
    /// A tensor of rows whose elements are no floats.
    Element {
        /// What the rows are of.
        what: &'static str,
        /// The element type that was given.
        found: Elem,
        /// Whether they are rows of a cache, which can be of 8 bits.
        cached: bool,
    },
    /// Scales or zero points of rows that have none.
    Unscaled {
        /// Scales or zero points.
        what: &'static str,
        /// The element type of keys.
        key: Elem,
        /// That of values.
        value: Elem,
    },
    /// What only a softmax has, asked of weights without one.
    WithoutSoftmax {
        /// What was asked for.
        what: &'static str,
    },
    /// A scheme that does not fit.
    Scheme {
        /// The scheme.
        scheme: String,
        /// What is wrong.
        source: SchemeError,
    },
    /// A closure that made a value of the wrong element type.
    Closure {
        /// What it is called: by the method that took it.
        closure: String,
        /// What it made.
        found: Elem,
        /// What it should make.
        expected: Elem,
    },
    /// A graph of keys alone that nothing tells where they stand.
    NoKeyPositions,
    /// Expressions that are not well formed, or names used twice.
    Graph(VerifyError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Each of its problems has a hint of its own.
            BuildError::Graph(source) => source.fmt(f),
            _ => write!(f, "{}\n  hint: {}", self.finding(), self.hint()),
        }
    }
}

rhumb_ir::debug_as_display!(BuildError);

impl From<VerifyError> for BuildError {
    fn from(error: VerifyError) -> BuildError {
        BuildError::Graph(error)
    }
}

impl BuildError {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            BuildError::Size { what, found } => format!("{what} can't be {found}"),
            BuildError::Groups { heads, kv_heads } => {
                format!("{heads} query heads can't share {kv_heads} key/value heads evenly")
            }
            BuildError::Number { what, found, .. } => format!("{what} can't be {found}"),
            BuildError::Element { what, found, .. } => format!("{what} can't be of element type {found}"),
            BuildError::Unscaled { what, key, value } if key == value => {
                format!("keys and values of {key} have no {what}")
            }
            BuildError::Unscaled { what, key, value } => format!("keys of {key} and values of {value} have no {what}"),
            BuildError::WithoutSoftmax { what } => {
                format!("weights that are not those of a softmax have no place for {what}")
            }
            BuildError::Scheme { scheme, source } => format!("scheme `{scheme}`: {}", source.finding()),
            BuildError::Closure { closure, found, expected } => {
                format!("{closure} made a value of type {found}, expected {expected}")
            }
            BuildError::NoKeyPositions => "nothing tells where the keys of a graph of keys alone stand".to_owned(),
            BuildError::Graph(source) => source.to_string(),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            BuildError::Size { .. } => format!("give a whole number from 1 to {}", i32::MAX),
            BuildError::Groups { heads, kv_heads: _ } => {
                format!("use a number of key/value heads that divides {heads}")
            }
            BuildError::Number { what: _, found: _, expected } => format!("give {expected}"),
            BuildError::Element { cached, .. } => {
                format!("give {}", one_of(elems(*cached).map(Elem::name)))
            }
            BuildError::Unscaled { what: what @ "zero points", .. } => {
                format!("leave out {what}, or cache integers: `cache_elem(Elem::I8)`")
            }
            BuildError::Unscaled { what, .. } => format!("leave out {what}, or give a `cache_elem` of 8 bits"),
            BuildError::WithoutSoftmax { what } => format!("leave out {what}, or `weights_with`"),
            BuildError::Scheme { scheme: _, source } => source.hint(),
            BuildError::Closure { expected: Elem::Bool, .. } => "end the expression in a comparison".to_owned(),
            BuildError::Closure { expected, .. } => format!("end the expression in a value of type {expected}"),
            BuildError::NoKeyPositions => {
                "bind positions by `k_positions`, or tell the index of the first key: `q_offset_input`, or `q_offset(0)` for keys from the \
                 first token on"
                    .to_owned()
            }
            BuildError::Graph(source) => source.problems.iter().map(|problem| problem.fault.hint()).collect::<Vec<_>>().join("; "),
        }
    }
}
