//! Side conditions of rules, by name.

use std::sync::Arc;

use egg::{Id, Subst, Var};
use rhumb_ir::{AxisSet, Elem};

use super::extents::Extents;
use super::facts::{EGraph, Fact};
use super::kind::Kind;

type Test = dyn Fn(&Match<'_>) -> bool + Send + Sync;

/// A side condition of a rule.
#[derive(Clone)]
pub(crate) struct Condition(Arc<Test>);

impl Condition {
    /// Whether it holds for a match.
    pub(crate) fn holds(&self, egraph: &EGraph, class: Id, subst: &Subst) -> bool {
        (self.0)(&Match { egraph, class, subst })
    }
}

/// A match of a left-hand side.
struct Match<'a> {
    egraph: &'a EGraph,
    class: Id,
    subst: &'a Subst,
}

impl Match<'_> {
    fn fact(&self, var: Var) -> &Fact {
        &self.egraph[self.subst[var]].data
    }

    fn axes(&self, var: Var) -> AxisSet {
        self.fact(var).ty().map_or(AxisSet::EMPTY, |ty| ty.axes)
    }

    fn join(&self, a: Var, b: Var) -> AxisSet {
        self.egraph.analysis.graph.join(self.axes(a), self.axes(b))
    }

    fn space(&self, axes: AxisSet) -> u64 {
        self.egraph.analysis.extents.space(axes)
    }

    fn whole(&self) -> AxisSet {
        self.egraph[self.class].data.ty().map_or(AxisSet::EMPTY, |ty| ty.axes)
    }

    fn whole_space(&self) -> u64 {
        self.space(self.whole())
    }

    fn rank(&self, var: Var) -> (bool, u64) {
        self.egraph.analysis.rank(self.axes(var))
    }
}

fn condition(test: impl Fn(&Match<'_>) -> bool + Send + Sync + 'static) -> Condition {
    Condition(Arc::new(test))
}

/// At least one of `conditions` holds; `None` if there are none.
pub(crate) fn any(conditions: Vec<Condition>) -> Option<Condition> {
    if conditions.is_empty() {
        return None;
    }
    Some(condition(move |m| conditions.iter().any(|condition| (condition.0)(m))))
}

fn var(name: &str) -> Var {
    // Names in the tables are well formed; the test that every rule compiles uses them all.
    name.parse().unwrap_or_else(|_| Var::from_u32(u32::MAX))
}

/// `x` does not vary along the axis `axis`, directly or through a group.
pub(crate) fn free(x: &'static str, axis: &'static str) -> Condition {
    let (x, axis) = (var(x), var(axis));
    condition(move |m| match m.fact(axis).kind {
        Some(Kind::Axis(axis)) => !m.egraph.analysis.graph.varies(m.axes(x), axis),
        _ => false,
    })
}

/// `x` varies over no axis that `y` does not vary over.
pub(crate) fn within(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| m.join(x, y) == m.axes(y))
}

/// `x`, without its axis `pair`, varies over no axis that `y` does not vary over.
pub(crate) fn angle_within(x: &'static str, pair: &'static str, y: &'static str) -> Condition {
    let (x, pair, y) = (var(x), var(pair), var(y));
    condition(move |m| match m.fact(pair).kind {
        Some(Kind::Axis(pair)) => {
            let graph = &m.egraph.analysis.graph;
            graph.join(m.axes(x).without(pair), m.axes(y)) == m.axes(y)
        }
        _ => false,
    })
}

/// `x` is the same for all keys: it varies over no axis of keys.
pub(crate) fn query_side(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| !m.egraph.analysis.varies_over_keys(m.axes(x)))
}

/// `x` together with `y` is the same for all keys.
pub(crate) fn both_query_side(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| !m.egraph.analysis.varies_over_keys(m.join(x, y)))
}

/// `x` comes after `y` in the canonical order of sums and products.
pub(crate) fn after(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| m.rank(x) < m.rank(y))
}

/// `x` and `y` together run in a smaller space than the whole match.
pub(crate) fn hoists(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| m.space(m.join(x, y)) < m.whole_space())
}

/// The whole match runs in a smaller space than `x` and `y` together, if only where queries are few.
pub(crate) fn shrinks(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| {
        let few = m.egraph.analysis.few.as_ref();
        let smaller = |extents: &Extents| extents.space(m.whole()) < extents.space(m.join(x, y));
        smaller(&m.egraph.analysis.extents) || few.is_some_and(smaller)
    })
}

