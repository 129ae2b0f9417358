//! Scalings of RoPE against their formulas, as papers and the code of models state them.

use std::f64::consts::PI;

use rhumb::ir::{Elem, Tensor};
use rhumb::plugins::{DynamicNtk, Llama3Rope, LongRope, ProportionalRope, Registry, Yarn};
use rhumb::testing::{Point, SchemeTest, TestFailure};

/// The score where the pairs of a block of `2n` elements from `start` turn by `theta(j)` radians per position, and grow by `factor`.
fn rotated(p: &Point<'_>, (start, n, factor): (usize, usize, f64), theta: impl Fn(usize) -> f64) -> f64 {
    let grown = |row: &[f64]| -> Vec<f64> {
        let turns = start..start + 2 * n;
        row.iter().enumerate().map(|(i, x)| if turns.contains(&i) { factor * x } else { *x }).collect()
    };
    let (q, k) = (grown(p.q), grown(p.k));
    let pairs = (0..n).map(|j| (start + j, start + j + n, p.q_pos * theta(j), p.k_pos * theta(j)));
    Point { q: &q, k: &k, ..*p }.rotated(pairs)
}

fn power(base: f64, dim: usize, j: usize) -> f64 {
    base.powf(-2.0 * j as f64 / dim as f64)
}

#[test]
fn llama3() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    // At a base of 100 and 64 tokens pairs are kept, between and slowed down.
    SchemeTest::new(&registry, || Llama3Rope::new().base(100.0).factor(4.0).turns(1.0, 4.0).train_length(64))
        .agrees_with(|p| {
            let dim = p.q.len();
            rotated(p, (0, dim / 2, 1.0), |j| {
                let theta = power(100.0, dim, j);
                let wavelength = 2.0 * PI / theta;
                match wavelength {
                    w if w < 64.0 / 4.0 => theta,
                    w if w > 64.0 / 1.0 => theta / 4.0,
                    w => {
                        let smooth = (64.0 / w - 1.0) / (4.0 - 1.0);
                        (1.0 - smooth) * theta / 4.0 + smooth * theta
                    }
                }
            })
        })
        .shift_invariant()
        .run()
}

/// YaRN's frequencies as its code computes them.
fn yarn(dim: usize, base: f64, length: f64, s: f64, truncate: bool, j: usize) -> f64 {
    let correction = |turns: f64| dim as f64 * (length / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (correction(32.0), correction(1.0));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let ramp = ((j as f64 - low) / (high - low)).clamp(0.0, 1.0);
    power(base, dim, j) / s * ramp + power(base, dim, j) * (1.0 - ramp)
}

#[test]
fn yarn_and_its_factors() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (truncate, length, factor) in [(true, 2048, 4.0), (false, 300, 32.0), (true, 100_000, 1.0)] {
        let made = || {
            let yarn = Yarn::new(factor, length).base(500.0);
            if truncate { yarn } else { yarn.untruncated() }
        };
        let grows = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
        SchemeTest::new(&registry, made)
            .agrees_with(|p| {
                let dim = p.q.len();
                let theta = |j| yarn(dim, 500.0, f64::from(length), factor, truncate, j);
                rotated(p, (0, dim / 2, grows), theta)
            })
            .shift_invariant()
            .run()?;
    }
    // What does not turn does not grow.
    SchemeTest::new(&registry, || Yarn::new(8.0, 512).rotary_dim(4).start(2).attention_factor(1.5))
        .agrees_with(|p| rotated(p, (2, 2, 1.5), |j| yarn(4, 1e4, 512.0, 8.0, true, j)))
        .shift_invariant()
        .run()?;
    let magnitude = |mscale: f64| 0.1 * mscale * 40f64.ln() + 1.0;
    for (mscale, all, factor) in
        [(0.707, 0.707, 1.0), (1.0, 0.5, magnitude(1.0) / magnitude(0.5)), (0.0, 1.0, magnitude(1.0))]
    {
        SchemeTest::new(&registry, || Yarn::new(40.0, 64).mscales(mscale, all).rotary_dim(8))
            .agrees_with(|p| rotated(p, (0, 4, factor), |j| yarn(8, 1e4, 64.0, 40.0, true, j)))
            .run()?;
    }
    Ok(())
}

