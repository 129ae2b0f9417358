//! Schemes whose values go by the length of a call: the kernel that was compiled first serves every length.

use crate::common::calls::{attention, bits, call};
use crate::common::{Lengths, Rng, Tensor, agree, engine, engines_of_each_kernel, inputs, targets};
use rhumb::plugins::AlibiForm;
use rhumb::prelude::*;

/// The length that all of them were trained on.
const TRAINED: i32 = 64;
/// Numbers of keys: small ones, and up and down past the length trained on.
const KEYS: [usize; 8] = [15, 64, 65, 130, 17, 63, 66, 1];

/// Divisors of the 8 frequencies in long contexts, and in short ones.
fn longrope() -> LongRope {
    let factors = |step: f64| (0..8).map(|j| 1.0 + step * f64::from(j)).collect::<Vec<f64>>();
    LongRope::new(TRAINED, factors(0.1), factors(0.9)).factor(4.0)
}

/// A scheme in text whose scores go by the length of the call.
const WRITTEN: &str = "
    scheme thinned(slope: f32 = 0.5) {
      score = score - slope * f32(min(length, 64)) / f32(length) * abs(k_pos - q_pos)
    }";

fn attentions() -> Vec<(&'static str, Attention)> {
    let registry = Registry::standard().with_text(WRITTEN).expect("a scheme");
    let written = registry.make("thinned", &Default::default()).expect("its defaults");
    let tree = [None, Some(0), Some(0), Some(1), Some(2)];
    vec![
        ("dynamic NTK", attention().scheme(DynamicNtk::new(4.0, TRAINED)).scheme(Causal)),
        ("LongRoPE", attention().scheme(longrope()).scheme(Causal)),
        ("dynamic slopes", attention().scheme(DynamicAlibi::new(TRAINED)).scheme(Causal)),
        ("slopes from the last key", attention().scheme(Alibi::new().form(AlibiForm::Last)).scheme(Causal)),
        ("a tree of the last tokens", attention().scheme(Rope::new()).scheme(TokenTree::new(tree))),
        ("a scheme in text", attention().scheme(written)),
        (
            "a closure",
            attention().scheme(Causal).score_with(|cx, score| {
                let longer = cx.length().gt(TRAINED).select(0.25, 1.0);
                score * longer
            }),
        ),
        ("two of them", attention().scheme(DynamicNtk::new(2.0, TRAINED)).scheme(DynamicAlibi::new(TRAINED))),
    ]
}

/// By each kernel, at every target: results are the interpreter's, and no call but the first makes code.
#[test]
fn one_kernel_serves_every_length() {
    for (name, engine) in &engines_of_each_kernel(1) {
        for (scheme, attention) in attentions() {
            let graph = attention.build().expect("a graph");
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
            let compiled = engine.cache_stats().misses;
            let mut code = None;
            for (number, keys) in KEYS.into_iter().enumerate() {
                for queries in [keys, 1] {
                    let lengths = Lengths { batch: 1, queries, keys };
                    let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                    agree(
                        (&kernel, &reference),
                        &inputs,
                        lengths,
                        format_args!("{scheme}, {name}, {queries} x {keys}"),
                    );
                    // The kernel for few queries is made when the first call takes it.
                    let bytes = *code.get_or_insert(kernel.code_bytes());
                    assert_eq!(kernel.code_bytes(), bytes, "{scheme}, {name}, {queries} x {keys}");
                }
            }
            // Whoever compiles the attention again, after calls of any length, gets the same kernel.
            let again = engine.compile(&attention.build().expect("a graph")).expect("compiles");
            assert!(std::sync::Arc::ptr_eq(&kernel, &again), "{scheme}, {name}");
            assert_eq!(engine.cache_stats().misses, compiled, "{scheme}, {name}");
        }
    }
}

/// Where calls take what costs less: code is made for the first prompt and for the first single query, whatever their lengths, and never again.
#[test]
fn code_is_made_once_for_prompts_and_once_for_single_queries() {
    let engine = Engine::host().expect("an engine");
    for (scheme, attention) in attentions() {
        let graph = attention.build().expect("a graph");
        let (kernel, reference) =
            (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
        kernel.decode().unwrap_or_else(|reason| panic!("{scheme}: {reason}"));
        let run = |queries: usize, keys: usize| {
            let lengths = Lengths { batch: 1, queries, keys };
            let inputs = inputs(&mut Rng::new(keys as u64), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, format_args!("{scheme}, {queries} x {keys}"));
        };
        let alone = kernel.code_bytes();
        run(130, 130);
        assert_eq!(kernel.code_bytes(), alone, "{scheme}: a prompt takes the kernel that there is");
        run(1, 40);
        let both = kernel.code_bytes();
        assert!(both > alone, "{scheme}: the first single query makes its kernel");
        for (queries, keys) in [(1, 64), (1, 65), (130, 131), (64, 64), (1, 200), (1, 3), (200, 200)] {
            run(queries, keys);
            assert_eq!(kernel.code_bytes(), both, "{scheme}, {queries} x {keys}");
        }
    }
}

/// A length that the call tells, past the threshold and back: other numbers on the other side, the same bits on the same one.
#[test]
fn a_length_that_a_call_tells_needs_no_other_kernel() {
    let lengths = Lengths { batch: 1, queries: 33, keys: 40 };
    for target in &targets() {
        let engine = engine(target, 1);
        for (scheme, attention) in [
            ("dynamic NTK", attention().scheme(DynamicNtk::new(4.0, TRAINED))),
            ("LongRoPE", attention().scheme(longrope())),
            ("dynamic slopes", attention().scheme(DynamicAlibi::new(TRAINED)).scheme(Causal)),
        ] {
            let graph = attention.length_input().build().expect("a graph");
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
            let mut code = None;
            let mut inputs = inputs(&mut Rng::new(7), kernel.interface(), lengths);
            let [short, long, back] = [TRAINED, TRAINED + 1, TRAINED].map(|length| {
                inputs.insert("length".to_owned(), Tensor::i32([], [length]));
                agree((&kernel, &reference), &inputs, lengths, format_args!("{scheme}, {target}, length {length}"));
                let bytes = *code.get_or_insert(kernel.code_bytes());
                assert_eq!(kernel.code_bytes(), bytes, "{scheme}, {target}, length {length}");
                bits(&call(&kernel, &inputs, lengths).expect("runs"))
            });
            assert!(short != long && short == back, "{scheme}, {target}");
        }
    }
}
