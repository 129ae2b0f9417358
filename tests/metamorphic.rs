//! What must hold between two calls of a kernel, whatever it computes: what a query can't see changes no bit of its row, batches and heads
//! do not meet, a constant added to a row of scores changes `lse` alone, threads change nothing.
//!
//! Seeds and cases as in `tests/differential.rs`.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use common::case::{Case, bits, nanless};
use common::seeds::each_seed;
use common::visible::{Masks, bindings};
use common::{Family, Lengths, Rng, Spec, Tensor, Tensors, bounds, seeds};
use rhumb::ir::{Op, Value, interpret};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

/// Graphs of each test, unless `RHUMB_CASES` says otherwise.
const CASES: u64 = 40;

/// A graph, its kernel, and a call of it.
struct Setup {
    spec: Spec,
    kernel: Arc<Kernel>,
    case: Case,
    rng: Rng,
}

impl Setup {
    /// One of the engines takes the graph of the seed; none if it is refused, which is for `tests/differential.rs` to tell.
    fn of_seed(engines: &[Engine], family: Family, seed: u64) -> Option<Setup> {
        let (spec, mut rng) = Spec::of_seed(seed, family);
        let kernel = rng.pick(&engines.iter().collect::<Vec<_>>()).compile(&spec.graph).ok()?;
        let case = Case::random(&mut rng, &spec, kernel.interface(), family);
        Some(Setup { spec, kernel, case, rng })
    }

    fn run(&self, tensors: &Tensors) -> Tensors {
        self.case
            .run(&self.kernel, &self.case.stored(tensors))
            .unwrap_or_else(|error| panic!("{}\n{error}", self.context()))
    }

    fn context(&self) -> String {
        format!("{}; {:?}; {}", self.spec.what, self.case.lengths, self.kernel.target())
    }
}

fn engines(threads: usize) -> Vec<Engine> {
    common::engines(threads).into_iter().map(|(_, engine)| engine).collect()
}

/// Runs cases of a family; more than one in twenty of them must have something to tell. About one in three have, of few seeds now and then far
/// fewer.
fn check(family: Family, test: &str, case: impl Fn(&mut Setup, &mut Vec<String>) -> bool + Sync) {
    let engines = engines(1);
    let seeds = seeds(1, CASES);
    let graphs = seeds.end - seeds.start;
    let found = each_seed(seeds, |seed, wrong| {
        Setup::of_seed(&engines, family, seed).is_some_and(|mut setup| case(&mut setup, wrong))
    });
    found.check(("metamorphic", test));
    let told = found.cases.iter().filter(|(_, told)| *told).count() as u64;
    println!("{test}: {told} of {graphs} graphs tell");
    assert!(graphs < CASES || told * 20 > graphs, "only {told} of {graphs} graphs have something to tell");
}

/// The bits of the rows of some batches and queries, of all outputs.
fn rows(interface: &Interface, made: &Tensors, of: impl Fn(usize, usize) -> bool) -> Vec<u32> {
    let mut rows = Vec::new();
    for port in interface.outputs() {
        let (tensor, names) = (&made[&port.name], common::inputs::dims(interface, port));
        let index = |axis: &str, at: usize| {
            let place = names.iter().position(|name| *name == axis);
            place.map_or(0, |place| {
                let inner: usize = tensor.shape()[place + 1..].iter().product();
                at / inner % tensor.shape()[place]
            })
        };
        let bits = nanless(tensor).into_iter().enumerate();
        rows.extend(bits.filter(|(at, _)| of(index("b", *at), index("q", *at))).map(|(_, bits)| bits));
    }
    rows
}

