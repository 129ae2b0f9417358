//! Every pair of built-in schemes at one site, and triples of them: kernels against the interpreter, and what is refused, with the reason.

use std::collections::BTreeSet;

use crate::common::{Lengths, Rng, agree, inputs, seeds, targets};
use rhumb::compiler::plan::PlanError;
use rhumb::compiler::{CompileError, Kernels};
use rhumb::plugins::schemes::kerple::Kernel;
use rhumb::plugins::{AttentionParts, Scheme};
use rhumb::prelude::*;
use rhumb::runtime::KernelError;

/// A scheme by its name, made for a site; inputs and axes that are its own have names that end with its place.
type Make = for<'g> fn(&Own<'_, 'g>) -> Scheme;

/// Where a scheme stands: inputs of its own are told from those of others.
struct Own<'p, 'g> {
    cx: &'p AttentionParts<'g>,
    place: usize,
}

impl<'g> Own<'_, 'g> {
    fn axis(&self, name: &str, length: u32) -> Axis {
        self.cx.axis(&format!("{name}{}", self.place), length)
    }

    fn input(&self, name: &str, dims: &[Axis]) -> Expr<'g> {
        self.cx.input(&format!("{name}{}", self.place), Elem::F32, dims.iter().copied())
    }

    fn whole(&self, name: &str, dims: &[Axis]) -> Expr<'g> {
        // Inputs of this name hold small integers.
        self.cx.input(&format!("at_{name}{}", self.place), Elem::I32, dims.iter().copied())
    }
}

const HEADS: u32 = 2;
const HEAD_DIM: u32 = 8;
/// The most keys of a call.
const MOST_KEYS: u32 = 33;
const LENGTHS: [(usize, usize); 3] = [(1, 17), (5, 3), (16, MOST_KEYS as usize)];