/// `x` alone runs in a smaller space than the whole match.
pub(crate) fn smaller(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.space(m.axes(x)) < m.whole_space())
}

/// `x` is a scalar constant.
pub(crate) fn constant(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).constant.is_some() && m.axes(x).is_empty())
}

/// `x` is a constant other than 0 whose reciprocal is finite in `f32`.
pub(crate) fn invertible(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| {
        let value = m.fact(x).constant.map(|number| number.scalar().as_f64());
        value.is_some_and(|value| value.is_finite() && (1.0 / value).abs() <= f64::from(f32::MAX))
    })
}

/// `x` varies over keys.
pub(crate) fn key_side(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.egraph.analysis.varies_over_keys(m.axes(x)))
}

/// `x` is computed of a sum over keys.
pub(crate) fn sums_keys(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).sums_keys)
}

/// `x` is neither infinite nor NaN.
pub(crate) fn finite(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).interval.is_finite())
}

/// None of `vars` is a constant that is infinite or NaN.
pub(crate) fn no_infinite_constant(vars: Vec<Var>) -> Condition {
    let infinite = |fact: &Fact| fact.constant.is_some_and(|number| !number.scalar().as_f64().is_finite());
    condition(move |m| !vars.iter().any(|var| infinite(m.fact(*var))))
}

fn scores(m: &Match<'_>) -> bool {
    let fact = &m.egraph[m.class].data;
    let float = fact.ty().is_some_and(|ty| ty.elem == Elem::F32);
    fact.in_score || !float || m.egraph.analysis.keys.is_empty()
}

/// The match is a term of a score, or of integers. Elsewhere products of far positions would lose the digits of their difference.
pub(crate) fn in_score() -> Condition {
    condition(scores)
}

/// As [`in_score`], or one of the two runs in the space of the whole match.
pub(crate) fn scores_or_one_spans(x: &'static str, y: &'static str) -> Condition {
    let both = [var(x), var(y)];
    condition(move |m| scores(m) || both.iter().any(|x| m.space(m.axes(*x)) >= m.whole_space()))
}

/// `x` is above 0 and finite.
pub(crate) fn positive(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).interval.lo > 0.0 && m.fact(x).interval.is_finite())
}

/// `x` is always 0 (or false).
pub(crate) fn zero(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).interval.is_point(0.0))
}

/// `x` is always 1 (or true).
pub(crate) fn one(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).interval.is_point(1.0))
}

/// `x` is `f32`.
pub(crate) fn real(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).ty().is_some_and(|ty| ty.elem == Elem::F32))
}

/// `x` is `i32`.
pub(crate) fn whole(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).ty().is_some_and(|ty| ty.elem == Elem::I32))
}

/// `x` is `bool`.
pub(crate) fn truth(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).ty().is_some_and(|ty| ty.elem == Elem::Bool))
}

/// The integers `x`, `y` and their sum convert to `f32` without rounding, and the sum does not wrap.
pub(crate) fn exact_sum(x: &'static str, y: &'static str) -> Condition {
    let (x, y) = (var(x), var(y));
    condition(move |m| {
        let (x, y) = (m.fact(x).interval, m.fact(y).interval);
        [x, y, x.add(y)].into_iter().all(crate::intervals::Interval::is_exact_in_f32)
    })
}

/// The integer `x` can be negated without wrapping.
pub(crate) fn negatable(x: &'static str) -> Condition {
    let x = var(x);
    condition(move |m| m.fact(x).interval.neg().fits_i32())
}

/// The integers `a - b` and `b + c` do not wrap.
pub(crate) fn no_wrap_minuend(a: &'static str, b: &'static str, c: &'static str) -> Condition {
    let (a, b, c) = (var(a), var(b), var(c));
    condition(move |m| {
        let (a, b, c) = (m.fact(a).interval, m.fact(b).interval, m.fact(c).interval);
        a.add(b.neg()).fits_i32() && b.add(c).fits_i32()
    })
}

/// The integers `a - b` and `a - c` do not wrap.
pub(crate) fn no_wrap_subtrahend(a: &'static str, b: &'static str, c: &'static str) -> Condition {
    let (a, b, c) = (var(a), var(b), var(c));
    condition(move |m| {
        let (a, b, c) = (m.fact(a).interval, m.fact(b).interval, m.fact(c).interval);
        a.add(b.neg()).fits_i32() && a.add(c.neg()).fits_i32()
    })
}
