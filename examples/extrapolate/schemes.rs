//! What is compared, and the losses that a PyTorch model gave.

use rhumb::prelude::*;

/// The length both models were trained on.
const TRAINED: i32 = 256;
const HEADS: u32 = 4;
const DIM: u32 = 32;
const BASE: f64 = 10_000.0;
/// How many times the trained length the longest context is.
const LONGEST: f64 = 16.0;

/// A position scheme on trained weights.
pub(crate) struct Scheme {
    pub(crate) name: &'static str,
    /// For a chart's title.
    pub(crate) short: &'static str,
    /// Whether it runs the model trained with ALiBi.
    pub(crate) alibi: bool,
    /// The attention at a context.
    pub(crate) attention: fn(usize) -> Attention,
    /// Nats per byte at each context, from `examples/data/README.md`, where there is a reference.
    pub(crate) reference: [Option<f64>; 5],
}

const PLAIN: f64 = 1.2179;
const NTK: [Option<f64>; 5] = [Some(PLAIN), Some(1.2555), Some(1.5213), Some(1.9977), Some(2.3247)];

pub(crate) const SCHEMES: [Scheme; 10] = [
    Scheme {
        name: "RoPE",
        short: "RoPE",
        alibi: false,
        attention: |_| causal(Rope::new()),
        reference: [Some(PLAIN), Some(1.5454), Some(2.0140), Some(2.4159), Some(2.7797)],
    },
    Scheme {
        name: "RoPE, linear: positions times 256/T",
        short: "RoPE, linear",
        alibi: false,
        attention: |context| causal(Rope::new().factor(stretch(context))),
        reference: [Some(PLAIN), Some(3.1994), Some(4.0293), Some(4.1548), Some(4.1843)],
    },
    Scheme {
        name: "RoPE, NTK-aware: base 10000 (T/256)^(32/30)",
        short: "RoPE, NTK-aware",
        alibi: false,
        attention: |context| causal(Rope::new().ntk(stretch(context))),
        reference: NTK,
    },
    Scheme {
        // The same base, found by the kernel at each call: it is compiled once.
        name: "RoPE, dynamic NTK",
        short: "RoPE, dynamic NTK",
        alibi: false,
        attention: |_| causal(DynamicNtk::new(1.0, TRAINED)),
        reference: NTK,
    },
    Scheme {
        name: "RoPE, YaRN: s = T/256",
        short: "RoPE, YaRN",
        alibi: false,
        attention: |context| causal(Yarn::new(stretch(context), TRAINED)),
        reference: [Some(PLAIN), Some(1.2311), Some(1.3470), Some(1.3766), Some(1.6163)],
    },
    Scheme {
        name: "RoPE, Llama 3.1: s = T/256",
        short: "RoPE, Llama 3.1",
        alibi: false,
        attention: |context| causal(Llama3Rope::new().factor(stretch(context)).train_length(TRAINED)),
        reference: [Some(PLAIN), None, None, None, None],
    },
    Scheme {
        // The factors of NTK-aware scaling for the longest context, in all contexts longer than the trained one.
        name: "RoPE, LongRoPE: NTK's factors for 4096",
        short: "RoPE, LongRoPE",
        alibi: false,
        attention: longrope,
        reference: [Some(PLAIN), None, None, None, NTK[4]],
    },
    Scheme {
        name: "RoPE, proportional: what turns within 256",
        short: "RoPE, proportional",
        alibi: false,
        attention: |_| causal(ProportionalRope::new(turning())),
        reference: [None; 5],
    },
    Scheme {
        name: "ALiBi",
        short: "ALiBi",
        alibi: true,
        attention: |_| causal(Alibi::new()),
        reference: [Some(1.2274), Some(1.2181), Some(1.2136), Some(1.2114), Some(1.2103)],
    },
    Scheme {
        name: "ALiBi, dynamic slopes: times 256/T",
        short: "ALiBi, dynamic slopes",
        alibi: true,
        attention: |_| causal(DynamicAlibi::new(TRAINED)),
        reference: [Some(1.2274), Some(2.0271), Some(3.0340), Some(3.3976), Some(3.5596)],
    },
];

fn causal(scheme: impl PositionScheme + 'static) -> Attention {
    Attention::heads(HEADS).head_dim(DIM).scheme(scheme).scheme(Causal)
}

/// How many times the trained length a context is.
fn stretch(context: usize) -> f64 {
    context as f64 / f64::from(TRAINED)
}

fn longrope(_: usize) -> Attention {
    let dim = f64::from(DIM);
    let short = vec![1.0; DIM as usize / 2];
    let long: Vec<f64> = (0..DIM / 2).map(|j| LONGEST.powf(2.0 * f64::from(j) / (dim - 2.0))).collect();
    causal(LongRope::new(TRAINED, short, long).attention_factor(1.0))
}

/// The share of pairs that turn at least once within the trained length.
fn turning() -> f64 {
    let pairs = DIM / 2;
    let turns = |j: u32| {
        let theta = BASE.powf(-2.0 * f64::from(j) / f64::from(DIM));
        f64::from(TRAINED) * theta >= std::f64::consts::TAU
    };
    f64::from((0..pairs).filter(|j| turns(*j)).count() as u32) / f64::from(pairs)
}

/// What is said of these schemes, and whether it holds of the losses at each context.
pub(crate) fn claims(losses: &[[f64; 5]; SCHEMES.len()]) -> Vec<(&'static str, bool)> {
    let of = |short: &str| {
        let found = SCHEMES.iter().position(|scheme| scheme.short == short);
        found.map_or([f64::NAN; 5], |index| losses[index])
    };
    let (rope, linear, ntk, yarn) = (of("RoPE"), of("RoPE, linear"), of("RoPE, NTK-aware"), of("RoPE, YaRN"));
    let (alibi, slopes) = (of("ALiBi"), of("ALiBi, dynamic slopes"));
    vec![
        ("RoPE breaks past the length it was trained on", rope[1] > rope[0] + 0.1 && rope[4] > rope[0] + 0.5),
        ("NTK-aware scaling holds further, untuned", ntk[1] < rope[1] && ntk[4] < rope[4]),
        ("YaRN holds further than NTK-aware scaling", (1..5).all(|context| yarn[context] < ntk[context])),
        ("Linear interpolation holds, untuned", linear[1] < rope[1]),
        ("ALiBi holds past the length it was trained on", alibi[4] < alibi[0] + 0.01),
        ("Slopes that flatten with the length hold better, untuned", slopes[4] < alibi[4]),
    ]
}