const SCHEMES: &[(&str, Make)] = &[
    ("rope", |_| Rope::new().into()),
    ("yarn", |_| Yarn::new(4.0, 16).into()),
    ("llama3_rope", |_| Llama3Rope::new().train_length(16).into()),
    ("dynamic_ntk", |_| DynamicNtk::new(2.0, 8).into()),
    ("longrope", |_| LongRope::new(8, [1.0, 1.0, 1.5, 2.0], [1.0, 2.0, 3.0, 4.0]).attention_factor(1.25).into()),
    ("proportional_rope", |_| ProportionalRope::new(0.5).into()),
    ("mrope", |x| {
        let axis = x.axis("axis", 3);
        MRope::new([2, 1, 1], x.whole("queries", &[axis, x.cx.q]), x.whole("keys", &[axis, x.cx.k])).into()
    }),
    ("rope2d", |_| Rope2d::grid(4, 4).into()),
    ("axial_rope", |_| AxialRope::grid([4, 4], [4, 4]).into()),
    ("xpos", |_| XPos::new().center(8.0).into()),
    ("pope", |x| Pope::new(x.cx.query(), x.cx.key()).into()),
    ("retention", |_| Retention::new().into()),
    ("alibi", |_| Alibi::new().into()),
    ("dynamic_alibi", |_| DynamicAlibi::new(8).into()),
    ("alibi2d", |_| Alibi2d::grid(4).into()),
    ("t5", |x| T5::new(x.input("table", &[x.axis("bucket", 8), x.cx.h])).buckets(8, 20).into()),
    ("window_table", |x| WindowTable::new(x.input("table", &[x.axis("offset", 49), x.cx.h]), 4, 4).into()),
    ("continuous_bias", |x| {
        let unit = x.axis("unit", 5);
        let w1 = x.input("w1", &[unit, x.axis("coordinate", 2)]);
        ContinuousBias::new(w1, x.input("b1", &[unit]), x.input("w2", &[x.cx.h, unit]), [4, 4]).into()
    }),
    ("decomposed", |x| {
        let [rows, columns] = ["rows", "columns"].map(|name| x.input(name, &[x.axis(name, 7), x.cx.d]));
        Decomposed::new(x.cx.query(), rows, columns, [4, 4]).into()
    }),
    ("kerple", |_| {
        Kerple::constant([0.5; HEADS as usize], [0.25; HEADS as usize]).kernel(Kernel::Power).symmetric().into()
    }),
    ("sandwich", |_| Sandwich::new().waves(6).into()),
    ("fire", |x| {
        let unit = x.axis("unit", 5);
        let [w1, b1] = ["w1", "b1"].map(|name| x.input(name, &[unit]));
        Fire::new(w1, b1, x.input("w2", &[x.cx.h, unit])).threshold(20.0).into()
    }),
    ("forget_gate", |x| ForgetGate::of_sums(x.input("sums", &[x.cx.b, x.cx.h, x.cx.k])).into()),
    ("shaw", |x| Shaw::new(x.cx.query(), x.input("table", &[x.axis("distance", 9), x.cx.d]), 4, 4).into()),
    ("transformer_xl", |x| {
        let distances = x.input("r", &[x.axis("distance", MOST_KEYS), x.cx.d]);
        let biases = ["of_content", "of_distance"].map(|name| x.input(name, &[x.cx.h, x.cx.d]));
        TransformerXl::new(x.cx.query(), distances, biases).into()
    }),
    ("deberta", |x| {
        let table = |name| x.input(name, &[x.axis("bucket", 16), x.cx.d]);
        let scheme = Deberta::new(x.cx.query(), x.cx.key()).buckets(8, 16);
        scheme.position_keys(table("c2p")).position_queries(table("p2c")).into()
    }),
    ("cope", |x| {
        let [second, third] = ["second", "third"].map(|name| x.axis(name, MOST_KEYS));
        let tokens = x.cx.builder().iota(third);
        let embeddings = x.input("embeddings", &[x.axis("position", 6), x.cx.d]);
        Cope::new(x.cx.query(), x.input("keys", &[second, x.cx.d]), tokens, embeddings).into()
    }),
    ("dape", |x| {
        let unit = x.axis("unit", 5);
        let w1 = x.input("w1", &[unit, x.axis("of_heads", 2 * HEADS)]);
        let [b1, b2] = [("b1", unit), ("b2", x.cx.h)].map(|(name, axis)| x.input(name, &[axis]));
        let keys = x.input("keys", &[x.axis("token", MOST_KEYS), x.cx.d]);
        Dape::new(x.cx.query(), keys, [w1, b1, x.input("w2", &[x.cx.h, unit]), b2]).into()
    }),
    ("sinusoidal", |_| Sinusoidal::new().into()),
    ("learned_positions", |x| {
        let [q, k] = ["queries", "keys"].map(|name| x.input(name, &[x.axis("position", 40), x.cx.d]));
        LearnedPositions::new(q, k).into()
    }),
    ("qk_norm", |_| QkNorm::rms().into()),
    ("temperature", |_| Temperature::llama4(4).into()),
    ("softcap", |_| Softcap::new(2.0).into()),
    ("causal", |_| Causal.into()),
    ("sliding_window", |_| SlidingWindow::new(5).into()),
    ("prefix_lm", |_| PrefixLm::new(3).into()),
    ("key_lengths", |_| KeyLengths::new(13).into()),
    ("documents", |x| Documents::new(x.whole("queries", &[x.cx.q]), x.whole("keys", &[x.cx.k])).into()),
    ("chunked", |_| Chunked::new(4).into()),
    ("dilated", |_| Dilated::new(8, 2).into()),
    ("strided", |_| Strided::new(3).into()),
    ("offset_set", |_| OffsetSet::new([0, 1, 4]).into()),
    ("neighbourhood", |_| Neighbourhood::new(4, 4, 3).into()),
    ("shifted_window", |_| ShiftedWindow::new(4, 4, 2).penalty(10.0).into()),
    ("block_sparse", |_| BlockSparse::new([true, false, true, true], 2, 8).into()),
    ("block_diffusion", |_| BlockDiffusion::new(8, 4).into()),
    ("token_tree", |_| TokenTree::new([None, Some(0), Some(0), Some(1)]).into()),
];

