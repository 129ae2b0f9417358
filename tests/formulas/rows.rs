//! What becomes of queries and keys, beside plain rotations, against formulas written out; and scores of other products.

use std::f64::consts::TAU;

use super::learned_tensors::{input, wave, waves};
use rhumb::ir::{Elem, Pairing, Tensor};
use rhumb::plugins::{
    AxialRope, Cope, Dape, LearnedPositions, Pope, QkNorm, Registry, Retention, Sinusoidal, Temperature, XPos,
};
use rhumb::testing::{Point, SchemeTest, Shape, TestFailure};

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A pair of elements turned by an angle.
fn turned([a, b]: [f64; 2], angle: f64) -> [f64; 2] {
    let (sin, cos) = angle.sin_cos();
    [a * cos - b * sin, b * cos + a * sin]
}

#[test]
fn rotations_with_decay() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (pairing, center) in [(Pairing::Interleaved, 0.0), (Pairing::Half, 11.5)] {
        SchemeTest::new(&registry, || XPos::new().pairing(pairing).center(center).scale_base(64.0))
            .agrees_with(|p| {
                let n = p.q.len() / 2;
                let pair = |c: usize| if pairing == Pairing::Half { (c, c + n) } else { (2 * c, 2 * c + 1) };
                let of_pair = |c: usize| {
                    let (theta, zeta) = (1e4f64.powf(-(c as f64) / n as f64), (c as f64 / n as f64 + 0.4) / 1.4);
                    let (a, b) = pair(c);
                    let q = turned([p.q[a], p.q[b]], p.q_pos * theta);
                    let k = turned([p.k[a], p.k[b]], p.k_pos * theta);
                    // The centre cancels.
                    dot(&q, &k) * zeta.powf((p.q_pos - p.k_pos) / 64.0)
                };
                p.scale * (0..n).map(of_pair).sum::<f64>()
            })
            .shift_invariant()
            .run()?;
    }
    Ok(())
}

#[test]
fn polar_coordinates() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let softplus = |x: f64| x.exp().ln_1p();
    let polar = move |p: &Point<'_>, phase: &dyn Fn(usize) -> f64, scale: f64| {
        let of_element = |c: usize| {
            let theta = 1e4f64.powf(-(c as f64) / p.q.len() as f64);
            softplus(p.q[c]) * softplus(p.k[c]) * ((p.k_pos - p.q_pos) * theta + phase(c)).cos()
        };
        scale * (0..p.q.len()).map(of_element).sum::<f64>()
    };
    SchemeTest::with_inputs(&registry, |cx| Pope::new(cx.query(), cx.key()))
        .agrees_with(|p| polar(p, &|_| 0.0, p.scale))
        .shift_invariant()
        .run()?;
    SchemeTest::with_inputs(&registry, |cx| {
        // Beyond both ends of what is kept.
        Pope::new(cx.query(), cx.key()).phases(input(cx, "phases", &[cx.h, cx.d]) * 10.0).scale(0.5)
    })
    .input("phases", |shape| waves([shape.heads as usize, shape.head_dim as usize]))
    .agrees_with(|p| {
        let phase = |c: usize| (10.0 * wave(p.head as usize * p.q.len() + c)).clamp(-TAU, 0.0);
        polar(p, &phase, 0.5)
    })
    .run()
}

#[test]
fn retention() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || Retention::new().unnormalised())
        .agrees_with(|p| {
            let n = p.q.len() / 2;
            let angle = |c: usize| 1e4f64.powf(-(c as f64) / (n as f64 - 1.0).max(1.0));
            let turned = p.rotated((0..n).map(|c| (2 * c, 2 * c + 1, p.q_pos * angle(c), p.k_pos * angle(c))));
            let gamma = 1.0 - 2f64.powi(-5 - p.head as i32);
            if p.k_index > p.q_index {
                return 0.0;
            }
            let decays: f64 = (0..=p.q_index).map(|m| gamma.powi((p.q_index - m) as i32)).sum();
            turned * gamma.powi((p.q_index - p.k_index) as i32) / decays.sqrt()
        })
        .run()
}

