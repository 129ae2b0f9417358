//! The `rhumb` command: position schemes, stages of compilation, proofs, runs and timings from the command line.
//!
//! Exit codes: 0 done; 1 the input is wrong; 2 the command line is wrong.

mod cli;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(cli::CliError::Output { source }) if source.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
