//! The estimated cost of a plan on its machine, by which code generators and lane counts are ranked.
//!
//! A model of a core, the same for all targets, so that an estimate depends on nothing but the plan and the code:
//!
//! | each cycle | |
//! |---|---|
//! | vector arithmetic | 2 instructions, multiply-adds among them, each 4 cycles after the last of its sum |
//! | loads | 2 |
//! | stores | 1 |
//! | in all | 4 instructions |
//!
//! Costs are per pair of a query and a key that see one another, as tiles without a mask have them: what masks hide is skipped at any lane
//! count. Axes without a length count as long.

use std::convert::Infallible;
use std::fmt;

use rhumb_ir::Value;

use super::runs::vectors;
use super::table_cost::tables;
use super::unit_cost::{LOOKUP, PORTS, instructions, length};
use super::{Attention, Combiner, Plan, TileShape, Tiling};
use crate::expr::{Domain, Node, walk};
use crate::machine::{Machine, MultiplyAdd};

/// Instructions of any kind that are begun in a cycle.
pub(super) const WIDTH: f64 = 4.0;
/// Cycles from a multiply-add to the next one of the same sum.
const LATENCY: f64 = 4.0;
/// Instructions of a power of 2 in the softmax, whose range is bounded.
pub(super) const WEIGHT: f64 = 12.0;
/// Instructions beside it for each weight: the score is stored, compared with the maximum, loaded, shifted; the weight added and stored.
pub(super) const SOFTMAX: f64 = 6.0;
/// Instructions beside a score that is a weight itself: it is stored.
const STORE: f64 = 1.0;
/// Cycles to look an element up by an index of its own, lane by lane.
pub(super) const GATHER: f64 = 2.0;
/// Instructions for a score that are written out for each element of a register tile, of which there are up to 24.
const UNROLLED: f64 = 400.0;
/// Cycles to classify a key tile, and to call its function.
const CALL: f64 = 100.0;

/// Estimated cycles per visible pair of a query and a key, in parts; all 0 if a plan has no attention.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The dot of query and key.
    pub scores: f64,
    /// The average of the values.
    pub averages: f64,
    /// The terms of the score, and the softmax, if there is one.
    pub weights: f64,
    /// Rescaling the averages, and entering loops, for each key tile.
    pub key_tiles: f64,
    /// Loading queries and storing results.
    pub query_tiles: f64,
    /// What is made before: rotated keys, cosines, terms of keys.
    pub tables: f64,
    /// All of the above but tables for lanes that hold no query, where the number of queries is fixed.
    pub idle_lanes: f64,
}

impl Estimate {
    /// The estimate for a plan's tiles on its machine.
    pub fn of(plan: &Plan) -> Estimate {
        let Some(attention) = &plan.attention else { return Estimate::default() };
        let core = Core(plan.machine);
        let tiling = &plan.tiling;
        let Some(&tile) = tiling.shapes.first() else { return Estimate::default() };
        let (lanes, columns) = (plan.machine.lanes as f64, tile.columns as f64);
        let per_block = tile.queries as f64;
        let (dim, multiplied) = (attention.query_length() as f64, plan.multiplied(attention) as f64);
        let value_dim = attention.value_length() as f64;
        let length = |axis| length(&plan.graph, axis);
        let heads = attention.queries_per_position();
        let (queries, keys) = (heads as f64 * length(attention.query), length(attention.key));

        let (products, values) = plan.at_once();
        let turn = core.turn(tile.key_rows, tile.columns, tile.partial_sums);
        let scores = multiplied * turn / ((tile.key_rows * tile.partial_sums) as f64 * per_block * products);
        let averages = attention.reductions.iter().map(|reduction| core.average(tile, reduction.length as usize));
        let averages = averages.sum::<f64>() / (per_block * values);

        let score = Score::of(plan, attention);
        let combined = if attention.combiner == Combiner::Sum { STORE } else { WEIGHT + SOFTMAX };
        let weights = (score.instructions + combined) / PORTS / lanes + score.gathers * GATHER;

        // Each accumulator is loaded and stored; the factors of its columns stay in registers.
        let rescale = value_dim * columns;
        // A register tile's accumulators start from 0, and its rows from addresses of their own.
        let enter = |rows: usize| rows as f64 * (columns + 4.0) / WIDTH;
        let score_tiles = tiling.keys as f64 / tile.key_rows as f64 * enter(tile.key_rows * tile.partial_sums);
        let tiles = |length: u32| length.div_ceil(tile.value_rows as u32);
        let value_tiles = attention.reductions.iter().map(|reduction| f64::from(tiles(reduction.length))).sum::<f64>();
        let value_tiles = value_tiles * enter(tile.value_rows);
        let in_tile = keys.min(tiling.keys as f64);
        let key_tiles =
            (rescale + score_tiles + value_tiles) / (per_block * in_tile) + CALL / (queries.min(per_block) * in_tile);

        // Four elements after four: queries are loaded and transposed, averages scaled, transposed and stored.
        let query_tiles = (dim + value_dim) / keys;

        let all = scores + averages + weights + key_tiles + query_tiles;
        let positions = plan.graph.static_extent(attention.query);
        let idle_lanes = all * idle(positions.map(|n| n as usize * heads), tiling);
        let tables = tables(plan, attention);
        Estimate { scores, averages, weights, key_tiles, query_tiles, tables, idle_lanes }
    }

