//! Subcommands, one file each.

mod args;
mod bench;
mod declared;
mod dims;
mod emit;
mod error;
mod explain;
mod fused;
mod graph;
mod output;
mod plot;
mod random;
mod run;
mod schemes;
mod specs;
mod tensor;
mod tensors;
mod work;

use clap::{Parser, Subcommand};

pub(crate) use error::CliError;

/// Compiles attention operators for CPUs: any position scheme, fused and JIT-compiled.
#[derive(Debug, Parser)]
#[command(name = "rhumb", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the position schemes and masks, their formulas and attributes
    Schemes(schemes::Args),
    /// Prints a graph at a stage of compilation
    Emit(emit::Args),
    /// Prints the proof that rewriting kept the meaning of a graph
    Explain(explain::Args),
    /// Runs a graph on tensors of a file, or on random ones
    Run(run::Args),
    /// Times a graph on random tensors
    Bench(bench::Args),
    Plot(Box<plot::Args>),
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Schemes(args) => schemes::run(&args),
        Command::Emit(args) => emit::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Plot(args) => plot::run(&args),
    }
}
