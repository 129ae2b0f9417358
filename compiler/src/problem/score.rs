//! Takes a score apart: terms, masks, the dot of query and key, the axis of queries.

use std::collections::BTreeSet;

use rhumb_ir::{Axis, AxisSet, Binary, ElemKind, Op, Unary, Value, Walk};

use super::Term;
use super::planner::{Normalised, Planner};

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

    /// Weights without their masks: what is 0 where the query does not see the key.
    pub(super) fn unmasked(&self, weights: Term, masks: &mut Vec<Term>) -> Term {
        let Term { mut value, negative } = weights;
        while let Op::Select { cond, on_true, on_false } = *self.graph.op(value) {
            if self.is_const(on_false, 0.0) {
                self.conjuncts(Term { value: cond, negative: false }, masks);
                value = on_true;
            } else if self.is_const(on_true, 0.0) {
                self.conjuncts(Term { value: cond, negative: true }, masks);
                value = on_false;
            } else {
                break;
            }
        }
        Term { value, negative }
    }

    /// Takes a mask apart into conditions that must all hold, each once.
    pub(super) fn conjuncts(&self, mask: Term, masks: &mut Vec<Term>) {
        let mut walk = Walk::of([(mask.value, mask.negative)]);
        for mask in masks.iter() {
            walk.pass((mask.value, mask.negative));
        }
        while let Some((value, negative)) = walk.next() {
            match *self.graph.op(value) {
                Op::Binary(Binary::And, a, b) if !negative => walk.enter([(a, negative), (b, negative)]),
                Op::Binary(Binary::Or, a, b) if negative => walk.enter([(a, negative), (b, negative)]),
                Op::Unary(Unary::Not, x) => walk.enter([(x, !negative)]),
                _ => masks.push(Term { value, negative }),
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
            terms.retain(|term| of.sink.is_some() || self.keyed(term.value, of.key));
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
        terms.retain(|term| !self.keyed(term.value, of.key));
        terms
    }

    /// Whether a value changes from key to key.
    pub(super) fn keyed(&self, value: Value, key: Axis) -> bool {
        self.graph.varies(self.graph.ty(value).axes, key)
    }

    /// The axis of queries, which the lanes of a tile run along; `terms` are those of the score and its masks, `axes` those of the softmax.
    ///
    /// It is an axis of the output `dims` and of the softmax along which neither keys nor values change, for these are read once for all
    /// lanes. Where several are, those come first
    /// - that are long enough to fill a tile, then the longest: an axis without a fixed length is taken for a long one;
    /// - that no axis groups: heads have tiles of their own, or share them where they can (see [`super::Packed`]);
    /// - that most terms and masks vary along: what varies over keys and not along lanes is a table, of a row for each index of the others;
    /// - that stand further in in the output.
    ///
    /// There is none where every axis has keys or values of its own: then each attention is one of a single query.
    pub(super) fn query_axis(
        &self,
        (terms, axes, key): (&[Term], AxisSet, Axis),
        values: &[Value],
        dims: &[Axis],
    ) -> Option<Axis> {
        // More queries than this fill the widest tile of any machine.
        const FULL: u32 = 48;
        let varies = |value: Value, axis: Axis| self.graph.varies(self.graph.ty(value).axes, axis);
        let shared = |axis: &Axis| {
            let own_values = values.iter().any(|values| varies(*values, *axis));
            *axis != key && axes.contains(*axis) && !own_values && !self.has_own_keys(terms, *axis, key)
        };
        let rank = |axis: &Axis| {
            let of_heads = self.graph.axes().iter().any(|other| other.groups == Some(*axis));
            let length = self.graph.static_extent(*axis).unwrap_or(FULL).min(FULL);
            let terms = terms.iter().filter(|term| varies(term.value, *axis) && varies(term.value, key)).count();
            (length, !of_heads, terms)
        };
        dims.iter().copied().filter(shared).max_by_key(rank)
    }

    /// Whether the keys of a dot among `terms` change along `axis`.
    fn has_own_keys(&self, terms: &[Term], axis: Axis, key: Axis) -> bool {
        let per_pair = |axes: AxisSet| self.graph.varies(axes, axis) && self.graph.varies(axes, key);
        let is_per_pair = |value: Value| per_pair(self.graph.ty(value).axes);
        let own_keys = |value: Value| match *self.graph.op(value) {
            Op::Dot { a, b, axis: dim } => [a, b].iter().any(|x| per_pair(self.graph.ty(*x).axes.without(dim))),
            _ => false,
        };
        let is_dot = |value: Value| matches!(self.graph.op(value), Op::Dot { .. });
        let roots = terms.iter().map(|term| term.value);
        let values = self.graph.below(roots, |value| is_per_pair(value) && !is_dot(value));
        values.filter(|value| is_per_pair(*value)).any(own_keys)
    }

    /// Whether inputs that vary over queries or keys take part in `value` other than through the dot of query and key.
    pub(super) fn reads_rows(&self, value: Value, (query, key): (Axis, Axis), dot: Option<Value>) -> bool {
        let is_row = |value: Value| {
            let axes = self.graph.ty(value).axes;
            let rows = self.graph.varies(axes, query) || self.graph.varies(axes, key);
            rows && matches!(self.graph.op(value), Op::Input { .. })
        };
        self.graph.below([value], |value| Some(value) != dot).any(is_row)
    }

    /// Whether one of `terms` can be `-inf` where the dot of query and key is finite: by an input, a constant, or an op with a pole.
    pub(super) fn may_hide<'t>(&self, terms: impl Iterator<Item = &'t Term>, dot: Option<Value>) -> bool {
        let hides = |value: Value| match self.graph.op(value) {
            Op::Input { elem, .. } => elem.kind() == ElemKind::Real,
            Op::Binary(Binary::Pow, ..) => true,
            Op::Unary(Unary::Log | Unary::Log2, x) | Op::Binary(Binary::Div, _, x) => !self.is_positive(*x, 8),
            Op::Const(scalar) => !scalar.as_f64().is_finite(),
            Op::Table { data, .. } => data.iter().any(|x| !x.is_finite()),
            _ => false,
        };
        let values = self.graph.below(terms.map(|term| term.value), |value| Some(value) != dot);
        values.filter(|value| Some(*value) != dot).any(hides)
    }

    /// Whether a value is above 0 wherever it is a number, as far as its uppermost ops tell.
    fn is_positive(&self, value: Value, depth: usize) -> bool {
        let sign = |value: Value| match *self.graph.op(value) {
            Op::Unary(Unary::Abs | Unary::Sqrt, _) | Op::Iota(_) | Op::Size(_) => true,
            Op::Cast(_, x) => matches!(self.graph.op(x), Op::Unary(Unary::Abs, _) | Op::Iota(_) | Op::Size(_)),
            Op::Binary(Binary::Mul, a, b) => a == b,
            _ => false,
        };
        let positive = |value: Value| depth > 0 && self.is_positive(value, depth - 1);
        match *self.graph.op(value) {
            Op::Const(scalar) => scalar.as_f64() > 0.0,
            Op::Binary(Binary::Add, a, b) => (positive(a) && (sign(b) || positive(b))) || (sign(a) && positive(b)),
            Op::Binary(Binary::Mul, a, b) => positive(a) && positive(b),
            Op::Binary(Binary::Max, a, b) => positive(a) || positive(b),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Graph;

    use crate::machine::Machine;
    use crate::plan::{Plan, PlanError, plan};
    use crate::rewrite::{RewriteOptions, fuse};

    const AXES: &str = "graph axes\naxis b = ?\naxis h = 8\naxis g = 2 groups h\naxis n = 8\naxis q = ?\naxis k = ?\naxis d = 8\naxis e = 4\n";

    /// The plan of queries, keys and values over these axes.
    fn planned(q: &str, k: &str, v: &str, more: &str, out: &str) -> Result<Plan, PlanError> {
        let text = format!(
            "{AXES}%q = input \"q\" : f32[{q}]\n%k = input \"k\" : f32[{k}]\n%v = input \"v\" : f32[{v}]\n%s = dot %q, %k over d\n{more}\n\
             %p = softmax %x over k\n%o = dot %p, %v over k\noutput \"out\" = %o : f32[{out}]"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let fused = fuse(&graph, &RewriteOptions::default()).expect("fuses");
        plan(fused.graph(), Machine::of(8, 16))
    }

    /// The name of the axis of queries.
    fn query(q: &str, k: &str, v: &str, more: &str, out: &str) -> String {
        let plan = planned(q, k, v, more, out).unwrap_or_else(|error| panic!("{error}"));
        let query = plan.attention.as_ref().expect("attention").query;
        plan.graph.axis(query).name.clone()
    }

    #[test]
    fn the_axis_of_queries_is_one_that_keys_and_values_do_not_have() {
        const PLAIN: &str = "%x = neg %s";
        const CAUSAL: &str = "%i = iota q\n%j = iota k\n%m = le %j, %i\n%low = const -inf\n%x = select %m, %s, %low";
        for order in ["h, q, e", "q, h, e", "e, q, h"] {
            assert_eq!(query("h, q, d", "k, d", "k, e", PLAIN, order), "q", "longer than heads, in any order");
            assert_eq!(query("h, q, d", "k, d", "h, k, e", PLAIN, order), "q", "values have heads");
            let bias = "%c = input \"c\" : f32[g, k]\n%x = add %s, %c";
            assert_eq!(query("h, q, d", "k, d", "k, e", bias, order), "q");
        }
        for order in ["b, q, e", "q, b, e"] {
            assert_eq!(query("b, q, d", "k, d", "k, e", CAUSAL, order), "q", "the mask varies along it");
            assert_eq!(query("b, q, d", "b, k, d", "k, e", PLAIN, order), "q", "keys have batches");
            assert_eq!(query("b, q, d", "k, d", "b, k, e", PLAIN, order), "q", "values have batches");
        }
        assert_eq!(query("b, q, d", "k, d", "k, e", PLAIN, "b, q, e"), "q", "further in");
        assert_eq!(query("b, q, d", "k, d", "k, e", PLAIN, "q, b, e"), "b", "further in");
        assert_eq!(query("h, n, d", "k, d", "k, e", PLAIN, "n, h, e"), "n", "no axis of heads");
        assert_eq!(query("h, d", "k, d", "k, e", PLAIN, "h, e"), "h", "heads where there is nothing else");
        assert_eq!(query("q, d", "q, k, d", "k, e", PLAIN, "q, e"), "one_query", "every query has keys of its own");
        assert_eq!(query("h, d", "g, k, d", "g, k, e", PLAIN, "h, e"), "one_query");
        assert_eq!(query("d", "k, d", "k, e", PLAIN, "e"), "one_query");
    }

    #[test]
    fn heads_of_one_query_share_tiles() {
        let plan = planned("h, d", "g, k, d", "g, k, e", "%x = tanh %s", "h, e").expect("a plan");
        let attention = plan.attention.as_ref().expect("attention");
        assert_eq!(attention.packed.map(|packed| packed.heads), Some(4));
        assert!(attention.products.len() == 1 && attention.key_term.is_none(), "{plan}");
    }
}
