//! `rhumb plot`: what schemes do to scores, what masks show, and which tiles a kernel computes.

mod draw;
mod graph;
mod picture;
mod scores;
mod sizes;
mod target;
mod terminal;
mod tiles;

use std::path::PathBuf;

use clap::Subcommand;
use rhumb::prelude::*;

use super::args::PluginArgs;
use super::declared::Declared;
use super::error::CliError;
use graph::Setting;
use picture::{Curve, Curves, Map, Picture};
use scores::{Content, Scores, Tensors};
use sizes::{Distances, Grid, Patch};
use target::TargetArgs;

/// Queries and keys of a map, unless others are asked for.
const MAP: usize = 64;

/// Draws what position schemes do to scores, what masks show, or which tiles a kernel computes.
///
/// Without --map and --grid: one curve per head, of the row of one query against the distance (position of the query - position of the key).
///
/// What is drawn of schemes that change scores alone is their bias: the score where all products q . k are 0. Of others it is the score
/// of a query and a key whose elements are all 1/sqrt(head dim), so that q . k = 1 before any scheme: of a rotation that is the mean of
/// cos(theta_i * distance) over its pairs i. Softmax scaling takes no part.
///
/// `rhumb plot --tiles --help` tells of tiles.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    tiles: Option<Tiles>,
    /// Position schemes and masks, one after the other, as in 'rope {base = 500000.0}'
    #[arg(value_name = "SCHEME", required = true)]
    schemes: Vec<String>,
    #[command(flatten)]
    plugins: PluginArgs,
    /// Query heads
    #[arg(long, value_name = "N", default_value_t = 8)]
    heads: u32,
    /// Elements of a head
    #[arg(long, value_name = "N", default_value_t = 64)]
    head_dim: u32,
    /// One head alone [default: every head; of a map, the first]
    #[arg(long, value_name = "N")]
    head: Option<u32>,
    /// Distances that curves go from and to; below 0 keys come after the query
    #[arg(long, value_name = "FROM..TO", default_value = "0..128", allow_hyphen_values = true, conflicts_with_all = ["map", "grid"])]
    distances: Distances,
    /// A heat map over queries and keys
    #[arg(long, conflicts_with = "grid")]
    map: bool,
    /// A heat map over the patches of a grid, for one of them as the query
    #[arg(long, value_name = "ROWSxCOLUMNS")]
    grid: Option<Grid>,
    /// The patch that is the query [default: the middle one]
    #[arg(long, value_name = "ROW,COLUMN", requires = "grid")]
    patch: Option<Patch>,
    /// Tokens before the grid, such as a class token
    #[arg(long, value_name = "N", default_value_t = 0, requires = "grid")]
    prefix: usize,
    /// Queries of a map: those of the last keys [default: 64]
    #[arg(long, value_name = "N", requires = "map")]
    queries: Option<usize>,
    /// Keys of a map [default: 64]
    #[arg(long, value_name = "N", requires = "map")]
    keys: Option<usize>,
    /// The index of the query of the curves [default: the greatest distance]
    #[arg(long, value_name = "N", conflicts_with_all = ["map", "grid"])]
    query: Option<usize>,
    /// The position of the first query, from which all others follow [default: its index]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    position: Option<i32>,
    /// The number of tokens so far, for schemes that depend on it [default: the number of keys]
    #[arg(long, value_name = "N")]
    length: Option<i32>,
    /// What queries and keys hold
    #[arg(long, value_enum, default_value_t)]
    content: Content,
    /// A tensor that a scheme takes, as in 'table: f32[bucket=32, h]': then 't5 {table = %table}' names it. `= random` (the default), `=
    /// index` (along the last axis) or `= 0.5` after it tells its elements. Axes are b, h, q, k, d, or new ones with a length. Queries
    /// and keys themselves are %q and %k
    #[arg(long = "input", value_name = "NAME: TYPE[AXES]")]
    declared: Vec<Declared>,
    /// A safetensors file with the tensors of --input
    #[arg(long, value_name = "FILE", requires = "declared")]
    inputs: Option<PathBuf>,
    /// Seed of random tensors
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Subcommand)]
enum Tiles {
    /// Draws which key tiles the kernel of a graph skips, computes in full, or masks
    #[command(long_flag = "tiles")]
    Tiles(Box<tiles::Args>),
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(Tiles::Tiles(args)) = &args.tiles {
        return tiles::run(args);
    }
    let registry = args.plugins.registry()?;
    let picture = match (&args.grid, args.map) {
        (Some(grid), _) => of_grid(args, *grid, &registry)?,
        (None, true) => of_pairs(args, &registry)?,
        (None, false) => curves(args, &registry)?,
    };
    args.target.show(&picture)
}

