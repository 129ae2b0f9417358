//! `rhumb run`.

use std::path::PathBuf;

use super::args::EngineArgs;
use super::dims::{Dims, Lengths};
use super::error::CliError;
use super::graph::GraphArgs;
use super::output::{print, progress};
use super::tensor::summary;
use super::tensors::{Tensors, write};

/// Runs a graph on tensors of a file, or on random ones.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// A safetensors file with the inputs by name; without it they are random
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// The safetensors file for the outputs; without it they are summed up
    #[arg(long, value_name = "FILE")]
    outputs: Option<PathBuf>,
    /// Lengths of axes that no input tells, as in b=1,q=16,k=16
    #[arg(long, value_name = "AXIS=N,...", default_value = "", hide_default_value = true)]
    dims: Dims,
    /// Seed of random inputs: f32 normal, i32 from 0 to the longest length in --dims, bool either
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "inputs")]
    seed: u64,
    /// Writes the random inputs to this safetensors file, which --inputs reads
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    save_inputs: Option<PathBuf>,
    /// Interprets the graph in double precision in place of compiling it: slow
    #[arg(long, conflicts_with_all = ["threads", "lanes", "backend"])]
    interpret: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let engine = args.engine.build(registry)?;
    let reference = engine.reference(&graph)?;
    let interface = reference.interface();
    let lengths = Lengths::new(interface, &args.dims)?;
    let mut tensors = Tensors::of(interface, args.inputs.as_deref(), lengths, args.seed)?;
    if let Some(path) = &args.save_inputs {
        write(&tensors.inputs, path)?;
    }
    let bar = progress(if args.interpret { "interpreting" } else { "running" });
    if args.interpret {
        tensors.call(reference.call())?;
    } else {
        let kernel = engine.compile(&graph)?;
        tensors.call(kernel.call())?;
    }
    bar.finish_and_clear();
    match &args.outputs {
        Some(path) => write(&tensors.outputs, path),
        None => {
            let summaries: Vec<String> = tensors.outputs.iter().map(|(name, tensor)| summary(tensor, name)).collect();
            print(&summaries.concat())
        }
    }
}
