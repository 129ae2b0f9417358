//! What is compared, and the losses that a PyTorch model gave.

use std::f64::consts::PI;

use rhumb::prelude::*;

/// The length both models were trained on.
const TRAINED: usize = 256;
const HEADS: u32 = 4;
const DIM: u32 = 32;
const BASE: f64 = 10_000.0;

/// A position scheme on trained weights.
pub(crate) struct Scheme {
    pub(crate) name: &'static str,
    /// For a chart's title.
    pub(crate) short: &'static str,
    /// Whether it runs the model trained with ALiBi.
    pub(crate) alibi: bool,
    /// The attention at a context.
    pub(crate) attention: fn(usize) -> Attention,
    /// Nats per byte at each context, from `examples/data/README.md`.
    pub(crate) reference: [f64; 5],
}

pub(crate) const SCHEMES: [Scheme; 6] = [
    Scheme {
        name: "RoPE",
        short: "RoPE",
        alibi: false,
        attention: |_| causal(Rope::new()),
        reference: [1.2179, 1.5454, 2.0140, 2.4159, 2.7797],
    },
    Scheme {
        name: "RoPE, positions times 256/T",
        short: "RoPE, linear",
        alibi: false,
        attention: |context| causal(Rope::new().factor(stretch(context))),
        reference: [1.2179, 3.1994, 4.0293, 4.1548, 4.1843],
    },
    Scheme {
        name: "RoPE, base 10000 (T/256)^(32/30)",
        short: "RoPE, NTK-aware",
        alibi: false,
        attention: |context| causal(Rope::new().ntk(stretch(context))),
        reference: [1.2179, 1.2555, 1.5213, 1.9977, 2.3247],
    },
    Scheme {
        name: "RoPE, YaRN",
        short: "RoPE, YaRN",
        alibi: false,
        attention: yarn,
        reference: [1.2179, 1.2311, 1.3470, 1.3766, 1.6163],
    },
    Scheme {
        name: "ALiBi",
        short: "ALiBi",
        alibi: true,
        attention: |_| causal(Alibi::new()),
        reference: [1.2274, 1.2181, 1.2136, 1.2114, 1.2103],
    },
    Scheme {
        name: "ALiBi, slopes times 256/T",
        short: "ALiBi, dynamic slopes",
        alibi: true,
        attention: |_| causal(DynamicAlibi::new(TRAINED as i32)),
        reference: [1.2274, 2.0271, 3.0340, 3.3976, 3.5596],
    },
];

fn causal(scheme: impl PositionScheme + 'static) -> Attention {
    Attention::new(HEADS, DIM).scheme(scheme).scheme(Causal)
}

/// How many times the trained length a context is.
fn stretch(context: usize) -> f64 {
    context as f64 / TRAINED as f64
}

/// YaRN (arXiv 2309.00071) as its code has it: slow pairs turn slower, fast ones as before, and scores are a little sharper.
fn yarn(context: usize) -> Attention {
    let (s, dim) = (stretch(context), f64::from(DIM));
    // The pair that turns `n` times within the trained length.
    let pair = |n: f64| dim * (TRAINED as f64 / (n * 2.0 * PI)).ln() / (2.0 * BASE.ln());
    let (low, high) = (pair(32.0).floor().max(0.0), pair(1.0).ceil().min(dim - 1.0));
    let theta = |j: f64| {
        let (theta, slow) = (BASE.powf(-2.0 * j / dim), ((j - low) / (high - low)).clamp(0.0, 1.0));
        theta * (1.0 - slow) + theta / s * slow
    };
    let frequencies: Vec<f64> = (0..DIM / 2).map(|j| theta(f64::from(j))).collect();
    // On the query and on the key, so squared in the score.
    let sharper = (0.1 * s.ln() + 1.0).powi(2);
    causal(Rope::new().frequencies(frequencies)).scale(sharper / dim.sqrt())
}
