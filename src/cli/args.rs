//! Options that subcommands share.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rhumb::compiler::{Backend, Kernels};
use rhumb::prelude::*;

use super::error::CliError;

/// Schemes beside the built-in ones.
#[derive(Debug, clap::Args)]
pub(super) struct PluginArgs {
    /// A file of schemes in text, which the graph or --scheme may name; may be given again
    #[arg(long = "plugin", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl PluginArgs {
    /// The built-in schemes and those of the files.
    pub(super) fn registry(&self) -> Result<Registry, CliError> {
        let load = |registry: Registry, file: &PathBuf| {
            registry.load(file).map_err(|source| CliError::Plugin { file: file.clone(), source: Box::new(source) })
        };
        self.files.iter().try_fold(Registry::standard(), load)
    }
}

/// How kernels are run.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// Threads that share the work [default: one per processor]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    #[command(flatten)]
    pub(super) code: CodeArgs,
}

/// What code is generated: the cheapest for the graph unless it is pinned here.
#[derive(Debug, clap::Args)]
pub(super) struct CodeArgs {
    /// Lanes of f32 in the vectors of the code [default: what costs the graph least]
    #[arg(long, value_name = "N")]
    pub(super) lanes: Option<usize>,
    /// What generates the code [default: what costs the graph least]
    #[arg(long, value_parser = backends())]
    pub(super) backend: Option<Backend>,
    /// The kernels that calls may take [default: for each call what costs least]
    #[arg(long, value_parser = kernels(), default_value = "cheapest", hide_default_value = true)]
    pub(super) kernels: Kernels,
}

fn kernels() -> impl TypedValueParser<Value = Kernels> {
    // The parser lets no other names through.
    PossibleValuesParser::new(Kernels::ALL.map(Kernels::name))
        .map(|name| Kernels::ALL.into_iter().find(|kernels| kernels.name() == name).unwrap_or_default())
}

fn backends() -> impl TypedValueParser<Value = Backend> {
    // The parser lets no other names through.
    PossibleValuesParser::new(Backend::ALL.map(Backend::name))
        .map(|name| Backend::ALL.into_iter().find(|backend| backend.name() == name).unwrap_or(Backend::Cranelift))
}

impl CodeArgs {
    /// The target with what is pinned.
    pub(super) fn pin(&self, mut target: Target) -> Result<Target, CliError> {
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
    pub(super) fn build(&self, registry: Registry) -> Result<Engine, CliError> {
        let mut builder =
            Engine::builder().registry(registry).target(self.code.pin(Target::host()?)?).kernels(self.code.kernels);
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        Ok(builder.build()?)
    }
}