/// How scores weigh values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weights {
    Softmax,
    Sigmoid,
    Sum,
}

/// Some schemes at one site, in their order.
struct Composition {
    schemes: Vec<usize>,
    weights: Weights,
}

impl Composition {
    fn attention(&self, kv_heads: u32) -> Attention {
        let mut attention = Attention::heads(HEADS).head_dim(HEAD_DIM).kv_heads(kv_heads).value_dim(6);
        for (place, scheme) in self.schemes.iter().enumerate() {
            let (_, make) = SCHEMES[*scheme];
            attention = attention.scheme_with(move |cx| make(&Own { cx, place }));
        }
        match self.weights {
            Weights::Softmax => attention.lse(),
            Weights::Sigmoid => attention.weights_with(|_, score| (score - 1.0).sigmoid()),
            Weights::Sum => attention.weights_with(|_, score| score * 0.25),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.schemes.iter().map(|scheme| SCHEMES[*scheme].0).collect()
    }

    /// Why there are no kernels of it, if that is so.
    fn refusal(&self) -> Option<&'static Refusal> {
        let names = self.names();
        // It makes a score of its own, whatever the score was before.
        let anew = names.iter().rposition(|name| *name == "pope").unwrap_or(0);
        let is_void = |at: usize| at < anew && ["softcap", "sandwich", "retention"].contains(&names[at]);
        let left: Vec<&str> = (0..names.len()).filter(|at| !is_void(*at)).map(|at| names[at]).collect();
        REFUSALS.iter().find(|refusal| {
            let weighed = refusal.weights.is_none_or(|weights| weights == self.weights);
            let Some(first) = left.iter().position(|name| *name == refusal.first) else { return false };
            let mut others =
                left.iter().enumerate().filter(|(at, _)| *at > first || refusal.in_any_order && *at != first);
            weighed && others.any(|(_, name)| refusal.others.contains(name))
        })
    }

    /// Holds that kernels are right, or refused for the reason that is told.
    fn check(&self, rng: &mut Rng, engines: &[Engine]) {
        let what = format!("{:?}, {:?}", self.names(), self.weights);
        let graph = self.attention(rng.pick(&[1, HEADS])).build().unwrap_or_else(|error| panic!("{what}: {error}"));
        let engine = &engines[rng.below(engines.len())];
        let kernel = match (engine.compile(&graph), self.refusal()) {
            (Ok(kernel), None) => kernel,
            (Ok(_), Some(refusal)) => panic!("{what}: compiles, though {}", refusal.reason),
            (Err(error), None) => panic!("{what}: {error}"),
            (Err(error), Some(refusal)) => {
                let KernelError::Compile(CompileError::Plan(PlanError::NotAttention { op, reason })) = &error else {
                    panic!("{what}: {error}")
                };
                assert!(reason.contains(refusal.told) && op.starts_with('%'), "{what}: {error}");
                return;
            }
        };
        let reference = engine.reference(&graph).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (queries, keys) = rng.pick(&LENGTHS);
        let lengths = Lengths { batch: 1, queries, keys };
        let inputs = inputs(rng, kernel.interface(), lengths);
        agree((&kernel, &reference), &inputs, lengths, what);
    }
}

/// Schemes that have no kernel together.
struct Refusal {
    first: &'static str,
    others: &'static [&'static str],
    /// Whether the others may come before the first, too.
    in_any_order: bool,
    /// The weights for which it is so, if not for all.
    weights: Option<Weights>,
    reason: &'static str,
    /// What the error says.
    told: &'static str,
}

const APART: &str = "this op takes some of the dots of queries and keys that the score has, and not the others";

