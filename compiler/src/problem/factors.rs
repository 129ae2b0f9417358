//! Factors of rows: what is computed of rows of queries and keys that is the same for several of them, such as the decay of a position,
//! which all heads share. Where it takes long it has a table.

use rhumb_ir::{Axis, Binary, Elem, Op, Pairing, Value, Walk};

use super::planner::Planner;
use super::{PlanError, Source, Storage};
use crate::elementary::elementary;
use crate::row_index::period;

/// Instructions of functions that a table is worth.
const WORTH: f64 = 15.0;

impl Planner<'_> {
    /// Makes tables of what rows of `root` read that varies over less than they do, and takes long.
    pub(super) fn factors(&mut self, root: Value) -> Result<(), PlanError> {
        let graph = self.graph;
        let all = graph.ty(root).axes;
        let mut walk = Walk::of([(root, None)]);
        while let Some((value, turned)) = walk.next() {
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
                Op::Rotate { x, .. } => walk.enter([(x, self.halves(value))]),
                Op::Gather { table, axis, index }
                    if self.is_factor(table) && !self.is_shared((table, axis, index), turned) =>
                {
                    self.prepare(table)?;
                    let reason = "looked up, and takes long to compute for each element that is";
                    self.table(Source::Value(table), table, Storage::F32, false, reason);
                }
                Op::Dot { .. } | Op::Gather { .. } => {}
                ref op => walk.enter(op.operands().into_iter().map(|operand| (operand, turned))),
            }
        }
        Ok(())
    }

    /// The axis of a rotation of all its elements, and how many of them a half has, where pairs are of one of each half.
    fn halves(&self, rotation: Value) -> Option<(Axis, u32)> {
        let Op::Rotate { dim, pair, pairing: Pairing::Half, x, .. } = *self.graph.op(rotation) else { return None };
        let half = self.graph.static_extent(pair)?;
        let whole = self.graph.static_extent(dim) == half.checked_mul(2);
        (whole && !self.rotates[x.index()]).then_some((dim, half))
    }

    /// Whether the halves of a rotation look up the same elements, which is done once for both.
    fn is_shared(&self, lookup: (Value, Axis, Value), halves: Option<(Axis, u32)>) -> bool {
        halves.is_some_and(|(row, half)| period(self.graph, lookup, row) == Some(half))
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
