//! Two well-known attentions from their description to numbers: as in Llama 3 (grouped heads, RoPE) and as in BLOOM (ALiBi).
//!
//! Each is described, lowered, fused, compiled to machine code, held against the reference interpreter at a small size, and timed at a
//! larger one. `cargo run --release --example quickstart`

mod support;

use std::error::Error;
use std::time::{Duration, Instant};

use rhumb::compiler::rewrite::{RewriteOptions, fuse};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use support::{Tensors, max_error, over_pairs, print_graph};

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::host()?;
    println!("{}; {} threads", engine.target(), engine.threads());

    // 32 query heads on 8 key/value heads of 128 elements; queries and keys turn with their position.
    let llama = Attention::heads(32).head_dim(128).kv_heads(8).scheme(Rope::new().base(500_000.0)).scheme(Causal);
    tour(&engine, "Llama 3: 32 heads on 8, RoPE", &llama.build()?, 8)?;

    // Every head has keys of its own, and a slope: the penalty per token of distance.
    let bloom = Attention::heads(32).head_dim(128).scheme(Alibi::new()).scheme(Causal);
    tour(&engine, "BLOOM: 32 heads, ALiBi", &bloom.build()?, 32)
}

/// From a description to a checked and timed kernel.
fn tour(engine: &Engine, title: &str, graph: &Verified, kv_heads: u32) -> Result<(), Box<dyn Error>> {
    println!("\n== {title}\n");
    println!("described, {} ops:", graph.nodes().len());
    print_graph(&graph.to_string(), false);

    // Schemes become primitive ops; then rewriting takes out of the space of (query, key) pairs whatever need not be there.
    let lowered = lower(graph, engine.registry())?;
    let fused = fuse(&lowered, &RewriteOptions::default())?;
    let (before, after) = (lowered.to_string(), fused.to_string());
    println!(
        "\nlowered, {} ops over every head, query and key; fused, {}:",
        over_pairs(&before).len(),
        over_pairs(&after).len()
    );
    print_graph(&after, true);

    // An engine does those steps by itself, and keeps the kernel.
    let kernel = engine.compile(graph)?;
    println!("\ncompiled in {:.1} ms to {} bytes of code", ms(kernel.compile_time()), kernel.code_bytes());
    let start = Instant::now();
    engine.compile(graph)?;
    println!("asked for again: {:.3} ms", ms(start.elapsed()));

    // The same call, interpreted in double precision.
    let small = Tensors::random(32, kv_heads, 77, 128);
    let found = small.run(&*kernel)?;
    let expected = small.run(&engine.reference(graph)?)?;
    println!("77 tokens:   largest difference to the reference {:.1e}", max_error(&found, &expected, 5e-6)?);

    // The same kernel at another length.
    let tokens = 2048;
    let large = Tensors::random(32, kv_heads, tokens, 128);
    let mut out = vec![0.0; large.q.len()];
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        large.run_into(&*kernel, &mut out)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    // Two products of 2 d operations per query, key and head, for the half of the pairs that the mask leaves.
    let operations = 4.0 * (tokens * tokens * 128 * 32) as f64 / 2.0;
    println!("{tokens} tokens: {:.0} ms, {:.1} GFLOP/s", best * 1e3, operations / best / 1e9);
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
