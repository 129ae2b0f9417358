//! The attention builder: what it builds, against attention written out, and what it refuses.

use rhumb_ir::{Bindings, Elem, Outputs, Pairing, Tensor, interpret};
use rhumb_plugins::{
    Alibi, Attention, Batch, BuildError, Causal, KeyLengths, PrefixLm, Registry, Rope, Rope2d, Scales, SlidingWindow,
    lower,
};

/// Sizes: batch, query heads, key/value heads, queries, keys, elements of query and key, elements of the value.
#[derive(Clone, Copy)]
struct Sizes {
    b: usize,
    h: usize,
    g: usize,
    q: usize,
    k: usize,
    d: usize,
    e: usize,
}

const SIZES: Sizes = Sizes { b: 2, h: 6, g: 2, q: 3, k: 5, d: 4, e: 3 };

fn noise(seed: u32, n: usize) -> Vec<f64> {
    (0..n).map(|i| ((seed as f64 + 1.0) * 12.9898 + i as f64 * 78.233).sin() * 2.0).collect()
}

fn bindings(s: Sizes) -> Bindings {
    Bindings::from([
        ("q".to_owned(), Tensor::f32([s.b, s.h, s.q, s.d], noise(1, s.b * s.h * s.q * s.d))),
        ("k".to_owned(), Tensor::f32([s.b, s.g, s.k, s.d], noise(2, s.b * s.g * s.k * s.d))),
        ("v".to_owned(), Tensor::f32([s.b, s.g, s.k, s.e], noise(3, s.b * s.g * s.k * s.e))),
    ])
}

/// Attention written out: `score(b, h, q, k, dot)` is the masked score, `sink` an extra score of a head. Gives `out` and `lse`.
fn attention(
    s: Sizes,
    bindings: &Bindings,
    score: impl Fn(usize, usize, usize, usize, f64) -> f64,
    sink: impl Fn(usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let (q, k, v) = (&bindings["q"].data, &bindings["k"].data, &bindings["v"].data);
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for b in 0..s.b {
        for h in 0..s.h {
            let g = b * s.g + h / (s.h / s.g);
            for i in 0..s.q {
                let row = ((b * s.h + h) * s.q + i) * s.d;
                let dot = |j: usize| (0..s.d).map(|c| q[row + c] * k[(g * s.k + j) * s.d + c]).sum::<f64>();
                let weights: Vec<f64> = (0..s.k).map(|j| score(b, h, i, j, dot(j)).exp()).collect();
                let sum = weights.iter().sum::<f64>() + sink(h).exp();
                lse.push(sum.ln());
                for c in 0..s.e {
                    let average = (0..s.k).map(|j| weights[j] * v[(g * s.k + j) * s.e + c]).sum::<f64>();
                    out.push(if sum == 0.0 { 0.0 } else { average / sum });
                }
            }
        }
    }
    (out, lse)
}

fn run(attention: &Attention, bindings: &Bindings) -> Outputs {
    let graph = attention.build().unwrap_or_else(|error| panic!("{error}"));
    let lowered = lower(&graph, &Registry::standard()).unwrap_or_else(|error| panic!("{error}"));
    interpret(&lowered, bindings).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found == expected || (found - expected).abs() < 1e-12, "element {i}: {found}, expected {expected}");
    }
}

fn none(_: usize) -> f64 {
    f64::NEG_INFINITY
}

#[test]
fn plain() {
    let bindings = bindings(SIZES);
    let outputs = run(&Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3), &bindings);
    let (out, _) = attention(SIZES, &bindings, |_, _, _, _, dot| dot * 0.5, none);
    assert_eq!(outputs["out"].shape, [2, 6, 3, 3]);
    assert_close(&outputs["out"].data, &out);
    assert!(!outputs.contains_key("lse"));
}

