//! Every fused output is proved, and the proofs replay.

use egg::{FlatTerm, Language};
use insta::assert_snapshot;
use rhumb_plugins::Attention;
use rhumb_plugins::schemes::{Alibi, Causal};

use super::graphs::{lowered, usual};
use crate::rewrite::apply::rewrites;
use crate::rewrite::explain::prove;
use crate::rewrite::fold::FOLD;
use crate::rewrite::language::{Node, Number};
use crate::rewrite::{FloatClass, RewriteOptions, explain};

#[test]
fn proofs_read_well() {
    let graph = lowered(&Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Causal));
    assert_snapshot!(explain(&graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn proofs_replay() {
    for (name, graph) in usual() {
        let proofs = prove(&graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [many, few] = [&proofs[0], &proofs[1]].map(Vec::len);
        assert!(many == graph.outputs().len() && (few == 0 || few == many), "{name}: {many} and {few} proofs");
        for mut proof in proofs.into_iter().flatten() {
            // Panics at a step that is not an instance of its rule.
            proof.check_proof(rewrites(FloatClass::FiniteOnly));
            let flat = proof.make_flat_explanation();
            assert!(flat.len() > 1, "{name}: nothing to prove");
            for pair in flat.windows(2) {
                check_fold(name, &pair[0], &pair[1]);
            }
        }
    }
}

/// egg cannot replay a fold, which has no pattern: both sides of it must have the same value.
fn check_fold(name: &str, before: &FlatTerm<Node>, after: &FlatTerm<Node>) {
    if [after.forward_rule, after.backward_rule].into_iter().flatten().any(|rule| rule.as_str() == FOLD) {
        let (x, y) = (value(before), value(after));
        assert!((x - y).abs() <= 1e-12 * x.abs(), "{name}: {x} folded to {y}");
    }
    for (before, after) in before.children.iter().zip(&after.children) {
        check_fold(name, before, after);
    }
}

/// The value of a term of constants.
fn value(term: &FlatTerm<Node>) -> f64 {
    use rhumb_ir::{Binary, Unary};
    let child = |index: usize| value(&term.children[index]);
    match &term.node {
        Node::Const(number @ (Number::F32(_) | Number::I32(_))) => number.scalar().as_f64(),
        Node::Binary(Binary::Add, _) => child(0) + child(1),
        Node::Binary(Binary::Sub, _) => child(0) - child(1),
        Node::Binary(Binary::Mul, _) => child(0) * child(1),
        Node::Binary(Binary::Div, _) => child(0) / child(1),
        Node::Unary(Unary::Neg, _) => -child(0),
        Node::Cast(..) => child(0),
        node => panic!("{node} with {} operands is no constant", node.len()),
    }
}

#[test]
fn every_step_names_a_rule() {
    let graph = lowered(&Attention::heads(4).head_dim(8).softcap(5.0).scheme(Alibi::new()).scheme(Causal).lse());
    let explanation = explain(&graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(explanation.proofs.len(), 2);
    let known: Vec<&str> = crate::rewrite::rules().iter().map(|rule| rule.name).chain([FOLD]).collect();
    for step in explanation.proofs.iter().flat_map(|proof| &proof.steps) {
        assert!(known.contains(&step.rule.as_str()), "{}", step.rule);
        assert_ne!(step.before, step.after, "{}", step.rule);
    }
}
