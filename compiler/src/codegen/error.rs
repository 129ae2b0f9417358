//! Why code generation fails.

use thiserror::Error;

use crate::machine::Machine;

/// Why code generation failed.
#[derive(Clone, PartialEq, Eq, Error)]
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
    /// A plan for another machine than the target.
    #[error("the plan is for {plan}, the target is {target}; plan the graph for the target")]
    Machine {
        /// The plan's.
        plan: Machine,
        /// The target's.
        target: Machine,
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
        /// The backend's message.
        reason: String,
    },
}

rhumb_ir::debug_as_display!(CodegenError);
