//! Numbers that are not finite, or nearly so, and rows that see nothing.

use crate::common::calls::{DIM, attention, call, compile, interpret, rows};
use crate::common::{Lengths, Rng, Tensor, Tensors, difference, engines, inputs, relative};
use rhumb::prelude::*;

/// A mask, the tensors it needs, and whether a query sees a key.
struct Mask {
    name: &'static str,
    attention: Attention,
    inputs: Tensors,
    sees: fn(i64, i64) -> bool,
}

const LENGTHS: Lengths = Lengths { batch: 1, queries: 40, keys: 53 };

/// Queries stand at the last keys.
fn masks() -> [Mask; 6] {
    let ids = |count: i32| Tensor::i32([count as usize], (53 - count..53).map(|i| i / 20).collect::<Vec<_>>());
    let mask = |name, attention, sees| Mask { name, attention, inputs: Tensors::new(), sees };
    let documents = Tensors::from([("q_documents".to_owned(), ids(40)), ("k_documents".to_owned(), ids(53))]);
    [
        mask("causal", attention().scheme(Causal), |q, k| k <= q),
        mask("window", attention().scheme(Rope::new()).scheme(SlidingWindow::new(9)), |q, k| k <= q && q - k < 9),
        Mask { inputs: documents, ..mask("documents", attention().documents(Batch::Shared), |q, k| q / 20 == k / 20) },
        mask(
            "alibi",
            attention().scheme(Alibi::new().symmetric()).scheme(SlidingWindow::new(20).symmetric()),
            |q, k| (q - k).abs() <= 20,
        ),
        mask(
            "a sum of waves",
            attention().scheme(Causal).score_with(|_, s| (s * 0.5).sin() + (s * 0.25).cos()),
            |q, k| k <= q,
        ),
        mask("every third", attention().mask_with(|cx| (cx.k_index() % 3).eq(0)), |_, k| k % 3 == 0),
    ]
}

#[test]
fn what_is_not_finite_reaches_only_rows_that_see_it() {
    let first = (LENGTHS.keys - LENGTHS.queries) as i64;
    for (target, engine) in &engines(2) {
        for Mask { name, attention, inputs: ids, sees } in masks() {
            let kernel = compile(engine, &attention);
            let mut clean = inputs(&mut Rng::new(7), kernel.interface(), LENGTHS);
            clean.extend(ids);
            let before = call(&kernel, &clean, LENGTHS).expect("runs");
            for (tensor, value) in [("k", f32::NAN), ("v", f32::NAN), ("v", f32::INFINITY), ("v", f32::NEG_INFINITY)] {
                for key in [0, 3, 16, 17, 31, 32, 45, 52] {
                    let mut inputs = clean.clone();
                    // One element of the key's row, in all heads.
                    let dim = DIM as usize;
                    let row = |index: usize| index / dim % LENGTHS.keys == key && index % dim == 5;
                    inputs.get_mut(tensor).expect("bound").change(|index, x| {
                        if row(index) {
                            *x = value;
                        }
                    });
                    let after = call(&kernel, &inputs, LENGTHS).expect("runs");
                    for query in 0..LENGTHS.queries {
                        let context = format!("{name}, {target}: {value} in {tensor} at {key}, query {query}");
                        let (before, after) = (rows(&before, query), rows(&after, query));
                        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                            // Of a value, only the element that it is an average of.
                            let column = index % (dim + 1);
                            let reached = sees(query as i64 + first, key as i64) && (tensor == "k" || column == 5);
                            let right = match reached {
                                false => before.to_bits() == after.to_bits(),
                                true if value.is_nan() => after.is_nan(),
                                true => *after == value,
                            };
                            assert!(right, "{context}, element {column}: {before} became {after}");
                        }
                    }
                }
            }
            // A query is seen by its own row alone.
            for query in [0, 15, 16, 39] {
                let mut inputs = clean.clone();
                inputs.get_mut("q").expect("bound").change(|index, x| {
                    if index / DIM as usize % LENGTHS.queries == query {
                        *x = f32::NAN;
                    }
                });
                let after = call(&kernel, &inputs, LENGTHS).expect("runs");
                for other in 0..LENGTHS.queries {
                    let (before, after) = (rows(&before, other), rows(&after, other));
                    if other == query {
                        assert!(after.iter().all(|x| x.is_nan()), "{name}, {target}: query {query} hides NaN");
                    } else {
                        let same = before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{name}, {target}: NaN of query {query} reached {other}");
                    }
                }
            }
        }
    }
}

