//! ALiBi by operators: a graph of one's own, what fusion makes of it, other slopes, and slopes that follow the length of each call.

mod support;

use std::error::Error;

use rhumb::compiler::rewrite::{RewriteOptions, fuse};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use support::{Run, Tensors, max_error, over_pairs, print_graph};

const HEADS: u32 = 8;
const DIM: u32 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder().build()?;
    by_operators(&engine)?;
    other_head_counts(&engine)?;
    dynamic_slopes(&engine)
}

/// `score + slope (k_pos - q_pos)`, as one would write it on paper.
fn by_operators(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let builder = GraphBuilder::new("alibi");
    let (b, h) = (builder.axis("b"), builder.axis_of("h", HEADS));
    let (q, k, d) = (builder.axis("q"), builder.axis("k"), builder.axis_of("d", DIM));
    let query = builder.input("q", Elem::F32, [b, h, q, d]);
    let key = builder.input("k", Elem::F32, [b, h, k, d]);
    let value = builder.input("v", Elem::F32, [b, h, k, d]);

    // Operators broadcast by the names of axes: slopes over h, positions over q and over k.
    let slope = builder.table([h], Alibi::official_slopes(HEADS));
    let q_pos = builder.iota(q) + (builder.size(k) - builder.size(q));
    let k_pos = builder.iota(k);
    let score = query.dot(key, d) * (1.0 / f64::from(DIM).sqrt());
    let score = (score + slope * (k_pos - q_pos)).mask(k_pos.le(q_pos));
    builder.output("out", score.softmax(k).dot(value, k), [b, h, q, d]);
    builder.output("lse", score.log_sum_exp(k, None), [b, h, q]);
    let graph = builder.finish()?;

    println!("== ALiBi by operators\n\nas written:");
    print_graph(&graph.to_string(), false);
    let lowered = lower(&graph, engine.registry())?;
    let fused = fuse(&lowered, &RewriteOptions::default())?;
    println!("\nfused:");
    print_graph(&fused.to_string(), true);

    // A softmax does not see what is the same for a whole row, so `slope * q_pos` has left the space of (query, key) pairs: the score
    // keeps its product, and takes a term per key. `lse` does see it, and gets it back once per row.
    println!("\nof these over every head, query and key:");
    let text = fused.to_string();
    let pairs = over_pairs(&text);
    print_graph(&pairs.join("\n"), true);
    if pairs.iter().any(|op| op.contains(" = mul ")) {
        return Err("a product of slope and distance is left".into());
    }
    println!();

    // The same by the built-in scheme, both held against the reference.
    let built_in = Attention::heads(HEADS).head_dim(DIM).scheme(Alibi::new()).scheme(Causal).lse().build()?;
    let tensors = Tensors::random(HEADS, HEADS, 130, DIM);
    let (out, lse) = with_lse(&tensors, &engine.reference(&graph)?)?;
    for (name, graph) in [("by operators", &graph), ("built in", &built_in)] {
        let (found, found_lse) = with_lse(&tensors, &*engine.compile(graph)?)?;
        let (error, lse_error) = (max_error(&found, &out, 5e-6)?, max_error(&found_lse, &lse, 2e-5)?);
        println!("{name:12} 130 tokens, largest difference to the reference: out {error:.1e}, lse {lse_error:.1e}");
    }
    Ok(())
}

/// Gives `out` and the log-sum-exp of each row.
fn with_lse(tensors: &Tensors, on: &impl Run) -> Result<(Vec<f32>, Vec<f32>), Box<dyn Error>> {
    let Tensors { q_shape, k_shape, q, k, v } = tensors;
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / DIM as usize]);
    on.call()
        .input("q", TensorView::from_slice(q, q_shape)?)
        .input("k", TensorView::from_slice(k, k_shape)?)
        .input("v", TensorView::from_slice(v, k_shape)?)
        .output("out", TensorViewMut::from_slice(&mut out, q_shape)?)
        .output("lse", TensorViewMut::from_slice(&mut lse, &q_shape[..3])?)
        .run()?;
    Ok((out, lse))
}

/// Head counts that are no power of two take every second slope of the next power.
fn other_head_counts(engine: &Engine) -> Result<(), Box<dyn Error>> {
    println!("\n== Official slopes\n");
    for heads in [4, 6, 12] {
        let slopes = Alibi::official_slopes(heads);
        let slopes: Vec<String> = slopes.iter().map(|slope| format!("2^{:.1}", slope.log2())).collect();
        println!("{heads:2} heads: {}", slopes.join(" "));
    }
    let graph = Attention::heads(12).head_dim(DIM).scheme(Alibi::new()).scheme(Causal).build()?;
    let tensors = Tensors::random(12, 12, 61, DIM);
    let found = tensors.run(&*engine.compile(&graph)?)?;
    let expected = tensors.run(&engine.reference(&graph)?)?;
    println!("12 heads, 61 tokens: largest difference to the reference {:.1e}", max_error(&found, &expected, 5e-6)?);
    Ok(())
}

/// Slopes that flatten past the training length: `m 256 / L` for a call of `L` tokens, of which the kernel learns at the call.
fn dynamic_slopes(engine: &Engine) -> Result<(), Box<dyn Error>> {
    println!("\n== Dynamic slopes, trained on 256 tokens\n");
    let graph = Attention::heads(HEADS).head_dim(DIM).scheme(DynamicAlibi::new(256)).scheme(Causal).build()?;
    let kernel = engine.compile(&graph)?;
    let compiled = engine.cache_stats().misses;
    for tokens in [128, 256, 512, 1024] {
        let tensors = Tensors::random(HEADS, HEADS, tokens, DIM);
        let found = tensors.run(&*kernel)?;

        // Against fixed slopes, scaled by hand.
        let scale = (256.0 / tokens as f64).min(1.0);
        let fixed = Attention::heads(HEADS).head_dim(DIM).scheme(Alibi::new().scale(scale)).scheme(Causal).build()?;
        let expected = tensors.run(&engine.reference(&fixed)?)?;
        let error = max_error(&found, &expected, 5e-6)?;
        println!("{tokens:4} tokens, slopes times {scale:5.3}: largest difference to the reference {error:.1e}");
    }
    if engine.cache_stats().misses != compiled {
        return Err("something was compiled again".into());
    }
    println!("one kernel, compiled once in {:.1} ms", kernel.compile_time().as_secs_f64() * 1e3);
    Ok(())
}
