//! What a key costs the rows of one tile, by which calls are given to a kernel: loads from memory left out, which both schedules share.

use super::cost::{Core, SOFTMAX, Score, WEIGHT, WIDTH};
use super::unit_cost::PORTS;
use super::{Attention, Decode, Plan, RowTile, Schedule};

/// Cycles to call for a key tile and to move bases; in decode, to write the indices of its keys, and to wait for what is summed across
/// lanes; in prefill, to rescale averages.
const KEY_TILE: f64 = 600.0;
/// Vector instructions to sum a vector up across its lanes, in each of those that are summed up together.
const ACROSS: f64 = 3.0;
/// Cycles of a vector of key terms, whose both parts are added in double precision: in prefill a key has one for all rows.
const KEY_TERM: f64 = 10.0;

impl Plan {
    /// Cycles that a key takes where this many rows see it; none without an attention.
    pub(crate) fn key_cycles(&self, rows: usize) -> f64 {
        let Some(attention) = &self.attention else { return 0.0 };
        let score = Score::of(self, attention);
        let lanes = self.machine.lanes as f64;
        let of_vector = (score.instructions + WEIGHT + SOFTMAX) / PORTS + lanes * score.gathers * super::cost::GATHER;
        let (tile, key_tile) = (self.tiling.queries().max(1), KEY_TILE / self.tiling.keys as f64);
        let key_tiles = rows.div_ceil(tile) as f64 * key_tile;
        match &self.schedule {
            Schedule::Prefill(_) => {
                let of_tile = |rows| if rows == 0 { 0.0 } else { self.query_tile(attention, rows, of_vector) };
                key_tiles + (rows / tile) as f64 * of_tile(tile) + of_tile(rows % tile)
            }
            Schedule::Decode(decode) => {
                let key_term = if attention.key_term.is_some() { KEY_TERM } else { 0.0 };
                key_tiles + self.rows(attention, decode, rows) + rows as f64 * (of_vector + key_term) / lanes
            }
        }
    }

    /// Cycles of a query tile: register tiles whose lanes are queries.
    fn query_tile(&self, attention: &Attention, queries: usize, of_vector: f64) -> f64 {
        let shape = self.tiling.shapes[self.tiling.shape_for(queries)];
        let core = Core(self.machine);
        let sums = (shape.key_rows * shape.partial_sums) as f64;
        let (products, values) = self.at_once();
        let turn = core.turn(shape.key_rows, shape.columns, shape.partial_sums);
        let scores = attention.query_length() as f64 * turn / (sums * products);
        let turn = core.turn(shape.value_rows, shape.columns, 1);
        let averages = attention.value_length() as f64 * turn / (shape.value_rows as f64 * values);
        scores + averages + shape.columns as f64 * of_vector
    }

    /// Cycles of register tiles of rows, whose lanes are elements.
    fn rows(&self, attention: &Attention, decode: &Decode, rows: usize) -> f64 {
        let (mut rest, mut cycles) = (rows, 0.0);
        for tile in &decode.tiles {
            cycles += (rest / tile.rows) as f64 * self.register_tile(attention, *tile);
            rest %= tile.rows;
        }
        cycles
    }

    fn register_tile(&self, attention: &Attention, tile: RowTile) -> f64 {
        let (core, lanes) = (Core(self.machine), self.machine.lanes);
        let keys = RowTile::GROUP * tile.key_groups;
        let vectors = |length: usize| (length / lanes) as f64;
        let (products, values) = self.at_once();
        let scores = vectors(attention.query_padded(lanes)) * core.turn(keys, tile.rows, 1) / (keys as f64 * products);
        let sums = tile.rows as f64 * (ACROSS / PORTS + 1.0 / WIDTH);
        let columns = vectors(attention.value_padded(lanes));
        let width = columns.min(tile.columns as f64).max(1.0);
        let averages = columns / width * core.turn(tile.rows, width as usize, 1) / values;
        scores + attention.products.len() as f64 * sums + averages
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rhumb_plugins::{Attention, Registry, lower};

    use crate::machine::Machine;
    use crate::plan::Plan;
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    /// Few rows cost less by elements, many by lanes of their own.
    #[test]
    fn few_rows_cost_less_in_decode() {
        let graph = Attention::heads(8).head_dim(128).kv_heads(2).build().expect("a graph");
        let lowered = lower(&graph, &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        let problem = Arc::new(recognize(fused.graph()).expect("a problem"));
        for machine in [Machine::of(16, 32), Machine::of(8, 16)] {
            let prefill = Plan::new(&problem, machine).expect("a plan");
            let decode = Plan::decode(&problem, machine).expect("a plan");
            let less = |rows| decode.key_cycles(rows) < prefill.key_cycles(rows);
            assert!((1..=machine.lanes / 2).all(less), "{machine}");
            assert!(!less(3 * machine.lanes), "{machine}");
        }
    }
}