#[test]
fn score_stages_come_in_order() {
    let mut bindings = bindings(SIZES);
    bindings.insert("bias".to_owned(), Tensor::f32([6, 3, 5], noise(4, 6 * 3 * 5)));
    bindings.insert("sinks".to_owned(), Tensor::f32([6], noise(5, 6)));
    let built = Attention::heads(6)
        .head_dim(4)
        .kv_heads(2)
        .value_dim(3)
        .scale(0.3)
        .softcap(2.0)
        .scheme(Alibi::new().slopes([1.0, 0.5, 0.25, 0.125, 0.1, 0.0]))
        .score_with(|cx, score| score * 2.0 + cx.k_pos())
        .bias(Batch::Shared)
        .scheme(Causal)
        .mask_with(|cx| (cx.k_index() % 2).eq(0))
        .sinks()
        .lse();
    let outputs = run(&built, &bindings);
    let (bias, sinks) = (&bindings["bias"].data, &bindings["sinks"].data);
    let slopes = [1.0, 0.5, 0.25, 0.125, 0.1, 0.0];
    let score = |_, h: usize, i: usize, j: usize, dot: f64| {
        let index = i + 2;
        let capped = 2.0 * (dot * 0.3 / 2.0).tanh();
        let own = (capped - slopes[h] * (index as f64 - j as f64)) * 2.0 + j as f64;
        let score = own + bias[(h * 3 + i) * 5 + j];
        if j <= index && j.is_multiple_of(2) { score } else { f64::NEG_INFINITY }
    };
    let (out, lse) = attention(SIZES, &bindings, score, |h| sinks[h]);
    assert_close(&outputs["out"].data, &out);
    assert_close(&outputs["lse"].data, &lse);
}

/// A rotation by closures is the scheme's, at its place among the others and in the graph of keys.
#[test]
fn closures_transform_queries_and_keys() {
    let of = || Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3).scheme(Alibi::new());
    let by_scheme = of().scheme(Rope::new()).scheme(Causal);
    let by_closures = of()
        .query_with(|cx, query| {
            let pair = cx.axis("pair", 2);
            let angle = cx.q_pos().cast(Elem::F32) * cx.builder().table([pair], [1.0, 0.01]);
            query.rotate(angle, cx.d, pair, Pairing::Half, 0)
        })
        .key_with(|cx, key| {
            let pair = cx.axis("pair", 2);
            let angle = cx.k_pos().cast(Elem::F32) * cx.builder().table([pair], [1.0, 0.01]);
            key.rotate(angle, cx.d, pair, Pairing::Half, 0)
        })
        .scheme(Causal);
    let bindings = bindings(SIZES);
    assert_close(&run(&by_closures, &bindings)["out"].data, &run(&by_scheme, &bindings)["out"].data);
    let keys = Bindings::from([("k".to_owned(), bindings["k"].clone())]);
    let [one, other] = [by_closures, by_scheme].map(|attention| {
        let graph = lower(&attention.q_offset(0).key_graph().expect("a graph"), &Registry::standard()).expect("lowers");
        interpret(&graph, &keys).expect("interprets")["k_out"].data.clone()
    });
    assert_close(&one, &other);
    assert!(one.iter().zip(&bindings["k"].data).any(|(turned, key)| turned != key));
}

#[test]
fn rows_that_see_nothing_are_zero() {
    let mut bindings = bindings(SIZES);
    bindings.insert("key_lengths".to_owned(), Tensor::i32([2], [0, 4]));
    let outputs = run(&Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3).key_lengths().lse(), &bindings);
    let score = |b: usize, _, _, j: usize, dot: f64| if b == 1 && j < 4 { dot * 0.5 } else { f64::NEG_INFINITY };
    let (out, lse) = attention(SIZES, &bindings, score, none);
    assert_close(&outputs["out"].data, &out);
    assert_close(&outputs["lse"].data, &lse);
    assert_eq!(outputs["lse"].data[0], f64::NEG_INFINITY);
    assert_eq!(outputs["out"].data[0], 0.0);
}

