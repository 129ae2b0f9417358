//! Outputs without a softmax: what tables are for, and what they are not.

use rhumb_ir::{AxisSet, Elem, Op, Value, Walk};

use super::planner::Planner;
use super::{PlanError, Source};
use crate::weighted::WeightedSum;

impl Planner<'_> {
    /// A sum of values weighed by scores that a value is computed from.
    fn weighted_sum_in(&self, value: Value) -> Option<Value> {
        self.made_of(value).find(|value| WeightedSum::of(self.graph, *value).is_some())
    }

    /// What a value is made of, what the attention gives left out.
    fn made_of(&self, value: Value) -> impl Iterator<Item = Value> {
        self.graph.below([value], |value| !self.is_kept(value)).filter(|value| !self.is_kept(*value))
    }

    /// Whether a value is a sum or a log-sum-exp of the attention that is kept for what is computed of it.
    fn is_kept(&self, value: Value) -> bool {
        self.of_results[value.index()] && self.table_of.contains_key(&Source::Value(value))
    }

    /// The first dot that a value is computed of, what the attention gives left out.
    fn dot_in(&self, value: Value) -> Option<Value> {
        self.made_of(value).find(|value| matches!(self.graph.op(*value), Op::Dot { .. }))
    }

    /// Refuses an output that is more than a rotation, a table or elementwise along rows, of inputs or of what the attention gives: tables have
    /// no tiles.
    pub(super) fn plain(&self, output: Value) -> Result<(), PlanError> {
        if self.of_results[output.index()]
            && let Some(dot) = self.dot_in(output)
        {
            let reason = "beside the sums of values over keys an output has no products: what is computed of such sums is elementwise, or a \
                          rotation; compute this product elsewhere";
            return Err(self.not(dot, reason));
        }
        if let Some(sum) = self.weighted_sum_in(output) {
            return Err(self.not(
                output,
                format!(
                    "this op comes after `{}`, a sum of values weighed by scores, and such a sum is an output itself; move a factor into its \
                     weights, and compute anything else elsewhere",
                    self.graph.line(sum)
                ),
            ));
        }
        if let Some(dot) = self.dot_in(output) {
            return Err(self.not(
                dot,
                "a product outside of an attention has no kernel: outputs are the `dot` of a `softmax`, or of other weights made of scores, \
                 with values, the `logsumexp` of scores, rotations, and elementwise ops along rows; weigh values by the scores, or \
                 compute this product elsewhere and bind it as an input",
            ));
        }
        let graph = self.graph;
        let data = self.reaches(|op| matches!(op, Op::Input { elem, .. } if elem.widened() == Elem::F32));
        let lengths = |value: Value| -> AxisSet {
            graph.ty(value).axes.iter().filter(|axis| graph.static_extent(*axis).is_none()).collect()
        };
        let mut walk = Walk::of([output]);
        while let Some(value) = walk.next() {
            match *graph.op(value) {
                _ if self.is_kept(value) => {}
                // Angles are tables of their own, of positions and frequencies.
                Op::Rotate { x, .. } => walk.enter([x]),
                ref op => {
                    let operands = op.operands();
                    let read = || operands.iter().filter(|operand| data[operand.index()]);
                    let all = read().fold(AxisSet::EMPTY, |all, operand| all.union(lengths(*operand)));
                    if !all.is_empty() && read().all(|operand| lengths(*operand) != all) {
                        return Err(self.not(
                            value,
                            "an outer product has no kernel: this op makes a value for every pair of elements of its operands; leave it \
                             inside the score of a `softmax`, or compute it elsewhere and bind it as an input",
                        ));
                    }
                    walk.enter(operands);
                }
            }
        }
        Ok(())
    }
}
