//! rhumb compiler.

pub mod codegen;
pub mod intervals;
mod pipeline;
pub mod plan;
pub mod rewrite;
mod target;

pub use pipeline::{CompileError, Compiled, Options, Stage, Timing, compile};
pub use target::{Target, TargetError};
