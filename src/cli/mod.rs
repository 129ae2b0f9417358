//! Subcommands, one file each, and what they share.

mod bench;
mod dims;
mod emit;
mod error;
mod explain;
mod graph;
mod random;
mod run;
mod schemes;
mod tensor;
mod tensors;
mod work;

use std::io::{Write, stdout};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use rhumb::compiler::Backend;
use rhumb::prelude::*;

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
}

/// How kernels are run.
#[derive(Debug, clap::Args)]
struct EngineArgs {
    /// Threads that share the work [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    code: CodeArgs,
}

/// What code is generated: the cheapest for the graph unless it is pinned here.
#[derive(Debug, clap::Args)]
struct CodeArgs {
    /// Lanes of f32 in the vectors of the code [default: what costs the graph least]
    #[arg(long, value_name = "N")]
    lanes: Option<usize>,
    /// What generates the code [default: what costs the graph least]
    #[arg(long, value_parser = backends())]
    backend: Option<Backend>,
}

fn backends() -> impl TypedValueParser<Value = Backend> {
    // The parser lets no other names through.
    PossibleValuesParser::new(Backend::ALL.map(Backend::name))
        .map(|name| Backend::ALL.into_iter().find(|backend| backend.name() == name).unwrap_or(Backend::Cranelift))
}

impl CodeArgs {
    /// The target with what is pinned.
    fn pin(&self, mut target: Target) -> Result<Target, CliError> {
        if let Some(backend) = self.backend {
            target = target.with_backend(backend)?;
        }
        if let Some(lanes) = self.lanes {
            target = target.with_lanes(lanes)?;
        }
        Ok(target)
    }
}

impl EngineArgs {
    fn build(&self) -> Result<Engine, CliError> {
        let mut builder = Engine::builder().target(self.code.pin(Target::host()?)?);
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        Ok(builder.build()?)
    }
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Schemes(args) => schemes::run(&args),
        Command::Emit(args) => emit::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| CliError::Output { source })
}

/// A sign of life on standard error, if that is a terminal.
fn progress(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
