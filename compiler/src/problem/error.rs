//! Why a graph has no plan.

use rhumb_ir::Hook;
use thiserror::Error;

/// Why a fused graph has no plan.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An op stands where the kernels have no place for it.
    #[error("{reason}\n  at  {op}")]
    NotAttention {
        /// The op in the way, printed.
        op: String,
        /// Why it is in the way and what would mend it.
        reason: String,
    },
    /// A scheme op was left: the graph was not lowered.
    #[error("scheme op `{scheme}.{}` was not lowered; lower the graph first", hook.name())]
    NotLowered {
        /// The scheme.
        scheme: String,
        /// The hook.
        hook: Hook,
    },
    /// An axis that must be static is dynamic.
    #[error("axis `{axis}` needs a fixed length: {reason}")]
    DynamicAxis {
        /// The axis.
        axis: String,
        /// The reason.
        reason: &'static str,
    },
    /// A head dimension for which a tile of queries does not fit the memory that code can address.
    #[error(
        "axis `{axis}` is {length} long: a thread would need {bytes} bytes of memory for its queries; make it {most} at most"
    )]
    TooLong {
        /// The axis: the longer of the head dimensions.
        axis: String,
        /// Its length.
        length: usize,
        /// The greatest length that it can have; with both head dimensions too long, that both can have.
        most: usize,
        /// Bytes that a thread would need.
        bytes: usize,
    },
}

rhumb_ir::debug_as_display!(PlanError);