/// Shapes of 24 and 26 elements.
const WIDE: [Shape; 2] = [
    Shape { heads: 4, kv_heads: 2, head_dim: 24, queries: 5, keys: 29 },
    Shape { heads: 1, kv_heads: 1, head_dim: 26, queries: 30, keys: 30 },
];

/// The score with blocks of elements turned by the coordinates of their axes.
fn axial(p: &Point<'_>, dims: [usize; 3], pairing: Pairing, q: [f64; 3], k: [f64; 3]) -> f64 {
    let mut pairs = Vec::new();
    let mut start = 0;
    for (a, d) in dims.into_iter().enumerate() {
        for j in 0..d / 2 {
            let theta = 100f64.powf(-2.0 * j as f64 / d as f64);
            let (first, second) = if pairing == Pairing::Half { (j, j + d / 2) } else { (2 * j, 2 * j + 1) };
            pairs.push((start + first, start + second, q[a] * theta, k[a] * theta));
        }
        start += d;
    }
    p.rotated(pairs)
}

#[test]
fn several_axes() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    // Two tokens of text, then 2 frames of 3 by 4 patches, then more tokens.
    let at = |index: i64| {
        let patch = index - 2;
        let inside = (0..24).contains(&patch);
        [patch / 12, patch / 4 % 3, patch % 4].map(|x| if inside { x as f64 } else { 0.0 })
    };
    for pairing in [Pairing::Interleaved, Pairing::Half] {
        SchemeTest::new(&registry, || AxialRope::grid([2, 3, 4], [8, 6, 10]).base(100.0).pairing(pairing).prefix(2))
            .shapes(&WIDE)
            .agrees_with(|p| axial(p, [8, 6, 10], pairing, at(p.q_index), at(p.k_index)))
            .run()?;
        SchemeTest::with_inputs(&registry, |cx| {
            let coordinate = cx.builder().axis_of("coordinate", 3);
            let (q, k) = (input(cx, "q_at", &[cx.q, coordinate]), input(cx, "k_at", &[cx.k, coordinate]));
            AxialRope::at(q * 30.0, k * 30.0, [4, 4, 12]).base(100.0).pairing(pairing)
        })
        .shapes(&WIDE)
        .input("q_at", |shape| waves([shape.queries, 3]))
        .input("k_at", |shape| waves([shape.keys, 3]))
        .agrees_with(|p| {
            let of = |token: usize| [0, 1, 2].map(|a| 30.0 * wave(3 * token + a));
            axial(p, [4, 4, 12], pairing, of(p.query), of(p.key))
        })
        .run()?;
    }
    let scaled = |index: i64| {
        if index < 24 { [at(index + 2)[0], at(index + 2)[1] * 2.0, at(index + 2)[2] * 0.25] } else { [0.0; 3] }
    };
    SchemeTest::new(&registry, || AxialRope::grid([2, 3, 4], [8, 6, 10]).base(100.0).reference([2.0, 6.0, 1.0]))
        .shapes(&WIDE)
        .agrees_with(|p| axial(p, [8, 6, 10], Pairing::Interleaved, scaled(p.q_index), scaled(p.k_index)))
        .run()
}

#[test]
fn angles_that_repeat() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let turn = |x: &[f64], at: [f64; 2]| {
        let angle = |c: usize| at[c / 10] * 1e4f64.powf(-((c % 10 % 5) as f64) / 5.0);
        let of_element = |c: usize| match c {
            c if c >= 20 => x[c],
            c if c % 2 == 0 => x[c] * angle(c).cos() - x[c + 1] * angle(c).sin(),
            c => x[c] * angle(c).cos() + x[c - 1] * angle(c).sin(),
        };
        (0..x.len()).map(of_element).collect::<Vec<f64>>()
    };
    let at = |index: i64| if (0..28).contains(&index) { [(index / 4) as f64, (index % 4) as f64] } else { [0.0; 2] };
    SchemeTest::new(&registry, || AxialRope::grid([7, 4], [10, 10]).tiled())
        .shapes(&WIDE)
        .agrees_with(|p| p.scale * dot(&turn(p.q, at(p.q_index)), &turn(p.k, at(p.k_index))))
        .run()
}

