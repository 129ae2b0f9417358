//! Keys without weight.

use rhumb_compiler::plan::Pruning;

use super::task::Task;
use super::{Cut, Prefill};
use crate::memory::{Invocation, Outer, Part, TileArgs};
use crate::program::pool::ThreadMemory;
use crate::program::tables;
use crate::threads::Threads;
use crate::tiles::{Classes, Queries, Segment, Trees, take_tile};

/// Scores are rounded otherwise than their bounds are.
const ROOM: f64 = 1.0 / 64.0;

impl Prefill {
    /// Makes the squared norms that tell which keys have no weight, for the outer indices where some may have none.
    pub(in crate::program) fn measure(
        &self,
        call: &mut Invocation<'_>,
        cut: &Cut,
        threads: &Threads,
        trees: &mut Trees,
        memories: &mut [ThreadMemory],
    ) {
        let (true, Some(functions)) = (cut.pruning, &self.functions.pruning) else { return };
        // Without tasks there are no outer indices either.
        let Some(memory) = memories.first_mut() else { return };
        for number in 0..Outer::count(&self.attention, call.frame()) {
            let outer = Outer::new(&self.attention, call.frame(), number);
            let keys = (0, call.frame().length(self.attention.key));
            let classes = Classes { classifier: &self.classifier, frame: call.frame(), trees, outer: &outer, keys };
            let can_prune = classes.may_prune(&mut memory.lists.seen);
            trees.can_prune.push(can_prune);
        }
        for &(function, table) in &functions.tables {
            trees.rows.clear();
            for number in (0..trees.can_prune.len()).filter(|number| trees.can_prune[*number]) {
                trees.rows.push(Outer::new(&self.attention, call.frame(), number).row(table));
            }
            trees.rows.sort_unstable();
            trees.rows.dedup();
            tables::run(&call.make_rows(function, &trees.rows), trees.rows.len(), threads, memories);
            self.classifier.grow_rows(call.frame(), trees, table);
        }
    }
}

impl Task<'_, '_> {
    /// Takes the key tile that comes first out of the segments of a query tile, from `start` on. Without a reference, keys that the bias
    /// favours come first: their scores make the bases.
    pub(super) fn take_near(&mut self, queries: Queries, start: usize) -> Option<Segment> {
        if !self.pruning || self.functions.key_term.is_some() {
            return None;
        }
        let lists = &mut self.lists.seen;
        let key = self.classes.seed_key(queries, lists, start)?;
        take_tile(&mut lists.segments, start, key)
    }

    /// The least base of the queries of a tile; `-inf` where one has no score yet.
    pub(super) fn least_base(&mut self, position: usize, queries: Queries) -> f64 {
        let count = queries.range.1 - queries.range.0;
        let [limits, bases] = self.tiles.parts(position, [Part::Limits, Part::Bases]);
        // A row that is NaN stays NaN, whatever is pruned.
        let least = |numbers: &[f32]| numbers[..count].iter().copied().fold(f32::INFINITY, f32::min);
        if least(limits) == f32::NEG_INFINITY { f64::NEG_INFINITY } else { f64::from(least(bases)) }
    }

    /// Leaves out what has no weight for the queries of a tile, of its segments from `start` on: all of its scores are too far below `base`,
    /// the least of the queries'.
    pub(super) fn prune(&mut self, position: usize, queries: Queries, start: usize, base: f64) {
        // Without a score yet there is no limit.
        if base == f64::NEG_INFINITY {
            return;
        }
        let of_queries = self.functions.pruning.as_ref().and_then(|functions| functions.squares);
        let squares = match of_queries {
            Some(function) => {
                self.tiles.call(function, position, TileArgs::default());
                &self.tiles.part(position, Part::Squares)[..queries.range.1 - queries.range.0]
            }
            // A score without a product has no norms.
            None => &[],
        };
        let visited = self.classes.prune(queries, &mut self.lists.seen, start, (squares, base - Pruning::BELOW - ROOM));
        self.in_vain = if visited == 0 { 0 } else { self.in_vain + visited };
    }
}
