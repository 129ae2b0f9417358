//! Factors of rows: what is computed of rows of queries and keys that is the same for several of them, such as the decay of a position,
//! which all heads share. Where it takes long it has a table.

use rhumb_ir::{Binary, Elem, Op, Value};

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
        let mut seen = vec![false; root.index() + 1];
        let mut stack = vec![root];
        while let Some(value) = stack.pop() {
            let known = self.table_of.contains_key(&Source::Value(value)) || self.inputs.contains_key(&value);
            if known || std::mem::replace(&mut seen[value.index()], true) {
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
                Op::Rotate { x, .. } => stack.push(x),
                Op::Gather { table, .. } if self.is_factor(table) => {
                    self.prepare(table)?;
                    let reason = "looked up, and takes long to compute for each element that is";
                    self.table(Source::Value(table), table, Storage::F32, false, reason);
                }
                Op::Dot { .. } | Op::Gather { .. } => {}
                ref op => stack.extend(op.operands()),
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
        let mut seen = vec![false; value.index() + 1];
        let (mut stack, mut cost) = (vec![value], 0.0);
        while let Some(value) = stack.pop() {
            let known = self.table_of.contains_key(&Source::Value(value));
            if !known && !std::mem::replace(&mut seen[value.index()], true) {
                cost += match *graph.op(value) {
                    Op::Unary(op, _) => elementary(op).instructions,
                    Op::Binary(Binary::Pow, ..) => 2.0 * WORTH,
                    _ => 0.0,
                };
                stack.extend(graph.op(value).operands());
            }
        }
        cost > WORTH
    }
}
