//! Where each value of a fused graph is computed.

use std::fmt;

use rhumb_ir::{Op, Value, Walk};

use super::{Problem, Source};

/// Where a value is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the attention, as a table of its own.
    Table {
        /// Why.
        reason: &'static str,
    },
    /// Before the attention, for a table.
    ForTable {
        /// The name of the table.
        table: String,
    },
    /// While a query tile is loaded.
    QueryTile,
    /// While a key tile is loaded, for the query tiles that take turns at it.
    Loaded,
    /// In the loop over queries and keys.
    Pair,
    /// In the loop over queries and keys, of the sum of their products: a factor of queries that are multiplied as they lie.
    PairSum,
    /// By intervals for each key tile, and in the loop over queries and keys where these do not decide.
    Mask,
    /// Key tile by key tile, and never held as a whole.
    KeyTiles,
    /// For each query, once all keys have been seen.
    Result,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Table { reason } => write!(f, "once per call: {reason}"),
            Place::ForTable { table } => write!(f, "once per call, for table `{table}`"),
            Place::QueryTile => f.write_str("once per query tile, while it is loaded"),
            Place::Loaded => f.write_str("once per key tile, while it is loaded"),
            Place::Pair => f.write_str("per pair of a query and a key"),
            Place::PairSum => f.write_str("per pair of a query and a key, on the sum of their products"),
            Place::Mask => f.write_str("per key tile, by intervals; per pair in tiles that these leave open"),
            Place::KeyTiles => f.write_str("key tile by key tile, never held as a whole"),
            Place::Result => f.write_str("once per query, at its end"),
        }
    }
}

impl Problem {
    /// Where each value of [`Problem::graph`] is computed; `None` for inputs and constants, and for what no output needs. A value that is
    /// needed at several places is computed at each, and told at the innermost.
    pub fn places(&self) -> Vec<Option<Place>> {
        let mut places = Places { problem: self, places: vec![None; self.graph.nodes().len()] };
        for (table, root) in self.roots() {
            places.set(root, Place::Table { reason: self.tables[table].reason });
        }
        if let Some(attention) = &self.attention {
            attention.products.iter().for_each(|product| places.set(product.dot, Place::Pair));
            attention.terms.iter().for_each(|term| places.spread(term.value, &Place::Pair));
            attention.masks.iter().for_each(|mask| places.spread(mask.value, &Place::Mask));
            attention.products.iter().for_each(|product| places.spread(product.query, &Place::QueryTile));
            if let Some(log_sum) = attention.log_sum() {
                places.set(log_sum.leaf, Place::KeyTiles);
                places.spread(log_sum.value, &Place::Result);
            }
        }
        for (table, root) in self.roots() {
            let place = Place::ForTable { table: self.tensors[self.tables[table].target].name.clone() };
            self.graph.op(root).operands().into_iter().for_each(|operand| places.spread(operand, &place));
        }
        places.finish()
    }

    /// The values that tables are made of, by the number of the table.
    fn roots(&self) -> Vec<(usize, Value)> {
        let of = |source: &Source| match source {
            Source::Value(value) | Source::Cos(value) | Source::Sin(value) => vec![*value],
            Source::Sum(terms) => terms.iter().map(|term| term.value).collect(),
            Source::Squares { .. } => Vec::new(),
        };
        let tables = self.tables.iter().enumerate();
        tables.flat_map(|(number, table)| of(&table.source).into_iter().map(move |value| (number, value))).collect()
    }
}

struct Places<'p> {
    problem: &'p Problem,
    places: Vec<Option<Place>>,
}

impl Places<'_> {
    /// Tells the place of a value that has none yet.
    fn set(&mut self, value: Value, place: Place) {
        let is_given = matches!(self.problem.graph.op(value), Op::Input { .. } | Op::Const(_) | Op::Table { .. });
        let slot = &mut self.places[value.index()];
        if slot.is_none() && !is_given {
            *slot = Some(place);
        }
    }

    /// Tells the place of a value and of all that it is made of, up to values that have one.
    fn spread(&mut self, value: Value, place: &Place) {
        let mut walk = Walk::of([value]);
        while let Some(value) = walk.next() {
            if self.places[value.index()].is_none() {
                self.set(value, place.clone());
                if self.places[value.index()].is_some() {
                    walk.enter(self.problem.graph.op(value).operands());
                }
            }
        }
    }

    /// What joins the parts of an attention has a place too: sums of terms, the softmax, the average.
    fn finish(mut self) -> Vec<Option<Place>> {
        let Some(attention) = &self.problem.attention else { return self.places };
        let graph = &self.problem.graph;
        let used = graph.below_in_order(graph.outputs().iter().map(|output| output.value), |_| true);
        for value in used {
            let axes = graph.ty(value).axes;
            match graph.op(value) {
                Op::Softmax { .. } | Op::LogSumExp { .. } => self.set(value, Place::KeyTiles),
                Op::Dot { axis, .. } if *axis == attention.key => self.set(value, Place::KeyTiles),
                _ if axes.contains(attention.query) && axes.contains(attention.key) => self.set(value, Place::Pair),
                _ => {}
            }
        }
        self.places
    }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Alibi, Attention, Causal, Rope};

    use super::*;
    use crate::problem::tests::planned;

    #[test]
    fn every_op_of_an_attention_has_a_place() {
        let attention = Attention::heads(2).head_dim(8).scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal).lse();
        let plan = planned(&attention);
        let places = plan.places();
        let of = |wanted: fn(&Op) -> bool| -> Vec<&Place> {
            let found = plan.graph.values().filter(|value| wanted(plan.graph.op(*value)));
            found.filter_map(|value| places[value.index()].as_ref()).collect()
        };
        assert_eq!(of(|op| matches!(op, Op::Softmax { .. } | Op::LogSumExp { .. })), [&Place::KeyTiles; 2]);
        assert_eq!(of(|op| matches!(op, Op::Compare(..))), [&Place::Mask]);
        let rotations = of(|op| matches!(op, Op::Rotate { .. }));
        let is_made_first = |place: &&Place| matches!(place, Place::Table { .. });
        assert!(rotations.len() == 2 && rotations.contains(&&Place::QueryTile), "{rotations:?}");
        assert_eq!(rotations.into_iter().filter(is_made_first).count(), 1);
        assert_eq!(of(|op| matches!(op, Op::Dot { .. })), [&Place::Pair, &Place::KeyTiles]);
        for (value, place) in plan.graph.values().zip(&places) {
            let op = plan.graph.op(value);
            let is_leaf = op.operands().is_empty();
            assert!(place.is_some() || is_leaf || plan.graph.ty(value).axes.is_empty(), "{}", plan.graph.line(value));
        }
    }
}
