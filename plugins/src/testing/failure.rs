//! What a check found.

use rhumb_ir::{Attr, Attrs, InterpError, ParseError};
use thiserror::Error;

use super::shape::Shape;
use crate::attention::BuildError;
use crate::error::SchemeError;
use crate::lower::LowerError;
use crate::registry::RegistryError;

/// What a check of a scheme found, and at what sizes.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("at {shape:?}: {finding}")]
pub struct TestFailure {
    /// The sizes.
    pub shape: Shape,
    /// What was found.
    pub finding: Box<Finding>,
}

/// What a check of a scheme found.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Finding {
    /// The attention around the scheme can't be built.
    #[error("the graph can't be built: {0}")]
    Build(BuildError),
    /// The scheme refuses the sizes.
    #[error("the scheme refuses: {0}")]
    Check(SchemeError),
    /// The registry does not make the scheme.
    #[error("the registry does not make the scheme from its own attributes: {0}")]
    Registry(RegistryError),
    /// The registry makes another scheme.
    #[error("the scheme with attributes {before:?} comes back from the registry with {after:?}")]
    RoundTrip {
        /// What the scheme told.
        before: Attrs,
        /// What the scheme made of that tells.
        after: Attrs,
    },
    /// A scheme that does more than its attributes tell, or something else.
    #[error(
        "scheme `{scheme}` is not what it is written as: the registry's, made from what `attributes` tells, {attrs:?}, lowers to \
         another graph; `attributes` has to tell all that the hooks read, and the registry has to read all of it\n  \
         as given:   {given}\n  as written: {written}"
    )]
    Written {
        /// The scheme.
        scheme: String,
        /// What it tells.
        attrs: Attrs,
        /// The first line of the lowered graph that differs; empty if it ends before.
        given: String,
        /// The same line of the graph that is read from text.
        written: String,
    },
    /// An attribute that is declared but not read, or not told again.
    #[error("the registry's scheme, made with {given:?} for attribute `{attribute}`, does not tell the same of itself")]
    Unread {
        /// The attribute.
        attribute: String,
        /// What was given.
        given: Attr,
    },
    /// The printed graph does not parse.
    #[error("the printed graph does not parse: {error}\n{text}")]
    Parse {
        /// The graph.
        text: String,
        /// What is wrong.
        error: Box<ParseError>,
    },
    /// The printed graph parses to another.
    #[error("the graph\n{before}\nprints as\n{after}\nonce parsed")]
    Print {
        /// The graph.
        before: String,
        /// What was parsed, printed.
        after: String,
    },
    /// The scheme does not lower.
    #[error("the graph does not lower: {0}")]
    Lower(LowerError),
    /// The scheme lowers, and the registry's, made from what its attributes tell, does not.
    #[error("the graph lowers, and does not once it is read from its text: {0}")]
    LowerWritten(LowerError),
    /// The lowered graph can't be computed.
    #[error("the lowered graph can't be computed: {0}")]
    Interpret(InterpError),
    /// A score that differs from the author's.
    #[error("batch {batch}, head {head}, query {query}, key {key}: expected a score of {expected}, found {found}")]
    Score {
        /// The sequence of the batch.
        batch: usize,
        /// The head.
        head: u32,
        /// The query, from 0.
        query: usize,
        /// The key, from 0.
        key: usize,
        /// The author's score.
        expected: f64,
        /// The scheme's.
        found: f64,
    },
    /// A score that changes when all positions shift.
    #[error("a score of {before} becomes {after} when all positions shift by {shift}")]
    Shift {
        /// The shift.
        shift: i32,
        /// The score before.
        before: f64,
        /// The score after.
        after: f64,
    },
}
