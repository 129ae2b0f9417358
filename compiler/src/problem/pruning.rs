//! Pruning: key tiles whose weights are all 0 are skipped.
//!
//! Where a bias falls with the distance, as ALiBi's does, far keys have no weight: the softmax of a kernel takes `2^x - 2^-100` for `2^x`,
//! from `x = -100` down 0, where `x` is a score measured from a base that never falls. Single precision has 24 digits, so a weight of 1 and
//! one of `2^-100` have none in common; what is lost of an average is less than `2^-100` of the sum of all magnitudes of values.
//!
//! Keys without weight are found without their scores. The product of a query and a key is at most that of their norms (Cauchy and
//! Schwarz), and the bias over ranges of keys and queries lies within intervals. Whole key tiles are pruned that can have no score within
//! 100 of the base of any query. No bit of a result depends on that: what is pruned would have been multiplied by 0. Zero times NaN or
//! infinity is not 0, which is why values count too: key tiles with such are never pruned.
//!
//! A base must be known before. Where the score has a term of keys alone, the reference of each query is one: its own greatest visible term.
//! Where it has none, those keys come first that the bias favours most. They are the same for all queries of a tile, so a query's result
//! must not depend on which they are: only biases of indices are looked at then, which no tensor of a call changes.

use rhumb_ir::{Axis, Value, Walk};

use super::planner::Planner;
use super::{KeyTerm, Product, Pruning, Reduction, Source, Storage, TensorId, Term};
use crate::abi::MOST_REDUCTIONS;
use crate::expr::Node;

impl Planner<'_> {
    /// Tables for finding keys whose weights vanish, where the score has a bias that can make them and nothing that is not known of whole
    /// tiles.
    pub(super) fn pruning(
        &mut self,
        (query, key): (Axis, Axis),
        (terms, key_term): (&[Term], Option<KeyTerm>),
        product: Option<&Product>,
        reductions: &[Reduction],
    ) -> Option<Pruning> {
        let dot = product.map(|product| product.dot);
        let biased = self.bias(terms, dot)? || key_term.is_some();
        if key_term.is_none() && terms.iter().any(|term| self.reads_rows(term.value, (query, key), dot)) {
            return None;
        }
        let of_keys = product.map(|product| (product.key, product.dim));
        let of_values = || reductions.iter().map(|reduction| (reduction.value, reduction.dim));
        if !biased
            || !of_keys.into_iter().chain(of_values()).all(|(tensor, _)| self.tensors[tensor].dims.contains(&key))
        {
            return None;
        }
        let keys = of_keys.map(|(tensor, dim)| self.squares(tensor, dim, key));
        let mut values = [None; MOST_REDUCTIONS];
        for (squares, (tensor, dim)) in values.iter_mut().zip(of_values()) {
            *squares = Some(self.squares(tensor, dim, key));
        }
        Some(Pruning { keys, values })
    }

    /// Whether tables take part in terms beside the product; none where intervals of these and of the product do not tell all.
    fn bias(&self, terms: &[Term], dot: Option<Value>) -> Option<bool> {
        let mut walk = Walk::of(terms.iter().map(|term| term.value));
        let mut reads_table = false;
        while let Some(value) = walk.next() {
            match self.node(value) {
                _ if Some(value) == dot => {}
                Node::Table(_) => reads_table = true,
                Node::Const(_) => {}
                node @ (Node::Unary(..)
                | Node::Binary(..)
                | Node::MulAdd(_)
                | Node::Compare(..)
                | Node::Select(_)
                | Node::Cast(..)) => walk.enter(node.operands()),
                Node::Product
                | Node::Input(_)
                | Node::Iota(_)
                | Node::Size(_)
                | Node::Gather { .. }
                | Node::Rotate { .. }
                | Node::Dot { .. }
                | Node::Opaque => return None,
            }
        }
        Some(reads_table)
    }

    fn squares(&mut self, tensor: TensorId, dim: Axis, key: Axis) -> TensorId {
        let source = Source::Squares { tensor, dim };
        if let Some(&table) = self.table_of.get(&source) {
            return table;
        }
        let of = &self.tensors[tensor];
        let mut dims: Vec<Axis> =
            self.order.iter().copied().filter(|axis| *axis != dim && *axis != key && of.dims.contains(axis)).collect();
        dims.push(key);
        let name = format!("squares {}", of.name);
        let target = self.tensor(name, super::Origin::Table, dims, Storage::F32);
        self.table_of.insert(source.clone(), target);
        self.step(target, source, false, "norms tell which keys can be pruned");
        target
    }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Alibi, Attention, Batch, Causal, DynamicAlibi, Rope, SlidingWindow};

    use crate::problem::tests::planned;

    /// Names of the tables of squared norms.
    fn squares(attention: &Attention) -> Vec<String> {
        let plan = planned(attention);
        let pruning = plan.attention.as_ref().expect("attention").pruning;
        let tables = pruning.into_iter().flat_map(|found| found.squares());
        tables.map(|table| plan.tensors[table].name.clone()).collect()
    }

    fn small() -> Attention {
        Attention::heads(4).head_dim(16).kv_heads(2)
    }

    #[test]
    fn a_bias_makes_weights_vanish() {
        let symmetric = || Alibi::new().symmetric();
        for attention in [
            small().scheme(Alibi::new()),
            small().scheme(Alibi::new()).scheme(Causal).softcap(30.0),
            small().scheme(symmetric()).scheme(SlidingWindow::new(9)),
            small().scheme(DynamicAlibi::new(64).alibi(symmetric())).lse(),
            small().score_with(|cx, score| score - (cx.q_pos() - cx.k_pos()).abs().pow(0.5)),
        ] {
            assert_eq!(squares(&attention), ["squares k", "squares v"], "{attention:?}");
        }
        let rotated = squares(&small().scheme(Rope::new()).scheme(Alibi::new()));
        assert!(matches!(&rotated[..], [keys, values] if keys != "squares k" && values == "squares v"), "{rotated:?}");
    }

    #[test]
    fn without_a_known_bias_none_do() {
        for attention in [
            small(),
            small().scheme(Rope::new()).scheme(Causal).softcap(30.0),
            small().scheme(Alibi::new()).bias(Batch::Shared),
        ] {
            assert_eq!(squares(&attention), Vec::<String>::new(), "{attention:?}");
        }
    }
}
