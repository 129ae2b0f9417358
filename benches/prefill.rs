//! Prefill on one thread: 8 heads, 2048 queries on 2048 keys, 64 elements. Elements per second are effective operations per second:
//! 4 per pair of a query and a key that see one another and element, of each head.

#[path = "common/chains.rs"]
mod chains;
mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{Case, DIM, HEADS, engine, label, least_time, of_4_lanes, operations, targets};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rhumb::prelude::*;

const TOKENS: usize = 2048;

/// What is timed: a name, the attention, and the pairs that see one another.
fn cases() -> [(&'static str, Attention, usize); 3] {
    let attention = || Attention::heads(HEADS).head_dim(DIM);
    let (all, causal) = (TOKENS * TOKENS, TOKENS * (TOKENS + 1) / 2);
    [
        ("causal ALiBi", attention().scheme(Alibi::new()).scheme(Causal), causal),
        ("causal RoPE", attention().scheme(Rope::new()).scheme(Causal), causal),
        ("no mask", attention(), all),
    ]
}

fn prefill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for target in targets() {
        let engine = engine(&target);
        for (name, attention, pairs) in cases() {
            let mut case = Case::new(&engine, &attention, TOKENS);
            group.throughput(Throughput::Elements(operations(pairs)));
            group.bench_function(BenchmarkId::new(name, label(&target)), |bencher| {
                bencher.iter(|| case.run());
            });
        }
    }
    group.finish();
}

/// The rate of vectors of 4 lanes beside the peak of this run, best against best.
fn share_of_peak(_: &mut Criterion) {
    let Some((bits, run)) = chains::available().into_iter().find(|(bits, _)| *bits == 128) else { return };
    let peak = chains::operations(bits) as f64 / least_time(50, || _ = black_box(run())).as_secs_f64() / 1e9;
    let target = of_4_lanes();
    let engine = engine(&target);
    for (name, attention, pairs) in cases() {
        let mut case = Case::new(&engine, &attention, TOKENS);
        let rate = operations(pairs) as f64 / least_time(5, || case.run()).as_secs_f64() / 1e9;
        let share = 100.0 * rate / peak;
        println!("{name}, {}: {rate:.1} GFLOP/s of {peak:.1} at peak, {share:.0} %", label(&target));
    }
}

criterion_group!(benches, prefill, share_of_peak);
criterion_main!(benches);
