//! Packing: heads that share query tiles.

use rhumb_ir::{Axis, Graph, Value};

use super::planner::Planner;
use super::{Packed, Source, TensorId, Term};

impl Planner<'_> {
    /// The innermost outer axis with neighbours that differ in nothing but their queries, if there is one: `read` are the tensors that
    /// are read key by key.
    pub(super) fn packed(
        &self,
        query: Axis,
        outer: &[Axis],
        (terms, masks): (&[Term], &[Term]),
        dot: Option<Value>,
        read: &[TensorId],
    ) -> Option<Packed> {
        // The queries of a tile are then no row of a table: what the score reads of queries would be looked up for every pair.
        if self.leaves(terms, dot).iter().any(|leaf| self.graph.varies(self.graph.ty(*leaf).axes, query)) {
            return None;
        }
        let mut leaves = self.leaves(terms, dot);
        leaves.extend(self.leaves(masks, dot));
        outer.iter().rev().find_map(|&axis| {
            let heads = sharing(self.graph, axis, read.iter().flat_map(|tensor| &self.tensors[*tensor].dims))?;
            let differ = leaves.iter().any(|leaf| self.graph.varies(self.graph.ty(*leaf).axes, axis));
            (heads > 1 && !differ).then_some(Packed { axis, heads })
        })
    }

    /// The operands of terms beside the dot: tables, inputs, constants.
    fn leaves(&self, terms: &[Term], dot: Option<Value>) -> Vec<Value> {
        let is_leaf = |value: &Value| {
            self.graph.op(*value).operands().is_empty() || self.table_of.contains_key(&Source::Value(*value))
        };
        let roots = terms.iter().map(|term| term.value);
        let values = self.graph.below(roots, |value| Some(value) != dot && !is_leaf(&value));
        values.filter(|value| Some(*value) != dot && is_leaf(value)).collect()
    }
}

/// How many neighbours along an axis of a fixed length share all that is read over these dimensions.
pub(crate) fn sharing<'a>(graph: &Graph, axis: Axis, dims: impl Iterator<Item = &'a Axis>) -> Option<u32> {
    let all = graph.static_extent(axis)?;
    Some(dims.fold(all, |heads, &dim| match graph.grouped(dim) {
        _ if dim == axis => 1,
        Some((finer, ratio)) if finer == axis => gcd(heads, ratio),
        _ => heads,
    }))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Alibi, Attention, Causal, Rope, SlidingWindow};

    use crate::problem::tests::planned;

    /// Heads that the plan packs.
    fn heads(attention: &Attention) -> Option<u32> {
        let plan = planned(attention);
        plan.attention.as_ref().expect("attention").packed.map(|packed| packed.heads)
    }

    #[test]
    fn heads_that_share_keys_are_packed() {
        let of = |heads, groups| Attention::heads(heads).head_dim(16).kv_heads(groups);
        assert_eq!(heads(&of(8, 2)), Some(4));
        assert_eq!(heads(&of(6, 2)), Some(3));
        assert_eq!(heads(&of(6, 1)), Some(6));
        assert_eq!(heads(&of(8, 8)), None);
        assert_eq!(heads(&of(8, 2).scheme(Rope::new()).scheme(SlidingWindow::new(7)).softcap(30.0).lse()), Some(4));
        assert_eq!(heads(&of(8, 2).scheme(Causal).sinks()), Some(4), "a sink is read once for each query");
    }

    #[test]
    fn heads_that_score_in_ways_of_their_own_are_not() {
        let of = |heads, groups| Attention::heads(heads).head_dim(16).kv_heads(groups);
        assert_eq!(heads(&of(8, 2).scheme(Alibi::new()).scheme(Causal)), None);
        assert_eq!(heads(&of(8, 2).scheme(Alibi::new().symmetric())), None);
    }
}
