//! Terms of keys alone that are linear in the index of the key: in decode no table of them is made.

use rhumb::compiler::Kernels;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use crate::common::bias::{Bias, biased, hold, rates};
use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, inputs, outputs, run, targets};

/// The index of each key, as a number.
fn at<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    cx.k_index().cast(Elem::F32)
}

/// Terms, and whether they are computed for each key tile where there are vectors of more than 4 lanes.
const TERMS: &[(&str, bool, Bias)] = &[
    ("a slope", true, |cx| at(cx) * 0.03),
    ("slopes of heads", true, |cx| at(cx) * rates(cx, -0.1)),
    ("slopes that a call tells", true, |cx| at(cx) * cx.input("slopes", Elem::F32, [cx.b, cx.h])),
    ("products of three", true, |cx| at(cx) * cx.input("slopes", Elem::F32, [cx.h]) * rates(cx, 0.07)),
    ("sums and differences", true, |cx| {
        let offset = cx.input("offset", Elem::F32, [cx.b]);
        (offset - at(cx) * 0.01) * rates(cx, 0.3) + at(cx) * 0.001
    }),
    ("far from 0", true, |cx| (at(cx) - 1e6) * 0.4),
    ("a square", false, |cx| at(cx) * at(cx) * -1e-4),
    ("a function", false, |cx| (at(cx) + 1.0).log() * -0.5),
    ("positions that a call tells", false, |cx| {
        cx.input("k_pos", Elem::I32, [cx.b, cx.k]).cast(Elem::F32) * rates(cx, -0.2)
    }),
];

const LENGTHS: [(usize, usize); 6] = [(1, 1), (1, 130), (3, 17), (1, 2100), (5, 300), (50, 64)];

#[test]
fn linear_terms_of_keys_are_computed_where_they_are_read() {
    for (number, (name, linear, term)) in TERMS.iter().enumerate() {
        for (which, target) in targets().iter().enumerate() {
            let kv_heads = [1, 2, 4][(number + which) % 3];
            let graph = biased(*term, kv_heads, which % 2 == 0);
            let what = format!("{name}, {kv_heads} key/value heads");
            hold(Kernels::Decode, (&graph, target), (number as u64, &LENGTHS), what, |kernel| {
                let plan = &kernel.decode().expect("a kernel").plan;
                let computed = plan.to_string().contains("key term computed for each key tile");
                assert!(
                    plan.attention.as_ref().is_some_and(|attention| attention.key_term.is_some()),
                    "{name}\n{plan}"
                );
                assert_eq!(computed, *linear && plan.machine.lanes > 4, "{name}, {target}:\n{plan}");
            });
        }
    }
}

/// Slopes that are no numbers, or nearly none, spoil the rows of their head alone; in pages, whose norms tell what has no weight, as in one piece.
#[test]
fn slopes_that_are_not_finite_stay_in_their_head() {
    let slopes = [0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -3e38, 1e-40, 0.0];
    let (heads, keys) = (slopes.len(), 4500);
    let attention = Attention::heads(heads as u32)
        .head_dim(16)
        .kv_heads(2)
        .lse()
        .score_with(|cx, score| score + at(cx) * cx.input("slopes", Elem::F32, [cx.h]));
    let graph = attention.scheme(Causal).build().expect("a graph");
    for target in targets() {
        let engine = Engine::builder().target(target.clone()).threads(2).kernels(Kernels::Decode).build();
        let kernel = engine.expect("an engine").compile(&graph).expect("compiles");
        let lengths = Lengths { batch: 1, queries: 2, keys };
        let mut tensors = inputs(&mut Rng::new(4), kernel.interface(), lengths);
        let mut cache = KvCache::builder(2, 16).page_size(64).pages(keys.div_ceil(64)).build().expect("a cache");
        let sequence = cache.new_sequence().expect("memory");
        let [k, v] = ["k", "v"].map(|name| tensors[name].view().select(0, 0).expect("a sequence"));
        cache.append(sequence, k, v).expect("room");
        let mut made = |slopes: &[f32]| {
            tensors.insert("slopes".to_owned(), Tensor::f32([heads], slopes.to_vec()));
            let [mut whole, mut paged] = [(); 2].map(|()| outputs(kernel.interface(), lengths, |_| Layout::Rows));
            run(kernel.call(), &tensors, &mut whole).expect("runs");
            let call = kernel.call().input("q", tensors["q"].view()).input("slopes", tensors["slopes"].view());
            let views = cache.inputs(sequence).expect("a sequence");
            let call = views.fold(call, |call, (name, view)| call.input(name, view));
            let call = paged.iter_mut().fold(call, |call, (name, tensor)| call.output(name, tensor.view_mut()));
            call.run().expect("runs");
            assert!(bits(&paged) == bits(&whole), "{target}");
            whole["out"].values()
        };
        let (made, calm) = (made(&slopes), made(&[0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 1e-40, 0.0]));
        for (head, slope) in slopes.iter().enumerate() {
            let row = |all: &[f32]| all[head * 2 * 16..(head + 1) * 2 * 16].to_vec();
            match slope.abs() <= 1.0 {
                true => assert_eq!(row(&made), row(&calm), "{target}, a slope of {slope}"),
                false if slope.is_nan() => assert!(row(&made).iter().all(|x| x.is_nan()), "{target}"),
                false => {}
            }
        }
    }
}