#[test]
fn sines_and_cosines_added() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for half in [false, true] {
        let make = move || if half { Sinusoidal::new().half() } else { Sinusoidal::new().scale(0.5) };
        SchemeTest::new(&registry, make)
            .agrees_with(move |p| {
                let n = p.q.len() / 2;
                let added = |x: &[f64], position: f64| {
                    let of_element = |c: usize| {
                        let (pair, cosine) = if half { (c % n, c >= n) } else { (c / 2, c % 2 == 1) };
                        let angle = position * 1e4f64.powf(-(pair as f64) / n as f64);
                        let wave = if cosine { angle.cos() } else { angle.sin() };
                        x[c] + if half { wave } else { 0.5 * wave }
                    };
                    (0..x.len()).map(of_element).collect::<Vec<f64>>()
                };
                p.scale * dot(&added(p.q, p.q_pos), &added(p.k, p.k_pos))
            })
            .run()?;
    }
    Ok(())
}

#[test]
fn learned_vectors_added() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let position = cx.builder().axis_of("position", 20);
        let [q, k] = ["q_table", "k_table"].map(|name| input(cx, name, &[position, cx.d]));
        LearnedPositions::new(q, k * -2.0)
    })
    .input("q_table", |shape| waves([20, shape.head_dim as usize]))
    .input("k_table", |shape| waves([20, shape.head_dim as usize]))
    .agrees_with(|p| {
        let row = |position: f64| position.clamp(0.0, 19.0) as usize * p.q.len();
        let added = |x: &[f64], position: f64, factor: f64| -> Vec<f64> {
            x.iter().enumerate().map(|(c, x)| x + factor * wave(row(position) + c)).collect()
        };
        p.scale * dot(&added(p.q, p.q_pos, 1.0), &added(p.k, p.k_pos, -2.0))
    })
    .run()
}

#[test]
fn norms() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let length = |x: &[f64]| dot(x, x).sqrt();
    SchemeTest::with_inputs(&registry, |cx| QkNorm::l2().logit_scale(input(cx, "s", &[cx.h]) * 6.0))
        .input("s", |shape| waves([shape.heads as usize]))
        .agrees_with(|p| {
            let factor = (6.0 * wave(p.head as usize)).min(100f64.ln()).exp();
            p.score() * factor / length(p.q) / length(p.k)
        })
        .shift_invariant()
        .run()?;
    let mean = |x: &[f64]| (dot(x, x) / x.len() as f64 + 1e-3).sqrt();
    for unit_offset in [false, true] {
        SchemeTest::with_inputs(&registry, |cx| {
            let weights = (input(cx, "qw", &[cx.d]), input(cx, "kw", &[cx.d]));
            let norm = QkNorm::rms().eps(1e-3).weights(weights.0, weights.1);
            if unit_offset { norm.unit_offset() } else { norm }
        })
        .input("qw", |shape| waves([shape.head_dim as usize]))
        .input("kw", |shape| waves([shape.head_dim as usize]))
        .agrees_with(|p| {
            let weight = |c: usize| wave(c) + if unit_offset { 1.0 } else { 0.0 };
            let normed = |x: &[f64]| x.iter().enumerate().map(|(c, y)| y * weight(c) / mean(x)).collect::<Vec<f64>>();
            p.scale * dot(&normed(p.q), &normed(p.k))
        })
        .run()?;
    }
    SchemeTest::new(&registry, QkNorm::rms)
        .agrees_with(|p| {
            let mean = |x: &[f64]| (dot(x, x) / x.len() as f64 + 1e-6).sqrt();
            p.score() / mean(p.q) / mean(p.k)
        })
        .run()
}

