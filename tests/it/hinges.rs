//! Hinges of one number of each pair: what is found, and that their sum is right wherever they bend, and of any numbers.

use crate::common::bias::{Bias, biased, hold_each, rates};
use crate::common::{Layout, Lengths, Rng, Tensors, agree, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

/// Hinges of a network.
const UNITS: u32 = 11;

fn distance<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    (cx.q_index() - cx.k_index()).abs().cast(Elem::F32)
}

/// How far apart query and key are where queries stand closer than keys.
fn apart<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    (cx.q_index() * 3 - cx.k_index() * 4).abs().cast(Elem::F32) * 0.25
}

/// How far apart query and key are, measured by how far the query has come: below 1 for keys that are not ahead.
fn measured<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    let psi = |x: Expr<'g>| (x * 0.1 + 1.0).log();
    psi(distance(cx)) / psi(cx.q_index().cast(Elem::F32).max(9.0))
}

/// The sum over units of what is made of each unit's weight, bias, and weight of the output.
fn network<'g>(cx: &AttentionParts<'g>, units: u32, hinge: impl Fn(Expr<'g>, Expr<'g>) -> Expr<'g>) -> Expr<'g> {
    let unit = cx.axis("unit", units);
    let [w1, b1] = ["w1", "b1"].map(|name| cx.input(name, Elem::F32, [unit]));
    let w2 = cx.input("w2", Elem::F32, [cx.h, unit]);
    let of_unit = |u: u32| {
        let [w1, b1, w2] = [w1, b1, w2].map(|x| x.gather(unit, cx.int(u as i32)));
        w2 * hinge(w1, b1)
    };
    (1..units).fold(of_unit(0), |sum, u| sum + of_unit(u))
}

/// Integers, each added or subtracted as it bends: at ends of vectors and tiles, and beyond all of them.
fn bends<'g>(x: Expr<'g>, bends: impl IntoIterator<Item = f64>) -> Expr<'g> {
    let hinges = bends.into_iter().enumerate().map(|(n, bend)| {
        let hinge = x.max(bend) * 0.125;
        if n % 2 == 0 { hinge } else { -hinge }
    });
    hinges.reduce(|sum, hinge| sum + hinge).expect("a bend")
}

const ENDS: [f64; 16] = [0.0, 1.0, 2.5, 7.0, 8.0, 15.0, 16.0, 17.0, 31.5, 47.0, 48.0, 63.0, 64.0, 65.0, 111.0, 130.0];

/// Biases, and how many hinges and lines each has; none where they are computed pair by pair.
const BIASES: &[(&str, Option<usize>, Bias)] = &[
    ("a network", Some(11), |cx| network(cx, UNITS, |w1, b1| (apart(cx) * 0.02 * w1 + b1).max(0.0))),
    ("a network, each product last", Some(11), |cx| {
        let x = apart(cx).sqrt();
        network(cx, UNITS, |w1, b1| (b1 - w1 * x).max(0.0))
    }),
    ("the greater", Some(11), |cx| network(cx, UNITS, |w1, _| measured(cx).max(w1))),
    ("the lesser", Some(11), |cx| network(cx, UNITS, |w1, b1| w1.min(measured(cx) - b1))),
    ("the greater of a choice", Some(11), |cx| {
        let x = measured(cx);
        network(cx, UNITS, |_, b1| b1.gt(x).select(b1, x))
    }),
    ("the lesser of a choice", Some(11), |cx| {
        let x = measured(cx);
        network(cx, UNITS, |_, b1| x.ge(b1).select(b1, x))
    }),
    ("a choice that is not NaN where its operand is", Some(11), |cx| {
        let x = measured(cx);
        network(cx, UNITS, |_, b1| x.gt(b1).select(b1, x))
    }),
    ("with lines and numbers beside, and a factor", Some(14), |cx| {
        let x = measured(cx);
        let sum = network(cx, UNITS, |_, b1| x.max(b1));
        (sum - x * rates(cx, 0.5) + rates(cx, 0.25) - x) * rates(cx, -1.0)
    }),
    ("beside other terms", Some(11), |cx| {
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.01;
        by_pair.sin() - network(cx, UNITS, |w1, b1| (measured(cx) + w1).max(b1))
    }),
    ("beside what is long", Some(11), |cx| {
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.001;
        let long = (0..9).fold(by_pair, |x, _| (x.acos() + 0.5).sin());
        long * 0.1 + network(cx, UNITS, |w1, _| measured(cx).max(w1))
    }),
    ("ends of tiles", Some(16), |cx| bends(apart(cx), ENDS)),
    ("all bent before", Some(9), |cx| bends(measured(cx), (1..10).map(|n| -f64::from(n)))),
    ("none bent yet", Some(9), |cx| bends(measured(cx), (1..10).map(|n| 1000.0 * f64::from(n)))),
    ("more than a register tile writes out", Some(120), |cx| {
        network(cx, 120, |w1, b1| (measured(cx) + w1).max(b1)) * 0.1
    }),
    ("too few", None, |cx| network(cx, 7, |w1, _| measured(cx).max(w1))),
    ("of distances alone", None, |cx| network(cx, UNITS, |w1, b1| (distance(cx).sqrt() * w1 + b1).max(0.0))),
    ("a logarithm of 0", None, |cx| network(cx, UNITS, |w1, _| apart(cx).log().max(w1))),
    ("positions that are given", None, |cx| {
        let positions = cx.input("k_pos", Elem::I32, [cx.b, cx.k]);
        let x = (cx.q_index() - positions).cast(Elem::F32) * 0.01;
        network(cx, UNITS, |w1, _| x.max(w1))
    }),
    ("what a call tells", None, |cx| {
        let scale = cx.input("scale", Elem::F32, [cx.b]);
        network(cx, UNITS, |_, b1| (measured(cx) * scale).max(b1))
    }),
    ("a softcap around it", None, |cx| network(cx, UNITS, |w1, _| measured(cx).max(w1)).tanh()),
];