/// A key whose every product with a query has one sign: infinite, too large for single precision, or large.
#[test]
fn infinite_and_enormous_scores_are_as_the_interpreter_has_them() {
    let lengths = Lengths { batch: 1, queries: 21, keys: 37 };
    let large = f32::MAX / 64.0;
    for (target, engine) in &engines(1) {
        let attentions = [attention(), attention().softcap(3.0), attention().sinks(), attention().scheme(Causal)];
        for (attention, name) in attentions.into_iter().zip(["plain", "capped", "sinks", "causal"]) {
            let kernel = compile(engine, &attention);
            for value in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, large, -large] {
                let mut inputs = inputs(&mut Rng::new(8), kernel.interface(), lengths);
                // Queries of one sign, so that the products do not cancel; their sum is above 1 and below 16.
                inputs.get_mut("q").expect("bound").change(|_, x| *x = x.abs().clamp(0.3, 2.5));
                let mut with = |value: f32| {
                    inputs.get_mut("k").expect("bound").change(|index, x| {
                        if index / DIM as usize % lengths.keys == 20 {
                            *x = value;
                        }
                    });
                    inputs.clone()
                };
                let made = call(&kernel, &with(value), lengths).expect("runs");
                // Of the largest numbers single precision has no product with these: it is an infinity.
                let meant = if value.abs() == f32::MAX { f32::INFINITY.copysign(value) } else { value };
                let expected = interpret(engine, &attention, &with(meant), lengths);
                for output in ["out", "lse"] {
                    let off = difference(&made[output].values(), &expected[output].values(), relative);
                    assert!(off < 4e-6, "{name}, {target}, {value:e}: `{output}` off by {off:.1e}");
                }
                for query in (0..lengths.queries).filter(|query| name == "causal" && query + 16 < 20) {
                    assert!(rows(&made, query).iter().all(|x| x.is_finite()), "{value} reached query {query}");
                }
            }
        }
    }
}

#[test]
fn rows_that_see_nothing_are_0() {
    for (target, engine) in &engines(2) {
        let none = |attention: Attention| compile(engine, &attention);
        let sinkless = none(attention().key_lengths());
        let lengths = Lengths { batch: 3, queries: 19, keys: 35 };
        let mut inputs = inputs(&mut Rng::new(9), sinkless.interface(), lengths);
        inputs.insert("key_lengths".to_owned(), Tensor::i32([3], [0, 35, -4]));
        let made = call(&sinkless, &inputs, lengths).expect("runs");
        let (out, lse) = (made["out"].values(), made["lse"].values());
        let (third, lse_third) = (out.len() / 3, lse.len() / 3);
        for batch in [0, 2] {
            assert!(out[batch * third..(batch + 1) * third].iter().all(|x| x.to_bits() == 0), "{target}");
            let lse = &lse[batch * lse_third..(batch + 1) * lse_third];
            assert!(lse.iter().all(|x| *x == f32::NEG_INFINITY), "{target}");
        }
        assert!(out[third..2 * third].iter().chain(&lse[lse_third..2 * lse_third]).all(|x| x.is_finite()));

        // More queries than keys: the first stand before all keys.
        let causal = none(attention().scheme(Causal));
        let lengths = Lengths { batch: 1, queries: 30, keys: 11 };
        let inputs = crate::common::inputs(&mut Rng::new(10), causal.interface(), lengths);
        let made = call(&causal, &inputs, lengths).expect("runs");
        for query in 0..30 {
            let row = rows(&made, query);
            let nothing = row.iter().all(|x| *x == 0.0 || *x == f32::NEG_INFINITY);
            assert_eq!(nothing, query < 19, "{target}, query {query}: {row:?}");
        }

        // A sink is seen by all rows: it takes the weight and is the sum.
        let sinks = none(attention().sink(0.5).mask_with(|cx| cx.k_index().lt(0)));
        let inputs = crate::common::inputs(&mut Rng::new(11), sinks.interface(), lengths);
        let made = call(&sinks, &inputs, lengths).expect("runs");
        assert!(made["out"].values().iter().all(|x| *x == 0.0), "{target}");
        assert!(made["lse"].values().iter().all(|x| (x - 0.5).abs() < 1e-6), "{target}");

        // Also where a term of the row is infinite.
        let far = none(attention().scheme(Alibi::new()).q_positions(Elem::F32, Batch::Shared).sink(0.5).key_lengths());
        let mut inputs = crate::common::inputs(&mut Rng::new(13), far.interface(), lengths);
        inputs.insert("key_lengths".to_owned(), Tensor::i32([1], vec![0]));
        for position in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            inputs.insert("q_pos".to_owned(), Tensor::f32([30], vec![position; 30]));
            let made = call(&far, &inputs, lengths).expect("runs");
            assert!(made["out"].values().iter().all(|x| *x == 0.0), "{target}, {position}");
            assert!(made["lse"].values().iter().all(|x| (x - 0.5).abs() < 1e-6), "{target}, {position}");
        }

        // Without keys there is nothing to see.
        let lengths = Lengths { keys: 0, ..lengths };
        for kernel in [&causal, &none(attention()), &none(attention().scheme(Rope::new()).scheme(Alibi::new()))] {
            let inputs = crate::common::inputs(&mut Rng::new(12), kernel.interface(), lengths);
            let made = call(kernel, &inputs, lengths).expect("runs");
            assert!(made["out"].values().iter().all(|x| x.to_bits() == 0), "{target}");
            assert!(made["lse"].values().iter().all(|x| *x == f32::NEG_INFINITY), "{target}");
        }
    }
}
