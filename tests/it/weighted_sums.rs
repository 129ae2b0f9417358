//! Values weighed by scores themselves, without a softmax: kernels against the interpreter, and what a query can't see.

use std::sync::Arc;

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, engine, inputs, outputs, run, targets};
use rhumb::plugins::{AttentionParts, Scheme};
use rhumb::prelude::*;

/// A weight from a score, where `mask` tells what is seen.
type Weight = for<'g> fn(&AttentionParts<'g>, Expr<'g>, Option<Expr<'g>>) -> Expr<'g>;

fn hidden<'g>(parts: &AttentionParts<'g>, weight: Expr<'g>, mask: Option<Expr<'g>>) -> Expr<'g> {
    mask.map_or(weight, |mask| mask.select(weight, parts.builder().scalar(0.0)))
}

fn masked<'g>(score: Expr<'g>, mask: Option<Expr<'g>>) -> Expr<'g> {
    mask.map_or(score, |mask| score.mask(mask))
}

/// Weights, in the forms that users write them.
const WEIGHTS: &[(&str, Weight)] = &[
    ("sigmoid", |_, s, m| masked(s, m).sigmoid()),
    ("sigmoid with an offset", |cx, s, m| (masked(s, m) - cx.builder().size(cx.k).cast(Elem::F32).log()).sigmoid()),
    ("linear", |cx, s, m| hidden(cx, s, m)),
    ("squared ReLU", |_, s, m| {
        let relu = masked(s, m).max(0.0);
        relu * relu
    }),
    ("ReLU by a choice", |cx, s, m| hidden(cx, s.gt(0.0).select(s, cx.builder().scalar(0.0)), m)),
    ("retention", |cx, s, m| {
        let decay = cx.builder().table([cx.h], [0.96875, 0.984375, 0.9921875, 0.99609375]);
        let distance = (cx.q_index() - cx.k_index()).abs().cast(Elem::F32);
        hidden(cx, s * (distance * decay.log()).exp(), m)
    }),
    ("a product with the mask", |_, s, m| m.map_or(s, |m| s.tanh() * m.cast(Elem::F32))),
    ("a key's own factor", |cx, s, m| {
        let gate = cx.input("gate", Elem::F32, [cx.b, cx.g, cx.k]);
        hidden(cx, s.sigmoid() * gate.sigmoid(), m)
    }),
    ("a bias", |cx, s, m| {
        let bias = cx.input("bias", Elem::F32, [cx.h, cx.q, cx.k]);
        hidden(cx, (s + bias).exp2() * 0.125, m)
    }),
];

/// A graph of four heads in two groups.
fn graph(weight: Weight, [d, e]: [u32; 2], schemes: &[Scheme]) -> Verified {
    let builder = GraphBuilder::new("weighted");
    let (parts, [mut query, mut key, value]) =
        Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).parts(&builder).expect("parts");
    for scheme in schemes {
        query = parts.apply(scheme, Hook::Query, query);
        key = parts.apply(scheme, Hook::Key, key);
    }
    let score = query.dot(key, parts.d) * f64::from(d).sqrt().recip();
    let mask = schemes.iter().filter_map(|scheme| parts.mask(scheme)).reduce(|a, b| a & b);
    let weight = weight(&parts, score, mask);
    builder.output("out", weight.dot(value, parts.k), [parts.b, parts.h, parts.q, parts.e]);
    builder.finish().expect("a graph")
}

fn masks() -> Vec<(&'static str, Vec<Scheme>)> {
    vec![
        ("no mask", vec![]),
        ("causal", vec![Scheme::new(Causal)]),
        ("a window and rotations", vec![Scheme::new(Rope::new()), Scheme::new(SlidingWindow::new(9))]),
    ]
}

const LENGTHS: [(usize, usize); 7] = [(1, 1), (1, 300), (5, 0), (15, 17), (17, 130), (130, 130), (200, 70)];

#[test]
fn every_weight_is_right() {
    let targets = targets();
    for (number, (name, weight)) in WEIGHTS.iter().enumerate() {
        for (what, schemes) in masks() {
            for (which, target) in targets.iter().enumerate() {
                let [d, e] = [[16, 16], [40, 3], [6, 20]][(number + which) % 3];
                let graph = graph(*weight, [d, e], &schemes);
                let engine = engine(target, 1 + which % 2);
                let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
                let reference = engine.reference(&graph).expect("a reference");
                let rng = &mut Rng::new(number as u64);
                for (queries, keys) in LENGTHS {
                    let lengths = Lengths { batch: 2, queries, keys };
                    let inputs = inputs(rng, kernel.interface(), lengths);
                    agree((&kernel, &reference), &inputs, lengths, format!("{name}, {what}, {target}"));
                }
            }
        }
    }
}