#[test]
fn offsets_positions_and_documents_are_bound_by_name() {
    let mut bindings = bindings(SIZES);
    bindings.extend([
        ("q_offset".to_owned(), Tensor::i32([], [1])),
        ("length".to_owned(), Tensor::i32([], [7])),
        ("q_pos".to_owned(), Tensor::f32([2, 3], noise(6, 6))),
        ("k_pos".to_owned(), Tensor::i32([5], [4, -1, 0, 9, 3])),
        ("q_documents".to_owned(), Tensor::i32([2, 3], [0, 0, 1, 5, 6, 7])),
        ("k_documents".to_owned(), Tensor::i32([2, 5], [0, 0, 0, 1, 1, 5, 6, 6, 7, 7])),
        ("bias".to_owned(), Tensor::f32([2, 6, 3, 5], noise(4, 2 * 6 * 3 * 5))),
    ]);
    let built = Attention::heads(6)
        .head_dim(4)
        .kv_heads(2)
        .value_dim(3)
        .q_offset_input()
        .length_input()
        .q_positions(Elem::F32, Batch::Each)
        .k_positions(Elem::I32, Batch::Shared)
        .documents(Batch::Each)
        .bias(Batch::Each)
        .sink(0.0)
        .lse()
        .scheme(Causal)
        .score_with(|cx, score| score + (cx.k_pos() - cx.q_pos()) * cx.length());
    let outputs = run(&built, &bindings);
    let data = |name: &str| &bindings[name].data;
    let score = |b: usize, h: usize, i: usize, j: usize, dot: f64| {
        let position = (data("k_pos")[j] - data("q_pos")[b * 3 + i]) * 7.0;
        let score = dot * 0.5 + position + data("bias")[((b * 6 + h) * 3 + i) * 5 + j];
        let same = data("q_documents")[b * 3 + i] == data("k_documents")[b * 5 + j];
        if same && j <= i + 1 { score } else { f64::NEG_INFINITY }
    };
    let (out, lse) = attention(SIZES, &bindings, score, |_| 0.0);
    assert_close(&outputs["out"].data, &out);
    assert_close(&outputs["lse"].data, &lse);
}

#[test]
fn numbers_stand_in_for_inputs() {
    let attention = || {
        let attention = Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3).scheme(Causal);
        attention.score_with(|cx, score| score + cx.length() * 0.5 - cx.q_index() * 0.25)
    };
    let mut bindings = bindings(SIZES);
    let numbers = run(&attention().q_offset(1).length(7), &bindings);
    for other in [attention(), attention().q_offset(1), attention().length(7)] {
        assert_ne!(
            run(&other.lse(), &bindings)["lse"],
            run(&attention().q_offset(1).length(7).lse(), &bindings)["lse"]
        );
    }
    bindings.extend([("q_offset".to_owned(), Tensor::i32([], [1])), ("length".to_owned(), Tensor::i32([], [7]))]);
    let inputs = run(&attention().q_offset_input().length_input(), &bindings);
    assert_eq!(numbers["out"], inputs["out"]);
}

#[test]
fn the_least_softcap_is_above_zero() {
    for cap in [0.0, -0.0] {
        let error = Attention::heads(8).head_dim(64).softcap(cap).build().expect_err("no cap");
        assert!(matches!(error, BuildError::Number { what: "the softcap", .. }), "{error}");
    }
    Attention::heads(8).head_dim(64).softcap(f64::MIN_POSITIVE).build().expect("a cap");
}

#[test]
fn an_attention_tells_its_sizes_when_debugged() {
    let attention = Attention::heads(8).head_dim(64).kv_heads(2).value_dim(32).scheme(Causal);
    assert_eq!(format!("{attention:?}"), "Attention(8 heads on 2, 64 elements, value 32, 1 steps)");
}

#[test]
fn keys_are_rotated_for_a_cache_once() {
    let mut whole = bindings(SIZES);
    let rope = || Rope::new().base(100.0);
    let expected = run(&Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3).scheme(rope()).scheme(Causal), &whole);

    let cached = Attention::heads(6)
        .head_dim(4)
        .kv_heads(2)
        .scheme(rope())
        .q_offset(0)
        .key_graph()
        .unwrap_or_else(|error| panic!("{error}"));
    let cached = lower(&cached, &Registry::standard()).unwrap_or_else(|error| panic!("{error}"));
    let keys = Bindings::from([("k".to_owned(), whole["k"].clone())]);
    let mut rotated = interpret(&cached, &keys).unwrap_or_else(|error| panic!("{error}"));
    whole.insert("k".to_owned(), rotated.remove("k_out").expect("the keys come out"));
    let found = run(
        &Attention::heads(6).head_dim(4).kv_heads(2).value_dim(3).scheme(rope().query_only()).scheme(Causal),
        &whole,
    );
    assert_close(&found["out"].data, &expected["out"].data);
}

