//! The products of queries and keys that a score is made of.

use std::collections::BTreeSet;

use rhumb_ir::{Axis, AxisSet, Binary, Op, Value, Walk};

use super::planner::Planner;
use super::{PlanError, Product, Term};
use crate::abi::MOST_PRODUCTS;

/// The products of a score: what they add up to is one leaf of it.
#[derive(Clone, Debug)]
pub(super) struct Dots {
    /// The value that stands for their sum in the score.
    pub(super) leaf: Value,
    pub(super) dots: Vec<Value>,
}

/// How a score uses its dots.
pub(super) enum Use {
    /// By their sum alone.
    Sum(Dots),
    /// In more ways, or with other terms between them.
    Apart(Vec<Value>),
}

impl Planner<'_> {
    /// The dots of queries and keys among the terms and masks of `score`: one, or several that only the sum is used of; where they are terms,
    /// one stands for all of them then.
    pub(super) fn dots(
        &self,
        score: Value,
        (terms, masks): (&mut Vec<Term>, &[Term]),
        (query, key): (Axis, Axis),
    ) -> Result<Option<Use>, PlanError> {
        let roots: Vec<Value> = terms.iter().chain(masks).map(|term| term.value).collect();
        let dots = self.pair_dots(&roots, query, key);
        let Some(&first) = dots.first() else { return Ok(None) };
        if dots.len() == 1 {
            return Ok(Some(Use::Sum(Dots { leaf: first, dots })));
        }
        match self.leaf(score, (terms, masks), &dots) {
            Some(_) if dots.len() > MOST_PRODUCTS => {
                let reason = format!(
                    "the score sums {} dots of queries and keys, and kernels take {MOST_PRODUCTS} at most; {}",
                    dots.len(),
                    self.fewer(&dots)
                );
                Err(self.not(first, reason))
            }
            Some(leaf) => Ok(Some(Use::Sum(Dots { leaf, dots }))),
            // Each query has keys of its own: what is not the product is a term of keys.
            None if self.one_query == Some(query) => Ok(Some(Use::Sum(Dots { leaf: first, dots: vec![first] }))),
            None => Ok(Some(Use::Apart(dots))),
        }
    }

    /// The value that stands for the sum of several dots, if a score uses that alone. Where the dots are terms, it takes their place.
    fn leaf(&self, score: Value, (terms, masks): (&mut Vec<Term>, &[Term]), dots: &[Value]) -> Option<Value> {
        let over = |value: Value| self.graph.ty(value).axes;
        let axes = dots.iter().fold(AxisSet::EMPTY, |axes, dot| self.graph.join(axes, over(*dot)));
        let all: BTreeSet<Value> = dots.iter().copied().collect();
        let of_dots = |term: &Term| !term.negative && all.contains(&term.value);
        let rest: Vec<Value> = terms.iter().filter(|term| !of_dots(term)).chain(masks).map(|term| term.value).collect();
        if terms.iter().filter(|term| of_dots(term)).count() == all.len() && !self.reads(&rest, &all) {
            // One that varies over all that their sum does.
            let whole = dots.iter().copied().find(|dot| over(*dot) == axes);
            let leaf = whole.or_else(|| self.sum_of(&[score], &all))?;
            let at = terms.iter().position(of_dots)?;
            terms[at].value = leaf;
            let mut place = 0..;
            terms.retain(|term| place.next() == Some(at) || !of_dots(term));
            return Some(leaf);
        }
        let roots: Vec<Value> = terms.iter().chain(masks).map(|term| term.value).collect();
        self.sum_of(&roots, &all).filter(|sum| !self.reads_beside(&roots, *sum, &all))
    }

    /// How to say the sum of `dots` by fewer: those of one type are one dot of longer rows.
    fn fewer(&self, dots: &[Value]) -> &'static str {
        let rows = |dot: Value| self.graph.op(dot).operands().into_iter().map(|row| self.graph.ty(row));
        let over = |dot: Value| match *self.graph.op(dot) {
            Op::Dot { axis, .. } => rows(dot).map(|row| row.axes.without(axis)).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let alike = |(index, dot): (usize, &Value)| dots[..index].iter().any(|earlier| over(*earlier) == over(*dot));
        if dots.iter().enumerate().any(alike) {
            "make one of those whose rows are over the same axes: concatenate the rows of their queries, and those of their keys"
        } else {
            "compute one outside, and add it to the score as an input"
        }
    }

    /// The dots per pair of a query and a key that `roots` are computed from: of one side with keys and one without.
    fn pair_dots(&self, roots: &[Value], query: Axis, key: Axis) -> Vec<Value> {
        let mut found = Vec::new();
        let mut walk = Walk::of(roots.iter().copied());
        while let Some(value) = walk.next() {
            if let Op::Dot { a, b, axis } = *self.graph.op(value)
                && self.keyed(a, key) != self.keyed(b, key)
            {
                let of_one = self.one_query == Some(query) && self.graph.static_extent(axis).is_some();
                if of_one || self.over_both(value, query, key) {
                    found.push(value);
                    continue;
                }
            }
            walk.enter(self.graph.op(value).operands());
        }
        found
    }

    /// Whether one of `values` is computed from one of `dots`.
    fn reads(&self, values: &[Value], dots: &BTreeSet<Value>) -> bool {
        self.graph.below(values.iter().copied(), |_| true).any(|value| dots.contains(&value))
    }

    /// Whether one of `values` is computed from one of `dots` other than through `sum`.
    fn reads_beside(&self, values: &[Value], sum: Value, dots: &BTreeSet<Value>) -> bool {
        let mut beside = self.graph.below(values.iter().copied(), |value| value != sum);
        beside.any(|value| value != sum && dots.contains(&value))
    }

    /// The value that is the sum of all `dots` and of nothing else, if there is one.
    fn sum_of(&self, roots: &[Value], dots: &BTreeSet<Value>) -> Option<Value> {
        let last = roots.iter().max()?;
        // For each value that is a sum of dots alone: which.
        let mut sums: Vec<Option<BTreeSet<Value>>> = Vec::with_capacity(last.index() + 1);
        for value in self.graph.values().take(last.index() + 1) {
            let sum = match *self.graph.op(value) {
                _ if dots.contains(&value) => Some(BTreeSet::from([value])),
                Op::Binary(Binary::Add, a, b) => match (&sums[a.index()], &sums[b.index()]) {
                    (Some(a), Some(b)) if a.is_disjoint(b) => Some(a.union(b).copied().collect()),
                    _ => None,
                },
                _ => None,
            };
            if sum.as_ref() == Some(dots) {
                return Some(value);
            }
            sums.push(sum);
        }
        None
    }

    /// The products of `dots`, in their order: their queries are stacked in the tile.
    pub(super) fn products(&mut self, dots: &Dots, key: Axis) -> Result<Vec<Product>, PlanError> {
        let (mut products, mut first) = (Vec::new(), 0u32);
        for (index, &dot) in dots.dots.iter().enumerate() {
            let Op::Dot { a, b, axis: dim } = *self.graph.op(dot) else {
                return Err(self.not(dot, "expected a dot"));
            };
            let (queries, keys) = if self.keyed(a, key) { (b, a) } else { (a, b) };
            let length = self.fixed(dim, "the dot of query and key runs over it")?;
            self.prepare(queries)?;
            self.factors(queries)?;
            self.rotate_in_place(queries, (self.graph.ty(queries).axes, Some(dim)), false);
            let key = self.key_rows(keys, key)?;
            products.push(Product { dot, dim, index, first, length, query: queries, key, scaled: None });
            // Lengths are below 2^31, and there are few.
            first = first.saturating_add(length);
        }
        Ok(products)
    }
}
