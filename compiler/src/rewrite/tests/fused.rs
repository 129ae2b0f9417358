use rhumb_plugins::{Attention, Registry, lower, schemes};
use rhumb_ir::Verified;
use super::super::*;

fn show(name: &str, graph: &Verified) {
    let registry = Registry::standard();
    let lowered = lower(graph, &registry).unwrap();
    let start = std::time::Instant::now();
    let fused = fuse(&lowered, &RewriteOptions::default()).unwrap();
    println!("=== {name}\n{}\n{fused}\n{}{:?}", *lowered, fused.statistics(), start.elapsed());
}

#[test]
fn show_all() {
    show("alibi", &Attention::new(8, 64).scheme(schemes::Alibi::new()).scheme(schemes::Causal).build().unwrap());
}
