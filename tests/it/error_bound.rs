//! Kernels keep what their error bounds promise, and the bounds promise something.

use crate::common::{
    Family, Layout, Lengths, Rng, Spec, Tensor, Tensors, bounds, engine, inputs, outputs, run, targets,
};
use rhumb::compiler::{Options, compile};
use rhumb::prelude::*;
use rhumb::runtime::{ErrorBound, Reference};

/// Results of a kernel, of its reference, and the bounds, by output.
struct Results {
    found: Tensors,
    expected: Tensors,
    bounds: Tensors,
}

impl Results {
    fn of(kernel: &Kernel, reference: &Reference, inputs: &Tensors, lengths: Lengths) -> Results {
        let unwritten = || outputs(kernel.interface(), lengths, |_| Layout::Rows);
        let (mut found, mut expected) = (unwritten(), unwritten());
        run(kernel.call(), inputs, &mut found).expect("runs");
        run(reference.call(), inputs, &mut expected).expect("runs");
        let bounds = bounds(kernel, inputs, &found);
        Results { found, expected, bounds }
    }

    /// The name of each output, its elements in the kernel and in the reference, and their bounds.
    fn elements(&self) -> impl Iterator<Item = (&str, f32, f32, f32)> {
        self.found.iter().flat_map(|(name, found)| {
            let others = self.expected[name].values().into_iter().zip(self.bounds[name].values());
            found.values().into_iter().zip(others).map(|(found, (expected, bound))| (&**name, found, expected, bound))
        })
    }

    #[track_caller]
    fn hold(&self, context: &str) {
        for (name, found, expected, bound) in self.elements() {
            assert!(
                ErrorBound::holds(found, expected, bound),
                "{context}: `{name}` is {found:e}, not {expected:e}: off by {:e}, bound {bound:e}",
                (found - expected).abs()
            );
        }
    }

    /// The greatest difference beside its bound.
    fn closest(&self) -> f32 {
        let ratio = |(_, found, expected, bound): (&str, f32, f32, f32)| (found - expected).abs() / bound;
        self.elements().map(ratio).filter(|ratio| ratio.is_finite()).fold(0.0, f32::max)
    }

    /// The greatest bound of an output, and the greatest difference.
    fn worst(&self, of: &str) -> (f32, f32) {
        let of = self.elements().filter(|(name, ..)| *name == of);
        of.fold((0.0, 0.0), |(bound, off), x| (x.3.max(bound), (x.1 - x.2).abs().max(off)))
    }
}

/// A kernel for the first target, and its reference.
fn compiled(attention: &Attention) -> (std::sync::Arc<Kernel>, Reference) {
    let graph = attention.build().expect("a graph");
    let engine = engine(&targets()[0], 1);
    (engine.compile(&graph).expect("a kernel"), engine.reference(&graph).expect("a reference"))
}

fn results(attention: &Attention, lengths: Lengths, change: impl FnOnce(&mut Tensors)) -> Results {
    let (kernel, reference) = compiled(attention);
    let mut inputs = inputs(&mut Rng::new(1), kernel.interface(), lengths);
    change(&mut inputs);
    Results::of(&kernel, &reference, &inputs, lengths)
}

/// Calls of some random graphs, by two targets in turn: how many have a finite bound, and how close errors come to it.
fn random(seeds: impl IntoIterator<Item = u64>, calls: usize) -> (usize, f32) {
    let engines: Vec<_> = targets().iter().map(|target| engine(target, 1)).collect();
    let all = seeds.into_iter().map(|seed| one(&engines, seed, calls));
    all.fold((0, 0.0), |all, one| (all.0 + one.0, one.1.max(all.1)))
}

fn one(engines: &[Engine], seed: u64, calls: usize) -> (usize, f32) {
    let rng = &mut Rng::new(seed);
    let spec = Spec::random(rng, Family::Wild);
    let (mut finite, mut closest) = (0, 0.0f32);
    for call in 0..calls {
        let engine = &engines[(seed as usize + call % 2) % engines.len()];
        let kernel = engine.compile(&spec.graph).unwrap_or_else(|error| panic!("{}\n{error}", spec.what));
        let reference = engine.reference(&spec.graph).expect("a reference");
        let lengths = Lengths::random(rng, &spec);
        let inputs = inputs(rng, kernel.interface(), lengths);
        let results = Results::of(&kernel, &reference, &inputs, lengths);
        results.hold(&format!("seed {seed}, call {call}: {}; {lengths:?}; {}", spec.what, engine.target()));
        let (bound, _) = results.worst("out");
        finite += usize::from(bound.is_finite());
        closest = closest.max(results.closest());
    }
    (finite, closest)
}

