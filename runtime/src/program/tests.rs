//! Programs against the interpreter, and what they leave out.

mod classes;
mod load;

use rhumb_compiler::plan::Pruning;
use rhumb_compiler::{Options, Target, compile};
use rhumb_ir::{Bindings, Extent, Tensor, Verified, interpret};
use rhumb_plugins::{Alibi, Causal, Registry, Rope, SlidingWindow};
use rhumb_random::Rng;

use super::pool::ThreadMemory;
use super::*;
use crate::interface::{Bindings as Views, Interface};
use crate::memory::Places;
use crate::tiles::Segment;
use crate::view::{TensorView, TensorViewMut};

/// A compiled call.
struct Ran {
    program: Program,
    inputs: Bindings,
    /// Greatest difference from the reference, over all outputs.
    off: f64,
}

impl Ran {
    /// The memory of a single thread, which is that of the last task.
    fn memory(&self) -> ThreadMemory {
        let mut lease = self.program.pool.lease(&Places::new(None)).expect("memory");
        lease.threads.pop().expect("a thread")
    }
}

fn run(graph: &Verified, target: &Target, sizes: &[(&str, usize)]) -> Ran {
    let registry = Registry::standard();
    let compiled = compile(graph, &registry, target, &Options::default(), &mut |_, _| ()).expect("compiles");
    let program = Program::load(compiled.plan.clone(), &compiled.code, compiled.choice.target(), None).expect("loads");
    let interface = Interface::of(&compiled.lowered).expect("an interface");
    let length = |axis: rhumb_ir::Axis| match graph.axis(axis).extent {
        Extent::Static(n) => n as usize,
        Extent::Dynamic => sizes.iter().find(|(name, _)| *name == graph.axis(axis).name).expect("a size").1,
    };
    let shape = |dims: &[rhumb_ir::Axis]| dims.iter().map(|axis| length(*axis)).collect::<Vec<_>>();
    let inputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
        .inputs()
        .iter()
        .zip(1..)
        .map(|(port, seed)| {
            let shape = shape(&port.dims);
            (port.name.clone(), shape.clone(), Rng::new(seed).normals(shape.iter().product()))
        })
        .collect();
    let mut outputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
        .outputs()
        .iter()
        .map(|port| {
            let shape = shape(&port.dims);
            (port.name.clone(), shape.clone(), vec![f32::NAN; shape.iter().product()])
        })
        .collect();
    let mut views = Views::default();
    for (name, shape, data) in &inputs {
        views.input(name, TensorView::from_slice(data, shape).expect("a view"));
    }
    for (name, shape, data) in &mut outputs {
        views.output(name, TensorViewMut::from_slice(data, shape).expect("a view"));
    }
    let threads = Threads::new(1).expect("threads");
    program.run(interface.bind(views).expect("fits"), &threads).expect("runs");
    let inputs: Bindings = inputs
        .iter()
        .map(|(name, shape, data)| {
            (name.clone(), Tensor::f32(shape.clone(), data.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()))
        })
        .collect();
    let expected = interpret(&compiled.lowered, &inputs).expect("interprets");
    let mut worst = 0.0f64;
    for (name, _, data) in &outputs {
        for (x, y) in data.iter().zip(&expected[name.as_str()].data) {
            let off = (f64::from(*x) - y).abs();
            worst = if f64::from(*x) == *y { worst } else { worst.max(if off.is_nan() { f64::INFINITY } else { off }) };
        }
    }
    Ran { program, inputs, off: worst }
}

#[test]
fn kernels_agree_with_the_reference() {
    let targets = Target::host().expect("a target").candidates();
    for (q, k) in [(1, 1), (15, 17), (17, 15), (130, 130), (1, 130), (48, 64), (0, 5), (5, 0)] {
        let sizes = [("b", 2), ("q", q), ("k", k)];
        let plain = rhumb_plugins::Attention::new(4, 32);
        let alibi = rhumb_plugins::Attention::new(6, 32).kv_heads(2).scheme(Alibi::new()).scheme(Causal);
        let rope = rhumb_plugins::Attention::new(4, 24).kv_heads(1).scheme(Rope::new()).scheme(Causal).lse();
        for (name, attention) in [("plain", plain), ("alibi", alibi), ("rope", rope)] {
            let graph = attention.build().expect("a graph");
            for target in &targets {
                let off = run(&graph, target, &sizes).off;
                assert!(off < 2e-6, "{name}, {target}, {q} x {k}: {off}");
            }
        }
    }
}

