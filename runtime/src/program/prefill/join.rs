//! What chunks of keys came to, joined: softmaxes over parts of the keys, by the greatest score of each.

use super::task::Task;
use crate::memory::{Part, Records};

/// Elements of a row that are joined at once.
const TOGETHER: usize = 64;

impl Task<'_> {
    /// Hands in the query tile at a position. In the last task that has it, puts what all chunks came to into its state, and is true.
    ///
    /// Chunks are joined in their order, each row by itself: which task is the last changes no bit.
    pub(super) fn join(&mut self, position: usize) -> bool {
        let Some(records) = self.tiles.hand_in(position) else { return false };
        for row in 0..records.record().rows {
            let weighs = self.join_numbers(position, row, &records);
            let mut before = 0;
            for reduction in 0..self.attention.reductions.len() {
                let (accumulators, length) = self.tiles.accumulators(position, reduction);
                let (to, of) = (&mut accumulators[row * length..][..length], (before, length));
                for (number, to) in to.chunks_mut(TOGETHER).enumerate() {
                    let mut sums = [0.0; TOGETHER];
                    for chunk in 0..records.chunks() {
                        let weight = weighs.weight(chunk, row, &records);
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
        true
    }

    /// Joins the base, the sum and the reference of a row, and says what chunks are weighed from.
    fn join_numbers(&mut self, position: usize, row: usize, records: &Records<'_>) -> Weighs {
        let Some(sums) = records.part(0, Part::Sums) else { return Weighs::Alike };
        debug_assert!(row < sums.len(), "a row of the query tile");
        let mut from = 0;
        for chunk in 1..records.chunks() {
            let (greatest, other) = (Level::of(records, from, row), Level::of(records, chunk, row));
            // A chunk without weight has no score to measure from. NaN takes part: its sum is NaN.
            if other.sum != 0.0 && (greatest.sum == 0.0 || other.above(&greatest) > 0.0) {
                from = chunk;
            }
        }
        let weighs = Weighs::From(Level::of(records, from, row));
        let sum = |chunk| weighs.weight(chunk, row, records) * f64::from(Level::of(records, chunk, row).sum);
        let total: f64 = (0..records.chunks()).map(sum).sum();
        let Weighs::From(level) = weighs else { return weighs };
        self.tiles.part(position, Part::Bases)[row] = level.base;
        self.tiles.part(position, Part::Limits)[row] = level.limit;
        self.tiles.part(position, Part::Sums)[row] = total as f32;
        if records.part(0, Part::References).is_some() {
            self.tiles.part(position, Part::References)[row] = level.negated_reference;
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
        match self {
            Weighs::Alike => 1.0,
            Weighs::From(from) => {
                let level = Level::of(records, chunk, row);
                // Its accumulators are 0, or NaN.
                if level.sum == 0.0 { 0.0 } else { level.above(&from).exp2() }
            }
        }
    }
}

/// What the scores of a row are measured from in a chunk, and the sum of their weights.
#[derive(Clone, Copy)]
struct Level {
    base: f32,
    /// `-inf` where it saw no key.
    limit: f32,
    negated_reference: f32,
    sum: f32,
}

impl Level {
    fn of(records: &Records<'_>, chunk: usize, row: usize) -> Level {
        let number = |part| records.part(chunk, part).map_or(0.0, |numbers| numbers[row]);
        Level {
            base: number(Part::Bases),
            limit: number(Part::Limits),
            negated_reference: number(Part::References),
            sum: number(Part::Sums),
        }
    }

    /// How far it is above another.
    fn above(&self, other: &Level) -> f64 {
        let reference = f64::from(other.negated_reference) - f64::from(self.negated_reference);
        reference + (f64::from(self.base) - f64::from(other.base))
    }
}
