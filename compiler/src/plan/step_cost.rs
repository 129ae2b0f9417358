//! What a step of decoding costs: one query of each head on many keys, with all that is made of keys. By this forms of a graph are ranked.

use rhumb_ir::Axis;

use super::place::visits;
use super::table_cost::{TablePrice, price};
use super::{Attention, Loaded, Plan, TensorId};

impl Plan {
    /// Cycles that a key takes in a call of one query, for all heads, with all that is made of it.
    pub(crate) fn step_cycles(&self) -> f64 {
        let Some(attention) = &self.attention else { return 0.0 };
        self.outer_tiles(attention) * (self.key_cycles(attention.queries_per_position()) + self.made_cycles())
    }

    /// Cycles in which what is made of a key is made, in a call of one query, for each of its query tiles.
    pub(crate) fn made_cycles(&self) -> f64 {
        let Some(attention) = &self.attention else { return 0.0 };
        let length = |axis: &Axis| self.length_in_step(attention, axis);
        let keyed = |table: &TensorId| self.tensors[*table].dims.contains(&attention.key);
        let elements = |table: TensorId| self.tensors[table].dims.iter().map(length).product::<f64>();
        let made = self.tables.iter().filter(|table| keyed(&table.target)).map(|table| {
            let TablePrice { compute, keep } = price(self, table, self.machine);
            elements(table.target) * (compute + keep)
        });
        let loaded = self.schedule.loaded().iter().map(|Loaded { table, .. }| {
            let compute = price(self, table, self.machine).compute;
            elements(table.target) * compute * visits(self, attention, table.target)
        });
        (made.sum::<f64>() + loaded.sum::<f64>()) / self.outer_tiles(attention)
    }

    /// Query tiles of a call of one query.
    fn outer_tiles(&self, attention: &Attention) -> f64 {
        let rows: f64 = attention.outer.iter().map(|axis| self.length_in_step(attention, axis)).product();
        rows / attention.queries_per_position() as f64
    }

    /// The length of an axis in a call of one query, of a batch of one.
    fn length_in_step(&self, attention: &Attention, axis: &Axis) -> f64 {
        match *axis {
            axis if axis == attention.query => 1.0,
            axis => self.graph.static_extent(axis).map_or(1.0, f64::from),
        }
    }
}
