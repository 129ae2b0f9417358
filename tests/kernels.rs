//! What kernels promise beyond the values of ordinary tensors: numbers that are not finite, rows that see nothing, great distances, many
//! threads, and use after errors.

mod common;

use std::thread;

use common::{
    Layout, Lengths, Rng, Tensor, Tensors, absolute, difference, engine, inputs, outputs, relative, run, targets,
};
use rhumb::plugins::AlibiForm;
use rhumb::prelude::*;
use rhumb::runtime::CallError;

const HEADS: u32 = 2;
const DIM: u32 = 16;

fn attention() -> Attention {
    Attention::new(HEADS, DIM).lse()
}

fn compile(engine: &Engine, attention: &Attention) -> std::sync::Arc<Kernel> {
    engine.compile(&attention.build().expect("a graph")).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a kernel on row-major tensors.
fn call(kernel: &Kernel, inputs: &Tensors, lengths: Lengths) -> Result<Tensors, CallError> {
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), inputs, &mut made)?;
    Ok(made)
}

/// Interprets the same call.
fn interpret(engine: &Engine, attention: &Attention, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let reference = engine.reference(&attention.build().expect("a graph")).expect("a reference");
    let mut made = outputs(reference.interface(), lengths, |_| Layout::Rows);
    run(reference.call(), inputs, &mut made).expect("runs");
    made
}

fn bits(tensors: &Tensors) -> Vec<Vec<u32>> {
    tensors.values().map(Tensor::bits).collect()
}

/// What a call made of one query: for each batch and head, the row of `out` and the element of `lse`.
fn rows(tensors: &Tensors, query: usize) -> Vec<f32> {
    let (out, lse) = (&tensors["out"], &tensors["lse"]);
    let (queries, dim) = (out.shape()[2], out.shape()[3]);
    let (out, lse) = (out.values(), lse.values());
    let mut row: Vec<f32> = Vec::new();
    for group in 0..lse.len() / queries {
        let index = group * queries + query;
        row.extend(&out[index * dim..(index + 1) * dim]);
        row.push(lse[index]);
    }
    row
}

/// A mask, the tensors it needs, and whether a query sees a key.
struct Mask {
    name: &'static str,
    attention: Attention,
    inputs: Tensors,
    sees: fn(i64, i64) -> bool,
}

const LENGTHS: Lengths = Lengths { batch: 1, queries: 40, keys: 53 };

/// Queries stand at the last keys.
fn masks() -> [Mask; 5] {
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
        mask("every third", attention().mask_with(|cx| (cx.k_index() % 3).eq(0)), |_, k| k % 3 == 0),
    ]
}