impl Args {
    fn scores(&self, setting: Setting, registry: &Registry) -> Result<Scores, CliError> {
        if let Some(head) = self.head.filter(|head| *head >= self.heads) {
            return Err(CliError::PlotHead { head, heads: self.heads });
        }
        let tensors = Tensors { declared: &self.declared, file: self.inputs.as_deref(), seed: self.seed };
        Scores::of(&setting, &self.schemes, &tensors, self.content, registry)
    }

    fn setting(&self, queries: usize, keys: usize, first: usize) -> Setting {
        let (heads, head_dim) = (self.heads, self.head_dim);
        Setting { heads, head_dim, queries, keys, first, position: self.position, length: self.length }
    }

    fn title(&self) -> String {
        self.schemes.join(", ")
    }
}

/// The row of one query against the distance, for each head.
fn curves(args: &Args, registry: &Registry) -> Result<Picture, CliError> {
    let Distances { from, to } = args.distances;
    let query = args.query.map_or(to.max(0), |query| query as i64);
    if query < to {
        return Err(CliError::PlotQuery { query, to });
    }
    let keys = (query - from).max(query) + 1;
    let (query, keys) = (query as usize, usize::try_from(keys).unwrap_or(usize::MAX));
    let scores = args.scores(args.setting(1, keys, query), registry)?;
    let curve = |head: u32| -> Vec<(f64, f64)> {
        let score = |distance: i64| scores.at(head, 0, (query as i64 - distance) as usize);
        (from..=to).map(|distance| (distance as f64, score(distance))).collect()
    };
    let heads: Vec<u32> = args.head.map_or_else(|| (0..args.heads).collect(), |head| vec![head]);
    let mut curves: Vec<Curve> =
        heads.iter().map(|head| Curve { label: format!("head {head}"), points: curve(*head) }).collect();
    if curves.len() > 1 && curves.iter().all(|curve| same(&curve.points, &curves[0].points)) {
        curves.truncate(1);
        curves[0].label = "all heads".to_owned();
    }
    let (x, y) = ("distance (query - key)".to_owned(), scores.kind.name().to_owned());
    Ok(Picture::Curves(Curves { title: args.title(), x, y, curves }))
}

/// Equal but for rounding; what is hidden is hidden in both.
fn same(a: &[(f64, f64)], b: &[(f64, f64)]) -> bool {
    let close = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * (1.0 + a.abs()) || a.is_nan() && b.is_nan();
    a.iter().zip(b).all(|(a, b)| close(a.1, b.1))
}

/// Every query against every key, of one head.
fn of_pairs(args: &Args, registry: &Registry) -> Result<Picture, CliError> {
    let (queries, keys) = (args.queries.unwrap_or(MAP), args.keys.unwrap_or(MAP));
    let first = keys.checked_sub(queries).ok_or(CliError::PlotQueries { queries, keys })?;
    let scores = args.scores(args.setting(queries, keys, first), registry)?;
    let head = args.head.unwrap_or(0);
    Ok(Picture::Map(Map {
        title: format!("{}, head {head}", args.title()),
        of: scores.kind.name(),
        axes: ["query", "key"],
        first: [first, 0],
        shape: [queries, keys],
        values: scores.head(head).to_vec(),
        marked: None,
    }))
}

/// One patch of a grid as the query, against all patches.
fn of_grid(args: &Args, grid: Grid, registry: &Registry) -> Result<Picture, CliError> {
    let Grid { rows, columns } = grid;
    let patch = args.patch.unwrap_or(Patch { row: rows / 2, column: columns / 2 });
    if patch.row >= rows || patch.column >= columns {
        return Err(CliError::PlotPatch { patch: patch.to_string(), grid: grid.to_string() });
    }
    let patches = rows.saturating_mul(columns);
    let query = args.prefix.saturating_add(patch.row.saturating_mul(columns)).saturating_add(patch.column);
    let scores = args.scores(args.setting(1, args.prefix.saturating_add(patches), query), registry)?;
    let head = args.head.unwrap_or(0);
    let values = scores.head(head).get(args.prefix..).unwrap_or_default().to_vec();
    Ok(Picture::Map(Map {
        title: format!("{}, head {head}, query at {patch}", args.title()),
        of: scores.kind.name(),
        axes: ["row", "column"],
        first: [0, 0],
        shape: [rows, columns],
        values,
        marked: Some([patch.row, patch.column]),
    }))
}
