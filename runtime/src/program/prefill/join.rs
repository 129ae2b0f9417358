//! What chunks of keys came to, joined: softmaxes over parts of the keys, by the greatest score of each.

use rhumb_compiler::plan::Pruning;

use super::task::Task;
use crate::memory::{Level, Part, Records, TileArgs};

/// Elements of a row that are joined at once.
const TOGETHER: usize = 64;

impl Task<'_, '_> {
    /// Hands in the query tile at a position. In the last task that has it, puts what all chunks came to into its state, and is true.
    ///
    /// Chunks are joined in their order, each row by itself: which task is the last changes no bit.
    pub(super) fn join(&mut self, position: usize) -> bool {
        let Some(records) = self.tiles.hand_in(position) else { return false };
        self.join_records(position, &records);
        true
    }

    /// Hands in the query tile at a position, for which no key of the task has weight; in the last task that has it, ends it.
    pub(super) fn leave_out(&mut self, position: usize) {
        let Some(records) = self.tiles.hand_in_nothing(position) else { return };
        self.trace = None;
        self.begin(position);
        self.join_records(position, &records);
        self.tiles.call(self.functions.end, position, TileArgs::default());
    }

    /// Puts what all chunks came to into the state of a query tile, which holds no key.
    fn join_records(&mut self, position: usize, records: &Records<'_>) {
        for row in 0..records.record().rows {
            let weighs = self.join_numbers(position, row, records);
            let mut before = 0;
            for reduction in 0..self.attention.reductions.len() {
                let (accumulators, length) = self.tiles.accumulators(position, reduction);
                let (to, of) = (&mut accumulators[row * length..][..length], (before, length));
                for (number, to) in to.chunks_mut(TOGETHER).enumerate() {
                    let mut sums = [0.0; TOGETHER];
                    for chunk in records.chunks() {
                        let weight = weighs.weight(chunk, row, records);
                        let from = &records.accumulators(chunk, of)[row * length + number * TOGETHER..][..to.len()];
                        for (sum, x) in sums.iter_mut().zip(from) {
                            *sum += weight * f64::from(*x);
                        }
                    }
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = sum as f32;
                    }
                }
                before += length;
            }
        }
    }

    /// Joins the base, the sum and the reference of a row, and says what chunks are weighed from.
    fn join_numbers(&mut self, position: usize, row: usize, records: &Records<'_>) -> Weighs {
        let mut levels = records.chunks().filter_map(|chunk| Level::of(records, chunk, row));
        let Some(mut greatest) = levels.next() else { return Weighs::Alike };
        for level in levels {
            // A chunk without weight has no score to measure from. NaN takes part: its sum is NaN.
            if level.sum != 0.0 && (greatest.sum == 0.0 || level.above(&greatest) > 0.0) {
                greatest = level;
            }
        }
        let weighs = Weighs::From(greatest);
        let levels = records.chunks().filter_map(|chunk| Some((chunk, Level::of(records, chunk, row)?)));
        let total: f64 = levels.map(|(chunk, level)| weighs.weight(chunk, row, records) * f64::from(level.sum)).sum();
        self.tiles.part(position, Part::Bases)[row] = greatest.base;
        self.tiles.part(position, Part::Limits)[row] = greatest.limit;
        self.tiles.part(position, Part::Sums)[row] = total as f32;
        if records.part(0, Part::References).is_some() {
            self.tiles.part(position, Part::References)[row] = greatest.negated_reference;
        }
        weighs
    }
}

/// What the accumulators of a chunk are multiplied with.
#[derive(Clone, Copy)]
enum Weighs {
    /// By 1: there is no softmax.
    Alike,
    /// By a power of 2: how far its scores are measured from below those of this chunk.
    From(Level),
}

impl Weighs {
    fn weight(self, chunk: usize, row: usize, records: &Records<'_>) -> f64 {
        match (self, Level::of(records, chunk, row)) {
            (Weighs::From(from), Some(level)) => {
                let above = level.above(&from);
                // Of a chunk that saw no key accumulators are 0, or NaN. One that is far below is as if it had not been computed.
                if level.sum == 0.0 || above < -Pruning::BELOW { 0.0 } else { above.exp2() }
            }
            _ => 1.0,
        }
    }
}
