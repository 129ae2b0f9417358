//! Kernels against the interpreter: random attentions on random tensors, by every code generator at every lane count.
//!
//! `RHUMB_CASES` sets how many graphs each test draws, `RHUMB_SEED` where to begin: a failure prints what replays it alone.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::bound::Furthest;
use common::case::{Case, bits};
use common::seeds::each_seed;
use common::visible::{Masks, bindings};
use common::{Family, Lengths, Rng, Spec, bounds, engine, seeds, targets};
use rhumb::compiler::plan::Plan;
use rhumb::ir::interpret;
use rhumb::prelude::*;

/// Calls of one graph, whose lengths and layouts differ.
const CALLS: usize = 2;
/// Graphs of each test, unless `RHUMB_CASES` says otherwise.
const CASES: u64 = 50;
/// The first seed, unless `RHUMB_SEED` says otherwise.
const FIRST: u64 = 1;

#[test]
fn attentions_agree_with_the_interpreter() {
    agree(Family::Plain, "attentions_agree_with_the_interpreter");
}

#[test]
fn far_positions_and_garbage_agree_with_the_interpreter() {
    agree(Family::Wild, "far_positions_and_garbage_agree_with_the_interpreter");
}

#[test]
fn graphs_of_any_axes_agree_with_the_interpreter() {
    agree(Family::Own, "graphs_of_any_axes_agree_with_the_interpreter");
}

#[test]
fn weights_without_a_softmax_agree_with_the_interpreter() {
    agree(Family::Weighed, "weights_without_a_softmax_agree_with_the_interpreter");
}

#[test]
fn what_is_not_finite_agrees_with_the_interpreter() {
    agree(Family::Odd, "what_is_not_finite_agrees_with_the_interpreter");
}

/// What was compared.
#[derive(Clone, Debug, Default)]
struct Compared {
    /// For each target: the largest error, in parts of its bound.
    worst: Vec<f64>,
    /// Elements compared, and those that no bound is promised of.
    elements: usize,
    unlimited: usize,
    calls: usize,
    /// Calls that were long enough to look for keys without weight.
    pruned: usize,
    /// Calls with garbage in hidden places.
    ruined: usize,
}

fn agree(family: Family, test: &str) {
    let engines: Vec<Engine> = common::engines(1).into_iter().map(|(_, engine)| engine).collect();
    let seeds = seeds(FIRST, CASES);
    let (first, graphs) = (seeds.start, seeds.end - seeds.start);
    if graphs == 1 {
        println!("{}", Spec::of_seed(seeds.start, family).0.graph);
    }
    let found = each_seed(seeds, |seed, wrong| compare(&engines, family, seed, wrong));
    let sum = |of: fn(&Compared) -> usize| found.cases.iter().map(|(_, case)| of(case)).sum::<usize>();
    let (calls, pruned, ruined) = (sum(|case| case.calls), sum(|case| case.pruned), sum(|case| case.ruined));
    let (elements, unlimited) = (sum(|case| case.elements), sum(|case| case.unlimited));
    println!(
        "{family:?}: {graphs} graphs; {calls} calls, {pruned} of which look for keys without weight, {ruined} with \
         garbage; {elements} elements, {unlimited} without a bound"
    );
    for (index, engine) in engines.iter().enumerate() {
        let worst = found.cases.iter().filter_map(|(seed, case)| case.worst.get(index).map(|off| (*off, *seed)));
        let (off, seed) = worst.fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{}: at most {off:.2} of the bound, at seed {seed}", engine.target());
    }
    found.check(("differential", test));
    // Shares of a few cases of new seeds are left to chance.
    if (first, graphs) == (FIRST, CASES) || graphs >= 4 * CASES {
        assert!(
            matches!(family, Family::Odd | Family::Weighed) || pruned * 100 > calls,
            "only {pruned} of {calls} calls look for keys without weight"
        );
        assert!(ruined * 5 > calls, "only {ruined} of {calls} calls hold garbage");
        assert!(unlimited * 2 < elements, "{unlimited} of {elements} elements have no bound");
    }
}

/// Two of the engines, which take turns so that a graph in a few is compiled by every pair.
fn pair_of(engines: &[Engine], seed: u64) -> Vec<usize> {
    let (seed, count) = (seed as usize, engines.len());
    let first = seed % count;
    let second = if count > 1 { (first + 1 + seed / count % (count - 1)) % count } else { first };
    let mut pair = vec![first, second];
    pair.dedup();
    pair
}

