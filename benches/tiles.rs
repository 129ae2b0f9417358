//! Cost follows the tiles that are not masked: with a window of 256 keys, the time of a call grows with its queries and not with the
//! product of queries and keys. Elements per second are effective operations per second, so they stay level.

mod common;

use std::time::Duration;

use common::{Case, DIM, HEADS, engine, of_4_lanes, operations};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rhumb::prelude::*;

const WINDOW: usize = 256;

fn tiles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window of 256");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let engine = engine(&of_4_lanes());
    let attention = Attention::heads(HEADS).head_dim(DIM).scheme(Rope::new()).scheme(SlidingWindow::new(WINDOW as i32));
    for tokens in [1024, 2048, 4096, 8192] {
        let mut case = Case::new(&engine, &attention, tokens);
        let pairs = (0..tokens).map(|query| WINDOW.min(query + 1)).sum();
        group.throughput(Throughput::Elements(operations(pairs)));
        group.bench_function(BenchmarkId::from_parameter(tokens), |bencher| bencher.iter(|| case.run()));
    }
    group.finish();
}

criterion_group!(benches, tiles);
criterion_main!(benches);
