//! Long caches, whose keys are cut into chunks that threads take, and partial results that are merged.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::merge_partials;

use rhumb::prelude::*;
use rhumb::runtime::Partial;

/// Attentions that differ in what chunks have to tell one another.
fn attentions() -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(24).lse();
    vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("a window", of().scheme(SlidingWindow::new(700))),
        ("rotations", of().scheme(Rope::new()).scheme(Causal)),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("symmetric ALiBi", of().scheme(Alibi::new().symmetric())),
        ("softcap and sinks", of().softcap(2.0).sinks().scheme(Causal)),
        ("a bias", of().bias(Batch::Shared)),
        ("documents", of().documents(Batch::Each)),
        ("lengths", of().key_lengths()),
        ("a term of keys", of().score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.b, cx.k]))),
        ("norms", of().scheme(QkNorm::rms())),
        ("retention", Attention::heads(4).head_dim(16).scheme(Retention::new()).weights_with(|_, score| score)),
        ("sigmoid", Attention::heads(4).head_dim(16).kv_heads(1).weights_with(|_, score| score.sigmoid())),
    ]
}

/// Whole chunks, one key more, and tiles of several rows; the last with more rows than a tile has.
const LENGTHS: [(usize, usize); 6] = [(1, 1023), (1, 1024), (2, 1025), (1, 3000), (5, 2100), (30, 1100)];

fn engine(target: &Target, threads: usize) -> Engine {
    let builder = Engine::builder().target(target.clone()).threads(threads);
    builder.kernels(Kernels::Decode).build().expect("an engine")
}

fn made(kernel: &Kernel, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), inputs, &mut made).expect("runs");
    made
}

#[test]
fn chunks_are_joined_at_every_target() {
    for (which, target) in targets().iter().enumerate() {
        let engine = engine(target, 1);
        let some = attentions().into_iter().enumerate().filter(|(n, _)| which == 0 || n % 4 == which % 4);
        for (n, (name, attention)) in some {
            let graph = attention.build().expect("a graph");
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
            kernel.decode().unwrap_or_else(|reason| panic!("{name}: {reason}"));
            for (seed, (queries, keys)) in LENGTHS.into_iter().enumerate() {
                let lengths = Lengths { batch: 1, queries, keys };
                let inputs = inputs(&mut Rng::new((n * 100 + seed) as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format_args!("{name}, {queries} x {keys}"));
            }
        }
    }
}

/// Chunks are the same, and joined in the same order, whatever threads take them.
#[test]
fn threads_change_no_bit_of_joined_chunks() {
    let target = &targets()[0];
    let engines: Vec<Engine> = [1, 2, 3, 7].map(|threads| engine(target, threads)).into();
    for (name, attention) in attentions() {
        let graph = attention.build().expect("a graph");
        let kernels: Vec<_> = engines.iter().map(|engine| engine.compile(&graph).expect("compiles")).collect();
        for (queries, keys) in [(1, 5000), (3, 2049), (26, 1500)] {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(7), kernels[0].interface(), lengths);
            let expected = bits(&made(&kernels[0], &inputs, lengths));
            for kernel in &kernels[1..] {
                for _ in 0..3 {
                    assert!(bits(&made(kernel, &inputs, lengths)) == expected, "{name}, {queries} x {keys}");
                }
            }
        }
    }
}

