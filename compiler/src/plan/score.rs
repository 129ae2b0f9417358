//! Takes a score apart: terms, masks, the dot of query and key, the axis of queries.

use rhumb_ir::{Axis, AxisSet, Binary, Elem, Op, Unary, Value};

use super::build::Planner;
use super::{PlanError, Term};

impl Planner<'_> {
    /// Takes the score apart into terms and masks.
    pub(super) fn flatten(&self, term: Term, terms: &mut Vec<Term>, masks: &mut Vec<Term>) {
        let Term { value, negative } = term;
        let mut go = |value, negative| self.flatten(Term { value, negative }, terms, masks);
        match *self.graph.op(value) {
            Op::Binary(Binary::Add, a, b) => {
                go(a, negative);
                go(b, negative);
            }
            Op::Binary(Binary::Sub, a, b) => {
                go(a, negative);
                go(b, !negative);
            }
            Op::Unary(Unary::Neg, x) => go(x, !negative),
            Op::Select { cond, on_true, on_false } if !negative && self.is_const(on_false, f64::NEG_INFINITY) => {
                self.conjuncts(Term { value: cond, negative: false }, masks);
                self.flatten(Term { value: on_true, negative }, terms, masks);
            }
            Op::Select { cond, on_true, on_false } if !negative && self.is_const(on_true, f64::NEG_INFINITY) => {
                self.conjuncts(Term { value: cond, negative: true }, masks);
                self.flatten(Term { value: on_false, negative }, terms, masks);
            }
            _ => terms.push(term),
        }
    }

    /// Takes a mask apart into conditions that must all hold.
    pub(super) fn conjuncts(&self, mask: Term, masks: &mut Vec<Term>) {
        let Term { value, negative } = mask;
        match *self.graph.op(value) {
            Op::Binary(Binary::And, a, b) if !negative => {
                self.conjuncts(Term { value: a, negative }, masks);
                self.conjuncts(Term { value: b, negative }, masks);
            }
            Op::Binary(Binary::Or, a, b) if negative => {
                self.conjuncts(Term { value: a, negative }, masks);
                self.conjuncts(Term { value: b, negative }, masks);
            }
            Op::Unary(Unary::Not, x) => self.conjuncts(Term { value: x, negative: !negative }, masks),
            _ => masks.push(mask),
        }
    }

    /// The one dot of queries and keys among the terms.
    pub(super) fn content_dot(
        &self,
        terms: &[Term],
        score_axes: AxisSet,
        key: Axis,
    ) -> Result<Option<Value>, PlanError> {
        let mut found = None;
        for term in terms {
            let mut stack = vec![term.value];
            let mut seen = vec![false; term.value.index() + 1];
            while let Some(value) = stack.pop() {
                if std::mem::replace(&mut seen[value.index()], true) {
                    continue;
                }
                if let Op::Dot { a, b, .. } = *self.graph.op(value) {
                    let keyed = |x: Value| self.graph.varies(self.graph.ty(x).axes, key);
                    if keyed(a) != keyed(b) {
                        let (query, keys) = if keyed(a) { (b, a) } else { (a, b) };
                        let own = self.graph.ty(query).axes.iter().any(|axis| {
                            score_axes.contains(axis) && !self.graph.varies(self.graph.ty(keys).axes, axis)
                        });
                        if own {
                            if found.is_some_and(|found| found != value) {
                                return Err(self.not(
                                    value,
                                    "the score has a second dot of queries and keys; concatenate them along the head dimension",
                                ));
                            }
                            found = Some(value);
                            continue;
                        }
                    }
                }
                stack.extend(self.graph.op(value).operands());
            }
        }
        Ok(found)
    }

    /// The axis of queries: one that the output has, the query side of the dot varies over, and the key side does not.
    pub(super) fn query_axis(
        &self,
        dot: Option<Value>,
        score_axes: AxisSet,
        key: Axis,
        dims: &[Axis],
        score: Value,
    ) -> Result<Axis, PlanError> {
        let free_of_keys = |axis: Axis| match dot.map(|dot| self.graph.op(dot)) {
            Some(&Op::Dot { a, b, .. }) => {
                let keyed = |x: Value| self.graph.varies(self.graph.ty(x).axes, key);
                let (query, keys) = if keyed(a) { (b, a) } else { (a, b) };
                self.graph.ty(query).axes.contains(axis)
                    && !self.graph.varies(self.graph.ty(keys).axes, axis)
                    && !self.graph.ty(keys).axes.iter().any(|other| self.graph.axis(other).groups == Some(axis))
            }
            _ => true,
        };
        let candidate =
            dims.iter().rev().copied().find(|axis| *axis != key && score_axes.contains(*axis) && free_of_keys(*axis));
        candidate.ok_or_else(|| {
            self.not(
                score,
                "no axis of queries: the score needs an axis that the query side varies over and the keys do not",
            )
        })
    }

    /// Whether inputs that vary over queries or keys take part in `value` other than through the dot of query and key.
    pub(super) fn reads_rows(&self, value: Value, (query, key): (Axis, Axis), dot: Option<Value>) -> bool {
        let mut seen = vec![false; value.index() + 1];
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if Some(value) == dot || std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            let (op, axes) = (self.graph.op(value), self.graph.ty(value).axes);
            let rows = self.graph.varies(axes, query) || self.graph.varies(axes, key);
            if rows && matches!(op, Op::Input { .. }) {
                return true;
            }
            stack.extend(op.operands());
        }
        false
    }

    /// Whether a floating-point input takes part in `value` other than through the dot of query and key.
    pub(super) fn reads_input(&self, value: Value, dot: Option<Value>) -> bool {
        let mut seen = vec![false; value.index() + 1];
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if Some(value) == dot || std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            match self.graph.op(value) {
                Op::Input { elem: Elem::F32, .. } => return true,
                op => stack.extend(op.operands()),
            }
        }
        false
    }
}