/// One graph: its kernels by two engines, on a few calls.
fn compare(engines: &[Engine], family: Family, seed: u64, wrong: &mut Vec<String>) -> Compared {
    let (spec, mut rng) = Spec::of_seed(seed, family);
    let mut found = Compared { worst: vec![0.0; engines.len()], ..Compared::default() };
    let mut kernels: Vec<(usize, Arc<Kernel>)> = Vec::new();
    for index in pair_of(engines, seed) {
        let engine = &engines[index];
        match engine.compile(&spec.graph) {
            Ok(kernel) => kernels.push((index, kernel)),
            Err(error) => {
                wrong.push(format!("{}; {}\n    {error}", spec.what, engine.target()));
                return found;
            }
        }
    }
    let Some((_, kernel)) = kernels.first() else { return found };
    let (interface, attention) = (kernel.interface(), kernel.plan().attention.as_ref());
    let masks = Masks::of(&spec, interface);
    for _ in 0..CALLS {
        let mut case = Case::random(&mut rng, &spec, interface, family);
        if rng.one_in(2) {
            case = case.ruined(&mut rng, &masks);
            found.ruined += 1;
        }
        let Lengths { queries, keys, .. } = case.lengths;
        let looks = attention.is_some_and(|attention| attention.pruning.is_some());
        found.pruned += usize::from(looks && queries >= 128 && keys >= 128);
        found.calls += 1;
        call(&kernels, &spec, &case, (&mut found, wrong));
    }
    found
}

/// The first query that the kernel for few queries takes of a call, if it takes any.
fn decodes_from(kernel: &Kernel, lengths: Lengths) -> Option<usize> {
    kernel.decode().ok().and_then(|decode| {
        decode.takes_from(|axis| {
            let axis = decode.plan.graph.axis(axis);
            match axis.name.as_str() {
                "q" => lengths.queries,
                "k" => lengths.keys,
                // Sequences that share all keys are rows of one tile.
                "b" => lengths.batch,
                name => panic!("axis `{name}` tells nothing"),
            }
        })
    })
}

/// One call of all kernels.
fn call(kernels: &[(usize, Arc<Kernel>)], spec: &Spec, case: &Case, (found, wrong): (&mut Compared, &mut Vec<String>)) {
    let expected = interpret(&spec.lowered, &bindings(&case.tensors)).expect("the interpreter runs");
    let stored = case.stored(&case.tensors);
    let mut of_plans = BTreeMap::new();
    for (index, kernel) in kernels {
        let target = kernel.target();
        let context = || format!("{}; {:?}; {target}", spec.what, case.lengths);
        let made = match case.run(kernel, &stored) {
            Ok(made) => made,
            Err(error) => {
                wrong.push(format!("{}\n    {error}", context()));
                continue;
            }
        };
        let bounds = bounds(kernel, &case.tensors, &made);
        for (name, made) in &made {
            if !made.written_inside_alone() {
                wrong.push(format!("{}\n    `{name}` is written elsewhere, or not all of it is", context()));
            }
            let off =
                Furthest::of(&made.values(), expected[name].data.iter().map(|x| *x as f32), &bounds[name].values());
            if off.parts > 1.0 {
                wrong.push(format!("{}\n    `{name}` {off}", context()));
            }
            found.worst[*index] = found.worst[*index].max(off.parts);
            found.elements += expected[name].data.len();
            found.unlimited += off.unlimited;
        }
        // Code of 4 lanes that fuses multiply-adds computes the same whatever generates it; wider code, whatever the instructions, as far
        // as its tiles are the same, which depend on the number of registers. Pairs of `bf16` are added in another order, and
        // pairs of integers are rounded.
        let machine = target.machine();
        let decoded = decodes_from(kernel, case.lengths);
        let prefill = (decoded != Some(0)).then(|| kernel.plan());
        let registers = prefill.is_some() && machine.lanes > 4 && machine.registers > 16;
        let decode = kernel.decode().ok().filter(|_| decoded.is_some()).map(|decode| &decode.plan);
        let narrow =
            |plan: &Plan| (plan.bf16_pairs != Default::default(), plan.integers.products, plan.integers.values);
        let narrow = [prefill, decode].map(|plan| plan.map(narrow));
        let plan = (machine.lanes, machine.has_fma(), decoded, registers, narrow);
        let made = bits(&made);
        if *of_plans.entry(plan).or_insert_with(|| made.clone()) != made {
            wrong.push(format!("{}\n    the code generator matters", context()));
        }
    }
}

/// A seed means the same case wherever it is run.
#[test]
fn a_seed_replays_its_case() {
    for family in [Family::Plain, Family::Wild, Family::Own, Family::Odd, Family::Weighed] {
        for seed in 0..20 {
            let [(a, mut rng_a), (b, mut rng_b)] = [Spec::of_seed(seed, family), Spec::of_seed(seed, family)];
            assert_eq!(a.graph.to_string(), b.graph.to_string());
            let of = |spec: &Spec, rng: &mut Rng| {
                let interface =
                    engine(&targets()[0], 1).reference(&spec.graph).expect("a reference").interface().clone();
                let case = Case::random(rng, spec, &interface, family);
                format!("{:?}", case.stored(&case.tensors))
            };
            assert!(of(&a, &mut rng_a) == of(&b, &mut rng_b), "{}", a.what);
        }
    }
}