const LENGTHS: [(usize, usize); 6] = [(1, 1), (15, 17), (17, 130), (130, 1), (130, 65), (60, 200)];

fn found(kernel: &Kernel) -> Option<usize> {
    kernel.plan().hinges.as_ref().map(rhumb::compiler::plan::Hinges::count)
}

#[test]
fn hinges_are_right_wherever_they_bend() {
    hold_each(BIASES, &LENGTHS, |name, expected, kernel| {
        assert_eq!(found(kernel), *expected, "{name}:\n{}", kernel.plan());
    });
}

/// Where masks read what a call gives, other queries may tell which pairs a key tile has.
#[test]
fn masks_of_a_call_leave_hinges_alone() {
    let bias: Bias = |cx| network(cx, UNITS, |w1, _| measured(cx).max(w1));
    let attention = Attention::heads(2).head_dim(8).score_with(move |cx, score| score + bias(cx));
    for (mask, attention) in [
        ("documents", attention.clone().documents(Batch::Shared)),
        ("key lengths", attention.clone().key_lengths()),
        ("a prefix", attention.scheme_with(|cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))),
    ] {
        let engine = Engine::builder().kernels(Kernels::Prefill).build().expect("an engine");
        let kernel = engine.compile(&attention.build().expect("a graph")).expect("compiles");
        assert_eq!(found(&kernel), None, "{mask}");
    }
}

/// Numbers that are not finite, and some that products do not hold, in one unit of a network.
#[test]
fn numbers_that_are_not_finite_are_computed_pair_by_pair() {
    let biases: [Bias; 3] = [
        |cx| network(cx, UNITS, |w1, b1| (apart(cx) * w1 + b1).max(0.0)),
        |cx| network(cx, UNITS, |w1, b1| (measured(cx) + w1).min(b1)),
        |cx| network(cx, UNITS, |_, b1| b1.gt(measured(cx)).select(b1, measured(cx))),
    ];
    let lengths = Lengths { batch: 1, queries: 17, keys: 70 };
    for (number, bias) in biases.into_iter().enumerate() {
        for target in &targets() {
            let graph = biased(bias, 4, number > 0);
            let engine = Engine::builder().target(target.clone()).kernels(Kernels::Prefill).build().expect("an engine");
            let kernel = engine.compile(&graph).expect("compiles");
            let reference = engine.reference(&graph).expect("a reference");
            assert!(found(&kernel).is_some(), "{}", kernel.plan());
            let clean = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            for name in ["w1", "b1", "w2"] {
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -1e20, 1e-40] {
                    let mut inputs = clean.clone();
                    inputs.get_mut(name).expect("bound").change(|index, x| {
                        if index % 11 == 4 {
                            *x = value;
                        }
                    });
                    let what = format!("{number}: {value} in {name}, {target}");
                    agree((&kernel, &reference), &inputs, lengths, what);
                }
            }
        }
    }
}

/// Values that are not finite are kept from queries that do not see them by a kernel that computes more queries than others do.
#[test]
fn what_a_query_does_not_see_changes_no_bit_of_its_row() {
    let bias: Bias = |cx| network(cx, UNITS, |w1, _| measured(cx).max(w1)) + bends(apart(cx), ENDS);
    let graph = biased(bias, 4, true);
    let lengths = Lengths { batch: 1, queries: 130, keys: 130 };
    for target in &targets() {
        let engine = Engine::builder().target(target.clone()).kernels(Kernels::Prefill).build().expect("an engine");
        let kernel = engine.compile(&graph).expect("compiles");
        assert!(found(&kernel).is_some(), "{}", kernel.plan());
        let clean = inputs(&mut Rng::new(9), kernel.interface(), lengths);
        let bits = |inputs: &Tensors| {
            let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            run(kernel.call(), inputs, &mut made).expect("runs");
            made["out"].bits()
        };
        let before = bits(&clean);
        let dim = before.len() / 4 / lengths.queries;
        for key in [20, 64, 100, 129] {
            let mut inputs = clean.clone();
            inputs.get_mut("v").expect("bound").change(|index, x| {
                if index / dim % lengths.keys == key {
                    *x = f32::NAN;
                }
            });
            for (index, (before, after)) in before.iter().zip(bits(&inputs)).enumerate() {
                let query = index / dim % lengths.queries;
                assert!(query >= key || *before == after, "{target}: query {query}, key {key}");
            }
        }
    }
}