#[test]
fn random_attentions_keep_their_bounds() {
    let (finite, closest) = random(1..=60, 5);
    println!("{finite} of 300 calls have a bound, of which errors reach {closest}");
    assert!(finite >= 290 && closest > 0.1);
}

#[test]
fn far_positions_and_terms_that_cancel_keep_their_bounds() {
    let (finite, closest) = random([510_051, 510_071, 510_338, 511_937, 9079], 10);
    println!("{finite} of 50 calls have a bound, of which errors reach {closest}");
    assert!(finite >= 48 && closest > 0.1);
}

const LENGTHS: Lengths = Lengths { batch: 1, queries: 40, keys: 200 };

#[test]
fn the_bound_of_a_plain_attention_is_small() {
    let results = results(&Attention::heads(2).head_dim(64).lse(), LENGTHS, |_| ());
    results.hold("plain");
    let (bound, off) = results.worst("out");
    println!("bound {bound:e}, observed {off:e}");
    assert!(bound < 1e-4 && bound <= 100.0 * off, "bound {bound:e}, observed {off:e}");
    let (bound, off) = results.worst("lse");
    assert!(bound < 1e-4, "bound {bound:e}, observed {off:e}");
}

#[test]
fn the_bound_grows_with_a_term() {
    let attention = Attention::heads(2).head_dim(16).bias(Batch::Shared);
    // What is added to all scores of a row moves no weight, but takes its digits.
    let of = |added: f32| {
        let results = results(&attention, LENGTHS, |inputs| {
            inputs.get_mut("bias").expect("a bias").change(|_, x| *x += added);
        });
        results.hold("biased");
        results.worst("out").0
    };
    let [none, some, much] = [0.0, 100.0, 1e5].map(of);
    assert!(2.0 * none < some && 100.0 * some < much, "{none:e}, {some:e}, {much:e}");
}

#[test]
fn what_is_hidden_changes_no_bound() {
    let attention = Attention::heads(2).head_dim(16).key_lengths().bias(Batch::Shared).lse();
    let of = |garbage: Option<f32>| {
        results(&attention, Lengths { batch: 2, ..LENGTHS }, |inputs| {
            inputs.insert("key_lengths".to_owned(), Tensor::i32([2], vec![150, 0]));
            let Some(garbage) = garbage else { return };
            // Rows of 16 elements of `[b, h, k]`, and elements of `[h, q, k]`.
            for (name, width, keys) in [("k", 16, 200), ("v", 16, 200), ("bias", 1, 200)] {
                let hidden = |index: usize| index / width % keys >= 150;
                let tensor = inputs.get_mut(name).expect("an input");
                tensor.change(|index, x| *x = if hidden(index) { garbage } else { *x });
            }
        })
    };
    let clean = of(None);
    clean.hold("clean");
    let (bound, _) = clean.worst("out");
    assert!(bound > 0.0 && bound < 1e-4, "{bound:e}");
    let rows = clean.bounds["out"].values();
    assert!(rows[rows.len() / 2..].iter().all(|bound| *bound == 0.0), "the second batch sees nothing");
    for garbage in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        let bounds = of(Some(garbage)).bounds;
        for (name, clean) in &clean.bounds {
            assert_eq!(bounds[name].bits(), clean.bits(), "{garbage} hidden: bounds of `{name}`");
        }
    }
}

