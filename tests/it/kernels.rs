//! Kernels in the hands of a program: heads that share keys, many threads, and use after errors.

use std::thread;

use crate::common::calls::{attention, bits, call, compile};
use crate::common::{Lengths, Rng, Tensor, Tensors, agree, engine, inputs, targets};
use rhumb::prelude::*;

const LENGTHS: Lengths = Lengths { batch: 1, queries: 40, keys: 53 };

/// Rows that a sum reads in double precision are rows of keys, queries and values too.
#[test]
fn rows_that_sums_read_are_keys_and_values_too() {
    for (name, engine) in &crate::common::engines(1) {
        let norms =
            Attention::heads(2).head_dim(12).scheme(QkNorm::rms()).scheme(QkNorm::rms().eps(0.25)).scheme(Causal);
        let graph = norms.build().expect("a graph");
        let (kernel, reference) =
            (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
        for (queries, keys) in [(1, 40), (20, 37)] {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(4), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, name);
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
        agree((&kernel, &reference), &tensors, lengths, "gathered");
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
