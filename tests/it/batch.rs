//! Calls that run together: bits of calls that run alone, whatever the batch, and what is refused.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensors, engine, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;

fn attentions() -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(8).lse();
    vec![
        ("causal", of().scheme(Causal)),
        ("rotations and ALiBi", of().scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal)),
        ("a window", of().scheme(SlidingWindow::new(100)).scheme(Rope::new())),
        ("ALiBi that prunes", Attention::heads(2).head_dim(16).scheme(Alibi::new()).scheme(Causal)),
        (
            "retention",
            Attention::heads(4).head_dim(16).kv_heads(2).scheme(Retention::new()).weights_with(|_, score| score),
        ),
        ("norms and lengths", of().scheme(QkNorm::rms()).key_lengths()),
        ("positions", of().scheme(Rope::new()).q_positions(Elem::I32, Batch::Each).k_positions(Elem::I32, Batch::Each)),
    ]
}

/// Prompts, one token after long contexts, a few tokens, none, and a context of none.
const LENGTHS: [Lengths; 8] = [
    Lengths { batch: 1, queries: 1, keys: 3000 },
    Lengths { batch: 1, queries: 300, keys: 300 },
    Lengths { batch: 2, queries: 1, keys: 17 },
    Lengths { batch: 1, queries: 5, keys: 1100 },
    Lengths { batch: 1, queries: 0, keys: 9 },
    Lengths { batch: 1, queries: 1, keys: 0 },
    Lengths { batch: 1, queries: 130, keys: 700 },
    Lengths { batch: 1, queries: 1, keys: 1 },
];

/// The outputs of a batch of calls of these lengths.
fn together(operator: &dyn Operator, calls: &[(Lengths, Tensors)]) -> Vec<Tensors> {
    let unwritten = |(lengths, _): &(Lengths, Tensors)| outputs(operator.interface(), *lengths, |_| Layout::Rows);
    let mut made: Vec<Tensors> = calls.iter().map(unwritten).collect();
    let mut batch = operator.batch();
    for ((_, inputs), outputs) in calls.iter().zip(&mut made) {
        let call = batch.add();
        inputs.iter().for_each(|(name, tensor)| _ = call.input(name, tensor.view()));
        outputs.iter_mut().for_each(|(name, tensor)| _ = call.output(name, tensor.view_mut()));
    }
    assert_eq!((batch.len(), batch.is_empty()), (calls.len(), calls.is_empty()));
    batch.run().expect("runs");
    made
}

#[test]
fn a_batch_changes_no_bit() {
    for target in [&targets()[0], targets().last().expect("a target")] {
        for threads in [1, 2, 5] {
            let engine = engine(target, threads);
            for (name, attention) in attentions() {
                let kernel = engine.compile(&attention.build().expect("a graph")).expect("compiles");
                let mut rng = Rng::new(threads as u64);
                let random = |lengths| (lengths, inputs(&mut rng, kernel.interface(), lengths));
                let calls: Vec<_> = LENGTHS.map(random).into();
                let alone: Vec<_> = calls
                    .iter()
                    .map(|(lengths, inputs)| {
                        let mut made = outputs(kernel.interface(), *lengths, |_| Layout::Rows);
                        run(kernel.call(), inputs, &mut made).expect("runs");
                        bits(&made)
                    })
                    .collect();
                for (from, to) in [(0, 8), (0, 8), (2, 5), (7, 8), (3, 3)] {
                    let made = together(&*kernel, &calls[from..to]);
                    for ((made, alone), (lengths, _)) in made.iter().zip(&alone[from..to]).zip(&calls[from..to]) {
                        assert!(bits(made) == *alone, "{name}, {threads} threads, {lengths:?} of {from} to {to}");
                    }
                }
                // In another order.
                let reversed: Vec<_> = calls.iter().rev().cloned().collect();
                let made = together(&*kernel, &reversed);
                assert!(made.iter().rev().zip(&alone).all(|(made, alone)| bits(made) == *alone), "{name}");
            }
        }
    }
}

/// Where all calls together read more than caches have, rows are asked for in another way, also those of the next task: each call alone reads
/// less.
#[test]
fn what_comes_from_memory_changes_no_bit() {
    let of = || Attention::heads(12).head_dim(128).kv_heads(4).lse();
    let attentions = [
        ("plain", of()),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("a window of rotated keys", of().scheme(Rope::new()).scheme(SlidingWindow::new(900))),
        ("values of other rows", of().value_dim(40)),
    ];
    let calls = [(1, 2500), (2, 2111), (5, 3000), (1, 2600), (9, 2049), (1, 2700)];
    let calls = calls.map(|(queries, keys)| Lengths { batch: 1, queries, keys });
    for (number, (name, attention)) in attentions.into_iter().enumerate() {
        let graph = attention.build().expect("a graph");
        let mut made_of = None;
        for target in targets() {
            for threads in [1, 2] {
                let builder = Engine::builder().target(target.clone()).threads(threads).kernels(Kernels::Decode);
                let kernel = builder.build().expect("an engine").compile(&graph).expect("compiles");
                let calls = made_of.get_or_insert_with(|| {
                    let mut rng = Rng::new(number as u64);
                    calls.map(|lengths| (lengths, inputs(&mut rng, kernel.interface(), lengths)))
                });
                let bytes = |(_, inputs): &(Lengths, Tensors)| {
                    let elements = |name| inputs[name].shape().iter().product::<usize>();
                    4 * (elements("k") + elements("v"))
                };
                let read = calls.iter().map(bytes);
                assert!(read.clone().max() < Some(20 << 20) && read.sum::<usize>() > 32 << 20, "{name}");
                let made = together(&*kernel, &calls[..]);
                for ((lengths, inputs), made) in calls.iter().zip(&made) {
                    let mut alone = outputs(kernel.interface(), *lengths, |_| Layout::Rows);
                    run(kernel.call(), inputs, &mut alone).expect("runs");
                    assert!(bits(made) == bits(&alone), "{name}, {threads} threads, {lengths:?}");
                }
            }
        }
    }
}

