//! Why a graph can't be rewritten.

use rhumb_ir::VerifyError;
use thiserror::Error;

/// Why a graph can't be rewritten.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// A scheme op: the graph has not been lowered.
    #[error("`{op}` stands at value {position} of the graph; lower its schemes before rewriting")]
    NotLowered {
        /// The op's scheme.
        op: String,
        /// Its position in the graph.
        position: usize,
    },
    /// Two forms that rules made equal contradict each other: a fault of the rules.
    #[error("rewriting proved that {what} are equal, which is a fault of its rules; rewrite with fewer float classes")]
    Contradiction {
        /// The two forms.
        what: String,
    },
    /// A form that is no op of the IR: a fault of the rules.
    #[error("rewriting made `{node}`, which is not well formed; rewrite with fewer float classes")]
    IllTyped {
        /// The node.
        node: String,
    },
    /// The result does not verify: a fault of the rules.
    #[error("the rewritten graph is not well formed; rewrite with fewer float classes")]
    Rebuild(#[source] VerifyError),
    /// The proof of an output could not be made, because a limit stopped the e-graph that records proofs earlier.
    #[error("no proof for output `{output}` within the limits; raise the node or iteration limit")]
    NoProof {
        /// The output.
        output: String,
    },
}

rhumb_ir::debug_as_display!(RewriteError);
