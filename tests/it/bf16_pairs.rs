//! Products of pairs of `bf16`, on machines that have an instruction for them: kernels are held to the interpreter, on others too.

use rhumb::compiler::Kernels;
use rhumb::prelude::*;

use crate::common::calls::{compile, sweep};
use crate::common::inputs::scattered;
use crate::common::{Lengths, Rng, Tensors, agree, inputs, targets};
use crate::pairs;

/// For each target with products of pairs engines of the kernel for many queries and of that for few, and one for another target.
fn engines() -> Vec<Engine> {
    let of = |target: &Target, kernels: Kernels| {
        Engine::builder().target(target.clone()).threads(2).kernels(kernels).build().expect("an engine")
    };
    let (with, without): (Vec<Target>, Vec<Target>) =
        targets().into_iter().partition(|target| target.to_string().contains("bf16"));
    let both = |target: &Target| [Kernels::Prefill, Kernels::Decode].map(|kernels| of(target, kernels));
    with.iter().flat_map(both).chain(without.first().map(|target| of(target, Kernels::Prefill))).collect()
}

/// Attentions of four heads in groups of two.
fn attentions(d: u32, e: u32) -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).elem(Elem::Bf16).lse();
    let steep = Alibi::new().slopes([2.0, 0.5, 1.0, 3.0]);
    vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("unscaled", of().scale(1.0).scheme(Causal)),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("pruned", of().scheme(steep).scheme(Causal)),
        ("capped", of().softcap(20.0).sinks().scheme(SlidingWindow::new(9))),
        ("rotations", of().scheme(Rope::new()).scheme(Causal)),
        ("masked", pairs::masked(of())),
        ("values of f32", of().value_elem(Elem::F32)),
        ("averages of f32", of().output_elem(Elem::F32)),
        ("keys of f32", of().key_elem(Elem::F32)),
        ("queries of f16", of().query_elem(Elem::F16)),
        ("keys read twice", of().score_with(|cx, score| score + cx.key().dot(cx.key(), cx.d) * 0.01)),
        (
            "sigmoid",
            Attention::heads(4).head_dim(d).value_dim(e).weights_with(|_, score| score.sigmoid()).elem(Elem::Bf16),
        ),
    ]
}

/// Numbers of any kind, most of them normal.
fn ruin(rng: &mut Rng, tensors: &mut Tensors) {
    let ends = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-39, -1e-40, 1e-38, 0.0, -0.0, 65504.0, -3e38, 1e20];
    for name in ["q", "k", "v"] {
        if let Some(tensor) = tensors.get_mut(name) {
            tensor.replace(|_| rng.one_in(60).then(|| rng.pick(&ends)));
        }
    }
}

#[test]
fn kernels_agree_with_the_interpreter() {
    let dims = [(2, 1), (16, 17), (18, 15), (64, 64), (130, 66), (66, 128), (260, 300)];
    let lengths = [(1, 77), (5, 1), (3, 0), (50, 67), (17, 130), (49, 15)];
    sweep(&engines(), &dims, attentions, |which, engine, (name, attention), (d, e)| {
        // Only long calls are pruned.
        let (queries, keys) = if name == "pruned" && d <= 64 { (150, 413) } else { lengths[which % lengths.len()] };
        let graph = attention.build().expect("a graph");
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reference = engine.reference(&graph).expect("one");
        let rng = &mut Rng::new(which as u64);
        let lengths = Lengths { batch: 2, queries, keys };
        let mut tensors = inputs(rng, kernel.interface(), lengths);
        if which % 3 == 0 {
            ruin(rng, &mut tensors);
        }
        let tensors = scattered(rng, &tensors);
        agree((&kernel, &reference), &tensors, lengths, format_args!("{name}, {d} x {e}"));
    });
}

/// What a query does not see changes no bit of its row, whatever it shares a pair with.
#[test]
fn hidden_keys_change_no_bit() {
    for engine in &engines() {
        let attention = Attention::heads(2).head_dim(32).elem(Elem::Bf16).lse();
        let garbage = [f64::NAN, f64::INFINITY, 3e38];
        let lengths = [(50, 67), (17, 130), (1, 15)];
        pairs::hidden_keys_change_no_bit(engine, attention, lengths, (["k", "v"], 32), &garbage);
    }
}

/// Outputs that are inputs are written, whatever else reads these.
#[test]
fn inputs_are_outputs_too() {
    for engine in &engines() {
        let g = GraphBuilder::new("copies");
        let (b, q, k) = (g.axis("b"), g.axis("q"), g.axis("k"));
        let (d, e) = (g.axis_of("d", 32), g.axis_of("e", 32));
        let queries = g.input("q", Elem::Bf16, [b, q, d]);
        let (keys, values) = (g.input("k", Elem::Bf16, [b, k, d]), g.input("v", Elem::Bf16, [b, k, e]));
        let stamps = g.input("stamps", Elem::Bf16, [b, k]);
        let scores = (queries.dot(keys, d) * 0.2 * stamps).tanh();
        g.output_as("out", Elem::Bf16, scores.softmax(k).dot(values, k), [b, q, e]);
        g.output("of_q", queries, [q, b, d]);
        g.output_as("of_k", Elem::Bf16, keys, [b, k, d]);
        g.output_as("of_v", Elem::Bf16, values, [b, k, e]);
        let graph = g.finish().expect("a graph");
        let (kernel, reference) = (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
        for (seed, (queries, keys)) in [(1, 65), (19, 40)].into_iter().enumerate() {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(seed as u64), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, "copies");
        }
    }
}

/// A kernel's plan says what is computed by pairs: only what a user gives in `bf16` and, of averages, takes in `bf16`.
#[test]
fn plans_say_what_goes_by_pairs() {
    for engine in &engines() {
        let has = engine.target().to_string().contains("bf16");
        let found = |attention: Attention| {
            let text = compile(engine, &attention).plan().to_string();
            (text.contains("by pairs of bf16"), text.contains("weights rounded"))
        };
        let of = || Attention::heads(2).head_dim(64).elem(Elem::Bf16);
        assert_eq!(found(of()), (has, has));
        assert_eq!(found(of().output_elem(Elem::F32)), (has, false));
        assert_eq!(found(of().query_elem(Elem::F32)), (has, has));
        assert_eq!(found(of().elem(Elem::F16)), (false, false));
        assert_eq!(found(of().key_elem(Elem::F32).output_elem(Elem::F32)), (false, false));
        let bound = compile(engine, &of()).error_bound().to_string();
        assert_eq!(bound.contains("2^-8 sum W|v|"), has, "{bound}");
    }
}
