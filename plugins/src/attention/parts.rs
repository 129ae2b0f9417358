//! The pieces of the usual attention, for graphs of one's own.

use rhumb_ir::{Axis, Expr, Hook, SiteId};

use crate::scheme::{Cx, PositionScheme};

/// The axes, inputs and site of an attention, for a graph of one's own: see [`Attention::parts`](crate::Attention::parts).
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
    /// The input `q`.
    pub query: Expr<'g>,
    /// The input `k`.
    pub key: Expr<'g>,
    /// The input `v`.
    pub value: Expr<'g>,
    /// What schemes build IR through.
    pub cx: Cx<'g>,
    /// The site of scheme ops.
    pub site: SiteId,
}

impl<'g> AttentionParts<'g> {
    /// `x` after a scheme op of `scheme` at the query, key or score hook; `x` itself if the scheme does nothing there.
    #[must_use]
    pub fn apply(&self, scheme: &dyn PositionScheme, hook: Hook, x: Expr<'g>) -> Expr<'g> {
        if hook == Hook::Mask || !scheme.hooks().contains(&hook) {
            return x;
        }
        self.cx.builder().scheme(scheme.name(), hook, x, self.site, scheme.attributes())
    }

    /// The mask of `scheme`, if it makes one.
    #[must_use]
    pub fn mask(&self, scheme: &dyn PositionScheme) -> Option<Expr<'g>> {
        let masks = scheme.hooks().contains(&Hook::Mask);
        masks.then(|| self.cx.builder().scheme_mask(scheme.name(), self.site, scheme.attributes()))
    }

    /// The output `out`: the value averaged by the softmax of `score`.
    pub fn output(&self, score: Expr<'g>, sink: Option<Expr<'g>>) {
        let weights = match sink {
            Some(sink) => score.softmax_with_sink(self.k, sink),
            None => score.softmax(self.k),
        };
        let weights = weights.label("weights");
        self.cx.builder().output("out", weights.dot(self.value, self.k), [self.b, self.h, self.q, self.e]);
    }

    /// The output `lse`: the log-sum-exp of `score`.
    pub fn output_lse(&self, score: Expr<'g>, sink: Option<Expr<'g>>) {
        self.cx.builder().output("lse", score.log_sum_exp(self.k, sink), [self.b, self.h, self.q]);
    }
}
