//! The time from a graph to a kernel: from cold, and where the engine has it.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rhumb::prelude::*;

fn compile(criterion: &mut Criterion) {
    let graphs = [
        ("Llama 3", Attention::heads(32).head_dim(128).kv_heads(8).scheme(Rope::new().base(500_000.0)).scheme(Causal)),
        ("BLOOM", Attention::heads(32).head_dim(128).scheme(Alibi::new()).scheme(Causal)),
    ];
    let graphs = graphs.map(|(name, attention)| (name, attention.build().expect("a graph")));
    let cold = Engine::builder().cache_capacity(0).build().expect("an engine");
    let warm = Engine::host().expect("an engine");

    let mut group = criterion.benchmark_group("compile");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for (name, graph) in &graphs {
        group.bench_function(BenchmarkId::new("cold", name), |bencher| bencher.iter(|| cold.compile(graph)));
        group.bench_function(BenchmarkId::new("cached", name), |bencher| bencher.iter(|| warm.compile(graph)));
    }
    group.finish();
}

criterion_group!(benches, compile);
criterion_main!(benches);
