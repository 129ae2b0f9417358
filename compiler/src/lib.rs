//! The compiler of rhumb: from a graph with position schemes to machine code.
//!
//! | stage | type | made by |
//! |---|---|---|
//! | the graph as described | [`Verified`](rhumb_ir::Verified) | the user |
//! | schemes expanded into primitive ops | [`Verified`](rhumb_ir::Verified) | [`rhumb_plugins::lower`] |
//! | rewritten: scale and bias folded, terms hoisted, masks merged | [`rewrite::Fused`] | [`rewrite::fuse`] |
//! | what is to be computed: tables, products, terms, masks | [`problem::Problem`] | [`problem::recognize()`] |
//! | tiles and memory; of the target's candidates the cheapest | [`plan::Plan`], [`Choice`] | [`plan::plan`] |
//! | CLIF functions | [`codegen::Clif`] | [`codegen::emit`] |
//! | machine code | [`codegen::MachineCode`] | [`codegen::assemble`] |
//!
//! Each prints. [`compile()`] runs them all, times them, and shows each to an observer:
//!
//! ```
//! use rhumb_compiler::{Options, Stage, Target, compile};
//! use rhumb_plugins::{Alibi, Attention, Causal, Registry};
//!
//! let graph = Attention::heads(8).head_dim(64).scheme(Alibi::new()).scheme(Causal).build()?;
//! let target = Target::named("x86_64-unknown-linux-gnu")?.with_lanes(16)?;
//! let mut fused = String::new();
//! let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |stage, text| {
//!     if stage == Stage::Fused {
//!         fused = text();
//!     }
//! })?;
//! // The scale went to the query, the slope to a row over keys; what depends on the query alone is gone.
//! assert!(fused.contains("softmax"));
//! assert!(compiled.plan.attention.as_ref().is_some_and(|attention| attention.key_term.is_some()));
//! assert!(!compiled.code.functions.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//! - The compiler knows ops, never scheme names: a scheme of a user's own gets the code that a built-in one gets.
//! - The same graph, options and target give the same code.
//! - A verified graph is compiled or refused with a typed error that names the op in the way; no stage panics.
//! - Generated code is free of calls and relocations, and reads and writes only what the frame points at.

pub mod abi;
mod choice;
pub mod codegen;
mod dispatch;
mod elementary;
pub mod error_bound;
mod expr;
pub mod intervals;
mod machine;
mod op_cost;
mod pipeline;
pub mod plan;
pub mod problem;
pub mod rewrite;
mod row_index;
mod target;
mod weighted;

pub use choice::{Choice, Ranked, choose};
pub use dispatch::{DecodeKernel, Form, Kernels, Tails};
pub use machine::{Backend, InstructionSet, Machine, MultiplyAdd};
pub use pipeline::{CompileError, Compiled, Lowered, Options, Stage, Timing, compile, compile_lowered};
pub use target::{Features, Target, TargetError};
