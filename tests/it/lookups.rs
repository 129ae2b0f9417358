//! Lookups that scores make, each lane one: of the same element, of neighbours, or of any.

use rhumb::compiler::Kernels;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use crate::common::bias::{Bias, biased, hold};
use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensors, inputs, outputs, run, targets};

/// A table of a number for each head and each of so many places, looked up.
fn by_head<'g>(cx: &AttentionParts<'g>, places: u32, index: Expr<'g>) -> Expr<'g> {
    let place = cx.axis("place", places);
    cx.input("table", Elem::F32, [cx.h, place]).gather(place, index)
}

/// A table of this type, for all heads.
fn of_elem<'g>(cx: &AttentionParts<'g>, elem: Elem, index: Expr<'g>) -> Expr<'g> {
    let place = cx.axis("place", 150);
    let name = if elem == Elem::I32 { "at_places" } else { "table" };
    cx.input(name, elem, [place]).gather(place, index)
}

fn distance<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    cx.k_index() - cx.q_index()
}

const BIASES: &[(&str, Bias)] = &[
    ("neighbours, and the ends", |cx| by_head(cx, 40, distance(cx) + 60)),
    ("neighbours in turn", |cx| by_head(cx, 300, distance(cx) + 150)),
    ("neighbours from last to first", |cx| by_head(cx, 300, 70 - distance(cx))),
    ("one element", |cx| by_head(cx, 1, distance(cx))),
    ("two elements", |cx| by_head(cx, 2, distance(cx) + 20)),
    ("each three times", |cx| by_head(cx, 100, cx.k_index() / 3)),
    ("every third", |cx| by_head(cx, 390, cx.k_index() * 3)),
    ("any", |cx| by_head(cx, 64, (cx.k_index() * 37 + cx.q_index()) % 64)),
    ("an index that overflows", |cx| by_head(cx, 50, (cx.k_index() + (i32::MAX - 40)) - (i32::MAX - 60))),
    ("ends that overflow", |cx| by_head(cx, 50, cx.k_index() + (i32::MAX - 20))),
    ("places that a call tells", |cx| {
        let places = cx.input("k_pos", Elem::I32, [cx.b, cx.k]);
        by_head(cx, 80, places * 3 - 40)
    }),
    ("rows of places", |cx| {
        let place = cx.axis("place", 300);
        cx.input("table", Elem::F32, [place, cx.h]).gather(place, distance(cx) + 150)
    }),
    ("a table by key, too", |cx| {
        let place = cx.axis("place", 5);
        cx.input("table", Elem::F32, [cx.k, place]).gather(place, distance(cx))
    }),
    ("f16", |cx| of_elem(cx, Elem::F16, distance(cx) + 20).cast(Elem::F32)),
    ("bf16", |cx| of_elem(cx, Elem::Bf16, distance(cx) + 20).cast(Elem::F32)),
    ("integers", |cx| of_elem(cx, Elem::I32, distance(cx) + 20).cast(Elem::F32) * 0.1),
    ("truth values", |cx| of_elem(cx, Elem::Bool, distance(cx) + 20).select(0.5, -0.25)),
];

const LENGTHS: [(usize, usize); 6] = [(1, 1), (1, 130), (3, 17), (2, 64), (5, 300), (50, 40)];

#[test]
fn lookups_are_right_however_lanes_go() {
    for (number, (name, bias)) in BIASES.iter().enumerate() {
        for (which, target) in targets().iter().enumerate() {
            let kernels = if (number + which) % 4 == 3 { Kernels::Prefill } else { Kernels::Decode };
            let kv_heads = [1, 2, 4][(number + which) % 3];
            let graph = biased(*bias, kv_heads, which % 2 == 0);
            let what = format!("{name}, {kv_heads} key/value heads, {kernels:?}");
            hold(kernels, (&graph, target), (number as u64, &LENGTHS), what, |_| {});
        }
    }
}

/// A key that a bias leaves no weight, or that is weighed by 0, changes no bit, whatever its value holds: NaN and infinities too.
#[test]
fn values_without_weight_may_hold_anything() {
    let attention = || Attention::heads(4).head_dim(16).kv_heads(2);
    let hidden = |key: usize| key % 5 == 2 || key > 1500;
    let bias =
        |attention: Attention| attention.score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.q, cx.k]));
    let all = [
        ("a bias", bias(attention()), true),
        ("a bias, bf16", bias(attention().elem(Elem::Bf16)), true),
        ("a bias, i8", bias(attention().cache_elem(Elem::I8)), true),
        ("a term of keys", attention().score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.k])), true),
        ("weights", attention().weights_with(|cx, score| score * cx.input("of_keys", Elem::F32, [cx.k])), false),
    ];
    for target in targets() {
        for (name, attention, is_bias) in &all {
            let graph = attention.build().expect("a graph");
            for kernels in [Kernels::Decode, Kernels::Prefill] {
                let engine = Engine::builder().target(target.clone()).kernels(kernels).threads(2).build();
                let kernel = engine.expect("an engine").compile(&graph).expect("compiles");
                for (queries, keys) in [(1, 1700), (3, 100), (1, 2500)] {
                    let lengths = Lengths { batch: 1, queries, keys };
                    let mut clean = inputs(&mut Rng::new(6), kernel.interface(), lengths);
                    let none = if *is_bias { f64::NEG_INFINITY } else { 0.0 };
                    clean.get_mut("of_keys").expect("bound").replace(|at| hidden(at % keys).then_some(none));
                    let made = |tensors: &Tensors| {
                        let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                        run(kernel.call(), tensors, &mut made).expect("runs");
                        made
                    };
                    let expected = made(&clean);
                    assert!(expected["out"].values().iter().all(|x| x.is_finite()), "{name}, {target}");
                    // Of integers, scales are garbage.
                    let (values, length) = if clean.contains_key("v_scale") { ("v_scale", 1) } else { ("v", 16) };
                    for garbage in [f64::NAN, f64::INFINITY] {
                        let mut tensors = clean.clone();
                        let values = tensors.get_mut(values).expect("bound");
                        values.replace(|at| hidden(at / length % keys).then_some(garbage));
                        let same = bits(&made(&tensors)) == bits(&expected);
                        assert!(same, "{name}, {target}, {kernels:?}, {queries} x {keys}: {garbage} changes bits");
                    }
                    // A value that has weight comes through.
                    let mut tensors = clean.clone();
                    let visible = |at: usize| at / length % keys == 10;
                    tensors.get_mut(values).expect("bound").replace(|at| visible(at).then_some(f64::NAN));
                    let values = made(&tensors)["out"].values();
                    assert!(values.iter().all(|x| x.is_nan()), "{name}, {target}, {kernels:?}, {queries} x {keys}");
                }
            }
        }
    }
}
