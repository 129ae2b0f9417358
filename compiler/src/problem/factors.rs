//! Factors of rows: what is computed of rows of queries and keys that is the same for several of them, such as the decay of a position,
//! which all heads share. Where it takes long it has a table.

use rhumb_ir::{Binary, Elem, Op, Value, Walk};

use super::planner::Planner;
use super::{PlanError, Source, Storage};
use crate::elementary::elementary;

/// Instructions of functions that a table is worth.
const WORTH: f64 = 15.0;

impl Planner<'_> {
    /// Makes tables of what rows of `root` read that varies over less than they do, and takes long.
    pub(super) fn factors(&mut self, root: Value) -> Result<(), PlanError> {
        let graph = self.graph;
        let all = graph.ty(root).axes;
        let mut walk = Walk::of([root]);
        while let Some(value) = walk.next() {
            if self.table_of.contains_key(&Source::Value(value)) || self.inputs.contains_key(&value) {
                continue;
            }
            if graph.ty(value).axes != all {
                if self.is_factor(value) {
                    self.prepare(value)?;
                    let reason = "a factor of rows, the same for several of them";
                    self.table(Source::Value(value), value, Storage::F32, false, reason);
                }
                continue;
            }
            match *graph.op(value) {
                Op::Rotate { x, .. } => walk.enter([x]),
                Op::Gather { table, .. } if self.is_factor(table) => {
                    self.prepare(table)?;
                    let reason = "looked up, and takes long to compute for each element that is";
                    self.table(Source::Value(table), table, Storage::F32, false, reason);
                }
                Op::Dot { .. } | Op::Gather { .. } => {}
                ref op => walk.enter(op.operands()),
            }
        }
        Ok(())
    }

    /// Whether a value is computed element by element, and takes long.
    fn is_factor(&self, value: Value) -> bool {
        let graph = self.graph;
        let plain = !self.rotates[value.index()] && !self.reduces[value.index()];
        if graph.ty(value).elem != Elem::F32 || !plain {
            return false;
        }
        let known = |value: &Value| self.table_of.contains_key(&Source::Value(*value));
        let costs =
            graph.below([value], |value| !known(&value)).filter(|value| !known(value)).map(|value| {
                match *graph.op(value) {
                    Op::Unary(op, _) => elementary(op).instructions,
                    Op::Binary(Binary::Pow, ..) => 2.0 * WORTH,
                    _ => 0.0,
                }
            });
        costs.sum::<f64>() > WORTH
    }
}
