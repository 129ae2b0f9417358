//! `rhumb plot --tiles`.

use std::path::PathBuf;

use rhumb::runtime::TileMap;

use super::super::args::EngineArgs;
use super::super::dims::{Dims, Lengths};
use super::super::error::CliError;
use super::super::graph::GraphArgs;
use super::super::output::progress;
use super::super::tensors::Tensors;
use super::picture::{Picture, Tiles};
use super::target::TargetArgs;

/// Draws which key tiles the kernel of a graph skips, computes in full, or masks.
///
/// The kernel runs once, on tensors of a file or random ones, and tells what it did: skipped tiles are hidden by the mask, pruned ones
/// have no weight. Counts and shares of query-key pairs are those of the whole call.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// A safetensors file with the inputs by name; without it they are random
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Lengths of axes that no input tells, as in b=1,q=512,k=512
    #[arg(long, value_name = "AXIS=N,...", default_value = "", hide_default_value = true)]
    dims: Dims,
    /// The sequence and the head that are drawn, as in b=0,h=3 [default: the first]
    #[arg(long, value_name = "AXIS=INDEX,...", default_value = "", hide_default_value = true)]
    at: Dims,
    /// Seed of random inputs: f32 normal, i32 from 0 to the longest length in --dims, bool either
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "inputs")]
    seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let engine = args.engine.build(registry)?;
    let kernel = engine.compile(&graph)?;
    let interface = kernel.interface();
    let lengths = Lengths::new(interface, &args.dims)?;
    let mut tensors = Tensors::of(interface, args.inputs.as_deref(), lengths, args.seed)?;
    let bar = progress("running");
    let map = tensors.trace(kernel.call())?;
    bar.finish_and_clear();
    let map = map.ok_or(CliError::NoTiles)?;
    let unit = unit(&map, &args.at)?;
    args.target.show(&Picture::Tiles(Tiles { title: title(&map, unit), map, unit }))
}

/// The number of the attention at some indices.
fn unit(map: &TileMap, at: &Dims) -> Result<usize, CliError> {
    let known = || map.axes().to_vec();
    if let Some((axis, _)) = at.iter().find(|(axis, _)| !map.axes().iter().any(|known| known == axis)) {
        return Err(CliError::TileAxis { axis: axis.to_owned(), known: known() });
    }
    let holds = |unit: &rhumb::runtime::TileUnit| {
        let along = map.axes().iter().zip(&unit.index);
        along.into_iter().all(|(axis, indices)| {
            let wanted = at.iter().find(|(known, _)| known == axis);
            wanted.is_none_or(|(_, index)| indices.contains(&index))
        })
    };
    let given = || at.iter().map(|(axis, index)| format!("{axis}={index}")).collect::<Vec<_>>().join(",");
    match map.units().iter().position(holds) {
        Some(unit) => Ok(unit),
        None if map.units().is_empty() => Err(CliError::NoTiles),
        None => Err(CliError::TileIndex { at: given() }),
    }
}

/// Where the attention stands.
fn title(map: &TileMap, unit: usize) -> String {
    let Some(of) = map.units().get(unit) else { return String::new() };
    let along = map.axes().iter().zip(&of.index).map(|(axis, indices)| match indices.len() {
        1 => format!("{axis} = {}", indices.start),
        _ => format!("{axis} = {} to {}", indices.start, indices.end - 1),
    });
    let place = along.collect::<Vec<_>>().join(", ");
    let (queries, keys) = (map.query_tile(), map.key_tile());
    let same = map.units().iter().filter(|other| other.rows == of.rows).count();
    let of_all = format!("alike in {same} of {}", map.units().len());
    format!("tiles of up to {queries} queries x {keys} keys: {place} ({of_all})")
}
