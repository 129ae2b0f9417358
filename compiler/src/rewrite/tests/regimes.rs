//! Calls of many queries and of few: one form where that is the cheaper for both, else two.

use egg::EGraph;
use rhumb_ir::{Compare, Graph, Verified};
use rhumb_random::Rng;

use super::graphs::{over_pairs, usual};
use super::values::{Values, bindings, difference, lengths, run};
use crate::rewrite::extract::Extraction;
use crate::rewrite::facts::Facts;
use crate::rewrite::language::Node;
use crate::rewrite::place::{Form, Place, item};
use crate::rewrite::{RewriteOptions, explain, fuse};

/// Keys with a scale of each, as those of a quantised cache have, for this many queries.
fn scaled(queries: &str) -> Verified {
    let text = format!(
        "graph scaled\naxis b = ?\naxis h = 4\naxis g = 2 groups h\naxis q = {queries}\naxis k = ?\naxis d = 16\naxis e = 8\n\
         %q = input \"q\" : f32[b, h, q, d]\n%k = input \"k\" : f32[b, g, k, d]\n%v = input \"v\" : f32[b, g, k, e]\n\
         %c = input \"scales\" : f32[b, g, k]\n%s = mul %k, %c\n%x = dot %q, %s over d\n%p = softmax %x over k\n\
         %o = dot %p, %v over k\noutput \"out\" = %o : f32[b, h, q, e]"
    );
    Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Many queries share the scaled keys; of few, the scores are fewer than the elements of the keys.
#[test]
fn a_scale_of_keys_goes_onto_the_scores_of_few_queries() {
    let graph = scaled("?");
    let fused = fuse(&graph, &RewriteOptions::default()).expect("fuses");
    let few = fused.few_queries().expect("a form of its own");
    assert_eq!(over_pairs(fused.graph()), ["dot bhqd bgkd", "softmax bhqk"]);
    assert_eq!(over_pairs(few), ["dot bhqd bgkd", "mul bhqk bgk", "softmax bhqk"]);
    let cost = fused.statistics().few_queries.expect("another question");
    assert!(cost.own && cost.least < cost.shared, "{cost}");
    // Both mean what the user wrote.
    let rng = &mut Rng::new(1);
    let lengths = lengths(&graph, rng, 9);
    let inputs = bindings(&graph, rng, Values::Tame, &|axis| lengths[axis.index()]);
    let expected = run(&graph, &inputs);
    for form in [fused.graph(), few] {
        assert_eq!(difference(&expected, &run(form, &inputs), 1e-9), None);
    }
    let proofs = explain(&graph, &RewriteOptions::default()).expect("a proof");
    assert_eq!((proofs.proofs.len(), proofs.few_queries.len()), (1, 1));
    assert_ne!(proofs.proofs[0].after, proofs.few_queries[0].after);
    // What is printed reads as the form for many.
    let read = Graph::parse(&fused.to_string()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.to_string(), fused.graph().to_string());
}

/// A length that the graph tells leaves nothing open.
#[test]
fn a_graph_of_a_fixed_number_of_queries_has_one_form() {
    for (queries, scaled_scores) in [("1", true), ("4", true), ("512", false)] {
        let fused = fuse(&scaled(queries), &RewriteOptions::default()).expect("fuses");
        assert!(fused.few_queries().is_none() && fused.statistics().few_queries.is_none(), "{queries}");
        let scores = over_pairs(fused.graph()).iter().any(|op| op.starts_with("mul"));
        assert_eq!(scores, scaled_scores, "{queries}:\n{fused}");
    }
}

/// The usual graphs cost least by one form for any number of queries, or next to it: nothing is compiled or printed twice.
#[test]
fn the_usual_graphs_share_their_form() {
    for (name, graph) in usual() {
        let fused = fuse(&graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(fused.few_queries().is_none(), "{name}:\n{fused}");
        assert!(fused.statistics().few_queries.is_some_and(|cost| !cost.own), "{name}");
        assert!(explain(&graph, &RewriteOptions::default()).expect("a proof").few_queries.is_empty(), "{name}");
    }
}

/// Of forms that cost the same that of the least rank is taken, whichever came first.
#[test]
fn ties_go_by_rank() {
    let graph = scaled("?");
    let [q, k] = ["q", "k"].map(|name| graph.axis_named(name).expect("an axis"));
    for swapped in [false, true] {
        let mut egraph = EGraph::new(Facts::new(&graph));
        let [q, k] = [q, k].map(|axis| {
            let axis = egraph.add(Node::Axis(axis));
            egraph.add(Node::Iota([axis]))
        });
        let mut forms = [Node::Compare(Compare::Lt, [k, q]), Node::Compare(Compare::Gt, [q, k])];
        assert!(forms[0].rank() < forms[1].rank());
        let least = forms[0].clone();
        if swapped {
            forms.reverse();
        }
        let [first, second] = forms.map(|form| egraph.add(form));
        egraph.union(first, second);
        egraph.rebuild();
        let extraction = Extraction::new(&egraph, &[first], &[]).expect("a form");
        let form = extraction.form(item(egraph.find(first), Place::Whole)).and_then(Form::node);
        assert_eq!(form, Some(&least), "swapped: {swapped}");
    }
}