#[test]
fn the_usual_graph() {
    let attention = Attention::heads(32)
        .head_dim(128)
        .kv_heads(8)
        .scheme(Rope::new().base(500_000.0))
        .scheme(SlidingWindow::new(4096))
        .softcap(50.0)
        .sinks()
        .lse();
    let graph = attention.build().unwrap_or_else(|error| panic!("{error}"));
    insta::assert_snapshot!(graph);
}

/// The graph written by hand is the one the builder makes.
#[test]
fn parts_make_the_same_graph() {
    let attention = Attention::heads(4).head_dim(8).kv_heads(2);
    let by_builder = attention.build().unwrap_or_else(|error| panic!("{error}"));
    let builder = rhumb_ir::GraphBuilder::new("attention");
    let (parts, [query, key, value]) = attention.parts(&builder).unwrap_or_else(|error| panic!("{error}"));
    let score = (query.dot(key, parts.d) * (1.0 / 8f64.sqrt())).label("score");
    parts.output(score, value, None);
    let by_hand = builder.finish().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(by_hand.to_string(), by_builder.to_string());
}

#[test]
fn what_the_builder_refuses() {
    let cases: Vec<(&str, Attention)> = vec![
        ("no heads", Attention::heads(0).head_dim(8)),
        ("no kv heads", Attention::heads(8).head_dim(8).kv_heads(0)),
        ("no elements", Attention::heads(8).head_dim(0)),
        ("no value", Attention::heads(8).head_dim(8).value_dim(0)),
        ("uneven groups", Attention::heads(8).head_dim(64).kv_heads(3)),
        ("more kv heads", Attention::heads(2).head_dim(64).kv_heads(4)),
        ("too many heads", Attention::heads(u32::MAX).head_dim(8)),
        ("scale", Attention::heads(8).head_dim(64).scale(f64::NAN)),
        ("softcap", Attention::heads(8).head_dim(64).softcap(-50.0)),
        ("sink", Attention::heads(8).head_dim(64).sink(f64::INFINITY)),
        ("zero points of floats", Attention::heads(8).head_dim(64).cache_elem(Elem::F8e4m3).zero_points()),
        ("scales", Attention::heads(8).head_dim(64).key_elem(Elem::Bf16).scales(Scales::PerToken)),
        ("odd head", Attention::heads(8).head_dim(63).scheme(Rope::new())),
        ("2D odd head", Attention::heads(8).head_dim(66).scheme(Rope2d::grid(14, 14))),
        ("window", Attention::heads(8).head_dim(64).scheme(SlidingWindow::new(-1))),
        ("prefix", Attention::heads(8).head_dim(64).scheme(PrefixLm::new(-1))),
        ("foreign value", {
            let other = rhumb_ir::GraphBuilder::new("other");
            let lengths = (0..1000).map(|i| other.int(i)).last().expect("there are a thousand");
            Attention::heads(8).head_dim(64).scheme(KeyLengths::new(lengths))
        }),
        ("score", Attention::heads(8).head_dim(64).score_with(|cx, score| score + cx.k_index().le(3))),
        ("mask", Attention::heads(8).head_dim(64).mask_with(|cx| cx.k_index() - 1)),
        ("name", Attention::heads(8).head_dim(64).score_with(|cx, score| score + cx.input("q", Elem::F32, []))),
    ];
    let mut report = String::new();
    for (name, attention) in cases {
        let error = attention.build().expect_err(name);
        report += &format!("## {name}\n{error}\n\n");
    }
    insta::assert_snapshot!(report);
}