/// Tiles that a mask hides are skipped: the mask is taken out of the weight, whatever form it was written in.
#[test]
fn masks_are_found_in_every_form() {
    for (name, weight) in WEIGHTS {
        let graph = graph(*weight, [16, 16], &[Scheme::new(Causal)]);
        let kernel = engine(&targets()[0], 1).compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
        let attention = kernel.plan().attention.as_ref().expect("an attention");
        assert!(!attention.masks.is_empty(), "{name}:\n{}", kernel.plan());
    }
}

fn call(kernel: &Arc<Kernel>, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), inputs, &mut made).expect("runs");
    made
}

/// What a query can't see changes no bit of its row, whatever it holds.
#[test]
fn hidden_keys_change_nothing() {
    let (lengths, hidden) = (Lengths { batch: 1, queries: 70, keys: 200 }, 40);
    for (name, weight) in WEIGHTS {
        for target in &targets() {
            let graph = graph(*weight, [16, 16], &[Scheme::new(Causal)]);
            let kernel = engine(target, 1).compile(&graph).expect("compiles");
            let clean = inputs(&mut Rng::new(3), kernel.interface(), lengths);
            let expected = bits(&call(&kernel, &clean, lengths));
            for garbage in [f32::NAN, f32::INFINITY, f32::MAX] {
                let mut spoilt = clean.clone();
                for (tensor, rows) in [("k", 2), ("v", 2)] {
                    let shape = clean[tensor].shape().to_vec();
                    let (row, mut values) = (shape[3], clean[tensor].values());
                    // The last keys, which only the last queries see.
                    for group in 0..rows {
                        let end = (group + 1) * lengths.keys * row;
                        values[end - hidden * row..end].fill(garbage);
                    }
                    spoilt.insert(tensor.to_owned(), Tensor::f32(shape, values));
                }
                let made = bits(&call(&kernel, &spoilt, lengths));
                let seen = lengths.queries - hidden;
                for head in 0..4 {
                    let from = head * lengths.queries * 16;
                    let rows = from..from + seen * 16;
                    assert_eq!(made[0][rows.clone()], expected[0][rows], "{name}, {target}, {garbage}");
                }
            }
        }
    }
}

/// Threads, and the other queries of a call, change no bit.
#[test]
fn threads_change_no_bit() {
    let lengths = Lengths { batch: 2, queries: 130, keys: 130 };
    let graph = graph(WEIGHTS[0].1, [32, 32], &[Scheme::new(Causal)]);
    for target in &targets() {
        let [one, three] = [1, 3].map(|threads| {
            let kernel = engine(target, threads).compile(&graph).expect("compiles");
            let inputs = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            bits(&call(&kernel, &inputs, lengths))
        });
        assert_eq!(one, three, "{target}");
    }
}

#[test]
fn the_plan_and_its_bound_print() {
    let graph = graph(WEIGHTS[0].1, [16, 16], &[Scheme::new(Causal)]);
    let target = Target::named("x86_64-unknown-linux-gnu").and_then(|target| target.with_lanes(16)).expect("a target");
    let options = rhumb::compiler::Options::default();
    let compiled = rhumb::compiler::compile(&graph, &Registry::standard(), &target, &options, &mut |_, _| ());
    let plan = compiled.expect("compiles").plan;
    insta::assert_snapshot!(format!("{plan}{}", plan.error_bound()));
}

/// The usual attention with weights of its own: schemes, masks, biases and lengths as with a softmax.
#[test]
fn the_usual_attention_takes_weights() {
    let of = || Attention::heads(4).head_dim(16).kv_heads(2).weights_with(|_, score| (score * 0.5).sigmoid());
    let attentions = [
        of(),
        of().scheme(Rope::new()).scheme(Causal).softcap(8.0),
        of().scheme(Alibi::new()).scheme(SlidingWindow::new(20)).q_positions(Elem::I32, Batch::Each),
        of().bias(Batch::Each).key_lengths(),
        of().documents(Batch::Each).scheme(Causal),
    ];
    for (number, attention) in attentions.iter().enumerate() {
        let graph = attention.build().expect("a graph");
        for target in &targets() {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{attention:?}: {error}"));
            let reference = engine.reference(&graph).expect("a reference");
            for (queries, keys) in [(1, 9), (17, 130), (70, 70)] {
                let lengths = Lengths { batch: 2, queries, keys };
                let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format!("{attention:?}, {target}"));
            }
        }
    }
    let refused = [of().sink(0.0), of().lse()].map(|attention| {
        let error = attention.build().expect_err("refused");
        format!("{}; {}", error.finding(), error.hint())
    });
    insta::assert_snapshot!(refused.join("\n"), @r"
    weights that are not those of a softmax have no place for a sink; leave out a sink, or `weights_with`
    weights that are not those of a softmax have no place for a log-sum-exp; leave out a log-sum-exp, or `weights_with`
    ");
}
