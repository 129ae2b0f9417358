//! Why code generation fails.

use thiserror::Error;

/// Why code generation failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodegenError {
    /// An op that can't be emitted where the plan puts it.
    #[error("{reason}\n  at  {op}")]
    Unsupported {
        /// The op, printed.
        op: String,
        /// Why not.
        reason: &'static str,
    },
    /// A tensor is read where the loops give no index along one of its axes.
    #[error("tensor `{tensor}` is read where there is no index along axis `{axis}`")]
    Unbound {
        /// The tensor.
        tensor: String,
        /// The axis.
        axis: String,
    },
    /// More constants than code can address.
    #[error("graph `{graph}` has more constants than vector code can address; make tables of them, or fewer ops")]
    Constants {
        /// The graph.
        graph: String,
    },
    /// Cranelift refused a function.
    #[error("function `{function}` on {triple}: {reason}")]
    Backend {
        /// The function.
        function: String,
        /// The target.
        triple: String,
        /// What the backend said.
        reason: String,
    },
}
