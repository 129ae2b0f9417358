//! A scheme of one's own beside the built-in one of the same formula: no slower.

mod common;
#[path = "common/slanted.rs"]
mod slanted;

use std::time::Duration;

use common::{Case, DIM, HEADS};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rhumb::prelude::*;
use slanted::Slanted;

const TOKENS: usize = 1024;

fn plugin(criterion: &mut Criterion) {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let mut group = criterion.benchmark_group("plugin");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(common::operations(TOKENS * (TOKENS + 1) / 2)));
    let cases = [
        ("of one's own", Attention::heads(HEADS).head_dim(DIM).scheme(Slanted).scheme(Causal)),
        ("built in", Attention::heads(HEADS).head_dim(DIM).scheme(Alibi::new()).scheme(Causal)),
    ];
    for (name, attention) in cases {
        let mut case = Case::new(&engine, &attention, TOKENS);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter(|| case.run()));
    }
    group.finish();
}

criterion_group!(benches, plugin);
criterion_main!(benches);