    /// Cycles per visible pair, all parts together.
    pub fn cycles(&self) -> f64 {
        self.parts().iter().map(|(_, cycles)| cycles).sum()
    }

    /// The parts and their names, in the order of the fields.
    pub fn parts(&self) -> [(&'static str, f64); 7] {
        [
            ("scores", self.scores),
            ("averages", self.averages),
            ("weights", self.weights),
            ("key tiles", self.key_tiles),
            ("query tiles", self.query_tiles),
            ("tables", self.tables),
            ("idle lanes", self.idle_lanes),
        ]
    }
}

/// `4.85 cycles a pair: scores 2.00, averages 2.00, ...`; parts that are 0 are left out.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} cycles a pair", self.cycles())?;
        let parts = self.parts().into_iter().filter(|(_, cycles)| *cycles > 0.0);
        for (n, (name, cycles)) in parts.enumerate() {
            write!(f, "{} {name} {cycles:.2}", if n == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Idle lanes for each lane that holds a query: a query tile computes whole vectors.
fn idle(queries: Option<usize>, tiling: &Tiling) -> f64 {
    let Some(queries) = queries.filter(|queries| *queries > 0) else { return 0.0 };
    let (whole, rest) = (queries / tiling.queries(), queries % tiling.queries());
    let last = match rest {
        0 => 0,
        rest => tiling.shapes.get(tiling.shape_for(rest)).map_or(0, |shape| shape.queries),
    };
    (whole * tiling.queries() + last - queries) as f64 / queries as f64
}

/// The core that an iteration of the product loop is timed on.
#[derive(Clone, Copy)]
pub(super) struct Core(pub(super) Machine);

impl Core {
    /// Cycles of a key for a sum of values of this length: whole register tiles, and one of what is left.
    fn average(self, tile: TileShape, length: usize) -> f64 {
        let (whole, rest) = (length / tile.value_rows, length % tile.value_rows);
        let rest = if rest > 0 { self.turn(rest, tile.columns, 1) } else { 0.0 };
        whole as f64 * self.turn(tile.value_rows, tile.columns, 1) + rest
    }

    /// Cycles of a turn of the loop over a register tile of sums: in each chain a vector is loaded for each column and a scalar for each
    /// row, and every sum takes a product.
    pub(super) fn turn(self, rows: usize, columns: usize, chains: usize) -> f64 {
        let sums = (rows * columns * chains) as f64;
        let (arithmetic, copies) = match self.0.multiply_add {
            MultiplyAdd::Fused => (sums, 0.0),
            MultiplyAdd::Copying => (sums, sums),
            MultiplyAdd::Separate => (2.0 * sums, 0.0),
        };
        let loads = ((rows + columns) * chains) as f64;
        // Sums, a vector for each column and a splatted scalar that find no register are loaded and stored in each iteration.
        let spilled = (rows * columns * chains + columns + 1).saturating_sub(self.0.registers) as f64;
        // Two pointers and the end of the loop.
        let control = 3.0;
        let all = arithmetic + copies + loads + 2.0 * spilled + control;
        [LATENCY, arithmetic / PORTS, (loads + spilled) / PORTS, spilled, all / WIDTH].into_iter().fold(0.0, f64::max)
    }
}

/// The cost of one score beside its product.
pub(super) struct Score<'p> {
    plan: &'p Plan,
    attention: &'p Attention,
    seen: Vec<bool>,
    /// Whether what is computed by distance counts as if it was computed by pair.
    by_pair: bool,
    /// Vector instructions, per vector.
    pub(super) instructions: f64,
    /// Lookups, per element.
    pub(super) gathers: f64,
}

impl<'p> Score<'p> {
    pub(super) fn of(plan: &'p Plan, attention: &'p Attention) -> Score<'p> {
        let terms = plan.terms_beside_hinges(attention).iter();
        let added = (terms.len() + 2 * usize::from(attention.key_term.is_some())).saturating_sub(1) as f64;
        let hinges = plan.hinges.iter();
        let values = terms.map(|term| term.value).chain(hinges.clone().map(|hinges| hinges.x));
        let score = Score::of_values(plan, attention, values);
        let of_hinges = hinges.map(|hinges| {
            let x = Score::of_values(plan, attention, [hinges.x].into_iter());
            x.instructions + LOOKUP * x.gathers + hinges.instructions()
        });
        let of_hinges = of_hinges.sum::<f64>();
        Score { instructions: score.instructions + added + of_hinges + score.of_distances(), ..score }
    }

    /// Instructions for each pair of what is computed for each distance of a key tile.
    fn of_distances(&self) -> f64 {
        let Score { plan, attention, .. } = *self;
        let queries = plan.tiling.queries() as f64;
        let keys = (plan.tiling.keys as f64).min(length(&plan.graph, attention.key));
        let share = (queries + keys) / (queries * keys);
        let of = |value: &Value| {
            let mut score = Score::empty(plan, attention);
            score.by_pair = true;
            let Ok(()) = walk(&mut score, *value);
            score.instructions + LOOKUP * score.gathers
        };
        let by_distance = plan.by_distance.iter().map(|value| share * of(value)).sum::<f64>();
        let (lanes, values) = (plan.machine.lanes, &plan.by_runs.values);
        if values.is_empty() {
            return by_distance;
        }
        let by_runs = plan.by_runs.instructions(values.iter().map(of).sum(), &plan.tiling, lanes);
        by_distance + by_runs / vectors(&plan.tiling, lanes)
    }

    fn empty(plan: &'p Plan, attention: &'p Attention) -> Score<'p> {
        let seen = vec![false; plan.graph.nodes().len()];
        Score { plan, attention, seen, by_pair: false, instructions: 0.0, gathers: 0.0 }
    }

