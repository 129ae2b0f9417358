//! `rhumb explain`.

use rhumb::compiler::rewrite::{RewriteOptions, explain};
use rhumb::compiler::{CompileError, Options, compile};
use rhumb::prelude::*;

use super::error::CliError;
use super::fused::Rewritten;
use super::graph::GraphArgs;
use super::output::{print, progress};

/// Prints the proof that rewriting kept the meaning of a graph, the graph that came of it, and where its kernels compute what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let options = RewriteOptions::default();
    let bar = progress("proving");
    let rewritten = Rewritten::of(&graph, &registry)?;
    let proof = explain(&rewritten.lowered, &options).map_err(CompileError::Rewrite)?;
    // Where things are computed is decided for a machine, and for many queries and few.
    let mut plan = String::new();
    let target = Target::host()?;
    let compiled = compile(&graph, &registry, &target, &Options::default(), &mut |stage, shown| {
        if stage == Stage::Plan {
            plan = shown();
        }
    });
    bar.finish_and_clear();
    print(&format!("{proof}\n{}\n{}", rewritten.fused.statistics(), rewritten.noted(&target)))?;
    compiled?;
    print(&format!("\n{plan}"))
}
