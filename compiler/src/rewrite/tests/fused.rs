//! What fusion makes of the usual graphs.

use insta::assert_snapshot;
use rhumb_ir::{Axis, Base, Binary, Elem, Expr, GraphBuilder, Op, Pairing, Verified};
use rhumb_plugins::schemes::{Alibi, Causal, Rope, SlidingWindow, Softcap};
use rhumb_plugins::{Attention, Batch};

use super::graphs::{lowered, over_pairs, rotation, usual};
use rhumb_random::Rng;

use super::values::{Values, bindings, difference, lengths, run};
use crate::rewrite::{FloatClass, Fused, RewriteError, RewriteOptions, Stop, fuse};

fn fused(graph: &Verified) -> Fused {
    fuse(graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn causal_alibi() {
    let fused = fused(&lowered(&Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Causal)));
    assert_snapshot!(fused);
    assert_eq!(
        over_pairs(fused.graph()),
        ["le k q", "dot bhqd bhkd", "add bhqk hk", "select qk bhqk ", "softmax bhqk"]
    );
    // The slope times the position of the query is gone.
    let slope_of_query = |op: &Op| {
        op.operands().iter().any(|operand| {
            let axes = fused.graph().ty(*operand).axes;
            axes.contains(fused.graph().axis_named("h").expect("it has heads"))
                && axes.contains(fused.graph().axis_named("q").expect("it has queries"))
                && !axes.contains(fused.graph().axis_named("d").expect("it has a dimension"))
                && axes.len() == 2
        })
    };
    assert!(!fused.graph().nodes().iter().any(|node| slope_of_query(&node.op)));
}

#[test]
fn causal_alibi_with_lse() {
    let fused = fused(&lowered(&Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Causal).lse()));
    assert_snapshot!(fused);
    assert_eq!(
        over_pairs(fused.graph()),
        ["le k q", "dot bhqd bhkd", "add bhqk hk", "select qk bhqk ", "softmax bhqk"]
    );
}

#[test]
fn grouped_causal_rope() {
    let fused = fused(&lowered(&Attention::heads(4).head_dim(8).kv_heads(2).scheme(Rope::new()).scheme(Causal)));
    assert_snapshot!(fused);
    assert_eq!(over_pairs(fused.graph()), ["le k q", "dot bhqd bgkd", "select qk bhqk ", "softmax bhqk"]);
}

#[test]
fn softcap() {
    let fused = fused(&lowered(&Attention::heads(4).head_dim(8).softcap(30.0).scheme(Causal)));
    assert_snapshot!(fused);
    let pairs = ["le k q", "dot bhqd bhkd", "tanh bhqk", "mul bhqk ", "select qk bhqk ", "softmax bhqk"];
    assert_eq!(over_pairs(fused.graph()), pairs);
}

/// Biases are grouped ahead of a cap and after it: two of positions are one term of keys after it, and free of batches ahead of it, where keys
/// have no terms of their own.
#[test]
fn caps_before_and_after_biases() {
    let of = || Attention::heads(4).head_dim(8);
    let (alibi, cap) = (Alibi::new, || Softcap::new(30.0));
    let before = fused(&lowered(&of().scheme(cap()).scheme(alibi()).scheme(alibi()).scheme(Causal)));
    let pairs = ["le k q", "dot bhqd bhkd", "tanh bhqk", "mul bhqk ", "add bhqk hk", "select qk bhqk ", "softmax bhqk"];
    assert_eq!(over_pairs(before.graph()), pairs);
    let after = fused(&lowered(&of().scheme(alibi()).scheme(alibi()).scheme(cap()).scheme(Causal)));
    let pairs = [
        "le k q",
        "dot bhqd bhkd",
        "sub k q",
        "mul qk h",
        "add bhqk hqk",
        "add bhqk hqk",
        "tanh bhqk",
        "mul bhqk ",
        "select qk bhqk ",
        "softmax bhqk",
    ];
    assert_eq!(over_pairs(after.graph()), pairs);
}

#[test]
fn sinks_and_a_window() {
    let attention = Attention::heads(4).head_dim(8).sinks().scheme(SlidingWindow::new(3)).lse();
    let fused = fused(&lowered(&attention));
    assert_snapshot!(fused);
    let pairs = ["gt k q", "le k q", "and qk qk", "dot bhqd bhkd", "select qk bhqk ", "softmax bhqk h"];
    let mut found = over_pairs(fused.graph());
    found.sort_unstable();
    let mut expected = pairs.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_bias_leaves_the_scale_on_the_query_and_the_mask_outermost() {
    let fused = fused(&lowered(&Attention::heads(4).head_dim(8).bias(Batch::Each).scheme(Alibi::new()).scheme(Causal)));
    assert_eq!(
        over_pairs(fused.graph()),
        [
            "input bias ",
            "le k q",
            "dot bhqd bhkd",
            "mul bhqk ",
            "add bhqk bhqk",
            "add bhqk hk",
            "select qk bhqk ",
            "softmax bhqk"
        ]
    );
}

#[test]
fn sums_of_many_terms_keep_one_addition_per_score() {
    // Two biases, in any order around the score, leave one term per key.
    let attention = Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Alibi::new().scale(0.5)).scheme(Causal);
    let fused = fused(&lowered(&attention));
    let additions = over_pairs(fused.graph()).into_iter().filter(|op| op.starts_with("add") || op.starts_with("sub"));
    assert_eq!(additions.collect::<Vec<_>>(), ["add bhqk hk"]);
}

