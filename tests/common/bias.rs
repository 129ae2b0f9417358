//! Attentions with a bias of index, compiled for prefill and held to the interpreter.

use std::fmt::Display;

use rhumb::compiler::Kernels;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use super::{Lengths, Rng, agree, inputs, targets};

/// What is added to the score.
pub(crate) type Bias = for<'g> fn(&AttentionParts<'g>) -> Expr<'g>;

/// A smooth number for each head.
pub(crate) fn rates<'g>(cx: &AttentionParts<'g>, scale: f64) -> Expr<'g> {
    let heads = cx.heads().expect("heads");
    cx.builder().table([cx.h], (0..heads).map(|head| scale / f64::from(head + 1)).collect::<Vec<_>>())
}

/// The attention of four heads on some key/value heads.
pub(crate) fn biased(bias: Bias, kv_heads: u32, causal: bool) -> Verified {
    let attention = Attention::heads(4).head_dim(16).kv_heads(kv_heads).score_with(move |cx, score| score + bias(cx));
    let attention = if causal { attention.scheme(Causal) } else { attention };
    attention.build().expect("a graph")
}

/// Holds attentions with each bias, of as many key/value heads as may be and causal or not, by [`hold_prefill`]: each on a third of the
/// targets, which are many. `found` gets the name of a bias, what is expected of it, and its kernel.
pub(crate) fn hold_each<T>(
    biases: &[(&'static str, T, Bias)],
    lengths: &[(usize, usize)],
    found: impl Fn(&str, &T, &Kernel),
) {
    for (number, (name, expected, bias)) in biases.iter().enumerate() {
        for (which, target) in targets().iter().enumerate().filter(|(which, _)| (number + which) % 3 == 0) {
            let kv_heads = [1, 2, 4][(number + which) % 3];
            let graph = biased(*bias, kv_heads, (number + which) % 2 == 0);
            let what = format!("{name}, {kv_heads} key/value heads");
            hold_prefill((&graph, target), (number as u64, lengths), what, |kernel| found(name, expected, kernel));
        }
    }
}

/// As [`hold`], compiled for prefill.
pub(crate) fn hold_prefill(
    of: (&Verified, &Target),
    calls: (u64, &[(usize, usize)]),
    what: impl Display,
    found: impl Fn(&Kernel),
) {
    hold(Kernels::Prefill, of, calls, what, found);
}

/// Compiles these kernels, checks what was found of the graph, and holds calls of these queries and keys to the interpreter.
pub(crate) fn hold(
    kernels: Kernels,
    (graph, target): (&Verified, &Target),
    (seed, lengths): (u64, &[(usize, usize)]),
    what: impl Display,
    found: impl Fn(&Kernel),
) {
    let engine = Engine::builder().target(target.clone()).kernels(kernels).build().expect("an engine");
    let kernel = engine.compile(graph).unwrap_or_else(|error| panic!("{what}: {error}"));
    let reference = engine.reference(graph).expect("a reference");
    found(&kernel);
    let rng = &mut Rng::new(seed);
    for &(queries, keys) in lengths {
        let lengths = Lengths { batch: 2, queries, keys };
        let inputs = inputs(rng, kernel.interface(), lengths);
        agree((&kernel, &reference), &inputs, lengths, format!("{what}, {target}"));
    }
}