/// Dynamic NTK's frequencies at a length.
fn dynamic(dim: usize, factor: f64, train: f64, length: f64, j: usize) -> f64 {
    let length = length.max(train);
    let base = 1e4 * (factor * length / train - (factor - 1.0)).powf(dim as f64 / (dim as f64 - 2.0));
    power(base, dim, j)
}

#[test]
fn dynamic_ntk_goes_by_the_length_of_the_call() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    // Some calls are longer than 8 keys, some are not.
    SchemeTest::new(&registry, || DynamicNtk::new(2.0, 8).rotary_dim(8))
        .agrees_with(|p| rotated(p, (0, 4, 1.0), |j| dynamic(8, 2.0, 8.0, p.length as f64, j)))
        .run()?;
    for length in [5, 100] {
        SchemeTest::new(&registry, || DynamicNtk::new(3.0, 8).rotary_dim(6).length(length))
            .agrees_with(|p| rotated(p, (0, 3, 1.0), |j| dynamic(6, 3.0, 8.0, f64::from(length), j)))
            .shift_invariant()
            .run()?;
        SchemeTest::with_inputs(&registry, |cx| {
            DynamicNtk::new(3.0, 8).rotary_dim(6).length(cx.input("tokens", Elem::I32, []))
        })
        .input("tokens", move |_| Tensor::i32([], [length]))
        .agrees_with(|p| rotated(p, (0, 3, 1.0), |j| dynamic(6, 3.0, 8.0, f64::from(length), j)))
        .run()?;
    }
    Ok(())
}

#[test]
fn longrope_switches_by_the_length_of_the_call() -> Result<(), TestFailure> {
    const SHORT: [f64; 3] = [1.0, 1.25, 1.5];
    const LONG: [f64; 3] = [1.0, 3.0, 9.0];
    let registry = Registry::standard();
    let theta = |length: i64, j: usize| power(1e4, 6, j) / if length > 8 { LONG[j] } else { SHORT[j] };
    let grows = (1.0 + 16f64.ln() / 8f64.ln()).sqrt();
    SchemeTest::new(&registry, || LongRope::new(8, SHORT, LONG).rotary_dim(6).factor(16.0))
        .agrees_with(|p| rotated(p, (0, 3, grows), |j| theta(p.length, j)))
        .run()?;
    for length in [8, 9] {
        SchemeTest::new(&registry, || LongRope::new(8, SHORT, LONG).rotary_dim(6).attention_factor(0.5).length(length))
            .agrees_with(|p| rotated(p, (0, 3, 0.5), |j| theta(i64::from(length), j)))
            .shift_invariant()
            .run()?;
        SchemeTest::with_inputs(&registry, |cx| {
            LongRope::new(8, SHORT, LONG).rotary_dim(6).length(cx.input("tokens", Elem::I32, []))
        })
        .input("tokens", move |_| Tensor::i32([], [length]))
        .agrees_with(|p| rotated(p, (0, 3, 1.0), |j| theta(i64::from(length), j)))
        .run()?;
    }
    Ok(())
}

#[test]
fn the_slow_pairs_of_proportional_rope_stay() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for fraction in [0.0, 0.3, 0.5, 1.0] {
        SchemeTest::new(&registry, || ProportionalRope::new(fraction).factor(2.0))
            .agrees_with(|p| {
                let dim = p.q.len();
                let turning = (fraction * dim as f64 / 2.0) as usize;
                rotated(p, (0, dim / 2, 1.0), |j| if j < turning { power(1e4, dim, j) / 2.0 } else { 0.0 })
            })
            .shift_invariant()
            .run()?;
    }
    Ok(())
}
