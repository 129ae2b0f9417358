use super::super::*;
use rhumb_ir::Verified;
use rhumb_plugins::{Attention, Registry, lower, schemes::*};

fn show(name: &str, graph: &Verified) {
    let registry = Registry::standard();
    let lowered = lower(graph, &registry).unwrap();
    let _ = fuse(&lowered, &RewriteOptions::default()).unwrap();
    let start = std::time::Instant::now();
    let fused = fuse(&lowered, &RewriteOptions::default()).unwrap();
    let t = start.elapsed();
    let text = fused.to_string();
    let body = text.split("\n\n").skip(2).collect::<Vec<_>>().join("\n");
    let st = fused.statistics();
    println!(
        "=== {name}\n{body}\n{} it {} nodes {} classes {:?} {} -> {}  {t:?}",
        st.iterations, st.nodes, st.classes, st.stop, st.cost_before, st.cost_after
    );
}

#[test]
fn show_all() {
    show("plain", &Attention::new(8, 64).build().unwrap());
    show("alibi lse", &Attention::new(8, 64).scheme(Alibi::new()).scheme(Causal).lse().build().unwrap());
    show("rope gqa", &Attention::new(32, 128).kv_heads(8).scheme(Rope::new()).scheme(Causal).build().unwrap());
    show(
        "softcap window sinks",
        &Attention::new(32, 128)
            .kv_heads(8)
            .softcap(50.0)
            .sinks()
            .lse()
            .scheme(Rope::new())
            .scheme(Causal)
            .scheme(SlidingWindow::new(100))
            .build()
            .unwrap(),
    );
    show("alibi sinks", &Attention::new(8, 64).scheme(Alibi::new()).sinks().lse().scheme(Causal).build().unwrap());
    show(
        "rope alibi",
        &Attention::new(8, 64)
            .scheme(Rope::new())
            .scheme(Alibi::new())
            .lse()
            .scheme(Causal)
            .scheme(SlidingWindow::new(100))
            .build()
            .unwrap(),
    );
    show(
        "alibi softcap",
        &Attention::new(8, 64)
            .scheme(Alibi::new())
            .softcap(20.0)
            .lse()
            .scheme(Causal)
            .scheme(SlidingWindow::new(100))
            .build()
            .unwrap(),
    );
    show("dyn alibi", &Attention::new(8, 64).scheme(DynamicAlibi::new(256)).lse().scheme(Causal).build().unwrap());
    show(
        "many masks",
        &Attention::new(8, 64)
            .documents(rhumb_plugins::Batch::Each)
            .key_lengths()
            .lse()
            .scheme(PrefixLm::new(7))
            .scheme(SlidingWindow::new(100))
            .build()
            .unwrap(),
    );
    show(
        "bias",
        &Attention::new(8, 64)
            .bias(rhumb_plugins::Batch::Each)
            .lse()
            .scheme(Alibi::new())
            .scheme(Causal)
            .build()
            .unwrap(),
    );
}
#[test]
fn proof() {
    let registry = Registry::standard();
    let g = Attention::new(8, 64).scheme(Alibi::new()).scheme(Causal).lse().build().unwrap();
    let lowered = lower(&g, &registry).unwrap();
    let start = std::time::Instant::now();
    println!("{}", explain(&lowered, &RewriteOptions::default()).unwrap());
    println!("{:?}", start.elapsed());
}
