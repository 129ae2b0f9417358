//! `rhumb emit`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use rhumb::compiler::{CompileError, Kernels, Options, compile};
use rhumb::prelude::*;

use super::args::CodeArgs;
use super::error::CliError;
use super::graph::GraphArgs;
use super::output::print;

/// Prints a graph at a stage of compilation.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The stage
    #[arg(long, value_parser = stages())]
    stage: Stage,
    /// Compile for this target, with a fixed set of features, in place of this machine
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    #[command(flatten)]
    code: CodeArgs,
}

fn stages() -> impl TypedValueParser<Value = Stage> {
    let values = Stage::ALL.map(|stage| PossibleValue::new(stage.name()).help(stage.description()));
    // The parser lets no other names through.
    PossibleValuesParser::new(values)
        .map(|name| Stage::ALL.into_iter().find(|stage| stage.name() == name).unwrap_or(Stage::Graph))
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let target = args.code.pin(match &args.target {
        Some(triple) => Target::named(triple)?,
        None => Target::host()?,
    })?;
    let disassemble = args.stage == Stage::Assembly;
    let options = Options { disassemble, kernels: args.code.kernels, ..Options::default() };
    let mut text = None;
    let compiled = compile(&graph, &registry, &target, &options, &mut |stage, shown| {
        if stage == args.stage {
            text = Some(shown());
        }
    });
    if let (Kernels::Decode, Ok(compiled)) = (args.code.kernels, &compiled)
        && let Ok(kernel) = &compiled.decode
    {
        // What was shown of code is of the prefill kernel.
        match args.stage {
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
