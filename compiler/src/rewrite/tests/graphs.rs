//! The usual graphs, lowered, small enough to review.

use rhumb_ir::{Axis, Elem, GraphBuilder, Op, Verified};
use rhumb_plugins::schemes::{Alibi, Causal, DynamicAlibi, PrefixLm, Rope, SlidingWindow};
use rhumb_plugins::{Attention, Batch, Registry, lower};

/// A graph of `attention`, its schemes lowered.
pub(super) fn lowered(attention: &Attention) -> Verified {
    let graph = attention.build().expect("the attention is well formed");
    lower(&graph, &Registry::standard()).expect("standard schemes lower")
}

/// Names and graphs of the compositions that tests go through.
pub(super) fn usual() -> Vec<(&'static str, Verified)> {
    let small = || Attention::heads(4).head_dim(8);
    let grouped = || Attention::heads(4).head_dim(8).kv_heads(2).value_dim(6);
    [
        ("plain", small()),
        ("plain with lse", small().lse()),
        ("causal ALiBi", small().scheme(Alibi::new()).scheme(Causal)),
        ("causal ALiBi with lse", small().scheme(Alibi::new()).scheme(Causal).lse()),
        ("symmetric ALiBi", grouped().scheme(Alibi::new().symmetric()).lse()),
        ("dynamic ALiBi", small().scheme(DynamicAlibi::new(4)).scheme(Causal).lse()),
        ("causal RoPE", grouped().scheme(Rope::new()).scheme(Causal)),
        ("partial RoPE", grouped().scheme(Rope::new().rotary_dim(4).interleaved()).scheme(Causal).lse()),
        ("query-only RoPE", small().scheme(Rope::new().query_only())),
        ("RoPE and ALiBi", grouped().scheme(Rope::new()).scheme(Alibi::new()).scheme(SlidingWindow::new(3)).lse()),
        ("ALiBi twice", small().scheme(Alibi::new()).scheme(Alibi::new().scale(0.5)).scheme(Causal).lse()),
        ("softcap", grouped().softcap(30.0).scheme(Rope::new()).scheme(Causal).lse()),
        ("softcap and ALiBi", small().softcap(5.0).scheme(Alibi::new()).scheme(SlidingWindow::new(2)).lse()),
        ("sinks", grouped().sinks().scheme(Rope::new()).scheme(SlidingWindow::new(3)).lse()),
        ("sinks and ALiBi", small().sinks().scheme(Alibi::new()).scheme(Causal).lse()),
        ("off-by-one softmax", small().sink(0.0).lse()),
        ("bias", small().bias(Batch::Shared).scheme(Causal).lse()),
        ("bias and ALiBi", small().bias(Batch::Each).scheme(Alibi::new()).lse()),
        (
            "masks",
            small()
                .documents(Batch::Each)
                .key_lengths()
                .scheme(PrefixLm::new(2))
                .scheme(SlidingWindow::new(3).symmetric())
                .lse(),
        ),
        (
            "positions",
            small()
                .q_positions(Elem::F32, Batch::Each)
                .k_positions(Elem::I32, Batch::Shared)
                .scheme(Rope::new())
                .scheme(Alibi::new())
                .lse(),
        ),
    ]
    .into_iter()
    .map(|(name, attention)| (name, lowered(&attention)))
    .collect()
}

/// A bare rotation, as for keys on their way into a cache.
pub(super) fn rotation() -> Verified {
    let builder = GraphBuilder::new("rotation");
    let (k, d, p) = (builder.axis("k"), builder.axis_of("d", 4), builder.axis_of("p", 2));
    let x = builder.input("x", Elem::F32, [k, d]);
    let angle = builder.iota(k).cast(Elem::F32) * builder.table([p], vec![1.0, 0.01]);
    let x = x.rotate(angle, d, p, rhumb_ir::Pairing::Half, 0);
    builder.output("rotated", x, [k, d]);
    builder.finish().expect("the graph is well formed")
}

/// The ops of `graph` whose results vary over `q` and `k`, printed.
pub(super) fn over_pairs(graph: &Verified) -> Vec<String> {
    let axis = |name| graph.axis_named(name).expect("attention graphs have it");
    let (q, k): (Axis, Axis) = (axis("q"), axis("k"));
    let pairs = graph.nodes().iter().filter(|node| node.ty.axes.contains(q) && node.ty.axes.contains(k));
    pairs.map(|node| kind(graph, &node.op)).collect()
}

/// An op with the axes of its operands.
fn kind(graph: &Verified, op: &Op) -> String {
    let name = match op {
        Op::Input { name, .. } => format!("input {name}"),
        Op::Unary(op, _) => op.name().to_owned(),
        Op::Binary(op, ..) => op.name().to_owned(),
        Op::Compare(op, ..) => op.name().to_owned(),
        Op::Select { .. } => "select".to_owned(),
        Op::Dot { .. } => "dot".to_owned(),
        Op::Softmax { .. } => "softmax".to_owned(),
        Op::Cast(..) => "cast".to_owned(),
        Op::Rotate { .. } => "rotate".to_owned(),
        Op::Gather { .. } => "gather".to_owned(),
        _ => "other".to_owned(),
    };
    let operands = op.operands().into_iter().map(|operand| {
        let axes = graph.ty(operand).axes.iter().map(|axis| graph.axis(axis).name.as_str());
        axes.collect::<Vec<_>>().concat()
    });
    format!("{name} {}", operands.collect::<Vec<_>>().join(" "))
}
