//! Kernels of schemes that random attentions do not draw, against the interpreter: learned tensors, products of queries and keys with tables, other
//! products than that of query and key.

use crate::common::{Lengths, Rng, agree, engine, inputs, targets};
use rhumb::plugins::AttentionParts;
use rhumb::plugins::schemes::kerple::Kernel;
use rhumb::prelude::*;

/// Six query heads on three of keys and values.
fn attention() -> Attention {
    Attention::heads(6).head_dim(16).kv_heads(3).value_dim(12)
}

fn input<'g>(cx: &AttentionParts<'g>, name: &str, dims: &[Axis]) -> Expr<'g> {
    cx.input(name, Elem::F32, dims.iter().copied())
}

fn fixed(cx: &AttentionParts<'_>, name: &str, length: u32) -> Axis {
    cx.builder().axis_of(name, length)
}

fn biases() -> Vec<(&'static str, Attention)> {
    vec![
        ("t5", attention().scheme_with(|cx| T5::new(input(cx, "table", &[fixed(cx, "bucket", 32), cx.h])))),
        (
            "causal t5, by groups of heads",
            attention()
                .scheme_with(|cx| T5::new(input(cx, "table", &[cx.g, fixed(cx, "bucket", 6)])).causal().buckets(6, 20))
                .scheme(Causal),
        ),
        ("falcon", attention().scheme(Alibi::falcon(16)).scheme(Causal)),
        ("kerple", attention().scheme(Kerple::constant([0.5; 6], [0.25; 6]).kernel(Kernel::Power).symmetric())),
        ("sandwich", attention().scheme(Rope::new()).scheme(Sandwich::new().waves(32)).scheme(Causal)),
        (
            "fire",
            attention()
                .scheme_with(|cx| {
                    let unit = fixed(cx, "unit", 9);
                    let [w1, b1] = ["w1", "b1"].map(|name| input(cx, name, &[unit]));
                    Fire::new(w1, b1, input(cx, "w2", &[cx.h, unit])).threshold(20.0)
                })
                .scheme(Causal),
        ),
        (
            "forget gate by sums",
            attention().scheme_with(|cx| ForgetGate::of_sums(input(cx, "sums", &[cx.b, cx.h, cx.k]))).scheme(Causal),
        ),
        (
            "a network of offsets",
            attention().scheme_with(|cx| {
                let unit = fixed(cx, "unit", 24);
                let w1 = input(cx, "w1", &[unit, fixed(cx, "coordinate", 2)]);
                let b1 = input(cx, "b1", &[unit]);
                ContinuousBias::new(w1, b1, input(cx, "w2", &[cx.h, unit]), [5, 7])
            }),
        ),
        (
            "a cap after a bias",
            attention().scheme(Alibi::new().symmetric()).scheme(Softcap::new(3.0)).scheme(TokenTree::new([
                None,
                Some(0),
                Some(1),
                Some(0),
                None,
                Some(4),
            ])),
        ),
    ]
}

fn by_content() -> Vec<(&'static str, Attention)> {
    vec![
        (
            "shaw",
            attention()
                .scheme_with(|cx| Shaw::new(cx.query(), input(cx, "table", &[fixed(cx, "distance", 26), cx.d]), 20, 5)),
        ),
        (
            "decomposed",
            attention().scheme_with(|cx| {
                let table = |name, length| input(cx, name, &[cx.h, fixed(cx, name, length), cx.d]);
                Decomposed::new(cx.query(), table("rows", 9), table("columns", 13), [5, 7]).scale(0.25)
            }),
        ),
        (
            "transformer-xl",
            attention()
                .scheme_with(|cx| {
                    let distances = input(cx, "r", &[cx.h, fixed(cx, "distance", 50), cx.d]);
                    let biases = ["of_content", "of_distance"].map(|name| input(cx, name, &[cx.h, cx.d]));
                    TransformerXl::new(cx.query(), distances, biases)
                })
                .scheme(Causal),
        ),
        (
            "deberta",
            attention().scheme_with(|cx| {
                let table = |name, heads| input(cx, name, &[heads, fixed(cx, name, 16), cx.d]);
                let scheme = Deberta::new(cx.query(), cx.key()).buckets(8, 40);
                scheme.position_keys(table("c2p", cx.h)).position_queries(table("p2c", cx.g))
            }),
        ),
    ]
}

fn rows() -> Vec<(&'static str, Attention)> {
    let axial = || AxialRope::grid([2, 5, 7], [4, 4, 6]);
    vec![
        ("xpos", attention().scheme(XPos::new().center(40.0)).scheme(Causal)),
        (
            "pope",
            attention()
                .scheme_with(|cx| Pope::new(cx.query(), cx.key()).phases(input(cx, "phases", &[cx.h, cx.d])))
                .scheme(Causal),
        ),
        ("three axes", attention().scheme(axial().prefix(3).reference([2.0, 8.0, 8.0]))),
        ("three axes in halves", attention().scheme(axial().pairing(Pairing::Half))),
        ("angles that repeat", attention().scheme(AxialRope::grid([10, 13], [6, 10]).tiled())),
        ("sines and cosines added, then rotated", attention().scheme(Sinusoidal::new().half()).scheme(Rope::new())),
        (
            "learned positions",
            attention().scheme_with(|cx| {
                let position = fixed(cx, "position", 100);
                let [q, k] = ["q_table", "k_table"].map(|name| input(cx, name, &[position, cx.d]));
                LearnedPositions::new(q, k)
            }),
        ),
        (
            "norms with weights, then rotated",
            attention()
                .scheme_with(|cx| {
                    QkNorm::rms().unit_offset().weights(input(cx, "qw", &[cx.d]), input(cx, "kw", &[cx.h, cx.d]))
                })
                .scheme(Rope::new()),
        ),
        ("retention", attention().scheme(Retention::new()).weights_with(|_, score| score)),
        (
            "retention, not normalised",
            attention().scheme(Retention::new().unnormalised()).weights_with(|_, score| score),
        ),
    ]
}

fn agree_all(cases: Vec<(&'static str, Attention)>) {
    let targets = targets();
    for (number, (name, attention)) in cases.into_iter().enumerate() {
        let graph = attention.build().unwrap_or_else(|error| panic!("{name}: {error}"));
        for target in &targets {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}, {target}: {error}"));
            let reference = engine.reference(&graph).expect("a reference");
            for (queries, keys) in [(1, 17), (5, 3), (33, 70)] {
                let lengths = Lengths { batch: 2, queries, keys };
                let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format!("{name}, {target}"));
            }
        }
    }
}

#[test]
fn biases_are_right() {
    agree_all(biases());
}

#[test]
fn products_with_tables_are_right() {
    agree_all(by_content());
}

#[test]
fn rows_and_other_products_are_right() {
    agree_all(rows());
}
