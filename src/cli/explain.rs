//! `rhumb explain`.

use rhumb::compiler::rewrite::{RewriteOptions, explain, fuse};
use rhumb::compiler::{CompileError, Options, compile};
use rhumb::plugins::lower;
use rhumb::prelude::*;

use super::error::CliError;
use super::graph::GraphArgs;
use super::output::{print, progress};

/// Prints the proof that rewriting kept the meaning of a graph, and where its kernels compute what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let options = RewriteOptions::default();
    let lowered = lower(&graph, &registry).map_err(CompileError::Lower)?;
    let bar = progress("proving");
    let fused = fuse(&lowered, &options).map_err(CompileError::Rewrite)?;
    let proof = explain(&lowered, &options).map_err(CompileError::Rewrite)?;
    // Where things are computed is decided for a machine, and for many queries and few.
    let mut plan = String::new();
    let compiled = compile(&graph, &registry, &Target::host()?, &Options::default(), &mut |stage, shown| {
        if stage == Stage::Plan {
            plan = shown();
        }
    });
    bar.finish_and_clear();
    print(&format!("{proof}\n{}", fused.statistics()))?;
    compiled?;
    print(&format!("\n{plan}"))
}
