//! A position scheme of one's own, outside rhumb: a penalty that grows with the logarithm of the distance, `score - r ln(1 + |p_q - p_k|)`.
//!
//! The scheme states its attributes and its formula, and nothing else. It is fused, tiled and compiled like a built-in one.

mod support;

use std::error::Error;

use rhumb::compiler::rewrite::{RewriteOptions, fuse};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use rhumb::testing::SchemeTest;
use support::{Tensors, max_error, print_graph};

// The scheme: what it is called, where it works, its attributes, ...
scheme! {
    /// A penalty that grows with the logarithm of the distance.
    pub struct LogDistance: "log_distance" at Score = "score - r ln(1 + |p_q - p_k|)" {
        /// How strong the penalty is.
        #[range(AttrRange::above(0.0))] r: f64 = 1.0,
    }
}
// ... and its mathematics.
impl PositionScheme for LogDistance {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score - self.r * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // For graphs that are read from text it is registered by its name.
    let registry = Registry::standard().with(Entry::of::<LogDistance>())?;

    // The test kit holds the scheme against its formula, one score at a time, at many shapes, and against what is written of it.
    SchemeTest::new(&registry, || LogDistance { r: 0.5 })
        .agrees_with(|p| p.score() - 0.5 * (1.0 + (p.q_pos - p.k_pos).abs()).ln())
        .shift_invariant()
        .run()?;
    println!("test kit: agrees with its formula, does not depend on where positions start\n");

    // It composes like any other: here with RoPE and a causal mask.
    let scheme = LogDistance { r: 0.5 };
    let graph = Attention::heads(8)
        .head_dim(64)
        .kv_heads(2)
        .scheme(Rope::new().rotary_dim(16))
        .scheme(scheme)
        .scheme(Causal)
        .build()?;
    let fused = fuse(&lower(&graph, &Registry::empty())?, &RewriteOptions::default())?;
    println!("fused:");
    print_graph(&fused.to_string(), true);

    // What is compiled is the value that was given: no engine has to know its name.
    let engine = Engine::host()?;
    let kernel = engine.compile(&graph)?;
    let tensors = Tensors::random(8, 2, 200, 64);
    let found = tensors.run(&*kernel)?;
    let expected = tensors.run(&engine.reference(&graph)?)?;
    println!("\ncompiled in {:.1} ms", kernel.compile_time().as_secs_f64() * 1e3);
    println!("200 tokens: largest difference to the reference {:.1e}", max_error(&found, &expected, 5e-6)?);

    // In the text form there is but the name: an engine with the registry finds the scheme, another says what it lacks.
    let text = Graph::parse(&graph.to_string())?;
    Engine::builder().registry(registry).build()?.compile(&text)?;
    let Err(error) = engine.compile(&text) else { return Err("a scheme that is not there".into()) };
    println!("\nfrom text, without its entry:\n{error}");
    Ok(())
}