/// A kernel measures terms of keys from the greatest of those that masks let through, where a bias hides its key too.
#[test]
fn a_far_key_that_a_bias_hides_counts() {
    let alibi = Alibi::new().slopes([0.25]);
    let attention =
        Attention::heads(1).head_dim(16).k_positions(Elem::F32, Batch::Each).bias(Batch::Shared).scheme(alibi);
    let results = results(&attention.lse(), LENGTHS, |inputs| {
        inputs.get_mut("k_pos").expect("positions").change(|key, x| *x = if key == 7 { 1e4 } else { key as f32 });
        let hide = |at: usize, x: &mut f32| *x = if at % LENGTHS.keys == 7 { f32::NEG_INFINITY } else { *x };
        inputs.get_mut("bias").expect("a bias").change(hide);
    });
    let (bound, off) = results.worst("out");
    assert!(bound < 1e-2 && off > 1e-5, "bound {bound:e}, observed {off:e}");
    results.hold("far");
}

#[test]
fn what_is_seen_of_infinities_and_nan_is_told() {
    let attention = Attention::heads(1).head_dim(16).scheme(Causal).bias(Batch::Shared).lse();
    let lengths = Lengths { batch: 1, queries: 30, keys: 30 };
    let of = |name: &'static str, index: usize, value: f32| {
        let results = results(&attention, lengths, |inputs| {
            inputs.get_mut(name).expect("an input").change(|at, x| *x = if at == index { value } else { *x });
        });
        results.hold(name);
        results
    };
    // Key 20 is NaN: queries from 20 on are NaN for certain.
    let rows = of("k", 20 * 16 + 3, f32::NAN);
    let (found, bounds) = (rows.found["out"].values(), rows.bounds["out"].values());
    assert!(found[20 * 16..].iter().all(|x| x.is_nan()) && bounds[20 * 16..].iter().all(|x| *x == 0.0));
    assert!(bounds[..20 * 16].iter().all(|x| *x > 0.0), "finite rows have errors");
    of("v", 20 * 16 + 3, f32::NAN);
    of("v", 20 * 16 + 3, f32::INFINITY);
    of("bias", 25 * 30 + 7, f32::NEG_INFINITY);
    of("bias", 25 * 30 + 7, f32::MIN);
    of("bias", 25 * 30 + 7, f32::INFINITY);
    // A score that single precision has no room for promises nothing.
    let overflow = of("bias", 25 * 30 + 7, f32::MAX);
    assert!(overflow.bounds["lse"].values()[25].is_infinite());
    assert!(overflow.bounds["lse"].values()[24].is_finite());
}

/// A log-sum-exp of each group of heads, in an output of each head.
#[test]
fn a_log_sum_exp_of_groups_is_bounded_by_its_own() {
    let graph = "graph groups\naxis h = 4\naxis g = 2 groups h\naxis q = ?\naxis p = 4\n\
        %q = input \"q\" : f32[h, q]\n%sink = input \"sink\" : f32[g]\n%t = table [1, 2, 3, 4] : f32[p]\n\
        %lse = logsumexp %t over p sink %sink\n%c = const -9.0 : f32\n%n = mul %lse, %c\n%e = exp %n\n%out = mul %q, %e\n\
        output \"out\" = %out : f32[h, q]\n";
    let graph = Graph::parse(graph).expect("a graph");
    let engine = engine(&targets()[0], 1);
    let (kernel, reference) =
        (engine.compile(&graph).expect("a kernel"), engine.reference(&graph).expect("a reference"));
    let mut inputs = inputs(&mut Rng::new(1), kernel.interface(), LENGTHS);
    // The first group's results are as good as 0, and so are their bounds.
    inputs.insert("sink".to_owned(), Tensor::f32([2], vec![80.0, 0.0]));
    Results::of(&kernel, &reference, &inputs, LENGTHS).hold("groups");
}

#[test]
fn bounds_print_what_they_are_made_of() {
    let print = |attention: &Attention| {
        let graph = attention.build().expect("a graph");
        let target = Target::named("x86_64-unknown-linux-gnu").expect("a target").with_lanes(16).expect("lanes");
        let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ());
        compiled.expect("compiles").plan.error_bound().to_string()
    };
    let rotated = Attention::heads(2).head_dim(128).scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal).lse();
    insta::assert_snapshot!("error_bound_of_key_terms", print(&rotated));
    let capped = Attention::heads(2).head_dim(64).bias(Batch::Shared).softcap(30.0);
    insta::assert_snapshot!("error_bound_of_terms", print(&capped));
}
