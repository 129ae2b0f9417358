//! Kernels against the interpreter: random attentions on random tensors.
//!
//! `RHUMB_CASES` sets how many calls are compared (1,000 unless set), `RHUMB_SEED` where to begin: a failure prints the seed that begins
//! with it.

mod common;

use std::collections::BTreeMap;
use std::env;

use common::{
    Layout, Lengths, Rng, Spec, Tensors, difference, engine, inputs, outputs, relative, run, scattered, targets,
};
use rhumb::runtime::Reference;

/// Calls of one graph, whose lengths and layouts differ.
const CALLS: usize = 10;
/// Of `out`, for inputs of variance 1 and rows whose scores are near 0.
const OUT: f64 = 2e-6;
/// Where all that a row sees is further from 0 than this, single precision has fewer digits left for what tells keys apart, and the
/// limit grows as the score: symmetric ALiBi far from all keys.
const FAR: f64 = 8.0;
/// Of `lse`, relative to values above 1.
const LSE: f64 = 4e-6;

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not `{text}`")),
        Err(_) => default,
    }
}

/// The largest differences so far, relative to their limits' scales.
#[derive(Debug, Default)]
struct Worst {
    out: f64,
    lse: f64,
}

#[test]
fn kernels_agree_with_the_interpreter() {
    let first = number("RHUMB_SEED", 1);
    let graphs = number("RHUMB_CASES", 1000).div_ceil(CALLS as u64);
    let (targets, mut failed) = (targets(), Vec::new());
    let mut worst: Vec<Worst> = targets.iter().map(|_| Worst::default()).collect();
    let engines: Vec<_> = targets.iter().map(|target| [1, 2, 3].map(|threads| engine(target, threads))).collect();
    for seed in first..first + graphs {
        let rng = &mut Rng::new(seed);
        let spec = Spec::random(rng);
        let reference =
            engines[0][0].reference(&spec.with_lse).unwrap_or_else(|error| panic!("{}: {error}", spec.what));
        for _ in 0..CALLS {
            let lengths = Lengths::random(rng, &spec);
            let inputs = inputs(rng, reference.interface(), lengths);
            let inputs = scattered(rng, &inputs);
            let expected = expected(&reference, &inputs, lengths);
            let (out, lse) = (expected["out"].values(), expected["lse"].values());
            let value_dim = expected["out"].shape()[3];
            let by_score = |index: usize, _| {
                let lse = f64::from(lse[index / value_dim]).abs();
                if lse.is_finite() { (lse / FAR).max(1.0) } else { 1.0 }
            };
            let layout_seed = rng.bits();
            let mut of_plans: BTreeMap<(usize, bool, bool), Vec<Vec<u32>>> = BTreeMap::new();
            for (engines, worst) in engines.iter().zip(&mut worst) {
                let context = || format!("RHUMB_SEED={seed}: {}; {lengths:?}; {}", spec.what, engines[0].target());
                // One kernel for all threads, and every few graphs one for each number of threads.
                let mut results: Vec<Vec<Vec<u32>>> = Vec::new();
                for engine in if seed % 8 == 0 { &engines[..] } else { &engines[1..2] } {
                    let kernel = engine.compile(&spec.graph).unwrap_or_else(|error| panic!("{}\n{error}", context()));
                    let layouts = &mut Rng::new(layout_seed);
                    let layout = |rank| Layout::random(layouts, rank, true);
                    let mut made = outputs(kernel.interface(), lengths, layout);
                    run(kernel.call(), &inputs, &mut made).unwrap_or_else(|error| panic!("{}\n{error}", context()));
                    results.push(made.values().map(common::Tensor::bits).collect());
                    for (name, made) in &made {
                        assert!(made.written_inside_alone(), "{}: `{name}` is written elsewhere", context());
                        let (off, limit, most) = match name.as_str() {
                            "lse" => (difference(&made.values(), &lse, relative), LSE, &mut worst.lse),
                            _ => (difference(&made.values(), &out, by_score), OUT, &mut worst.out),
                        };
                        if off > limit {
                            failed.push(format!("{}: `{name}` off by {off:.1e}", context()));
                        }
                        *most = most.max(off);
                    }
                }
                assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{}: threads matter", context());
                // Code of 4 lanes that fuses multiply-adds computes the same whatever generates it; wider code, whatever the instructions, as far as its tiles are
                // the same, which depend on the number of registers.
                let result = results.swap_remove(0);
                let target = engines[0].target();
                let plan = (target.lanes(), target.has_fma(), target.lanes() > 4 && target.vector_registers() > 16);
                assert!(
                    same(of_plans.entry(plan).or_insert_with(|| result.clone()), &result),
                    "{}: the code generator matters",
                    context()
                );
            }
        }
    }
    for (target, worst) in targets.iter().zip(&worst) {
        println!("{target}: {} calls of {graphs} graphs, {worst:?}", graphs * CALLS as u64);
    }
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

/// Bit for bit, but for the bits of NaNs.
fn same(a: &[Vec<u32>], b: &[Vec<u32>]) -> bool {
    let nan = |bits: u32| f32::from_bits(bits).is_nan();
    let same = |(a, b): (&u32, &u32)| a == b || (nan(*a) && nan(*b));
    a.iter().zip(b).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(same))
}

fn expected(reference: &Reference, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let mut expected = outputs(reference.interface(), lengths, |_| Layout::Rows);
    run(reference.call(), inputs, &mut expected).expect("the reference runs");
    expected
}
