//! Outputs without a softmax: what tables are for, and what they are not.

use rhumb_ir::{AxisSet, Elem, Op, Value};

use super::PlanError;
use super::planner::Planner;
use crate::weighted::WeightedSum;

impl Planner<'_> {
    /// A sum of values weighed by scores that a value is computed from.
    fn weighted_sum_in(&self, value: Value) -> Option<Value> {
        let mut seen = vec![false; value.index() + 1];
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            if WeightedSum::of(self.graph, value).is_some() {
                return Some(value);
            }
            stack.extend(self.graph.op(value).operands());
        }
        None
    }

    /// Refuses an output, free of softmaxes, that is more than a rotation, a table or elementwise along rows: map steps have no tiles.
    pub(super) fn plain(&self, output: Value) -> Result<(), PlanError> {
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
        if let Some(dot) = self.find(output, |op| matches!(op, Op::Dot { .. })) {
            return Err(self.not(
                dot,
                "a product outside of an attention has no kernel: outputs are the `dot` of a `softmax`, or of other weights made of scores, \
                 with values, the `logsumexp` of scores, rotations, and elementwise ops along rows; weigh values by the scores, or \
                 compute this product elsewhere and bind it as an input",
            ));
        }
        let graph = self.graph;
        let data = self.reaches(|op| matches!(op, Op::Input { elem: Elem::F32, .. }));
        let lengths = |value: Value| -> AxisSet {
            graph.ty(value).axes.iter().filter(|axis| graph.static_extent(*axis).is_none()).collect()
        };
        let mut seen = vec![false; output.index() + 1];
        let mut stack = vec![output];
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            match *graph.op(value) {
                // Angles are tables of their own, of positions and frequencies.
                Op::Rotate { x, .. } => stack.push(x),
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
                    stack.extend(operands);
                }
            }
        }
        Ok(())
    }
}