const REFUSALS: &[Refusal] = &[
    Refusal {
        first: "softcap",
        others: &["sandwich"],
        in_any_order: false,
        weights: None,
        reason: "a product is added to the cap of another: kernels keep one number of all products of a pair",
        told: APART,
    },
    Refusal {
        first: "retention",
        others: &["sandwich"],
        in_any_order: false,
        weights: None,
        reason: "a product is added to another that decays by pairs: kernels keep one number of all products of a pair",
        told: APART,
    },
    Refusal {
        first: "retention",
        others: &[
            "retention",
            "sliding_window",
            "key_lengths",
            "documents",
            "chunked",
            "dilated",
            "strided",
            "offset_set",
            "neighbourhood",
            "shifted_window",
            "block_sparse",
            "block_diffusion",
            "token_tree",
        ],
        in_any_order: true,
        weights: Some(Weights::Sum),
        reason: "rows are divided by sums of all past keys, and a mask shows fewer: these are two ways to weigh",
        told: "two outputs weigh values in different ways",
    },
];

fn engines() -> Vec<Engine> {
    let of = |target: &Target, kernels| {
        Engine::builder().target(target.clone()).threads(1).kernels(kernels).build().expect("an engine")
    };
    // The kernel for few queries is a second compilation: each third engine has one.
    let targets = targets();
    let kernels = [Kernels::Prefill, Kernels::Prefill, Kernels::Decode];
    (0..3 * targets.len()).map(|number| of(&targets[number % targets.len()], kernels[number / targets.len()])).collect()
}

const WEIGHTS: [Weights; 3] = [Weights::Softmax, Weights::Sigmoid, Weights::Sum];

#[test]
fn every_scheme_is_composed() {
    let registry = Registry::standard();
    let registered: BTreeSet<&str> = registry.schemes().map(|info| info.name.as_str()).collect();
    let composed: BTreeSet<&str> = SCHEMES.iter().map(|scheme| scheme.0).collect();
    assert_eq!(registered, composed);
}

/// Every pair, in one of its orders and with some weights; `part` of two, so that tests share the cores.
fn pairs(part: usize) {
    let engines = engines();
    for one in 0..SCHEMES.len() {
        for other in (one..SCHEMES.len()).filter(|other| (one + other) % 2 == part) {
            let mut rng = Rng::new((one * SCHEMES.len() + other) as u64);
            let schemes = rng.shuffled(vec![one, other]);
            Composition { schemes, weights: rng.pick(&WEIGHTS) }.check(&mut rng, &engines);
        }
    }
}

#[test]
fn every_pair_is_right_or_refused() {
    pairs(0);
}

#[test]
fn every_other_pair_is_right_or_refused() {
    pairs(1);
}

#[test]
fn triples_are_right_or_refused() {
    let engines = engines();
    for seed in seeds(910_000, 100) {
        println!("RHUMB_SEED={seed} RHUMB_CASES=1 cargo test --test it triples_are_right_or_refused -- --nocapture");
        let mut rng = Rng::new(seed);
        let schemes = (0..3).map(|_| rng.below(SCHEMES.len())).collect();
        Composition { schemes, weights: rng.pick(&WEIGHTS) }.check(&mut rng, &engines);
    }
}

/// The forms that are refused in one order, in this order; those of two products in any other are one sum.
#[test]
fn sums_of_products_compose_with_what_changes_scores() {
    let engines = engines();
    let at = |name: &str| SCHEMES.iter().position(|scheme| scheme.0 == name).expect("a scheme");
    for (number, (name, _)) in SCHEMES.iter().enumerate() {
        for (turn, schemes) in [[at(name), at("sandwich")], [at("sandwich"), at(name)]].into_iter().enumerate() {
            let weights = WEIGHTS[(number + turn) % WEIGHTS.len()];
            let composition = Composition { schemes: schemes.to_vec(), weights };
            composition.check(&mut Rng::new((2 * number + turn) as u64), &engines);
        }
    }
}