/// What a window hides changes no bit, in whichever chunk it lies; rows that see nothing are 0.
#[test]
fn hidden_keys_of_other_chunks_change_no_bit() {
    let kernel = {
        let attention = Attention::heads(2).head_dim(16).lse().scheme(SlidingWindow::new(300)).scheme(Alibi::new());
        engine(&targets()[0], 2).compile(&attention.build().expect("a graph")).expect("compiles")
    };
    let lengths = Lengths { batch: 1, queries: 2, keys: 2500 };
    let clean = inputs(&mut Rng::new(3), kernel.interface(), lengths);
    let mut garbage = clean.clone();
    for (name, x) in [("k", f64::NAN), ("v", f64::INFINITY)] {
        let tensor = garbage.get_mut(name).expect("an input");
        for head in 0..2 {
            for key in 0..2500 - 301 {
                (0..16).for_each(|element| _ = tensor.view_mut().set(&[0, head, key, element], x));
            }
        }
    }
    let expected = made(&kernel, &clean, lengths);
    assert!(bits(&expected) == bits(&made(&kernel, &garbage, lengths)));
    assert!(expected["out"].values().iter().all(|x| x.is_finite()));

    let attention = Attention::heads(2).head_dim(16).lse().key_lengths().build().expect("a graph");
    let kernel = engine(&targets()[0], 2).compile(&attention).expect("compiles");
    let lengths = Lengths { batch: 2, queries: 1, keys: 2500 };
    let mut none = inputs(&mut Rng::new(3), kernel.interface(), lengths);
    none.insert("key_lengths".to_owned(), Tensor::i32([2], vec![0, 2500]));
    let made = made(&kernel, &none, lengths);
    let (out, lse) = (made["out"].values(), made["lse"].values());
    assert!(out[..32].iter().all(|x| *x == 0.0) && lse[..2].iter().all(|x| *x == f32::NEG_INFINITY));
    assert!(out[32..].iter().all(|x| *x != 0.0) && lse[2..].iter().all(|x| x.is_finite()));
}

/// A NaN, and a score without bound, in one chunk come through as they do from a single one.
#[test]
fn what_is_not_finite_comes_through() {
    let engine = engine(&targets()[0], 2);
    let graph = Attention::heads(1).head_dim(16).lse().build().expect("a graph");
    let (kernel, reference) =
        (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
    let lengths = Lengths { batch: 1, queries: 1, keys: 3000 };
    for (name, x) in [("v", f64::NAN), ("v", f64::INFINITY), ("k", f64::NAN), ("k", 1e38), ("k", -1e38)] {
        for key in [5, 1500, 2999] {
            let mut inputs = inputs(&mut Rng::new(11), kernel.interface(), lengths);
            let set = inputs.get_mut(name).expect("an input").view_mut().set(&[0, 0, key, 3], x);
            assert!(set, "an element of `{name}`");
            agree((&kernel, &reference), &inputs, lengths, format_args!("{x} in `{name}` at {key}"));
        }
    }
}

/// Attentions over parts of the keys, however they are cut, merge to that over all.
#[test]
fn partial_results_merge_to_the_whole() {
    let engine = engine(&targets()[0], 1);
    for attention in [
        Attention::heads(4).head_dim(16).kv_heads(2).value_dim(24),
        Attention::heads(2).head_dim(8).scheme(Alibi::new()),
    ] {
        let graph = attention.lse().k_positions(Elem::I32, Batch::Shared).q_positions(Elem::I32, Batch::Shared);
        let kernel = engine.compile(&graph.build().expect("a graph")).expect("compiles");
        let lengths = Lengths { batch: 2, queries: 3, keys: 200 };
        let all = inputs(&mut Rng::new(5), kernel.interface(), lengths);
        let whole = made(&kernel, &all, lengths);
        for cuts in [&[0, 200][..], &[0, 1, 200], &[0, 77, 77, 130, 200]] {
            let parts: Vec<Tensors> = cuts
                .windows(2)
                .map(|cut| {
                    let mut outputs = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                    let mut call = kernel.call();
                    for (name, tensor) in &all {
                        let dim = match name.as_str() {
                            "k" | "v" => 2,
                            "k_pos" => 0,
                            _ => usize::MAX,
                        };
                        let view = tensor.view();
                        let part = if dim == usize::MAX { Ok(view) } else { view.narrow(dim, cut[0], cut[1] - cut[0]) };
                        call = call.input(name, part.expect("a part"));
                    }
                    for (name, tensor) in &mut outputs {
                        call = call.output(name, tensor.view_mut());
                    }
                    call.run().expect("runs");
                    outputs
                })
                .collect();
            let partials: Vec<Partial<'_>> =
                parts.iter().map(|part| Partial { out: part["out"].view(), lse: part["lse"].view() }).collect();
            let mut merged = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            let mut lse = merged.remove("lse").expect("an output");
            let out = merged.get_mut("out").expect("an output");
            merge_partials(&partials, out.view_mut(), Some(lse.view_mut())).expect("merges");
            for (name, made) in [("out", &*out), ("lse", &lse)] {
                for (made, expected) in made.values().iter().zip(whole[name].values()) {
                    assert!((made - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{name}: {made}, {expected}");
                }
            }
        }
    }
}