#[test]
fn kernels_and_the_reference_take_the_same_batches() {
    let engine = Engine::builder().kernels(Kernels::Decode).build().expect("an engine");
    let graph = attentions()[1].1.build().expect("a graph");
    let (kernel, reference) =
        (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
    let calls = LENGTHS.map(|lengths| (lengths, inputs(&mut Rng::new(4), kernel.interface(), lengths)));
    let (made, expected) = (together(&*kernel, &calls), together(&reference, &calls));
    for ((made, expected), (lengths, inputs)) in made.iter().zip(&expected).zip(&calls) {
        crate::common::hold(&kernel, inputs, made, expected, format_args!("{lengths:?}"));
    }
}

fn view(data: &[f32]) -> TensorView<'_> {
    TensorView::from_slice(data, &[1, 1, 2, 4]).expect("a view")
}

fn view_mut(data: &mut [f32]) -> TensorViewMut<'_> {
    TensorViewMut::from_slice(data, &[1, 1, 2, 4]).expect("a view")
}

/// A mistake in one call is told with its number, and nothing is written by any.
#[test]
fn what_can_not_run_together_is_refused() {
    let graph = Attention::heads(1).head_dim(4).build().expect("a graph");
    let engine = Engine::builder().threads(2).build().expect("an engine");
    let operators: [&dyn Operator; 2] =
        [&*engine.compile(&graph).expect("compiles"), &engine.reference(&graph).expect("a reference")];
    for operator in operators {
        let mut memory = vec![7.0f32; 40];
        let (mut other, x) = ([7.0f32; 8], [0.5f32; 8]);
        let mut batch = operator.batch();
        batch.add().input("q", view(&x)).input("k", view(&x)).input("v", view(&x)).output("out", view_mut(&mut other));
        batch.add().input("q", view(&x)).input("k", view(&x)).output("out", view_mut(&mut memory[..8]));
        let error = batch.run().expect_err("a tensor is missing").to_string();
        assert_eq!(
            error,
            "call 1 of the batch: input `v` is not bound; add `.input(\"v\", ...)` with a tensor f32[b, h = 1, k, e = 4]"
        );
        assert!(other.iter().chain(&memory).all(|x| *x == 7.0), "nothing is written");

        operator.batch().run().expect("an empty batch");
    }
}

/// Parts of a dimension, by cumulative lengths.
#[test]
fn outputs_are_split_by_offsets() {
    let mut data = [0.0f32; 24];
    fn view(data: &mut [f32]) -> TensorViewMut<'_> {
        TensorViewMut::from_slice(data, &[6, 4]).expect("a view")
    }
    let parts = view(&mut data).split(0, &[1, 1, 3, 6]).expect("parts");
    assert_eq!(parts.iter().map(|part| part.shape().to_vec()).collect::<Vec<_>>(), [[0, 4], [2, 4], [3, 4]]);
    for (number, mut part) in parts.into_iter().enumerate() {
        let rows = part.shape()[0];
        (0..rows).for_each(|row| assert!(part.set(&[row, 2], 1.0 + number as f64)));
    }
    let column: Vec<f32> = data.iter().skip(2).step_by(4).copied().collect();
    assert_eq!(column, [0.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
    assert!(view(&mut data).split(1, &[]).expect("no parts").is_empty());
    let refused = |dim, offsets: &[usize]| {
        TensorViewMut::from_slice(&mut [0.0f32; 24], &[6, 4])
            .expect("a view")
            .split(dim, offsets)
            .map(|_| ())
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(
        refused(0, &[0, 4, 3]),
        "offsets [0, 4, 3] do not cut dimension 0, which has 6; give them in ascending order, none past the end"
    );
    assert!(refused(0, &[7]).contains("none past the end"));
    assert_eq!(refused(2, &[0]), "there is no dimension 2 in a view of 2; the first is 0");
    let view = TensorView::from_slice(&data, &[6, 4]).expect("a view");
    let inserted = view.insert_dim(1).expect("a view");
    assert_eq!((inserted.shape(), inserted.get(&[1, 0, 2])), (&[6, 1, 4][..], Some(2.0)));
    assert_eq!(view.insert_dim(2).expect("a view").shape(), [6, 4, 1]);
    assert_eq!(
        view.insert_dim(3).expect_err("no place").to_string(),
        "there is no dimension 3 in a view of 3; the first is 0"
    );
}
