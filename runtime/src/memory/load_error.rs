//! Plans that can't be loaded.

use rhumb_compiler::codegen::Role;

use crate::memory::{CodeError, OutOfMemory};

/// Why a plan could not be loaded.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No executable memory.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// No memory for constants.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// Code for another machine.
    #[error(
        "the machine code is for {triple}, which is not this machine; compile for `Target::host` or one of its candidates"
    )]
    Foreign {
        /// The target's triple.
        triple: String,
    },
    /// A function that the plan calls and the code lacks.
    #[error("the machine code lacks the function `{}`, which its plan calls; that is a bug of the compiler: please report the graph", role.name())]
    Missing {
        /// What the function is for.
        role: Role,
    },
    /// A function that the plan does not call, or has already.
    #[error("the machine code has a function `{}` too many for its plan; that is a bug of the compiler: please report the graph", role.name())]
    Unexpected {
        /// What the function is for.
        role: Role,
    },
}

rhumb_ir::debug_as_display!(LoadError);
