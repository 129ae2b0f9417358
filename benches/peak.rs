//! The machine's peak of multiply-adds on one core, at each vector width: what the rates of `prefill` are held against.

#[path = "common/chains.rs"]
mod chains;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn peak(criterion: &mut Criterion) {
    let widths = chains::available();
    if widths.is_empty() {
        println!("this machine has no fused multiply-add that is measured here");
    }
    let mut group = criterion.benchmark_group("peak");
    for (bits, run) in widths {
        group.throughput(Throughput::Elements(chains::operations(bits))).measurement_time(Duration::from_secs(2));
        group.bench_function(format!("{bits}-bit multiply-add"), |bencher| bencher.iter(run));
    }
    group.finish();
}

criterion_group!(benches, peak);
criterion_main!(benches);