#[test]
fn everything_saturates_and_costs_less() {
    for (name, graph) in usual() {
        let fused = fused(&graph);
        let statistics = fused.statistics();
        assert_eq!(statistics.stop, Stop::Saturated, "{name}: {statistics}");
        assert!(statistics.nodes < 2_000, "{name}: {statistics}");
        assert!(statistics.cost_after < statistics.cost_before, "{name}: {statistics}");
        // Every softmax computes powers of 2, and all read the same score.
        let scores: Vec<_> = fused
            .graph()
            .nodes()
            .iter()
            .filter_map(|node| match node.op {
                Op::Softmax { x, base, .. } | Op::LogSumExp { x, base, .. } => Some((x, base)),
                _ => None,
            })
            .collect();
        assert!(scores.iter().all(|(x, base)| *base == Base::Two && *x == scores[0].0), "{name}:\n{fused}");
    }
}

#[test]
fn fused_graphs_compute_what_the_originals_do() {
    for (name, graph) in usual() {
        let levels = [
            (FloatClass::Exact, Values::Wild, 1e-12),
            (FloatClass::Reassociating, Values::Tame, 1e-9),
            (FloatClass::FiniteOnly, Values::Tame, 1e-9),
        ];
        for (float_class, values, tolerance) in levels {
            let options = RewriteOptions { float_class, ..RewriteOptions::default() };
            let fused = fuse(&graph, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            for seed in 0..8 {
                let mut random = Rng::new(seed);
                let lengths = lengths(&graph, &mut random, 6);
                let inputs = bindings(&graph, &mut random, values, &|axis| lengths[axis.index()]);
                let (expected, found) = (run(&graph, &inputs), run(fused.graph(), &inputs));
                if let Some(found) = difference(&expected, &found, tolerance) {
                    panic!("{name} ({float_class}), seed {seed}: {found}\n{fused}");
                }
            }
        }
    }
}

#[test]
fn equal_graphs_give_equal_results_and_fused_graphs_are_at_rest() {
    for (name, graph) in usual() {
        let first = fused(&graph);
        let text = first.to_string();
        let other = std::thread::spawn({
            let graph = graph.clone();
            move || fused(&graph).to_string()
        });
        assert_eq!(text, other.join().expect("no panic"), "{name}");
        let again = fused(first.graph());
        assert_eq!(again.statistics().cost_after, first.statistics().cost_after, "{name}:\n{first}\n{again}");
    }
}

#[test]
fn the_interface_is_kept() {
    let attention = Attention::heads(4).head_dim(8).kv_heads(2).sinks().scheme(Rope::new()).scheme(Causal).lse();
    let graph = lowered(&attention);
    let fused = fused(&graph);
    let fused = fused.graph();
    assert_eq!(graph.name, fused.name);
    assert_eq!(graph.axes(), fused.axes());
    let inputs = |graph: &Verified| -> Vec<Op> { graph.inputs().map(|(_, value)| graph.op(value).clone()).collect() };
    assert_eq!(inputs(&graph), inputs(fused));
    let outputs = |graph: &Verified| -> Vec<(String, Vec<Axis>)> {
        graph.outputs().iter().map(|output| (output.name.clone(), output.dims.clone())).collect()
    };
    assert_eq!(outputs(&graph), outputs(fused));
}

/// A graph of one output, made by `build` from axes `q`, `k`, `d` (4) and `p` (2).
fn single(build: impl for<'g> Fn(&'g GraphBuilder, [Axis; 4]) -> Expr<'g>) -> Verified {
    let builder = GraphBuilder::new("single");
    let axes = [builder.axis("q"), builder.axis("k"), builder.axis_of("d", 4), builder.axis_of("p", 2)];
    let result = build(&builder, axes);
    builder.output("result", result, result.ty().axes.iter());
    builder.finish().expect("the graph is well formed")
}

#[test]
fn unused_inputs_and_labels_stay() {
    let graph = single(|builder, [q, ..]| {
        let x = builder.input("x", Elem::F32, [q]).label("signal");
        let unused = builder.input("unused", Elem::F32, [q]).label("noise");
        x + unused * 0.0
    });
    let fused = fused(&graph);
    let labels: Vec<_> = fused.graph().nodes().iter().filter_map(|node| node.label.as_deref()).collect();
    assert_eq!(labels, ["signal", "noise"]);
    assert_eq!(fused.graph().inputs().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "unused"]);
}

