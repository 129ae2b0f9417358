//! Keys that a bias leaves without weight are pruned, and no one can tell.

use crate::common::calls::{DIM, attention, call, compile, interpret, rows};
use crate::common::{Lengths, Rng, engine, hold, inputs, targets};
use rhumb::plugins::AlibiForm;
use rhumb::prelude::*;

/// Slopes so steep that most weights are 0 in single precision, in calls long enough for the kernel to leave those keys out.
fn steep() -> [(&'static str, Attention); 6] {
    let steep = || Alibi::new().slopes([2.0, 0.5]);
    [
        ("causal", attention().scheme(steep()).scheme(Causal)),
        ("symmetric", attention().scheme(steep().symmetric())),
        ("no mask", attention().scheme(steep().form(AlibiForm::Key)).sinks()),
        ("rotated", attention().kv_heads(1).scheme(Rope::new()).scheme(steep()).scheme(SlidingWindow::new(250))),
        ("capped", attention().softcap(4.0).scheme(steep().symmetric()).scheme(Causal)),
        ("dynamic", attention().scheme(DynamicAlibi::new(1000).alibi(steep())).scheme(Causal)),
    ]
}

#[test]
fn keys_without_weight_do_not_count() {
    let engines: Vec<Engine> = targets().iter().map(|target| engine(target, 2)).collect();
    for (name, attention) in steep() {
        for (queries, keys) in [(128, 128), (150, 413), (401, 300)] {
            let lengths = Lengths { batch: 1, queries, keys };
            let mut all = inputs(&mut Rng::new(21), compile(&engines[0], &attention).interface(), lengths);
            if name == "rotated" {
                // Some keys are far longer than their neighbours.
                all.get_mut("k").expect("bound").change(|index, x| {
                    if (index / DIM as usize).is_multiple_of(97) {
                        *x *= 12.0;
                    }
                });
            }
            let expected = interpret(&engines[0], &attention, &all, lengths);
            for engine in &engines {
                let kernel = compile(engine, &attention);
                let made = call(&kernel, &all, lengths).expect("runs");
                hold(&kernel, &all, &made, &expected, format_args!("{name}, {queries} x {keys}"));
            }
        }
    }
}

/// Of a weight 2^-100 is lost at most: told by values that grow as weights fall.
#[test]
fn little_is_lost_of_small_weights() {
    let halved = Alibi::new().slopes([std::f64::consts::LN_2; 2]).form(AlibiForm::Last);
    for engine in targets().iter().map(|target| engine(target, 1)) {
        let kernel = compile(&engine, &attention().scheme(halved.clone()));
        for (queries, keys) in [(3, 90), (3, 120), (200, 140)] {
            let lengths = Lengths { batch: 1, queries, keys };
            let mut inputs = inputs(&mut Rng::new(24), kernel.interface(), lengths);
            inputs.get_mut("q").expect("bound").change(|_, x| *x = 0.0);
            let distance = |index: usize| (keys - 1 - index / DIM as usize % keys) as i32;
            // The largest powers are too large for `f32`.
            let value = |distance: i32| if distance < 120 { f64::exp2(f64::from(distance)) } else { 1.0 };
            inputs.get_mut("v").expect("bound").change(|index, x| *x = value(distance(index)) as f32);
            let weight = |distance: i32| f64::exp2(-f64::from(distance));
            let all = || 0..keys as i32;
            let sum: f64 = all().map(weight).sum();
            let expected: f64 = all().map(|n| weight(n) * value(n)).sum();
            let lost: f64 = all().map(|n| weight(n).min(f64::exp2(-100.0)) * value(n)).sum();
            for x in call(&kernel, &inputs, lengths).expect("runs")["out"].values() {
                let x = f64::from(x) * sum;
                let right = (expected - lost) * (1.0 - 1e-4) <= x && x <= expected * (1.0 + 1e-4);
                assert!(right, "{}, {keys} keys: {x} for {expected}, of which {lost} may be lost", engine.target());
            }
        }
    }
}

/// What is pruned depends on how long the queries of a tile and far keys are; no bit of a result does.
#[test]
fn leaving_keys_out_changes_no_bit() {
    let lengths = Lengths { batch: 1, queries: 400, keys: 400 };
    for engine in targets().iter().map(|target| engine(target, 1)) {
        for (name, attention) in steep().into_iter().filter(|(name, _)| *name != "rotated") {
            let kernel = compile(&engine, &attention);
            let clean = inputs(&mut Rng::new(23), kernel.interface(), lengths);
            let before = call(&kernel, &clean, lengths).expect("runs");
            let row = |index: usize| index / DIM as usize % 400;
            let longer = |tensor: &str, which: fn(usize) -> bool, factor: f32| {
                let mut inputs = clean.clone();
                inputs.get_mut(tensor).expect("bound").change(|index, x| {
                    if which(row(index)) {
                        *x *= factor;
                    }
                });
                call(&kernel, &inputs, lengths).expect("runs")
            };
            let far_keys = longer("k", |key| key < 20, 3.0);
            let one_query = longer("q", |query| query == 350, 30.0);
            for query in (330..400).filter(|query| *query != 350) {
                let [before, far_keys, one_query] = [&before, &far_keys, &one_query]
                    .map(|made| rows(made, query).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
                assert_eq!(before, far_keys, "{name}, {}: query {query}, far keys", engine.target());
                assert_eq!(before, one_query, "{name}, {}: query {query}, another", engine.target());
            }
        }
    }
}

#[test]
fn what_is_not_finite_reaches_rows_that_give_it_no_weight() {
    let lengths = Lengths { batch: 1, queries: 200, keys: 300 };
    for engine in targets().iter().map(|target| engine(target, 1)) {
        for (name, attention) in steep().into_iter().filter(|(name, _)| *name != "rotated") {
            let kernel = compile(&engine, &attention);
            let clean = inputs(&mut Rng::new(22), kernel.interface(), lengths);
            let before = call(&kernel, &clean, lengths).expect("runs");
            for (tensor, value) in [("k", f32::NAN), ("v", f32::NAN), ("v", f32::INFINITY)] {
                let mut inputs = clean.clone();
                inputs.get_mut(tensor).expect("bound").change(|index, x| {
                    if index / DIM as usize % lengths.keys == 2 && index % DIM as usize == 5 {
                        *x = value;
                    }
                });
                let after = call(&kernel, &inputs, lengths).expect("runs");
                for query in [0, 1, 99, 199] {
                    let (before, after) = (rows(&before, query), rows(&after, query));
                    assert!(before.iter().all(|x| x.is_finite()));
                    for (column, after) in after.iter().enumerate().map(|(n, x)| (n % (DIM as usize + 1), x)) {
                        let reached = tensor == "k" || column == 5;
                        assert_eq!(reached, !after.is_finite(), "{name}, {}, {value}: query {query}", engine.target());
                    }
                }
            }
        }
    }
}
