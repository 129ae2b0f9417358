//! The verifier.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use crate::graph::Graph;
use crate::infer::{OpError, infer_at};
use crate::op::Op;
use crate::types::Extent;

/// A graph that passed [`Graph::verify`]: what every later stage takes, so that the check can't be skipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified(Graph);

impl Verified {
    /// The graph, to be changed and verified again.
    pub fn into_inner(self) -> Graph {
        self.0
    }
}

impl Deref for Verified {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.0
    }
}

/// One mistake in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// An op that is not well formed.
    Op {
        /// Position of the op.
        position: usize,
        /// The op, printed.
        op: String,
        /// What is wrong.
        error: OpError,
    },
    /// More axes than a graph can have.
    TooManyAxes {
        /// The first that did not fit.
        name: String,
    },
}

/// All mistakes of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The graph's name.
    pub graph: String,
    /// The mistakes, in order of their ops.
    pub problems: Vec<Problem>,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph `{}`: {:?}", self.graph, self.problems)
    }
}

impl std::error::Error for VerifyError {}

impl Graph {
    /// Checks the graph.
    ///
    /// # Errors
    /// [`VerifyError`] lists every mistake.
    pub fn verify(self) -> Result<Verified, VerifyError> {
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for (position, node) in self.nodes.iter().enumerate() {
            if let Op::Input { name, .. } = &node.op {
                names.insert(name.clone());
            }
            if let Err(error) = infer_at(&self, &node.op, position) {
                let op = crate::text::op_text(&self, &node.op);
                problems.push(Problem::Op { position, op, error });
            }
        }
        let _ = Extent::Dynamic;
        if problems.is_empty() { Ok(Verified(self)) } else { Err(VerifyError { graph: self.name, problems }) }
    }
}
