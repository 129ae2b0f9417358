//! The pieces of the usual attention, for graphs of one's own.

use std::ops::Deref;

use rhumb_ir::{Axis, Elem, Expr, Hook, SiteId};

use crate::scheme::{Scheme, SchemeContext};

/// The axes and the site of an attention: what expressions of one's own build on, beside all that a [`SchemeContext`] offers.
#[derive(Clone, Debug)]
pub struct AttentionParts<'g> {
    /// The axis of the batch.
    pub b: Axis,
    /// The axis of query heads.
    pub h: Axis,
    /// The axis of key/value heads; [`h`](Self::h) where they are as many.
    pub g: Axis,
    /// The axis of queries.
    pub q: Axis,
    /// The axis of keys.
    pub k: Axis,
    /// The axis of elements of query and key.
    pub d: Axis,
    /// The axis of elements of the value.
    pub e: Axis,
    /// The site of scheme ops.
    pub site_id: SiteId,
    /// What schemes build IR through.
    pub(super) cx: SchemeContext<'g>,
    /// The inputs `q` and `k`, as far as the graph has them.
    pub(super) rows: [Option<Expr<'g>>; 2],
    /// The element type of the output `out`.
    pub(super) out: Elem,
}

impl<'g> Deref for AttentionParts<'g> {
    type Target = SchemeContext<'g>;
    fn deref(&self) -> &SchemeContext<'g> {
        &self.cx
    }
}

impl<'g> AttentionParts<'g> {
    /// A tensor bound at each call under `name`, with the dimensions `dims`, outermost first.
    pub fn input(&self, name: &str, elem: Elem, dims: impl IntoIterator<Item = Axis>) -> Expr<'g> {
        self.builder().input(name, elem, dims)
    }

    /// The queries as they come, before any scheme: what schemes take that meet them with tables of their own. In a graph of keys alone
    /// nothing reads them, and a value of their type stands in.
    #[must_use]
    pub fn query(&self) -> Expr<'g> {
        self.rows[0].unwrap_or_else(|| self.stand_in([self.b, self.h, self.q, self.d]))
    }

    /// The keys as they come, before any scheme.
    #[must_use]
    pub fn key(&self) -> Expr<'g> {
        self.rows[1].unwrap_or_else(|| self.stand_in([self.b, self.g, self.k, self.d]))
    }

    /// A value over these axes that nothing reads.
    fn stand_in(&self, axes: [Axis; 4]) -> Expr<'g> {
        let builder = self.builder();
        axes.into_iter().fold(builder.scalar(0.0), |sum, axis| sum + builder.iota(axis))
    }

    /// `x` after a scheme op of `scheme` at the query, key or score hook; `x` itself if the scheme does nothing there.
    #[must_use]
    pub fn apply(&self, scheme: &Scheme, hook: Hook, x: Expr<'g>) -> Expr<'g> {
        if hook == Hook::Mask || !scheme.hooks().contains(&hook) {
            return x;
        }
        let made = self.builder().scheme(scheme.name(), hook, x, self.site_id, scheme.attributes());
        made.instance(scheme.instance())
    }

    /// The mask of `scheme`, if it makes one.
    #[must_use]
    pub fn mask(&self, scheme: &Scheme) -> Option<Expr<'g>> {
        let masks = scheme.hooks().contains(&Hook::Mask);
        let made = || self.builder().scheme_mask(scheme.name(), self.site_id, scheme.attributes());
        masks.then(|| made().instance(scheme.instance()))
    }

    /// The output `out`: `value` averaged by the softmax of `score`.
    pub fn output(&self, score: Expr<'g>, value: Expr<'g>, sink: Option<Expr<'g>>) {
        let weights = match sink {
            Some(sink) => score.softmax_with_sink(self.k, sink),
            None => score.softmax(self.k),
        };
        self.output_weighted(weights, value);
    }

    /// The output `out`: the sum of `value`, weighed by `weights` over `b`, `h`, `q` and `k`.
    pub fn output_weighted(&self, weights: Expr<'g>, value: Expr<'g>) {
        let out = weights.label("weights").dot(value, self.k);
        self.builder().output_as("out", self.out, out, [self.b, self.h, self.q, self.e]);
    }

    /// The output `lse`: the log-sum-exp of `score`.
    pub fn output_lse(&self, score: Expr<'g>, sink: Option<Expr<'g>>) {
        self.builder().output("lse", score.log_sum_exp(self.k, sink), [self.b, self.h, self.q]);
    }
}
