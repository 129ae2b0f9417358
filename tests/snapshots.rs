//! What each stage of the compiler makes of small attentions, for reviewers of a change to see.
//!
//! The stages up to the plan do not depend on the target but for its lanes. Of CLIF and machine code there are the smallest functions in
//! which a scheme shows, those that make its tables, for both instruction sets.

use rhumb::compiler::codegen::Role;
use rhumb::compiler::{Compiled, Kernels, Options, compile};
use rhumb::prelude::*;

const TRIPLES: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

fn compiled(attention: &Attention, triple: &str) -> Compiled {
    let graph = attention.build().expect("a graph");
    let target = Target::named(triple).expect("a target").with_lanes(4).expect("lanes");
    let options = Options { disassemble: true, kernels: Kernels::Decode, ..Options::default() };
    compile(&graph, &Registry::standard(), &target, &options, &mut |_, _| ()).expect("compiles")
}

/// The graph, lowered, fused, planned, and the first of its functions.
fn stages(name: &str, attention: &Attention) {
    let [x86, arm] = TRIPLES.map(|triple| compiled(attention, triple));
    assert_eq!(x86.plan.to_string(), arm.plan.to_string(), "plans depend on lanes alone");
    insta::assert_snapshot!(format!("{name}_1_ir"), attention.build().expect("a graph"));
    insta::assert_snapshot!(format!("{name}_2_lowered"), x86.lowered);
    insta::assert_snapshot!(format!("{name}_3_fused"), x86.fused);
    insta::assert_snapshot!(format!("{name}_4_plan"), x86.plan);
    code(name, attention, Role::Table(0));
}

/// The plan for few queries.
#[test]
fn decode() {
    let attention = Attention::heads(4).head_dim(8).kv_heads(2).scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal);
    let kernel = compiled(&attention, TRIPLES[0]).decode.expect("a kernel");
    insta::assert_snapshot!("decode_plan", format!("{kernel}\n{}", kernel.plan));
}

/// The plans of an attention whose tensors have 16 bits: for many queries keys and values are widened once, for few as they are loaded.
#[test]
fn half() {
    let attention = Attention::heads(4).head_dim(8).kv_heads(2).elem(Elem::Bf16).query_elem(Elem::F16).lse();
    let [x86, arm] = TRIPLES.map(|triple| compiled(&attention, triple));
    assert_eq!(x86.plan.to_string(), arm.plan.to_string(), "plans depend on lanes alone");
    let kernel = x86.decode.expect("a kernel");
    insta::assert_snapshot!("half_plans", format!("{}\n{kernel}\n{}", x86.plan, kernel.plan));
}

/// The decode kernel of an attention over integers of 8 bits: they are read as they lie, and scaled beside the products.
#[test]
fn bytes() {
    let attention = Attention::heads(4).head_dim(8).kv_heads(2).cache_elem(Elem::I8).zero_points();
    let [x86, arm] = TRIPLES.map(|triple| compiled(&attention, triple));
    assert_eq!(x86.plan.to_string(), arm.plan.to_string(), "plans depend on lanes alone");
    let kernel = x86.decode.expect("a kernel");
    insta::assert_snapshot!("byte_plans", format!("{kernel}\n{}", kernel.plan));
}

/// One function as CLIF and as machine code.
fn code(name: &str, attention: &Attention, wanted: Role) {
    for triple in TRIPLES {
        let compiled = compiled(attention, triple);
        let architecture = triple.split('-').next().unwrap_or_default();
        let (_, clif) = compiled.clif.functions.iter().find(|(role, _)| *role == wanted).expect("the function");
        let machine = compiled.code.functions.iter().find(|function| function.role == wanted).expect("the function");
        insta::assert_snapshot!(format!("{name}_5_clif_{architecture}"), clif);
        insta::assert_snapshot!(format!("{name}_6_asm_{architecture}"), machine.assembly);
    }
}

/// As little as shows a scheme.
fn small() -> Attention {
    Attention::heads(2).head_dim(8)
}

#[test]
fn rope() {
    stages("rope", &small().scheme(Rope::new()));
}

#[test]
fn rope2d() {
    stages("rope2d", &small().scheme(Rope2d::grid(3, 4).prefix(1)));
}

#[test]
fn alibi() {
    stages("alibi", &small().scheme(Alibi::new()).scheme(Causal));
}

#[test]
fn dynamic_alibi() {
    stages("dynamic_alibi", &small().scheme(DynamicAlibi::new(512).alibi(Alibi::new().symmetric())));
}

#[test]
fn rope_and_alibi() {
    stages("rope_and_alibi", &small().scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal).lse());
}

#[test]
fn rope_window_softcap() {
    stages("rope_window_softcap", &small().kv_heads(1).scheme(Rope::new()).scheme(SlidingWindow::new(5)).softcap(30.0));
}

#[test]
fn stages_are_the_same_on_every_run() {
    let attention = || small().scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal);
    let [first, second] = [attention(), attention()].map(|attention| compiled(&attention, TRIPLES[0]));
    assert_eq!(first.clif.to_string(), second.clif.to_string());
    assert_eq!(first.code.to_string(), second.code.to_string());
}
