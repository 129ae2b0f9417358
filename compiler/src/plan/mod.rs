//! Plans: a problem on a machine, with the tiles it is computed in and the memory that these take.
//!
//! A [`Plan`] is what code is generated from. It reads as its [`Problem`] does. It prints, and can be asserted.

mod bf16;
mod build;
mod cost;
mod decode;
mod distance;
mod hinges;
mod integers;
mod key_cost;
mod key_term;
mod layout;
mod place;
mod prefill;
mod print;
mod reads;
mod runs;
mod scaled;
mod step_cost;
mod table_cost;
mod turned;
mod unit_cost;

use std::ops::Deref;
use std::sync::Arc;

use rhumb_ir::Value;

pub use crate::problem::PlanError;
pub use crate::problem::{
    Attention, Combiner, KeyTerm, LogSum, Origin, Packed, Place, Problem, Product, Pruning, Reduction, Scaled, Source,
    Storage, Table, Tensor, TensorId, Term,
};
pub use crate::rewrite::{Placed, Price};
pub use bf16::Bf16Pairs;
pub use build::plan;
pub use cost::Estimate;
pub use decode::{Decode, NoDecode, RowTile};
pub use hinges::Hinges;
pub(crate) use hinges::{Number, Unit};
pub use integers::Integers;
pub(crate) use key_term::{Leaves, range};
pub use place::Loaded;
pub use prefill::Prefill;
pub(crate) use runs::End;
pub use runs::Runs;

use crate::abi::{FrameLayout, ScratchLayout};
use crate::machine::{LANE_BYTES, LINE, Machine};

/// A register tile of queries, and what is computed for it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Vectors of queries.
    pub columns: usize,
    /// Queries of the tile: one for each lane of these vectors.
    pub queries: usize,
    /// Keys of a register tile of the score.
    pub key_rows: usize,
    /// Sums that each of its scores is computed in, side by side: rounding errors grow with the length of a sum.
    pub partial_sums: usize,
    /// Elements of the value head of a register tile of the output.
    pub value_rows: usize,
}

/// Sizes of the tile kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// The shapes that there is code for, by queries, widest first: queries are cut into the widest, and what is left takes the narrowest
    /// that holds it.
    pub shapes: Vec<TileShape>,
    /// The most keys that are added to a tile of queries at once.
    pub keys: usize,
    /// The most query tiles that take turns at the same keys, while these are in the cache.
    pub query_tiles_per_task: usize,
}

impl Tiling {
    /// Queries of the widest shape.
    pub fn queries(&self) -> usize {
        self.shapes.iter().map(|shape| shape.queries).max().unwrap_or(1)
    }

    /// Bytes of a number for each key of a tile, and for those that a register tile passes the last by.
    pub(crate) fn number_bytes(&self) -> usize {
        (LANE_BYTES * (self.keys + RowTile::GROUP)).next_multiple_of(LINE)
    }

    /// The vectors from `from` to `to` of a tile: the first that is computed, and the index of the shape, which stays within the tile from
    /// there on.
    pub fn part(&self, from: usize, to: usize) -> (usize, usize) {
        let holds = |shape: &TileShape| shape.columns >= to.saturating_sub(from);
        let shape = self.shapes.iter().rposition(holds).unwrap_or(0);
        let columns = self.shapes.iter().map(|shape| shape.columns).max().unwrap_or(1);
        match self.shapes.get(shape) {
            Some(shape_of) if from + shape_of.columns <= columns => (from, shape),
            _ => (0, 0),
        }
    }

    /// Index of the shape for this many queries: the narrowest that holds them, or the widest.
    pub fn shape_for(&self, queries: usize) -> usize {
        self.shapes.iter().rposition(|shape| shape.queries >= queries).unwrap_or(0)
    }
}

/// How the attention of a plan is computed.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Many queries: lanes are queries.
    Prefill(Prefill),
    /// Few queries: lanes are elements of rows while these are multiplied, keys while they are weighed.
    Decode(Decode),
}

/// What the lanes of vectors are while queries are multiplied with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanesAre {
    /// Queries of a tile: the elements of one stand one row below the other, and scores of a key are a vector.
    Queries,
    /// Elements of rows, whose products are summed up across lanes. Rows of keys and values end with whole vectors, those that do not lie so
    /// are copied for each key tile, and references are raised before scores are computed.
    Elements,
}

/// What follows of a schedule: all that is not its sizes, its code, its cost and the calls that it takes.
impl Schedule {
    /// What the lanes of vectors are.
    pub fn lanes(&self) -> LanesAre {
        match self {
            Schedule::Prefill(_) => LanesAre::Queries,
            Schedule::Decode(_) => LanesAre::Elements,
        }
    }

    /// Whether its calls have one query tile or so: what is made once for a call takes as long as what reads it, and is made by vectors.
    pub fn is_for_few_queries(&self) -> bool {
        match self {
            Schedule::Prefill(_) => false,
            Schedule::Decode(_) => true,
        }
    }

    /// Whether what depends on the distance of query and key alone is computed once for each distance of a key tile.
    pub(crate) fn computes_by_distance(&self) -> bool {
        match self {
            Schedule::Prefill(_) => true,
            Schedule::Decode(_) => false,
        }
    }

    /// The keys of a chunk, where the keys of a call are cut into chunks that are tasks of their own: whole key tiles.
    fn chunk_keys(&self) -> Option<usize> {
        match self {
            Schedule::Prefill(_) => None,
            Schedule::Decode(decode) => Some(decode.chunk_keys.max(1)),
        }
    }

