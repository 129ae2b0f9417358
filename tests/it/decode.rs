//! The kernel for few queries, against the interpreter: at every target, for few queries and for many.

use std::ops::RangeInclusive;

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensors, agree, engine, inputs, outputs, run, targets};
use rhumb::compiler::plan::Plan;
use rhumb::compiler::{Form, Kernels};
use rhumb::prelude::*;

/// Attentions that differ in what scores are made of, of four heads in groups of two.
fn attentions([d, e]: [u32; 2]) -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).lse();
    let mut all = vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("a window", of().scheme(SlidingWindow::new(9))),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("symmetric ALiBi", of().scheme(Alibi::new().symmetric())),
        ("softcap and sinks", of().softcap(2.0).sinks().scheme(Causal)),
        ("a bias", of().bias(Batch::Shared)),
        ("documents", of().documents(Batch::Each)),
        ("one group", Attention::heads(6).head_dim(d).kv_heads(1).value_dim(e).scheme(Alibi::new())),
        ("norms of norms", of().scheme(QkNorm::rms()).scheme(QkNorm::rms().eps(0.25)).scheme(Causal)),
        ("no groups", Attention::heads(3).head_dim(d).value_dim(e).lse()),
        ("a term of keys", of().score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.b, cx.k]))),
        ("keys with scales", scaled(of())),
        ("scales and ALiBi", scaled(of().scheme(Alibi::new()).scheme(Causal))),
    ];
    if d.is_multiple_of(2) {
        all.push(("rotations", of().scheme(Rope::new()).scheme(Causal)));
        all.push(("interleaved rotations", of().scheme(Rope::new().interleaved())));
        // Its row sums are sums of the same pass.
        let retention = Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).scheme(Retention::new());
        all.push(("retention", retention.weights_with(|_, score| score)));
    }
    all
}

/// Keys times a number of each, as those of a quantised cache are.
fn scaled(attention: Attention) -> Attention {
    attention.key_with(|cx, key| key * cx.input("scales", Elem::F32, [cx.b, cx.k]))
}

const LENGTHS: [(usize, usize); 8] = [(1, 1), (1, 300), (3, 64), (5, 0), (0, 5), (15, 17), (17, 130), (70, 131)];

fn decoding(target: &Target, threads: usize) -> Engine {
    let builder = Engine::builder().target(target.clone()).threads(threads);
    builder.kernels(Kernels::Decode).build().expect("an engine")
}

