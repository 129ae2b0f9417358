//! What the benchmarks share: a call that is ready to run, and how operations are counted.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rhumb::prelude::*;

/// Heads of all benchmarks of kernels.
pub(crate) const HEADS: u32 = 8;
/// Elements of a head.
pub(crate) const DIM: u32 = 64;

/// A kernel and the tensors of a call: one sequence, as many queries as keys.
pub(crate) struct Case {
    kernel: Arc<Kernel>,
    shape: [usize; 4],
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
}

impl Case {
    pub(crate) fn new(engine: &Engine, attention: &Attention, tokens: usize) -> Case {
        let graph = attention.build().expect("a graph");
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{error}"));
        let shape = [1, HEADS as usize, tokens, DIM as usize];
        let count = shape.iter().product();
        Case { kernel, shape, q: noise(count, 1), k: noise(count, 2), v: noise(count, 3), out: vec![0.0; count] }
    }

    pub(crate) fn run(&mut self) {
        let Case { kernel, shape, q, k, v, out } = self;
        let view = |data| TensorView::from_slice(data, shape).expect("a view");
        let call = kernel.call().input("q", view(q)).input("k", view(k)).input("v", view(v));
        call.output("out", TensorViewMut::from_slice(out, shape).expect("a view")).run().expect("runs");
    }
}

/// An engine of one thread.
pub(crate) fn engine(target: &Target) -> Engine {
    Engine::builder().threads(1).target(target.clone()).build().expect("an engine")
}

/// Every code generator of this machine at every lane count it has.
pub(crate) fn targets() -> Vec<Target> {
    Target::host().expect("a target").candidates()
}

/// This machine's best code of 4 lanes, which every machine has.
pub(crate) fn of_4_lanes() -> Target {
    Target::host().and_then(|target| target.with_lanes(4)).expect("a target")
}

/// A target as benchmarks are named by it.
pub(crate) fn label(target: &Target) -> String {
    format!("{} lanes, {}", target.machine().lanes, target.machine().backend)
}

/// Operations of both matrix products, over the pairs of a query and a key that see one another.
pub(crate) fn operations(visible_pairs: usize) -> u64 {
    4 * u64::from(HEADS) * u64::from(DIM) * visible_pairs as u64
}

/// The least time of some runs.
pub(crate) fn least_time(runs: usize, mut run: impl FnMut()) -> Duration {
    run();
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.min().unwrap_or(Duration::MAX)
}

/// Numbers between -1 and 1.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
