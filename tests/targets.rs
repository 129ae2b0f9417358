//! Which targets this machine runs: each is printed and held against the interpreter.
//!
//! `RHUMB_EXPECT` names instruction sets that have to be among them, separated by commas, as [`Target::instructions`] has them: of x86-64
//! `sse41`, `avx`, `fma`, `avx2` and `avx512`, of 64-bit Arm `aarch64`. Unset, nothing is expected.

mod common;

use std::collections::BTreeSet;

use common::{Layout, Lengths, Rng, absolute, difference, engine, hold, inputs, outputs, relative, run, targets};
use rhumb::compiler::{Options, compile};
use rhumb::prelude::*;

/// All parts of a kernel: rotated queries and keys, tables, masks, exponentials and logarithms.
fn graph() -> Verified {
    let attention =
        Attention::heads(4).head_dim(24).kv_heads(2).scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal);
    attention.softcap(20.0).lse().build().expect("a graph")
}

#[test]
fn every_target_runs_and_all_that_are_expected_are_there() {
    let lengths = Lengths { batch: 2, queries: 37, keys: 70 };
    let mut ran = BTreeSet::new();
    for target in &targets() {
        let engine = engine(target, 1);
        let kernel = engine.compile(&graph()).unwrap_or_else(|error| panic!("{target}: {error}"));
        let reference = engine.reference(&graph()).expect("a reference");
        let inputs = inputs(&mut Rng::new(41), kernel.interface(), lengths);
        let [mut made, mut expected] =
            [kernel.interface(), reference.interface()].map(|of| outputs(of, lengths, |_| Layout::Rows));
        run(kernel.call(), &inputs, &mut made).unwrap_or_else(|error| panic!("{target}: {error}"));
        run(reference.call(), &inputs, &mut expected).expect("runs");
        let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
        let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
        println!("ran {}: {target}: out {out:.1e}, lse {lse:.1e}", target.machine().instructions);
        hold(&kernel, &inputs, &made, &expected, "every part");
        ran.insert(target.machine().instructions.name());
    }
    let expected = std::env::var("RHUMB_EXPECT").unwrap_or_default();
    let absent: Vec<&str> =
        expected.split(',').map(str::trim).filter(|name| !name.is_empty() && !ran.contains(*name)).collect();
    assert!(absent.is_empty(), "RHUMB_EXPECT={expected}: no {} among {ran:?}", absent.join(", "));
}

/// Code for a lesser machine has none of the instructions that the machine lacks.
#[cfg(target_arch = "x86_64")]
#[test]
fn code_keeps_to_the_instructions_of_its_target() {
    let mut seen = BTreeSet::new();
    for target in &targets() {
        let options = Options { disassemble: true, ..Options::default() };
        let compiled = compile(&graph(), &Registry::standard(), target, &options, &mut |_, _| ());
        let compiled = compiled.unwrap_or_else(|error| panic!("{target}: {error}"));
        let lines = compiled.code.functions.iter().flat_map(|function| function.assembly.lines());
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        let count = |is: fn(&str) -> bool| words.iter().filter(|word| is(word)).count();
        let (fused, avx) =
            (count(|word| word.starts_with("vfm")), count(|word| word.starts_with('v') && word.ends_with("ps")));
        let (masks, wide) = (count(|word| word.contains("{k")), count(|word| word.contains("zmm")));
        let sse = count(|word| word == "mulps");
        match target.machine().instructions.name() {
            "sse41" => assert!(avx + fused == 0 && sse > 0, "{target}: {avx} of AVX, {fused} fused, {sse} of SSE"),
            "avx" => assert!(avx > 0 && fused + sse == 0, "{target}: {avx} of AVX, {fused} fused, {sse} of SSE"),
            "fma" | "avx2" => assert!(fused > 0 && masks + wide + sse == 0, "{target}: {fused} fused, {masks} masks"),
            "avx512" => assert!(fused > 0 && masks > 0 && sse == 0, "{target}: {fused} fused, {masks} masks"),
            other => panic!("{target}: `{other}`"),
        }
        seen.insert(target.machine().instructions.name());
    }
    assert!(seen.contains("sse41"), "{seen:?}");
}
