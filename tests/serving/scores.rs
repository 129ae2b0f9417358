//! Scores at their limits: what hides all, what is not finite, positions far away, more rows than a tile has, products and sums by twos.

use rhumb::prelude::*;

use crate::common::inputs::wild_inputs;
use crate::common::seeds::each_seed;
use crate::common::{Lengths, Rng, Spec, inputs, seeds, targets};
use crate::pools::check_in_pages;
use crate::{Asked, Served};

/// A name, heads, and the attention.
fn attentions() -> Vec<(&'static str, usize, Attention)> {
    let of = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(8).lse();
    let positions = |a: Attention| a.q_positions(Elem::I32, Batch::Shared).k_positions(Elem::I32, Batch::Shared);
    let alibi = || of().scheme(Alibi::new());
    vec![
        ("64 heads on one", 64, Attention::heads(64).head_dim(8).kv_heads(1).scheme(Alibi::new()).scheme(Causal).lse()),
        (
            "48 heads on one, rotated",
            48,
            Attention::heads(48).head_dim(8).kv_heads(1).scheme(Rope::new()).scheme(Causal),
        ),
        ("a term of keys", 4, of().score_with(|cx, score| score + cx.input("x_k", Elem::F32, [cx.b, cx.k]))),
        (
            "a term of keys by head",
            4,
            alibi().scheme(Causal).sinks().score_with(|cx, score| score + cx.input("x_k", Elem::F32, [cx.h, cx.k])),
        ),
        ("a term of queries", 4, of().sinks().score_with(|cx, score| score + cx.input("x_q", Elem::F32, [cx.b, cx.q]))),
        ("far positions", 4, positions(alibi())),
        ("far positions, symmetric", 4, positions(of().scheme(Alibi::new().symmetric()).sinks())),
        ("documents", 4, alibi().scheme(Causal).documents(Batch::Each).sinks()),
        ("lengths", 4, alibi().key_lengths().sinks()),
        ("lengths without a sink", 4, alibi().key_lengths()),
        (
            "retention",
            4,
            Attention::heads(4).head_dim(16).kv_heads(1).scheme(Retention::new()).weights_with(|_, score| score),
        ),
        (
            "two products",
            4,
            of().scheme(Causal).score_with(|cx, score| {
                let r = cx.axis("r", 8);
                let turned = cx.input("q_turned", Elem::F32, [cx.b, cx.h, cx.q, r]);
                score + turned.dot(cx.input("k_turned", Elem::F32, [cx.b, cx.k, r]), r)
            }),
        ),
    ]
}

/// Terms that are not finite, lengths that hide all, positions up to a million.
fn ruin(rng: &mut Rng, asked: &mut Asked) {
    let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e30, 200.0];
    let (hides, start) = (rng.one_in(3), rng.pick(&[0, 1_000_000, -1_000_000]));
    let queries = asked.lengths.keys as i64 - asked.lengths.queries as i64;
    for (name, tensor) in &mut asked.tensors {
        match name.as_str() {
            "x_k" | "x_q" if hides => tensor.replace(|_| (!rng.one_in(50)).then_some(f64::NEG_INFINITY)),
            "x_k" | "x_q" => tensor.replace(|_| rng.one_in(400).then(|| rng.pick(&specials))),
            "key_lengths" if hides => tensor.replace(|_| Some(0.0)),
            "k_pos" => tensor.replace(|at| Some((start + at as i64) as f64)),
            "q_pos" => tensor.replace(|at| Some((start + queries + at as i64) as f64)),
            _ => {}
        }
    }
}

fn case(seed: u64, targets: &[Target], wrong: &mut Vec<String>) {
    let rng = &mut Rng::new(seed);
    let (name, heads, attention) = rng.pick(&attentions());
    let graph = attention.build().expect("a graph");
    let (what, lowered) = (name.to_owned(), graph.clone());
    let spec = Spec { graph, lowered, what, heads, elements: 24, small: false };
    let served = Served::new(rng, targets, &spec);
    let interface = served.alone.interface();
    let asked = |rng: &mut Rng| {
        let most = if heads > 8 { 1500 } else { 4000 };
        let keys = if rng.one_in(3) { rng.pick(&[0, 1, 64, 1024, 1025]) } else { rng.below(most) };
        let lengths = Lengths { batch: 1, queries: rng.pick(&[1, 1, 2, 5, 30]), keys };
        let tensors =
            if rng.one_in(2) { inputs(rng, interface, lengths) } else { wild_inputs(rng, interface, lengths, true) };
        let mut asked = Asked { lengths, tensors };
        ruin(rng, &mut asked);
        asked
    };
    let asked: Vec<Asked> = (0..1 + rng.below(3)).map(|_| asked(rng)).collect();
    check_in_pages(rng, &served, &asked, wrong);
}

#[test]
fn scores_at_their_limits_are_the_same_in_pages() {
    let targets = targets();
    let found = each_seed(seeds(8_500_000, 40), |seed, wrong| case(seed, &targets, wrong));
    found.check(("serving", "scores_at_their_limits_are_the_same_in_pages"));
}