/// The first key tile of which all units are too far below the term of the first query, by the norms of one head, if one is left.
fn tile_too_far_below(
    inputs: &Bindings,
    slope: f64,
    (first, end): (usize, usize),
    segments: &[Segment],
) -> Option<(usize, usize)> {
    const UNIT: usize = 16;
    let (keys, dim) = (inputs["k"].shape[2], inputs["k"].shape[3]);
    let greatest = |tensor: &str, rows: std::ops::Range<usize>| {
        let norm = |at: usize| inputs[tensor].data[at * dim..(at + 1) * dim].iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.map(norm).fold(0.0, f64::max)
    };
    let of_queries = greatest("q", first..end);
    let below = |unit: usize| {
        let of_unit = unit * UNIT..((unit + 1) * UNIT).min(keys);
        let bias = slope * (first as f64 - (of_unit.end - 1) as f64);
        let most = of_queries * greatest("k", of_unit) / (dim as f64).sqrt() - bias;
        most * std::f64::consts::LOG2_E < -Pruning::BELOW - 0.1
    };
    let tiles = segments.iter().flat_map(|segment| {
        let next = |(_, end): &(usize, usize)| (*end < segment.end).then(|| segment.tiles.around(*end));
        std::iter::successors(Some(segment.tiles.around(segment.first)), next)
    });
    let mut left = tiles.filter(|(from, to)| (from / UNIT..to.div_ceil(UNIT)).all(below));
    left.next()
}

/// Pruned keys have no weight, by scores computed here; most keys without weight are pruned.
#[test]
fn keys_without_weight_are_left_out() {
    const KEYS: usize = 301;
    const DIM: usize = 24;
    const SLOPE: f64 = 1.5;
    let alibi = || Alibi::new().slopes([SLOPE]);
    let attention = || rhumb_plugins::Attention::new(1, DIM as u32);
    let cases = [
        ("causal", attention().scheme(alibi()).scheme(Causal)),
        ("window", attention().scheme(alibi()).scheme(SlidingWindow::new(260))),
        ("symmetric", attention().scheme(alibi().symmetric())),
    ];
    for ((name, attention), target) in
        cases.iter().flat_map(|case| Target::host().expect("a target").candidates().into_iter().map(move |t| (case, t)))
    {
        let graph = attention.build().expect("a graph");
        let ran = run(&graph, &target, &[("b", 1), ("q", KEYS), ("k", KEYS)]);
        assert!(ran.off < 3e-6, "{name}, {target}: {}", ran.off);
        let row = |tensor: &str, at: usize| ran.inputs[tensor].data[at * DIM..(at + 1) * DIM].to_vec();
        let score = |query: usize, key: usize| {
            let product: f64 = row("q", query).iter().zip(row("k", key)).map(|(x, y)| x * y).sum();
            let score = product / (DIM as f64).sqrt() - SLOPE * query.abs_diff(key) as f64;
            score * std::f64::consts::LOG2_E
        };
        // With one head, all queries of 16 lanes, the first of fewer.
        let lists = ran.memory().lists;
        let (mut left_out, mut first_segment) = (0, 0);
        for query_tile in &lists.query_tiles {
            let segments = &lists.seen.segments[first_segment..query_tile.segments_end];
            first_segment = query_tile.segments_end;
            let (first, end) = query_tile.queries.range;
            // The tile that came first lies among the queries' own keys.
            let came_first = first.saturating_sub(64)..end + 64;
            let computed = |key: usize| {
                came_first.contains(&key) || segments.iter().any(|segment| (segment.first..segment.end).contains(&key))
            };
            for query in first..end {
                let seen: Vec<usize> = (0..KEYS)
                    .filter(|key| *name == "symmetric" || *key <= query && (*name == "causal" || query - key < 260))
                    .collect();
                let most = seen.iter().map(|key| score(query, *key)).fold(f64::NEG_INFINITY, f64::max);
                for &key in seen.iter().filter(|key| !computed(**key)) {
                    assert!(score(query, key) < most - Pruning::BELOW, "{name}, {target}: query {query}, key {key}");
                    left_out += 1;
                }
                // A unit, a tile of queries and the products of norms may stand between.
                let far = seen.iter().filter(|key| computed(**key) && query.abs_diff(**key) > 240).count();
                assert_eq!(far, 0, "{name}, {target}: query {query}");
            }
            if *name != "symmetric" {
                let left = tile_too_far_below(&ran.inputs, SLOPE, (first, end), segments);
                assert_eq!(left, None, "{name}, {target}: queries from {first}");
            }
        }
        assert!(left_out > 1000, "{name}, {target}: {left_out}");
    }
}
