//! Values and products of a score by the distance of query and key: what is found, and that it is right wherever a key tile begins or ends.

use crate::common::bias::{Bias, biased, hold_each, hold_prefill, rates};
use crate::common::targets;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

fn distance<'g>(cx: &AttentionParts<'g>) -> Expr<'g> {
    cx.q_index() - cx.k_index()
}

/// Biases, and how many values of each are by distance.
const BIASES: &[(&str, usize, Bias)] = &[
    ("a logarithm", 1, |cx| (distance(cx).abs() + 1).log() * -0.5),
    ("a logarithm by head", 1, |cx| (rates(cx, 2.0) * distance(cx).abs() + 1.0).log() * rates(cx, -1.0)),
    ("a table by head", 1, |cx| {
        let bucket = cx.axis("bucket", 9);
        let table = cx.input("table", Elem::F32, [cx.h, bucket]);
        table.gather(bucket, distance(cx) + 4)
    }),
    ("a table for all heads", 1, |cx| {
        let bucket = cx.axis("bucket", 200);
        cx.input("table", Elem::F32, [bucket]).gather(bucket, (distance(cx) * 3).abs() - 7)
    }),
    ("two, and a factor by pair", 2, |cx| {
        let wave = (distance(cx).cast(Elem::F32) * 0.1).sin();
        let near = (distance(cx) * distance(cx)).cast(Elem::F32) * -0.01;
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.01;
        wave * by_pair + near.exp() * rates(cx, 1.0)
    }),
    ("a choice", 1, |cx| {
        let far = (distance(cx).max(0) + 1).log2();
        distance(cx).gt(5).select(far, distance(cx).min(9).cast(Elem::F32).tanh())
    }),
    ("what a call tells", 1, |cx| {
        let scale = cx.input("scale", Elem::F32, [cx.b]);
        (distance(cx).abs().cast(Elem::F32) * scale).tanh()
    }),
    ("positions that are given", 0, |cx| {
        let positions = cx.input("k_pos", Elem::I32, [cx.b, cx.k]);
        ((cx.q_index() - positions).abs() + 1).log()
    }),
    ("a sum of indices", 0, |cx| (cx.q_index() + cx.k_index() + 1).cast(Elem::F32).sqrt() * 0.1),
    ("reals, which round", 0, |cx| (cx.q_index().cast(Elem::F32) - cx.k_index().cast(Elem::F32)).abs().sqrt()),
    ("longer than a register tile writes out", 1, |cx| {
        let start = distance(cx).abs().cast(Elem::F32) * 0.01;
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.001;
        let long = (0..12).fold(by_pair, |x, _| (x + 0.5).sin() + x * 0.5);
        start.cos() + long * 0.1
    }),
];

const LENGTHS: [(usize, usize); 8] = [(1, 1), (1, 300), (15, 17), (17, 15), (47, 64), (130, 1), (130, 130), (200, 70)];

#[test]
fn values_by_distance_are_right() {
    hold_each(BIASES, &LENGTHS, |name, expected, kernel| {
        assert_eq!(kernel.plan().by_distance.len(), *expected, "{name}:\n{}", kernel.plan());
    });
}

/// A constant row, turned by an index times some frequencies.
fn turned<'g>(cx: &AttentionParts<'g>, index: Expr<'g>, (length, first): (u32, f64)) -> Expr<'g> {
    let (wave, pair) = (cx.axis("wave", length), cx.axis("wave_pair", length / 2));
    let frequencies: Vec<f64> = (0..length / 2).map(|i| 1.0 / f64::from(i + 1)).collect();
    let row: Vec<f64> = (0..length).map(|i| first + f64::from(i % 5) / 4.0).collect();
    let angle = index.cast(Elem::F32) * cx.table(&[pair], frequencies);
    cx.table(&[wave], row).rotate(angle, wave, pair, Pairing::Half, 0)
}

/// Products of rows that turn with an index, and how many of them are by distance.
const PRODUCTS: &[(&str, usize, Bias)] = &[
    ("other rows of queries than of keys", 1, |cx| {
        let queries = turned(cx, cx.q_index(), (32, 0.5)) * rates(cx, 0.5);
        queries.dot(turned(cx, cx.k_index(), (32, -0.5)), cx.axis("wave", 32))
    }),
    ("a row longer than a sum", 1, |cx| {
        turned(cx, cx.q_index(), (300, -0.25)).dot(turned(cx, cx.k_index(), (300, 0.0)), cx.axis("wave", 300)) * 0.01
    }),
    ("a single pair", 1, |cx| {
        turned(cx, cx.q_index(), (2, 0.5)).dot(turned(cx, cx.k_index(), (2, 1.0)), cx.axis("wave", 2))
    }),
    ("keys that turn twice as fast", 0, |cx| {
        turned(cx, cx.q_index(), (8, 0.5)).dot(turned(cx, cx.k_index() * 2, (8, 1.0)), cx.axis("wave", 8))
    }),
    ("positions that are given", 0, |cx| {
        let positions = cx.input("k_pos", Elem::I32, [cx.b, cx.k]);
        turned(cx, cx.q_index(), (8, 0.5)).dot(turned(cx, positions, (8, 1.0)), cx.axis("wave", 8))
    }),
    ("longer than what is written out", 0, |cx| {
        let rows = [cx.q_index(), cx.k_index()].map(|index| turned(cx, index, (1040, 0.0)) * 0.01);
        rows[0].dot(rows[1], cx.axis("wave", 1040))
    }),
];

#[test]
fn products_by_distance_are_right() {
    for (number, (name, expected, product)) in PRODUCTS.iter().enumerate() {
        // Each for some of the targets, which are many.
        for (which, target) in targets().iter().enumerate().filter(|(which, _)| (number + which) % 3 == 0) {
            let graph = biased(*product, 4, which % 2 == 0);
            hold_prefill((&graph, target), (number as u64, &LENGTHS), name, |kernel| {
                assert_eq!(kernel.plan().products_by_distance.len(), *expected, "{name}:\n{}", kernel.plan());
            });
        }
    }
}