/// A case with garbage in all that some rows do not see, against the case itself.
fn hidden_changes_nothing(setup: &mut Setup, wrong: &mut Vec<String>) -> bool {
    let interface = setup.kernel.interface().clone();
    let masks = Masks::of(&setup.spec, &interface);
    let Lengths { batch, queries, keys } = setup.case.lengths;
    if queries == 0 {
        return false;
    }
    let before = setup.run(&setup.case.tensors);
    let hidden = masks.visible(&setup.case.tensors, setup.case.lengths).hidden();
    // One row, then some rows of all batches.
    let one = (setup.rng.below(batch), setup.rng.below(queries));
    let (salt, every) = (setup.rng.below(1000), 2 + setup.rng.below(4));
    let some = move |b: usize, q: usize| (b * 31 + q * 7 + salt).is_multiple_of(every);
    let just = move |b: usize, q: usize| (b, q) == one;
    for (what, chosen) in [("one row", &just as &dyn Fn(usize, usize) -> bool), ("some rows", &some)] {
        let fixed = (&setup.case.tensors, &setup.case.repeated);
        let ruined = masks.with_garbage(&mut setup.rng, fixed, setup.case.lengths, |(b, _, q)| chosen(b, q));
        let after = setup.run(&ruined);
        let [a, b] = [&before, &after].map(|made| rows(&interface, made, chosen));
        if a != b {
            let changed = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            let (x, y) = a
                .iter()
                .zip(&b)
                .find(|(a, b)| a != b)
                .map_or((0.0, 0.0), |(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
            wrong.push(format!("{}\n    {what}: {changed} of {} bits change, {x} to {y}", setup.context(), a.len()));
        }
    }
    hidden > 0.0 && keys > 0
}

#[test]
fn hidden_pairs_change_no_bit() {
    check(Family::Wild, "hidden_pairs_change_no_bit", hidden_changes_nothing);
}

#[test]
fn hidden_pairs_of_any_axes_change_no_bit() {
    check(Family::Own, "hidden_pairs_of_any_axes_change_no_bit", hidden_changes_nothing);
}

/// Every tensor with another index along some axes.
fn picked(interface: &Interface, ports: &[Port], tensors: &Tensors, index: &BTreeMap<&str, Vec<usize>>) -> Tensors {
    let of = |port: &Port| {
        let tensor = &tensors[&port.name];
        let names = common::inputs::dims(interface, port).into_iter().zip(tensor.shape());
        let at = names.map(|(name, length)| index.get(name).cloned().unwrap_or_else(|| (0..*length).collect()));
        (port.name.clone(), tensor.picked(&at.collect::<Vec<_>>()))
    };
    ports.iter().map(of).collect()
}

/// Whether each output varies over an axis.
fn all_have(interface: &Interface, axis: &str) -> bool {
    interface.outputs().iter().all(|port| common::inputs::dims(interface, port).contains(&axis))
}

fn batches_are_apart(setup: &mut Setup, wrong: &mut Vec<String>) -> bool {
    let interface = setup.kernel.interface().clone();
    let batch = setup.case.lengths.batch;
    if !all_have(&interface, "b") {
        return false;
    }
    let before = setup.run(&setup.case.tensors);
    let order = setup.rng.shuffled((0..batch).collect());
    let index = BTreeMap::from([("b", order)]);
    let after = setup.run(&picked(&interface, interface.inputs(), &setup.case.tensors, &index));
    if bits(&after) != bits(&picked(&interface, interface.outputs(), &before, &index)) {
        wrong.push(format!("{}\n    batches in another order change bits", setup.context()));
    }
    let lengths = Lengths { batch: 1, ..setup.case.lengths };
    for at in 0..batch {
        let index = BTreeMap::from([("b", vec![at])]);
        let tensors = picked(&interface, interface.inputs(), &setup.case.tensors, &index);
        let mut made = common::outputs(&interface, lengths, |_| common::Layout::Rows);
        common::run(setup.kernel.call(), &tensors, &mut made).expect("runs");
        if bits(&made) != bits(&picked(&interface, interface.outputs(), &before, &index)) {
            wrong.push(format!("{}\n    batch {at} alone has other bits", setup.context()));
        }
    }
    true
}

#[test]
fn batches_do_not_meet() {
    check(Family::Wild, "batches_do_not_meet", batches_are_apart);
}

#[test]
fn batches_of_any_axes_do_not_meet() {
    check(Family::Own, "batches_of_any_axes_do_not_meet", batches_are_apart);
}

fn heads_are_apart(setup: &mut Setup, wrong: &mut Vec<String>) -> bool {
    let interface = setup.kernel.interface().clone();
    let graph = &setup.spec.lowered;
    let of_heads = |axis: &Axis| ["h", "g"].contains(&&*graph.axis(*axis).name);
    let told_apart = graph.nodes().iter().any(|node| match &node.op {
        Op::Iota(axis) | Op::Gather { axis, .. } => of_heads(axis),
        Op::Table { dims, .. } => dims.iter().any(of_heads),
        _ => false,
    });
    let length = |name| graph.axis_named(name).and_then(|axis| graph.static_extent(axis)).map(|n| n as usize);
    let (Some(heads), false) = (length("h"), told_apart) else { return false };
    if !all_have(&interface, "h") {
        return false;
    }
    // Groups in another order, and the heads of each.
    let groups = length("g").unwrap_or(heads);
    let order = setup.rng.shuffled((0..groups).collect::<Vec<_>>());
    let per_group = heads / groups;
    let mut of_heads = Vec::new();
    for group in &order {
        of_heads.extend(setup.rng.shuffled((0..per_group).collect()).into_iter().map(|head| group * per_group + head));
    }
    let index = BTreeMap::from([("h", of_heads), ("g", order)]);
    let before = setup.run(&setup.case.tensors);
    let after = setup.run(&picked(&interface, interface.inputs(), &setup.case.tensors, &index));
    if bits(&after) != bits(&picked(&interface, interface.outputs(), &before, &index)) {
        wrong.push(format!("{}\n    heads in another order change bits", setup.context()));
    }
    heads > 1
}

#[test]
fn heads_do_not_meet() {
    check(Family::Wild, "heads_do_not_meet", heads_are_apart);
}

#[test]
fn threads_change_no_bit() {
    let engines = [1, 2, 3].map(engines);
    let found = each_seed(seeds(1, CASES), |seed, wrong| {
        for family in [Family::Wild, Family::Own] {
            let Some(setup) = Setup::of_seed(&engines[0], family, seed) else { continue };
            let (once, target) = (bits(&setup.run(&setup.case.tensors)), setup.kernel.target().to_string());
            for engines in &engines[1..] {
                let of_target = engines.iter().filter(|engine| engine.target().to_string() == target);
                let taken = |kernel: &Kernel| kernel.decode().map(|decode| decode.queries.clone()).ok();
                let (engine, kernel) = of_target
                    .map(|engine| (engine, engine.compile(&setup.spec.graph).expect("compiles as before")))
                    .find(|(_, kernel)| taken(kernel) == taken(&setup.kernel))
                    .expect("as many");
                let made = setup.case.run(&kernel, &setup.case.stored(&setup.case.tensors)).expect("runs as before");
                if bits(&made) != once {
                    wrong.push(format!("{}\n    {} threads change bits", setup.context(), engine.threads()));
                }
            }
        }
    });
    found.check(("metamorphic", "threads_change_no_bit"));
}

/// The graph with the input `shift`, over queries, added to all scores.
fn shifted(graph: &Verified) -> Verified {
    let query = graph.axis_named("q").expect("queries");
    let (shift, sums) = (Cell::new(None::<Value>), RefCell::new(BTreeMap::<Value, Value>::new()));
    let Ok(builder) = graph.rebuild(|b, _, mut op| {
        if let Op::Softmax { x, .. } | Op::LogSumExp { x, .. } = &mut op {
            let by = shift.get().map_or_else(|| b.input("shift", Elem::F32, [query]), |by| b.expr(by));
            shift.set(Some(by.value()));
            *x = *sums.borrow_mut().entry(*x).or_insert_with(|| (b.expr(*x) + by).value());
        }
        Ok::<_, Infallible>(b.push(op))
    });
    builder.finish().expect("a graph")
}

/// A constant for each row of scores: `lse` grows by it, `out` stays, each within its bound.
#[test]
fn a_constant_added_to_scores_changes_lse_alone() {
    let engines = engines(1);
    let found = each_seed(seeds(1, CASES), |seed, wrong| {
        let (spec, mut rng) = Spec::of_seed(seed, Family::Wild);
        let has_sink = spec.lowered.nodes().iter().any(|node| matches!(&node.op, Op::Softmax { sink: Some(_), .. }));
        let graph = shifted(&spec.graph);
        let Ok(kernel) = rng.pick(&engines.iter().collect::<Vec<_>>()).compile(&graph) else { return false };
        if has_sink {
            return false;
        }
        let lowered = lower(&shifted(&spec.lowered), &Registry::standard()).expect("nothing is left to lower");
        let mut case = Case::random(&mut rng, &spec, kernel.interface(), Family::Wild);
        let queries = case.lengths.queries;
        let mut constants: Vec<f32> = (0..queries).map(|_| rng.pick(&[0.0, 1.0, 64.0, -3.7, 0.1, 1000.0])).collect();
        if case.repeated.contains("shift") {
            let first = constants.first().copied().unwrap_or(0.0);
            constants.fill(first);
        }
        let mut results = Vec::new();
        for shift in [vec![0.0; queries], constants] {
            case.tensors.insert("shift".to_owned(), Tensor::f32([queries], shift));
            let made = case.run(&kernel, &case.stored(&case.tensors)).expect("runs");
            let expected = interpret(&lowered, &bindings(&case.tensors)).expect("the interpreter runs");
            let bounds = bounds(&kernel, &case.tensors, &made);
            results.push((made, expected, bounds));
        }
        let [(before, of_before, bounds_before), (after, of_after, bounds_after)] = &results[..] else {
            unreachable!("two")
        };
        for (name, before) in before {
            let expected = |of: &rhumb::ir::Outputs| of[name].data.clone();
            let rows = before.values().into_iter().zip(after[name].values());
            let limits = bounds_before[name].values().into_iter().zip(bounds_after[name].values());
            let limits = limits.map(|(a, b)| f64::from(a) + f64::from(b));
            let grown = expected(of_before).into_iter().zip(expected(of_after)).map(|(a, b)| b - a);
            for (((a, b), limit), grown) in rows.zip(limits).zip(grown) {
                // `lse` grows by the constant, as the interpreter has it; `out` by nothing.
                let off = (f64::from(b) - f64::from(a) - if name == "lse" { grown } else { 0.0 }).abs();
                if limit.is_finite() && off > limit {
                    wrong.push(format!(
                        "{}; {:?}; {}\n    `{name}`: {a} becomes {b}, off by {off:.1e}, which may be {limit:.1e}",
                        spec.what,
                        case.lengths,
                        kernel.target()
                    ));
                    break;
                }
            }
        }
        true
    });
    found.check(("metamorphic", "a_constant_added_to_scores_changes_lse_alone"));
    let told = found.cases.iter().filter(|(_, told)| *told).count();
    assert!(found.cases.len() < CASES as usize || told * 3 > found.cases.len(), "only {told} graphs tell");
}