#[test]
fn what_is_not_finite_reaches_only_rows_that_see_it() {
    let first = (LENGTHS.keys - LENGTHS.queries) as i64;
    for target in &targets() {
        let engine = engine(target, 2);
        for Mask { name, attention, inputs: ids, sees } in masks() {
            let kernel = compile(&engine, &attention);
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

#[test]
fn infinite_scores_are_as_the_interpreter_has_them() {
    let lengths = Lengths { batch: 1, queries: 21, keys: 37 };
    for target in &targets() {
        let engine = engine(target, 1);
        let attentions = [attention(), attention().softcap(3.0), attention().sinks(), attention().scheme(Causal)];
        for (attention, causal) in attentions.into_iter().zip([false, false, false, true]) {
            let kernel = compile(&engine, &attention);
            for value in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
                let mut inputs = inputs(&mut Rng::new(8), kernel.interface(), lengths);
                // Queries of one sign, so that the infinite products do not cancel.
                inputs.get_mut("q").expect("bound").change(|_, x| *x = x.abs());
                inputs.get_mut("k").expect("bound").change(|index, x| {
                    if index / DIM as usize % lengths.keys == 20 {
                        *x = value;
                    }
                });
                let made = call(&kernel, &inputs, lengths).expect("runs");
                // Products of the largest numbers are finite in double precision alone.
                if value.is_infinite() {
                    let expected = interpret(&engine, &attention, &inputs, lengths);
                    let off = difference(&made["out"].values(), &expected["out"].values(), absolute);
                    assert!(off < 2e-6, "{attention:?}, {target}, {value}: {off:.1e}");
                }
                for query in (0..lengths.queries).filter(|query| causal && query + 16 < 20) {
                    assert!(rows(&made, query).iter().all(|x| x.is_finite()), "{value} reached query {query}");
                }
            }
        }
    }
}

#[test]
fn rows_that_see_nothing_are_0() {
    for target in &targets() {
        let engine = engine(target, 2);
        let none = |attention: Attention| compile(&engine, &attention);
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
        let inputs = common::inputs(&mut Rng::new(10), causal.interface(), lengths);
        let made = call(&causal, &inputs, lengths).expect("runs");
        for query in 0..30 {
            let row = rows(&made, query);
            let nothing = row.iter().all(|x| *x == 0.0 || *x == f32::NEG_INFINITY);
            assert_eq!(nothing, query < 19, "{target}, query {query}: {row:?}");
        }

        // A sink is seen by all rows: it takes the weight and is the sum.
        let sinks = none(attention().sink(0.5).mask_with(|cx| cx.k_index().lt(0)));
        let inputs = common::inputs(&mut Rng::new(11), sinks.interface(), lengths);
        let made = call(&sinks, &inputs, lengths).expect("runs");
        assert!(made["out"].values().iter().all(|x| *x == 0.0), "{target}");
        assert!(made["lse"].values().iter().all(|x| (x - 0.5).abs() < 1e-6), "{target}");

        // Without keys there is nothing to see.
        let lengths = Lengths { keys: 0, ..lengths };
        for kernel in [&causal, &none(attention()), &none(attention().scheme(Rope::new()).scheme(Alibi::new()))] {
            let inputs = common::inputs(&mut Rng::new(12), kernel.interface(), lengths);
            let made = call(kernel, &inputs, lengths).expect("runs");
            assert!(made["out"].values().iter().all(|x| x.to_bits() == 0), "{target}");
            assert!(made["lse"].values().iter().all(|x| *x == f32::NEG_INFINITY), "{target}");
        }
    }
}

/// What a group of heads that share keys sees and adds to its scores is of that group, whatever axis comes first in its tables.
#[test]
fn masks_and_biases_of_groups_are_of_their_group() {
    let graph = Graph::parse(
        r#"graph groups
axis b = ?
axis h = 4
axis g = 2 groups h
axis q = ?
axis k = ?
axis d = 16

%q = input "q" : f32[b, h, q, d]
%k = input "k" : f32[b, g, k, d]
%v = input "v" : f32[b, g, k, d]
%from = input "from" : i32[b, g]
%bias = input "bias" : f32[b, g, k]
%at = iota k : i32[k]
%see = ge %at, %from : bool[b, g, k]
%product = dot %q, %k over d : f32[b, h, q, k]
%score = add %product, %bias : f32[b, h, q, k]
%none = const -inf : f32
%masked = select %see, %score, %none : f32[b, h, q, k]
%weights = softmax %masked over k : f32[b, h, q, k]
%out = dot %weights, %v over k : f32[b, h, q, d]

output "out" = %out : f32[b, h, q, d]
"#,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let lengths = Lengths { batch: 2, queries: 21, keys: 150 };
    for target in &targets() {
        let engine = engine(target, 1);
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{error}"));
        let shape = |last: &[usize]| [&[2, 2], last].concat();
        let mut rng = Rng::new(31);
        let mut tensors = Tensors::from([("from".to_owned(), Tensor::i32(shape(&[]), [149, 17, 0, 80]))]);
        let queries: Vec<f32> = rng.normals(2 * 4 * 21 * 16).iter().map(|x| x / 4.0).collect();
        tensors.insert("q".to_owned(), Tensor::f32([2, 4, 21, 16], queries));
        for name in ["k", "v"] {
            tensors.insert(name.to_owned(), Tensor::f32(shape(&[150, 16]), rng.normals(4 * 150 * 16)));
        }
        tensors.insert("bias".to_owned(), Tensor::f32(shape(&[150]), rng.normals(4 * 150)));
        let reference = engine.reference(&graph).expect("a reference");
        let [mut expected, mut made] =
            [reference.interface(), kernel.interface()].map(|of| outputs(of, lengths, |_| Layout::Rows));
        run(reference.call(), &tensors, &mut expected).expect("runs");
        run(kernel.call(), &tensors, &mut made).expect("runs");
        let off = difference(&made["out"].values(), &expected["out"].values(), absolute);
        assert!(off < 2e-6, "{target}: off by {off:.1e}");
    }
}

#[test]
fn rotations_are_accurate_at_large_positions() {
    let lengths = Lengths { batch: 2, queries: 37, keys: 50 };
    for target in &targets() {
        let engine = engine(target, 2);
        let given = || Attention::new(2, 64).kv_heads(1).lse().q_positions(Elem::I32, Batch::Each);
        let given = || given().k_positions(Elem::I32, Batch::Each);
        for (name, attention) in [
            ("positions", given().scheme(Rope::new())),
            ("positions, interleaved", given().scheme(Rope::new().interleaved()).scheme(Causal)),
            ("offset", Attention::new(2, 64).lse().scheme(Rope::new().offset(1_000_000)).scheme(Causal)),
            ("query only", Attention::new(2, 64).lse().scheme(Rope::new().offset(1_000_000).query_only())),
        ] {
            for top in [1_000_000, 2_000_000_000] {
                let kernel = compile(&engine, &attention);
                let rng = &mut Rng::new(13);
                let mut inputs = inputs(rng, kernel.interface(), lengths);
                for side in ["q_pos", "k_pos"] {
                    if let Some(positions) = inputs.get_mut(side) {
                        let shape = positions.shape().to_vec();
                        let near = (0..shape.iter().product()).map(|_| top + rng.between(-500, 500) as i32);
                        *positions = Tensor::i32(shape, near.collect::<Vec<_>>());
                    }
                }
                let made = call(&kernel, &inputs, lengths).expect("runs");
                let expected = interpret(&engine, &attention, &inputs, lengths);
                let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
                let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
                println!("{name} near {top}, {target}: out {out:.1e}, lse {lse:.1e}");
                assert!(out < 2e-6 && lse < 2e-6, "{name} near {top}, {target}: out {out:.1e}, lse {lse:.1e}");
            }
        }
    }
}

#[test]
fn biases_are_accurate_at_large_distances() {
    use rhumb::plugins::AlibiForm;
    let forms = [AlibiForm::Causal, AlibiForm::Symmetric, AlibiForm::Key, AlibiForm::Last];
    for target in &targets() {
        let engine = engine(target, 2);
        for (form, lengths) in forms
            .into_iter()
            .flat_map(|form| [(3, 4096), (40, 4000)].map(|(queries, keys)| (form, Lengths { batch: 1, queries, keys })))
        {
            let attention = Attention::new(3, 8).lse().scheme(Alibi::new().form(form)).scheme(Causal);
            let kernel = compile(&engine, &attention);
            let inputs = inputs(&mut Rng::new(14), kernel.interface(), lengths);
            let made = call(&kernel, &inputs, lengths).expect("runs");
            let expected = interpret(&engine, &attention, &inputs, lengths);
            let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
            let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
            println!("{form:?} of {} keys, {target}: out {out:.1e}, lse {lse:.1e}", lengths.keys);
            assert!(out < 2e-6 && lse < 2e-6, "{form:?}, {lengths:?}, {target}: out {out:.1e}, lse {lse:.1e}");
        }
    }
}

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
            let lse = expected["lse"].values();
            let by_score = |index: usize, _| {
                let lse = f64::from(lse[index / DIM as usize]).abs();
                if lse.is_finite() { (lse / 8.0).max(1.0) } else { 1.0 }
            };
            for engine in &engines {
                let made = call(&compile(engine, &attention), &all, lengths).expect("runs");
                let context = format!("{name}, {}, {queries} x {keys}", engine.target());
                let off = difference(&made["out"].values(), &expected["out"].values(), by_score);
                assert!(off < 3e-6, "{context}: off by {off:.1e}");
                let off = difference(&made["lse"].values(), &expected["lse"].values(), relative);
                assert!(off < 4e-6, "{context}: lse off by {off:.1e}");
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

/// What is left out depends on how long the queries of a tile and far keys are; no bit of a result does.
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

#[test]
fn one_kernel_serves_many_threads_at_once() {
    for target in &targets() {
        let engine = engine(target, 2);
        let attention = attention().scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal);
        let kernel = compile(&engine, &attention);
        let sizes = [(1, 90), (70, 70), (33, 100), (130, 130)];
        let cases = sizes.map(|(queries, keys)| {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(queries as u64), kernel.interface(), lengths);
            let alone = bits(&call(&kernel, &inputs, lengths).expect("runs"));
            (lengths, inputs, alone)
        });
        thread::scope(|scope| {
            for (lengths, inputs, alone) in &cases {
                let kernel = &kernel;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let made = call(kernel, inputs, *lengths).expect("runs");
                        assert!(bits(&made) == *alone, "{target}, {lengths:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn an_engine_compiles_for_many_threads_at_once() {
    let engine = Engine::host().expect("an engine");
    let kernels: Vec<_> = thread::scope(|scope| {
        let compile = || scope.spawn(|| compile(&engine, &attention().scheme(Causal)));
        let threads: Vec<_> = (0..4).map(|_| compile()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let inputs = inputs(&mut Rng::new(15), kernels[0].interface(), LENGTHS);
    let made = kernels.iter().map(|kernel| bits(&call(kernel, &inputs, LENGTHS).expect("runs")));
    let made: Vec<_> = made.collect();
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn everything_works_after_an_error() {
    let engine = Engine::host().expect("an engine");
    let kernel = compile(&engine, &attention());
    let inputs = inputs(&mut Rng::new(16), kernel.interface(), LENGTHS);
    let before = bits(&call(&kernel, &inputs, LENGTHS).expect("runs"));

    let mut missing = inputs.clone();
    missing.remove("k");
    call(&kernel, &missing, LENGTHS).expect_err("an input is missing");
    let clash = Lengths { queries: 3, ..LENGTHS };
    call(&kernel, &inputs, clash).expect_err("sizes clash");
    let weights = "graph weights\naxis q = ?\naxis k = ?\n%s = input \"s\" : f32[q, k]\n%p = softmax %s over k\n\
                   output \"p\" = %p : f32[q, k]\n";
    engine.compile(&Graph::parse(weights).expect("a graph")).expect_err("no attention");
    Engine::builder().lanes(3).build().expect_err("no such lanes");

    assert!(bits(&call(&kernel, &inputs, LENGTHS).expect("runs")) == before);
    assert!(
        bits(
            &call(&engine.compile(&attention().build().expect("a graph")).expect("compiles"), &inputs, LENGTHS)
                .expect("runs")
        ) == before
    );
}