    fn of_values(plan: &'p Plan, attention: &'p Attention, values: impl Iterator<Item = Value>) -> Score<'p> {
        let mut score = Score::empty(plan, attention);
        for value in values {
            let Ok(()) = walk(&mut score, value);
        }
        score
    }
}

impl Domain for Score<'_> {
    type Error = Infallible;

    fn is_known(&self, value: Value) -> bool {
        Some(value) == self.attention.dot || self.seen[value.index()]
    }

    fn node(&self, value: Value) -> Node {
        // What the other loops have made is loaded.
        let mut made = self.plan.by_distance.iter().chain(&self.plan.by_runs.values);
        let is_made = !self.by_pair && made.any(|made| *made == value);
        if self.attention.is_per_pair(&self.plan.graph, value) && !is_made {
            self.plan.node(value, |_| true)
        } else {
            Node::Opaque
        }
    }

    fn make(&mut self, value: Value, node: Node) -> Result<(), Infallible> {
        self.seen[value.index()] = true;
        match node {
            Node::Gather { .. } => self.gathers += 1.0,
            node => self.instructions += instructions(&node),
        }
        Ok(())
    }
}

impl Plan {
    /// Whether what is computed for every query and key is too long to be written out for every element of a register tile.
    pub(crate) fn has_long_scores(&self, attention: &Attention) -> bool {
        let values = self.terms_beside_hinges(attention).iter().chain(&attention.masks).map(|term| term.value);
        let x = self.hinges.as_ref().map(|hinges| hinges.x);
        let score = Score::of_values(self, attention, values.chain(x));
        score.instructions + LOOKUP * score.gathers > UNROLLED
    }
}