#[test]
fn temperatures() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let grown = |p: &Point<'_>, shift: f64, rate: f64| {
        // Positions below 0, as one of the sequences has, count as 0.
        let steps = ((p.q_pos + shift) / 8.0).floor().max(0.0);
        p.score() * (1.0 + rate * (1.0 + steps).ln())
    };
    SchemeTest::new(&registry, || Temperature::new(8)).agrees_with(|p| grown(p, 0.0, 0.1)).run()?;
    SchemeTest::new(&registry, || Temperature::llama4(8).rate(0.5)).agrees_with(|p| grown(p, 1.0, 0.5)).run()
}

/// One head, whose query is all that the networks of heads read.
const SINGLE: [Shape; 2] = [
    Shape { heads: 1, kv_heads: 1, head_dim: 8, queries: 4, keys: 9 },
    Shape { heads: 1, kv_heads: 1, head_dim: 5, queries: 7, keys: 7 },
];

#[test]
fn gates_that_count_keys() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let (second, third) = (cx.builder().axis("second"), cx.builder().axis("third"));
        let tokens = cx.input("tokens", Elem::I32, [third]);
        let embeddings = input(cx, "embeddings", &[cx.builder().axis_of("position", 4), cx.d]);
        Cope::new(cx.query(), input(cx, "keys", &[second, cx.d]), tokens, embeddings).scale(0.75)
    })
    .input("keys", |shape| waves([shape.keys, shape.head_dim as usize]))
    .input("tokens", |shape| Tensor::i32([shape.keys], (0..shape.keys as i32).collect::<Vec<_>>()))
    .input("embeddings", |shape| waves([4, shape.head_dim as usize]))
    .agrees_with(|p| {
        let row = |row: usize| (0..p.q.len()).map(|c| p.q[c] * wave(row * p.q.len() + c)).sum::<f64>();
        let gate = |t: i64| 1.0 / (1.0 + (-0.75 * row(t as usize)).exp());
        let position = (p.k_index..=p.q_index.min(p.length - 1)).map(gate).sum::<f64>().min(3.0);
        let (below, above) = (row(position.floor() as usize), row(position.ceil() as usize));
        p.score() + below + (position - position.floor()) * (above - below)
    })
    .run()
}

#[test]
fn a_network_over_heads() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let (token, unit) = (cx.builder().axis("token"), cx.builder().axis_of("unit", 6));
        let w1 = input(cx, "w1", &[unit, cx.builder().axis_of("of_heads", 2)]);
        let (b1, b2) = (input(cx, "b1", &[unit]), input(cx, "b2", &[cx.h]));
        let learned = [w1, b1, input(cx, "w2", &[cx.h, unit]), b2];
        Dape::new(cx.query(), input(cx, "keys", &[token, cx.d]), learned).scale(0.75)
    })
    .shapes(&SINGLE)
    .input("keys", |shape| waves([shape.keys, shape.head_dim as usize]))
    .input("w1", |_| waves([6, 2]))
    .input("b1", |_| waves([6]))
    .input("w2", |_| waves([1, 6]))
    .input("b2", |_| waves([1]))
    .agrees_with(|p| {
        let row = p.key * p.q.len();
        let score = 0.75 * (0..p.q.len()).map(|c| p.q[c] * wave(row + c)).sum::<f64>();
        let alibi = (p.k_index - p.q_index) as f64 / 256.0;
        let hidden = |u: usize| {
            let x = wave(2 * u) * score + wave(2 * u + 1) * alibi + wave(u);
            if x < 0.0 { 0.01 * x } else { x }
        };
        p.score() + alibi + (0..6).map(|u| wave(u) * hidden(u)).sum::<f64>() + wave(0)
    })
    .run()
}
