//! `rhumb emit`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use rhumb::compiler::{CompileError, Kernels, Options, compile};
use rhumb::prelude::*;

use super::args::CodeArgs;
use super::error::CliError;
use super::fused::Rewritten;
use super::graph::GraphArgs;
use super::output::print;

/// Prints a graph at a stage of compilation.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The stage
    #[arg(long, value_parser = stages())]
    stage: Shown,
    /// Compile for this target, with a fixed set of features, in place of this machine
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    #[command(flatten)]
    code: CodeArgs,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Stage(Stage),
    /// The fused graph for Graphviz.
    Dot,
}

const DOT: &str = "dot";

fn stages() -> impl TypedValueParser<Value = Shown> {
    let stages = Stage::ALL.map(|stage| {
        let notes =
            if stage == Stage::Fused { ", with where each op is computed and the rule that made it" } else { "" };
        PossibleValue::new(stage.name()).help(format!("{}{notes}", stage.description()))
    });
    let dot = PossibleValue::new(DOT).help("the graph after rewriting, for Graphviz");
    PossibleValuesParser::new(stages.into_iter().chain([dot])).map(|name| {
        // The parser lets no other names through.
        Stage::ALL.into_iter().find(|stage| stage.name() == name).map_or(Shown::Dot, Shown::Stage)
    })
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let target = args.code.pin(match &args.target {
        Some(triple) => Target::named(triple)?,
        None => Target::host()?,
    })?;
    let shown_stage = match args.stage {
        Shown::Dot => return print(&Rewritten::of(&graph, &registry)?.fused.graph().to_dot()),
        Shown::Stage(Stage::Fused) => return print(&Rewritten::of(&graph, &registry)?.noted(&target)),
        Shown::Stage(stage) => stage,
    };
    let disassemble = shown_stage == Stage::Assembly;
    let options = Options { disassemble, kernels: args.code.kernels, ..Options::default() };
    let mut text = None;
    let compiled = compile(&graph, &registry, &target, &options, &mut |stage, shown| {
        if stage == shown_stage {
            text = Some(shown());
        }
    });
    if let (Kernels::Decode, Ok(compiled)) = (args.code.kernels, &compiled)
        && let Ok(kernel) = &compiled.decode
    {
        // What was shown of code is of the prefill kernel.
        match shown_stage {
            Stage::Clif => text = Some(kernel.emit().map_err(CompileError::from)?.to_string()),
            Stage::Assembly => text = Some(kernel.compile(true).map_err(CompileError::from)?.to_string()),
            Stage::Graph | Stage::Lowered | Stage::Fused | Stage::Plan => {}
        }
    }
    match (text, compiled) {
        // A later stage may refuse the graph: this one is there to be looked at.
        (Some(text), _) => print(&text),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Ok(()),
    }
}