    /// The number of chunks that the keys of a call are cut into: one at least.
    pub fn chunks(&self, keys: usize) -> usize {
        self.chunk_keys().map_or(1, |chunk| keys.div_ceil(chunk).max(1))
    }

    /// The keys of a chunk, from the first to that after the last: whole key tiles, but for the last of all.
    pub fn keys_of_chunk(&self, chunk: usize, keys: usize) -> (usize, usize) {
        let Some(length) = self.chunk_keys() else { return (0, keys) };
        let first = chunk.saturating_mul(length);
        (first.min(keys), first.saturating_add(length).min(keys))
    }

    /// The table of the key term, where none is made: it is computed for each key tile, and is linear in the index of the key.
    pub fn computed_key_term(&self) -> Option<&Table> {
        match self {
            Schedule::Prefill(_) => None,
            Schedule::Decode(decode) => decode.key_term.as_ref(),
        }
    }

    /// The rows that are computed while they are loaded.
    pub(crate) fn loaded(&self) -> &[Loaded] {
        match self {
            Schedule::Prefill(prefill) => &prefill.loaded,
            Schedule::Decode(decode) => &decode.loaded,
        }
    }
}

/// A score passes its base by at most this power of 2.
pub const HEADROOM: f32 = 8.0;

/// The least sum of weights that is kept as it is measured from the reference of a key term: those of queries with less are measured anew, as
/// their products with small values may have lost digits.
pub const LEAST_SUM: f32 = 1.0 / (1 << 30) as f32;

/// Products that one chain of additions sums up at most, in the dot of a query and a key: rounding errors grow with the length of a sum.
pub(crate) const LONGEST_SUM: usize = 64;

/// Weights that are summed up one after the other, in prefill.
pub(crate) const RUN: usize = 16;

/// A plan: what is computed, where, and in which tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is computed.
    pub problem: Arc<Problem>,
    /// The machine that it is for.
    pub machine: Machine,
    /// How the attention is computed.
    pub schedule: Schedule,
    /// Tile sizes of the attention.
    pub tiling: Tiling,
    /// Values of the score that depend on the distance of query and key alone, computed once for each distance of a key tile. In prefill.
    pub by_distance: Vec<Value>,
    /// The places of products of the score that depend on the distance of query and key alone, computed for each distance of a key tile. In
    /// prefill.
    pub products_by_distance: Vec<usize>,
    /// Values of the score that depend on the distance alone as long as query and key stay within runs, such as rows of a grid: computed once
    /// for each distance of two runs. In prefill.
    pub by_runs: Runs,
    /// Hinges of the score of one number of each pair, of which a key tile computes those that bend within it. In prefill.
    pub hinges: Option<Hinges>,
    /// What is computed by pairs of `bf16`.
    pub bf16_pairs: Bf16Pairs,
    /// What is computed by pairs of integers. In decode.
    pub integers: Integers,
    /// The frame of a call.
    pub frame: FrameLayout,
    /// The scratch memory of a thread.
    pub scratch: ScratchLayout,
}

impl Plan {
    /// Whether key tiles begin at multiples of their size, whatever masks show: chunks of keys and pages of a cache are whole tiles then.
    pub fn tiles_on_grid(&self) -> bool {
        self.schedule.chunk_keys().is_some() || self.attention.as_ref().is_some_and(|attention| attention.on_grid)
    }

    /// Whether references are raised by a function of their own, before the scores of a key tile are computed.
    pub fn raises_references(&self, attention: &Attention) -> bool {
        let ahead = !attention.masks.is_empty() || self.schedule.lanes() == LanesAre::Elements;
        attention.key_term.is_some() && ahead
    }

    /// How the attention is computed, as it stands in a printed plan.
    pub(crate) fn schedule_text(&self) -> String {
        let mut text = String::new();
        // A string takes all that is written to it.
        let _ = match &self.schedule {
            Schedule::Prefill(_) => self.write_tiles(&mut text),
            Schedule::Decode(decode) => self.write_rows(&mut text, decode),
        };
        text
    }

    /// What a score adds up beside its hinges.
    pub(crate) fn terms_beside_hinges<'p>(&'p self, attention: &'p Attention) -> &'p [Term] {
        self.hinges.as_ref().map_or(&attention.terms, |hinges| &hinges.rest)
    }

    /// Whether a product is computed for each distance of a key tile.
    pub(crate) fn is_by_distance(&self, product: &Product) -> bool {
        self.products_by_distance.contains(&product.index)
    }

    /// Elements that products of queries and keys, and sums of values, take at once.
    pub(crate) fn at_once(&self) -> (f64, f64) {
        let (floats, integers) = (self.bf16_pairs.at_once(), self.integers.at_once());
        (floats.0 * integers.0, floats.1 * integers.1)
    }

    /// Elements of a query that are multiplied with those of each key.
    pub(crate) fn multiplied(&self, attention: &Attention) -> usize {
        let by_pair = attention.products.iter().filter(|product| !self.is_by_distance(product));
        by_pair.map(|product| product.length as usize).sum()
    }

    /// The tables, the rows that are computed while they are loaded, and the key term where it is: what is made of inputs, in order.
    pub(crate) fn made(&self) -> impl Iterator<Item = &Table> {
        let loaded = self.schedule.loaded().iter().map(|loaded| &loaded.table);
        self.problem.tables.iter().chain(loaded).chain(self.schedule.computed_key_term())
    }
}

impl Deref for Plan {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.problem
    }
}
