//! Chunks of keys without weight: those far below others that have been computed, which the norms of pages tell without a look at the keys.

use rhumb_compiler::plan::{Attention, Combiner, KeyTerm, Origin, Plan, Product, Pruning, TensorId};
use rhumb_ir::ElemKind;
use smallvec::SmallVec;

use super::task::Task;
use crate::memory::Part;
use crate::program::functions::KeyTermFunctions;

/// Bounds are rounded otherwise than scores are.
const ROOM: f64 = 1.0;

/// Norms of values up to which sums of weighted values are finite.
const MOST: f32 = 1e30;

/// Whether the scores of a graph are bounded by the norms of rows and the greatest key term: one product, and the term.
pub(super) fn is_bounded(plan: &Plan, attention: &Attention) -> bool {
    let [product] = &attention.products[..] else { return false };
    let [term] = &attention.terms[..] else { return false };
    let weighed = attention.combiner != Combiner::Sum && !attention.reductions.is_empty();
    let is_input = |tensor: TensorId| matches!(plan.tensors[tensor].origin, Origin::Input(_));
    let along_keys = |term: KeyTerm| plan.tensors[term.high].dims.last() == Some(&attention.key);
    weighed
        && is_input(product.key)
        && attention.reductions.iter().all(|reduction| is_input(reduction.value))
        && is_of_rows(plan, product)
        && attention.key_term.is_some_and(along_keys)
        && term.value == product.dot
        && !term.negative
}

/// Whether the norms of a tensor of keys are those of the rows that queries are multiplied with. Those of integers are of scaled ones.
fn is_of_rows(plan: &Plan, product: &Product) -> bool {
    let scaled = product.scaled.is_some_and(|scaled| scaled.scale.is_some());
    let shifted = product.scaled.is_some_and(|scaled| scaled.shift.is_some());
    if plan.tensors[product.key].storage.kind() == ElemKind::Whole { scaled } else { !scaled && !shifted }
}

/// The norm of a row of a query; of pairs of `bf16`, times a factor.
fn norm(row: &[f32], factor: Option<f64>) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let Some(factor) = factor else { return row.iter().map(|x| square(*x)).sum::<f64>().sqrt() };
    // What follows the pairs is not of the row.
    let pairs = row[..row.len() / 2].iter().map(|pair| pair.to_bits());
    let halves = pairs.flat_map(|pair| [pair << 16, pair & 0xffff_0000]);
    halves.map(|bits| square(f32::from_bits(bits))).sum::<f64>().sqrt() * factor.abs()
}

/// A number that no key term is above whose first part is at most this one; NaN unless that is finite: others may be NaN.
fn above(high: f32) -> f64 {
    let high = f64::from(high);
    // The other part is at most half of the last digit.
    if high.is_finite() { high + high.abs() / f64::from(1 << 24) } else { f64::NAN }
}

impl Task<'_, '_> {
    /// Whether the keys of the task are without weight for every row of the query tile at a position, beside those of chunks that have been
    /// handed in: to be called when that was begun, and references raised. So that no bit changes, their scores must be as far below as
    /// [`Task::join`] gives no weight, and their values finite.
    pub(super) fn is_without_weight(
        &mut self,
        position: usize,
        (term, functions): (KeyTerm, KeyTermFunctions),
    ) -> bool {
        let references: SmallVec<[f32; 64]> = match functions.is_linear {
            true => self.tiles.part(position, Part::References).iter().copied().collect(),
            false => SmallVec::new(),
        };
        let (first, _) = self.tiles.queries(position);
        let (keys, _) = self.tiles.norms();
        let (rows, elements) = self.tiles.query_rows(position);
        let plan = self.classes.frame.plan();
        let factor = plan.bf16_pairs.factor;
        // What products are off by, relative to the norms: for queries that are rounded to integers 2^-16 of the greatest of 1024 elements.
        let off = if plan.integers.products { 1.0 / 1024.0 } else { 1.0 / 4096.0 };
        let bound = |row: usize| {
            let greatest = match functions.is_linear {
                true => above(references[row]),
                false => self.greatest_term(term, first + row),
            };
            let norm = norm(&rows[row * elements..][..elements], factor);
            greatest + norm * f64::from(keys) * (1.0 + off)
        };
        let levels = self.tiles.levels(position);
        levels.iter().enumerate().all(|(row, level)| bound(row) < level - Pruning::BELOW - ROOM)
    }

    /// The key term, where it and norms of keys and values bound the scores of a chunk: so that it is worth a look whether its keys are
    /// without weight.
    pub(super) fn bounding_term(&self) -> Option<(KeyTerm, KeyTermFunctions)> {
        let term = self.attention.key_term.filter(|_| self.bounded && self.tiles.is_of_chunks())?;
        let (keys, values) = self.tiles.norms();
        (keys.is_finite() && values < MOST).then_some((term, self.functions.key_term?))
    }

    /// The greatest key term of a query, counted with the heads that are packed, among the keys of the task. NaN stays.
    fn greatest_term(&self, term: KeyTerm, query: usize) -> f64 {
        let [high, low] = [term.high, term.low].map(|table| self.terms(table, query));
        // Both parts: far from 0, the first alone is further from their sum than keys without weight are below others.
        let terms = high.iter().zip(low).map(|(high, low)| f64::from(*high) + f64::from(*low));
        let keep = |most: f64, x: f64| if most.is_nan() || x <= most { most } else { x };
        terms.fold(f64::NEG_INFINITY, keep)
    }

    /// The key terms of a query, counted with the heads that are packed, for the keys of the task.
    fn terms(&self, table: TensorId, query: usize) -> &[f32] {
        let (frame, (from, to)) = (self.classes.frame, self.classes.keys);
        let head = query % self.attention.queries_per_position();
        let row = self.classes.outer.row_of_head(table, head);
        &frame.f32_table(table)[row * frame.length(self.attention.key)..][from..to]
    }
}

#[cfg(test)]
mod tests {
    use super::norm;

    #[test]
    fn norms_of_pairs_are_those_of_their_elements() {
        let pair = |low: f32, high: f32| f32::from_bits(low.to_bits() >> 16 | high.to_bits());
        assert_eq!(norm(&[3.0, -4.0], None), 5.0);
        let row = [pair(3.0, -4.0), pair(12.0, 84.0), 7.0, f32::NAN];
        assert_eq!(norm(&row, Some(-0.5)), 42.5);
    }
}
