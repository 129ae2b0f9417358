//! The kernel for few queries, against the interpreter: at every target, for few queries and for many.

mod common;

use common::{Lengths, Rng, agree, inputs, targets};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;

/// Attentions that differ in what scores are made of, of four heads in groups of two.
fn attentions([d, e]: [u32; 2]) -> Vec<(&'static str, Attention)> {
    let of = || Attention::new(4, d).kv_heads(2).value_dim(e).lse();
    let mut all = vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("a window", of().scheme(SlidingWindow::new(9))),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("symmetric ALiBi", of().scheme(Alibi::new().symmetric())),
        ("softcap and sinks", of().softcap(2.0).sinks().scheme(Causal)),
        ("a bias", of().bias(Batch::Shared)),
        ("documents", of().documents(Batch::Each)),
        ("one group", Attention::new(6, d).kv_heads(1).value_dim(e).scheme(Alibi::new())),
        ("no groups", Attention::new(3, d).value_dim(e).lse()),
        ("a term of keys", of().score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.b, cx.k]))),
    ];
    if d.is_multiple_of(2) {
        all.push(("rotations", of().scheme(Rope::new()).scheme(Causal)));
        all.push(("interleaved rotations", of().scheme(Rope::new().interleaved())));
    }
    all
}

const LENGTHS: [(usize, usize); 8] = [(1, 1), (1, 300), (3, 64), (5, 0), (0, 5), (15, 17), (17, 130), (70, 131)];

fn decoding(target: &Target, threads: usize) -> Engine {
    let builder = Engine::builder().target(target.clone()).threads(threads);
    builder.kernels(Kernels::Decode).build().expect("an engine")
}

#[test]
fn rows_are_right_at_every_target() {
    let all = [[16, 16], [24, 40], [1, 3], [100, 20], [64, 128]];
    for (which, target) in targets().iter().enumerate() {
        let engine = decoding(target, 1);
        for (n, dims) in all.into_iter().enumerate() {
            // Each attention at each target with some of the sizes, and with each at some target.
            let some = attentions(dims).into_iter().enumerate().filter(|(number, _)| (number + which + n) % 3 == 0);
            for (_, (name, attention)) in some {
                let graph = attention.build().expect("a graph");
                let (kernel, reference) =
                    (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
                kernel.decode().unwrap_or_else(|reason| panic!("{name}: {reason}"));
                for (seed, (q, k)) in LENGTHS.into_iter().enumerate() {
                    let lengths = Lengths { batch: 2, queries: q, keys: k };
                    let inputs = inputs(&mut Rng::new((n * 100 + seed) as u64), kernel.interface(), lengths);
                    agree((&kernel, &reference), &inputs, lengths, format_args!("{name}, {dims:?}, {q} x {k}"));
                }
            }
        }
    }
}
