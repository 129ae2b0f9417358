//! Takes a score apart: terms, masks, the dot of query and key, the axis of queries.

use std::collections::BTreeSet;

use rhumb_ir::{Axis, AxisSet, Binary, Elem, Op, Unary, Value};

use super::build::Planner;
use super::{PlanError, Term};

/// What a softmax or log-sum-exp is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Normalised {
    pub(super) score: Value,
    pub(super) key: Axis,
    pub(super) sink: Option<Value>,
}

impl Planner<'_> {
    /// Takes the score apart into terms and masks. A sum with several users is taken apart for the first alone: for every one of them, the
    /// terms of nested sums would be without end.
    pub(super) fn flatten(&self, term: Term, terms: &mut Vec<Term>, masks: &mut Vec<Term>) {
        let mut apart = BTreeSet::new();
        let mut stack = vec![term];
        while let Some(term @ Term { value, negative }) = stack.pop() {
            let hidden = |x: Value| !negative && self.is_const(x, f64::NEG_INFINITY);
            let parts: &[(Value, bool)] = match *self.graph.op(value) {
                Op::Binary(Binary::Add, a, b) => &[(a, negative), (b, negative)],
                Op::Binary(Binary::Sub, a, b) => &[(a, negative), (b, !negative)],
                Op::Unary(Unary::Neg, x) => &[(x, !negative)],
                Op::Select { on_true, on_false, .. } if hidden(on_false) => &[(on_true, negative)],
                Op::Select { on_true, on_false, .. } if hidden(on_true) => &[(on_false, negative)],
                _ => &[],
            };
            if parts.is_empty() || !apart.insert(value) {
                terms.push(term);
                continue;
            }
            if let Op::Select { cond, on_false, .. } = *self.graph.op(value) {
                self.conjuncts(Term { value: cond, negative: !hidden(on_false) }, masks);
            }
            stack.extend(parts.iter().rev().map(|&(value, negative)| Term { value, negative }));
        }
    }

    /// Takes a mask apart into conditions that must all hold, each once.
    pub(super) fn conjuncts(&self, mask: Term, masks: &mut Vec<Term>) {
        let mut seen: BTreeSet<Term> = masks.iter().copied().collect();
        let mut stack = vec![mask];
        while let Some(mask @ Term { value, negative }) = stack.pop() {
            if !seen.insert(mask) {
                continue;
            }
            match *self.graph.op(value) {
                Op::Binary(Binary::And, a, b) if !negative => {
                    stack.extend([b, a].map(|value| Term { value, negative }));
                }
                Op::Binary(Binary::Or, a, b) if negative => {
                    stack.extend([b, a].map(|value| Term { value, negative }));
                }
                Op::Unary(Unary::Not, x) => stack.push(Term { value: x, negative: !negative }),
                _ => masks.push(mask),
            }
        }
    }

    /// Whether two softmaxes or log-sum-exps weigh keys alike: their scores differ in nothing but terms that are the same for all keys, and
    /// where a sink is compared with them, in nothing.
    pub(super) fn weighs_alike(&self, one: Normalised, other: Normalised) -> bool {
        if one == other {
            return true;
        }
        let apart = |of: Normalised| {
            let (mut terms, mut masks) = (Vec::new(), Vec::new());
            self.flatten(Term { value: of.score, negative: false }, &mut terms, &mut masks);
            terms.retain(|term| of.sink.is_some() || self.is_keyed(term.value, of.key));
            terms.sort();
            masks.sort();
            (of.key, of.sink, terms, masks)
        };
        apart(one) == apart(other)
    }

    /// The terms of a score that are the same for all keys.
    pub(super) fn query_terms(&self, of: Normalised) -> Vec<Term> {
        let mut terms = Vec::new();
        self.flatten(Term { value: of.score, negative: false }, &mut terms, &mut Vec::new());
        terms.retain(|term| !self.is_keyed(term.value, of.key));
        terms
    }

    fn is_keyed(&self, value: Value, key: Axis) -> bool {
        self.graph.varies(self.graph.ty(value).axes, key)
    }

    /// The one dot of queries and keys among the terms.
    pub(super) fn content_dot(
        &self,
        terms: &[Term],
        score_axes: AxisSet,
        key: Axis,
    ) -> Result<Option<Value>, PlanError> {
        let mut found = None;
        let mut seen = vec![false; self.graph.nodes().len()];
        for term in terms {
            let mut stack = vec![term.value];
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

    /// Whether a floating-point input takes part in one of `terms` other than through the dot of query and key.
    pub(super) fn read_input<'t>(&self, terms: impl Iterator<Item = &'t Term>, dot: Option<Value>) -> bool {
        let mut seen = vec![false; self.graph.nodes().len()];
        let mut stack: Vec<Value> = terms.map(|term| term.value).collect();
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
