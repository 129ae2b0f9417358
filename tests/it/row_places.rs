//! Rows of keys and values in either place: computed once for a call, or for each key tile. Graphs of a fixed number of queries have the
//! place that costs them least, and results are those of the graph for any number, to the bit.

use crate::common::calls::{attention, bits, call};
use crate::common::{Layout, Lengths, Rng, agree, engines_of_each_kernel, inputs, outputs, run};
use rhumb::compiler::Kernels;
use rhumb::compiler::plan::Plan;
use rhumb::prelude::*;

fn attentions() -> Vec<(&'static str, Attention)> {
    let grouped = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(12).lse();
    vec![
        ("RoPE", attention().scheme(Rope::new()).scheme(Causal)),
        ("neighbours", grouped().scheme(Rope::new().interleaved())),
        ("a part of the row", grouped().scheme(Rope::new().rotary_dim(6)).scheme(SlidingWindow::new(9))),
        ("RoPE and what prunes", grouped().scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal)),
        ("a factor of each key", attention().key_with(|cx, key| key * (cx.k_pos().cast(Elem::F32) * 0.01).cos())),
        ("i8, rotated", grouped().cache_elem(Elem::I8).scheme(Rope::new()).scheme(Causal)),
        ("i8, zero points, what prunes", grouped().cache_elem(Elem::I8).zero_points().scheme(Alibi::new())),
        ("i8, scales of channels", grouped().cache_elem(Elem::I8).scales(Scales::PerChannel)),
        ("f8e4m3", grouped().cache_elem(Elem::F8e4m3).scheme(Causal)),
        ("f16, what prunes", grouped().cache_elem(Elem::F16).scheme(Alibi::new()).scheme(Causal)),
        ("bf16 keys alone", grouped().key_elem(Elem::Bf16).scheme(Causal)),
    ]
}

/// A graph for this number of queries alone.
fn fixed(graph: &Graph, queries: usize) -> Verified {
    let text = graph.to_string().replace("axis q = ?", &format!("axis q = {queries}"));
    Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The number of tensors that a kernel computes for each key tile.
fn loaded(plan: &Plan) -> usize {
    plan.to_string().matches("computed while loaded").count()
}

/// At every target and by each kernel, for numbers of queries that are loaded for by one task and by several.
#[test]
fn either_place_gives_the_same_bits() {
    let mut same = 0;
    for (number, (name, engine)) in engines_of_each_kernel(1).iter().enumerate() {
        for (attention_number, (scheme, attention)) in attentions().into_iter().enumerate() {
            let graph = attention.build().expect("a graph");
            let any = engine.compile(&graph).expect("compiles");
            for (queries, keys) in [(1, 130), (17, 15), (130, 70)] {
                let of_fixed = fixed(&graph, queries);
                let kernel = engine.compile(&of_fixed).unwrap_or_else(|error| panic!("{scheme}: {error}"));
                let reference = engine.reference(&of_fixed).expect("a reference");
                let rng = &mut Rng::new((number + 3 * attention_number + queries) as u64);
                let lengths = Lengths { batch: 2, queries, keys };
                let tensors = inputs(rng, kernel.interface(), lengths);
                let context = || format!("{name}: {scheme}, {queries} x {keys}");
                agree((&kernel, &reference), &tensors, lengths, context());
                let made = bits(&call(&kernel, &tensors, lengths).expect("runs"));
                // Of few queries rewriting may have another form.
                if name.ends_with("prefill")
                    && kernel.plan().graph.to_string() == fixed(&any.plan().graph, queries).to_string()
                {
                    let expected = bits(&call(&any, &tensors, lengths).expect("runs"));
                    assert_eq!(made, expected, "{}", context());
                    same += 1;
                }
                // However inputs lie.
                let laid = tensors.iter().map(|(name, tensor)| {
                    let layout = Layout::random(rng, tensor.shape().len(), true);
                    (name.clone(), tensor.stored(&layout))
                });
                let laid = laid.collect();
                let mut other = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                run(kernel.call(), &laid, &mut other).expect("runs");
                assert_eq!(bits(&other), made, "{}", context());
            }
        }
    }
    assert!(same > 20, "{same} graphs in the same form");
}

/// Few queries turn keys while they load them, many once; what has fewer bits has no copy in more, however many read it.
#[test]
fn rows_have_the_place_that_costs_least() {
    let engine = Engine::builder().threads(1).kernels(Kernels::Prefill).build().expect("an engine");
    let rows = |attention: &Attention, queries: Option<usize>| {
        let graph = attention.build().expect("a graph");
        let kernel = match queries {
            Some(queries) => engine.compile(&fixed(&graph, queries)),
            None => engine.compile(&graph),
        };
        loaded(kernel.expect("compiles").plan())
    };
    let rotated = Attention::heads(4).head_dim(16).scheme(Rope::new());
    for (queries, count) in [(Some(16), 1), (Some(384), 1), (Some(4096), 0), (None, 0)] {
        assert_eq!(rows(&rotated, queries), count, "{queries:?} queries");
    }
    let cached = Attention::heads(4).head_dim(16).scheme(Rope::new().query_only());
    assert_eq!(rows(&cached, Some(16)), 0, "rotated already");
    for elem in [Elem::F16, Elem::F8e4m3, Elem::I8] {
        let narrow = Attention::heads(4).head_dim(16).cache_elem(elem).scheme(Alibi::new()).scheme(Causal);
        for queries in [Some(16), Some(4096), None] {
            assert_eq!(rows(&narrow, queries), 2, "{elem:?}, {queries:?} queries");
        }
    }
}