#[test]
fn rows_are_right_at_every_target() {
    let all = [[16, 16], [24, 40], [1, 3], [100, 20], [64, 128]];
    for (which, target) in targets().iter().enumerate() {
        let engine = decoding(target, 1);
        for (n, dims) in all.into_iter().enumerate() {
            // Each attention at each target with some of the sizes, and with each at some target.
            let some = attentions(dims).into_iter().enumerate().filter(|(number, _)| (number + which + n) % 3 == 0);
            for (_, (name, attention)) in some {
                let graph = attention.build().expect("a graph");
                let (kernel, reference) =
                    (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
                kernel.decode().unwrap_or_else(|reason| panic!("{name}: {reason}"));
                for (seed, (q, k)) in LENGTHS.into_iter().enumerate() {
                    let lengths = Lengths { batch: 2, queries: q, keys: k };
                    let inputs = inputs(&mut Rng::new((n * 100 + seed) as u64), kernel.interface(), lengths);
                    agree((&kernel, &reference), &inputs, lengths, format_args!("{name}, {dims:?}, {q} x {k}"));
                }
            }
        }
    }
}

/// Strides of keys, values and outputs change no bit: rows that are not contiguous are copied first.
#[test]
fn strides_change_no_bit() {
    for target in targets() {
        let engine = decoding(&target, 1);
        for (name, attention) in attentions([32, 48]) {
            let kernel = engine.compile(&attention.build().expect("a graph")).expect("compiles");
            let lengths = Lengths { batch: 2, queries: 3, keys: 77 };
            let clean = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            let made = |layout: &Layout| {
                let stored = clean.iter().map(|(name, tensor)| {
                    let known = tensor.shape().len() == 4 || *layout == Layout::Spread;
                    (name.clone(), if known { tensor.stored(layout) } else { tensor.clone() })
                });
                let stored: Tensors = stored.collect();
                let mut made =
                    outputs(kernel.interface(), lengths, |rank| if rank == 4 { layout.clone() } else { Layout::Rows });
                run(kernel.call(), &stored, &mut made).expect("runs");
                bits(&made)
            };
            let expected = made(&Layout::Rows);
            for layout in
                [Layout::Order(vec![0, 2, 1, 3]), Layout::Order(vec![3, 1, 0, 2]), Layout::Spread, Layout::Reversed]
            {
                assert!(made(&layout) == expected, "{name}, {target}, {layout:?}");
            }
        }
    }
}

/// Calls take the kernel by the number of their rows, and the first that takes the one for few queries makes it.
#[test]
fn the_first_call_of_few_queries_makes_their_kernel() {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let graph =
        Attention::heads(8).head_dim(64).kv_heads(2).scheme(Rope::new()).scheme(Causal).build().expect("a graph");
    let kernel = engine.compile(&graph).expect("compiles");
    let taken = kernel.decode().expect("a kernel").queries.as_ref().expect("a limit");
    assert_eq!(taken.first().map(RangeInclusive::start), Some(&1), "one query");
    let most = *taken.last().expect("a range").end();
    let call = |queries: usize| {
        let lengths = Lengths { batch: 1, queries, keys: 40 };
        let inputs = inputs(&mut Rng::new(1), kernel.interface(), lengths);
        let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
        run(kernel.call(), &inputs, &mut made).expect("runs");
        kernel.code_bytes()
    };
    let (prefill, reference) = (kernel.code_bytes(), engine.reference(&graph).expect("a reference"));
    assert_eq!(call(most + 1), prefill, "many queries need no other kernel");
    let both = call(most);
    assert!(both > prefill, "the kernel for few queries is made");
    assert_eq!((call(1), call(most + 1)), (both, both), "it is made once");
    let lengths = Lengths { batch: 1, queries: 1, keys: 4_000 };
    agree((&kernel, &reference), &inputs(&mut Rng::new(2), kernel.interface(), lengths), lengths, "one query");
}

/// Where few queries cost less by another form of the graph, their kernel computes that; else both kernels compute one form.
#[test]
fn few_queries_have_a_form_of_their_own_where_it_costs_less() {
    let of = || Attention::heads(8).head_dim(64).kv_heads(2);
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let compiled = |attention: Attention| engine.compile(&attention.build().expect("a graph")).expect("compiles");
    let rows_made = |plan: &Plan| plan.tables.iter().any(|table| plan.tensors[table.target].dims.len() == 4);
    let kernel = compiled(scaled(of()));
    let decode = kernel.decode().expect("a kernel");
    let Form::Own { cycles, shared } = decode.form else { panic!("{:?}", decode.form) };
    assert!(cycles < shared, "{cycles} and {shared}");
    // Many queries share keys that are scaled once; few scale the scores, and read keys as they lie.
    assert!(rows_made(kernel.plan()), "{}", kernel.plan());
    assert!(!rows_made(&decode.plan) && !decode.plan.to_string().contains("computed while loaded"), "{}", decode.plan);
    assert_ne!(kernel.plan().graph, decode.plan.graph);
    // Calls of either kernel keep what it promises.
    let most = *decode.queries.as_ref().and_then(|taken| taken.last()).expect("a limit").end();
    let reference = engine.reference(&scaled(of()).build().expect("a graph")).expect("a reference");
    for queries in [1, most, most + 1, 50] {
        let lengths = Lengths { batch: 1, queries, keys: 1_100 };
        let inputs = inputs(&mut Rng::new(queries as u64), kernel.interface(), lengths);
        agree((&kernel, &reference), &inputs, lengths, format_args!("{queries} queries"));
    }
    for attention in [of(), of().scheme(Rope::new()).scheme(Causal), of().scheme(Alibi::new()).scheme(Causal)] {
        let kernel = compiled(attention);
        let decode = kernel.decode().expect("a kernel");
        assert!(decode.form == Form::Only && kernel.plan().graph == decode.plan.graph, "{}", decode.plan);
    }
}

/// Of several threads that call first, one makes the kernel.
#[test]
fn threads_that_call_first_share_the_kernel() {
    let engine = Engine::builder().threads(2).build().expect("an engine");
    let kernel = engine.compile(&attentions([16, 16])[1].1.build().expect("a graph")).expect("compiles");
    let lengths = Lengths { batch: 1, queries: 1, keys: 50 };
    let inputs = inputs(&mut Rng::new(1), kernel.interface(), lengths);
    let made: Vec<_> = std::thread::scope(|scope| {
        let call = || {
            let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            run(kernel.call(), &inputs, &mut made).expect("runs");
            bits(&made)
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

/// What has no kernel for few queries says why, and its calls take the other.
#[test]
fn graphs_without_a_kernel_for_few_queries_say_why() {
    let engine = decoding(&targets()[0], 1);
    let why = |graph: &Verified| {
        let kernel = engine.compile(graph).expect("compiles");
        kernel.decode().expect_err("no kernel").to_string()
    };
    assert_eq!(
        why(&Attention::heads(2).head_dim(2048).build().expect("a graph")),
        "axis `d` has 2048 elements, and decode kernels take up to 1024"
    );
    assert_eq!(
        why(&Attention::heads(2).head_dim(16).value_dim(1100).build().expect("a graph")),
        "axis `e` has 1100 elements, and decode kernels take up to 1024"
    );
    assert_eq!(
        why(&Attention::heads(2).head_dim(8).scheme(Rope::new()).q_offset(0).key_graph().expect("a graph")),
        "there is no attention"
    );
    let prefill = Engine::builder().kernels(Kernels::Prefill).build().expect("an engine");
    let kernel = prefill.compile(&Attention::heads(2).head_dim(8).build().expect("a graph")).expect("compiles");
    assert_eq!(kernel.decode().expect_err("not asked for").to_string(), "the prefill kernel alone is asked for");
}

/// Sequences that share keys are rows of one tile where the scales that tell them apart are factors of scores.
#[test]
fn few_queries_may_lie_along_another_axis() {
    let graph = GraphBuilder::new("shared keys");
    let (b, q, k) = (graph.axis("b"), graph.axis("q"), graph.axis("k"));
    let (d, e) = (graph.axis_of("d", 16), graph.axis_of("e", 16));
    let query = graph.input("q", Elem::F32, [b, q, d]);
    let (key, value) = (graph.input("k", Elem::F32, [k, d]), graph.input("v", Elem::F32, [k, e]));
    let scaled = key * graph.input("scales", Elem::F32, [b, k]);
    graph.output("out", query.dot(scaled, d).softmax(k).dot(value, k), [q, b, e]);
    let graph = graph.finish().expect("a graph");
    for target in targets() {
        let engine = engine(&target, 1);
        let (kernel, reference) =
            (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
        let [of_many, of_few] = [kernel.plan(), &kernel.decode().expect("a kernel").plan]
            .map(|plan| plan.attention.as_ref().expect("an attention").query);
        assert_ne!(of_many, of_few);
        for (batch, queries) in [(1, 1), (3, 1), (2, 17), (1, 33), (33, 2)] {
            let lengths = Lengths { batch, queries, keys: 40 };
            let inputs = inputs(&mut Rng::new(7), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, format_args!("{target}, {batch} x {queries}"));
        }
    }
}
