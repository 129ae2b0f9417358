//! A position scheme of one's own, outside rhumb: KERPLE's logarithmic penalty (arXiv 2205.09921), `score - r1 ln(1 + r2 |p_q - p_k|)`.
//!
//! The scheme states its formula and nothing else. It is fused, tiled and compiled like a built-in one.

mod support;

use std::error::Error;

use rhumb::compiler::rewrite::{RewriteOptions, fuse};
use rhumb::ir::{Attr, Attrs};
use rhumb::plugins::testing::SchemeTest;
use rhumb::plugins::{AttrInfo, AttrReader, lower};
use rhumb::prelude::*;
use support::{Tensors, max_error, print_graph};

// The scheme: ...
struct Kerple {
    r1: f64,
    r2: f64,
}

impl PositionScheme for Kerple {
    fn name(&self) -> &str {
        "kerple"
    }
    fn hooks(&self) -> &[Hook] {
        &[Hook::Score]
    }
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score - self.r1 * (1.0 + self.r2 * (cx.q_pos() - cx.k_pos()).abs()).log())
    }
    // For the text form alone: what is written of it, ...
    fn attributes(&self) -> Attrs {
        Attrs::from([("r1".into(), Attr::Float(self.r1)), ("r2".into(), Attr::Float(self.r2))])
    }
}

// ... what the registry tells of it, ...
const INFO: SchemeInfo = SchemeInfo {
    name: "kerple",
    summary: "a penalty that grows with the logarithm of the distance (arXiv 2205.09921)",
    formula: "score - r1 ln(1 + r2 |p_q - p_k|)",
    attributes: &[
        AttrInfo::new("r1", AttrKind::Float, "1", "how strong the penalty is"),
        AttrInfo::new("r2", AttrKind::Float, "1", "how soon it bends"),
    ],
};

fn main() -> Result<(), Box<dyn Error>> {
    // ... and how it is made again from its attributes.
    let make = |a: AttrReader<'_>| Ok(Kerple { r1: a.float("r1")?.unwrap_or(1.0), r2: a.float("r2")?.unwrap_or(1.0) });
    let registry = Registry::standard().with(Entry::new(INFO, make))?;

    // The test kit holds the scheme against its formula, one score at a time, at many shapes, and against what is written of it.
    SchemeTest::new(&registry, || Kerple { r1: 0.5, r2: 0.25 })
        .agrees_with(|p| p.score() - 0.5 * (1.0 + 0.25 * (p.q_pos - p.k_pos).abs()).ln())
        .shift_invariant()
        .run()?;
    println!("test kit: agrees with its formula, does not depend on where positions start\n");

    // It composes like any other: here with RoPE and a causal mask.
    let kerple = Kerple { r1: 0.5, r2: 0.25 };
    let graph =
        Attention::new(8, 64).kv_heads(2).scheme(Rope::new().rotary_dim(16)).scheme(kerple).scheme(Causal).build()?;
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