#[test]
fn rotations_compose_and_reach_the_query() {
    let graph = single(|builder, [q, k, d, p]| {
        let (x, y) = (builder.input("x", Elem::F32, [q, d]), builder.input("y", Elem::F32, [k, d]));
        let (a, b) = (builder.input("a", Elem::F32, [q, p]), builder.input("b", Elem::F32, [p]));
        let x = x.rotate(a, d, p, Pairing::Half, 0).rotate(b, d, p, Pairing::Half, 0);
        let y = y.rotate(b, d, p, Pairing::Half, 0);
        (x.dot(y, d) * 0.5).softmax(k)
    });
    let fused = fused(&graph);
    let rotations = fused.graph().nodes().iter().filter(|node| matches!(node.op, Op::Rotate { .. })).count();
    assert_eq!(rotations, 1, "{fused}");
    // What is rotated is the scaled query: the factor stands inside.
    let scaled = fused.graph().nodes().iter().any(|node| match node.op {
        Op::Rotate { x, .. } => matches!(fused.graph().op(x), Op::Binary(Binary::Mul, ..)),
        _ => false,
    });
    assert!(scaled, "{fused}");
}

#[test]
fn a_bare_rotation_passes() {
    let graph = rotation();
    assert_snapshot!(fused(&graph));
}

#[test]
fn options_limit_what_is_done() {
    let graph = lowered(&Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Causal));
    let with = |options: RewriteOptions| fuse(&graph, &options).unwrap_or_else(|error| panic!("{error}"));
    let exact = with(RewriteOptions { float_class: FloatClass::Exact, ..RewriteOptions::default() });
    assert!(exact.to_string().contains("softmax") && !exact.to_string().contains("base 2"));
    let few = with(RewriteOptions { iteration_limit: 1, ..RewriteOptions::default() });
    assert_eq!((few.statistics().stop, few.statistics().iterations), (Stop::IterationLimit, 1));
    let small = with(RewriteOptions { node_limit: 10, ..RewriteOptions::default() });
    assert_eq!(small.statistics().stop, Stop::NodeLimit);
    let none = with(RewriteOptions { iteration_limit: 0, ..RewriteOptions::default() });
    assert_eq!(none.statistics().cost_after, none.statistics().cost_before);
}

#[test]
fn schemes_must_have_been_lowered() {
    let graph = Attention::heads(4).head_dim(8).scheme(Rope::new()).build().expect("the attention is well formed");
    let error = fuse(&graph, &RewriteOptions::default()).expect_err("it has scheme ops");
    assert!(matches!(error, RewriteError::NotLowered { .. }));
    assert_snapshot!(error, @"`rope.query` stands at value 9 of the graph; lower its schemes before rewriting");
}

#[test]
fn long_chains_are_fused_to_what_they_compute() {
    let graph = single(|builder, [q, ..]| {
        let mut x = builder.input("x", Elem::F32, [q]);
        for _ in 0..200 {
            x = x + x;
        }
        x
    });
    let fused = fused(&graph);
    let inputs = bindings(&graph, &mut Rng::new(1), Values::Tame, &|_| 3);
    let (expected, found) = (run(&graph, &inputs), run(fused.graph(), &inputs));
    let powers: Vec<f64> = inputs["x"].data.iter().map(|x| x * 2f64.powi(200)).collect();
    assert_eq!(expected["result"].data, powers);
    assert_eq!(difference(&expected, &found, 1e-12), None, "{fused}");
}

/// A sum of masked weights over the keys that the mask shows is a sum of the weights: what it is multiplied with varies over keys alone.
#[test]
fn sums_of_masked_weights_read_no_mask() {
    let b = GraphBuilder::new("row sum");
    let (q, k, d, e) = (b.axis("q"), b.axis("k"), b.axis_of("d", 8), b.axis_of("e", 8));
    let input = |name: &str, dims: [Axis; 2]| b.input(name, Elem::F32, dims);
    let seen = b.iota(k).le(b.iota(q) + 3);
    let weights = seen.select((input("q", [q, d]).dot(input("k", [k, d]), d) * 0.3).tanh(), b.scalar(0.0));
    let sum = weights.dot(seen.cast(Elem::F32), k);
    b.output("out", (weights / sum.abs().max(1.0)).dot(input("v", [k, e]), k), [q, e]);
    let fused = fused(&b.finish().expect("a graph"));
    let pairs = ["le k q", "dot qd kd", "tanh qk", "select qk qk "];
    assert_eq!(over_pairs(fused.graph()), pairs, "{fused}");
}
