//! The machine's peak of 128-bit multiply-adds on one core: what the rates of `prefill` are held against.

#[path = "common/chains.rs"]
mod chains;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn peak(criterion: &mut Criterion) {
    if chains::run().is_none() {
        println!("this machine has no fused multiply-add that is measured here");
        return;
    }
    let mut group = criterion.benchmark_group("peak");
    group.throughput(Throughput::Elements(chains::OPERATIONS)).measurement_time(Duration::from_secs(2));
    group.bench_function("128-bit multiply-add", |bencher| bencher.iter(chains::run));
    group.finish();
}

criterion_group!(benches, peak);
criterion_main!(benches);
