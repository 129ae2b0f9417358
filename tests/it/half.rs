//! Tensors of 16 bits: kernels make of them what they make of the same numbers in 32 bits, rounded where it is stored.

use crate::common::calls::{call, compile, sweep};
use crate::common::case::nanless;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, inputs, outputs, run};
use half::{bf16, f16};
use rhumb::prelude::*;
use rhumb::runtime::Interface;

const HALVES: [Elem; 2] = [Elem::F16, Elem::Bf16];

/// Types of query, key, value and output.
type Elems = [Elem; 4];

/// An engine for each target and each of the two kernels.
fn engines() -> Vec<Engine> {
    crate::common::engines_of_each_kernel(2).into_iter().map(|(_, engine)| engine).collect()
}

fn typed(attention: Attention, [query, key, value, output]: Elems) -> Attention {
    attention.query_elem(query).key_elem(key).value_elem(value).output_elem(output)
}

/// Numbers of any kind, most of them normal.
fn ruin(rng: &mut Rng, tensor: &mut Tensor) {
    let ends = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-7, -6e-8, 3e-39, -1e-40, 0.0, -0.0, 65504.0, -3e38];
    tensor.replace(|_| rng.one_in(40).then(|| rng.pick(&ends)));
}

/// The tensors of a call in the types of its inputs, and the same numbers in 32 bits.
fn drawn(rng: &mut Rng, interface: &Interface, lengths: Lengths, odd: bool) -> (Tensors, Tensors) {
    let mut tensors = inputs(rng, interface, lengths);
    for (name, tensor) in &mut tensors {
        if odd && ["q", "k", "v"].contains(&name.as_str()) {
            ruin(rng, tensor);
        }
    }
    let wide = tensors.iter().map(|(name, tensor)| {
        let wide = if tensor.elem().widened() == Elem::F32 { tensor.rounded(Elem::F32) } else { tensor.clone() };
        (name.clone(), wide)
    });
    let wide = wide.collect();
    (tensors, wide)
}

/// Attentions of four heads in groups of two, that differ in what is made of rows.
fn attentions(d: u32, e: u32) -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).lse();
    let mut all = vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("norms", of().scheme(QkNorm::rms())),
        ("keys read twice", of().score_with(|cx, score| score + cx.key().dot(cx.key(), cx.d) * 0.01)),
        ("sigmoid", Attention::heads(4).head_dim(d).value_dim(e).weights_with(|_, score| score.sigmoid())),
    ];
    if d.is_multiple_of(2) {
        all.push(("rotations", of().scheme(Rope::new()).scheme(Causal)));
        all.push(("neighbours", of().scheme(Rope::new().interleaved())));
    }
    all
}

/// Holds kernels of some types to those of 32 bits on the same numbers, whatever the layouts.
fn as_in_32_bits(engine: &Engine, (name, attention): (&str, &Attention), elems: Elems, seed: u64) {
    let attention = attention.clone();
    let (kernel, wide) = (compile(engine, &typed(attention.clone(), elems)), compile(engine, &attention));
    for (n, (queries, keys)) in [(1, 77), (5, 1), (3, 0), (50, 67), (17, 130)].into_iter().enumerate() {
        let rng = &mut Rng::new(seed * 10 + n as u64);
        let lengths = Lengths { batch: 2, queries, keys };
        let (narrow, same) = drawn(rng, kernel.interface(), lengths, n % 2 == 1);
        let layout = |rng: &mut Rng, tensor: &Tensor| match Layout::random(rng, tensor.shape().len(), false) {
            // Repeats other numbers than the kernel of 32 bits has.
            Layout::Repeated => tensor.clone(),
            layout => tensor.stored(&layout),
        };
        let narrow: Tensors = narrow.iter().map(|(name, tensor)| (name.clone(), layout(rng, tensor))).collect();
        let mut made = outputs(kernel.interface(), lengths, |rank| Layout::random(rng, rank, true));
        run(kernel.call(), &narrow, &mut made).expect("runs");
        for (output, expected) in call(&wide, &same, lengths).expect("runs") {
            let expected = expected.rounded(made[&output].elem());
            let (found, expected) = (nanless(&made[&output]), nanless(&expected));
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let at = differs.map(|at| (at, f32::from_bits(found[at]), f32::from_bits(expected[at])));
            let kernel = kernel.target();
            assert_eq!(at, None, "{name}, {elems:?}, `{output}` of {queries} x {keys}, {kernel}");
            assert!(made[&output].written_inside_alone(), "{name}, {elems:?}, `{output}`, {kernel}");
        }
    }
}

/// Products of pairs of `bf16` come in another order: see `bf16_pairs.rs`.
#[test]
fn rows_of_16_bits_are_those_of_32_rounded() {
    let (f32, f16, bf16) = (Elem::F32, Elem::F16, Elem::Bf16);
    let mixes = [
        [bf16; 4],
        [f16; 4],
        [f32, bf16, bf16, f32],
        [f32, f16, f16, f32],
        [f16, bf16, f32, f32],
        [bf16, f32, f16, bf16],
        [f32, f32, f32, f16],
        [f16, f32, bf16, f32],
    ];
    let dims = [(1, 1), (15, 17), (17, 15), (64, 64), (130, 64), (64, 130)];
    let engines = crate::common::engines_without_bf16(2);
    let engines = engines.iter().map(|(_, engine)| engine);
    sweep(engines, &dims, attentions, |which, engine, attention, _| {
        // Each attention with some types at each target, and with all of them at some.
        if which % 2 == 0 {
            as_in_32_bits(engine, attention, mixes[which / 2 % mixes.len()], which as u64);
        }
    });
}

#[test]
fn kernels_keep_their_bounds() {
    for (number, engine) in engines().iter().enumerate() {
        for (n, (name, attention)) in attentions(16, 24).iter().enumerate() {
            let elem = HALVES[(number + n) % 2];
            let graph = attention.clone().elem(elem).build().expect("a graph");
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
            for (seed, (queries, keys)) in [(1, 200), (40, 65)].into_iter().enumerate() {
                let lengths = Lengths { batch: 1, queries, keys };
                let inputs = inputs(&mut Rng::new(seed as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format_args!("{name}, {elem}"));
            }
        }
    }
}

/// With one key, an average is its value: all numbers of 16 bits come through as they are, and all others are rounded.
#[test]
fn all_numbers_are_widened_and_rounded() {
    const HEADS: usize = 1024;
    let lengths = Lengths { batch: 1, queries: 1, keys: 1 };
    let bits = |rng: &mut Rng| match rng.below(4) {
        // Near the middle of two, and at the ends of ranges.
        0 => (rng.bits() as u32 & 0xffff_e000) | rng.pick(&[0x0fff, 0x1000, 0x1001, 0x0001, 0]),
        1 => (rng.bits() as u32 & 0xffff_0000) | rng.pick(&[0x7fff, 0x8000, 0x8001, 0x0001, 0xffff]),
        2 => (rng.bits() as u32 & 0x8000_3fff) | (0x3300_0000 + ((rng.bits() as u32 % 0x1500) << 16)),
        _ => rng.bits() as u32,
    };
    for engine in &engines() {
        for elem in HALVES {
            let attention = |value, output| {
                let of = Attention::heads(HEADS as u32).head_dim(64).value_elem(value).output_elem(output);
                compile(engine, &of)
            };
            let rows = |kernel: &Kernel, value: Tensor| {
                let mut tensors = inputs(&mut Rng::new(1), kernel.interface(), lengths);
                tensors.insert("v".to_owned(), value);
                call(kernel, &tensors, lengths).expect("runs")["out"].values()
            };
            let shape = vec![1, HEADS, 1, 64];
            let read = |number: u16| match elem {
                Elem::F16 => f16::from_bits(number).to_f32(),
                _ => bf16::from_bits(number).to_f32(),
            };
            let all: Vec<f32> = (0..=u16::MAX).map(read).collect();
            let value = Tensor::f32(shape.clone(), all.clone()).rounded(elem);
            let kernel = attention(elem, Elem::F32);
            let found = rows(&kernel, value);
            for (number, (found, expected)) in found.iter().zip(&all).enumerate() {
                let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(same || *expected == 0.0 && *found == 0.0, "{elem} {number:04x}: {found}, not {expected}");
            }
            let rng = &mut Rng::new(7);
            let numbers: Vec<f32> = all.iter().map(|_| f32::from_bits(bits(rng))).collect();
            let kernel = attention(Elem::F32, elem);
            let found = rows(&kernel, Tensor::f32(shape, numbers.clone()));
            for (found, x) in found.iter().zip(&numbers) {
                let expected = match elem {
                    Elem::F16 => f16::from_f32(*x).to_f32(),
                    _ => bf16::from_f32(*x).to_f32(),
                };
                let same = *found == expected || found.is_nan() && expected.is_nan();
                assert!(
                    same,
                    "{elem} of {x:e} ({:08x}): {found:e}, not {expected:e}, {}",
                    x.to_bits(),
                    kernel.target()
                );
            }
        }
    }
}

#[test]
fn bounds_tell_what_outputs_are_rounded_to() {
    let kernel = compile(&engines()[0], &Attention::heads(2).head_dim(16).elem(Elem::F16).lse());
    let text = kernel.error_bound().to_string();
    assert!(
        text.contains("\n  `out` is rounded to f16: 2^-11 |out|\n") && !text.contains("`lse` is rounded"),
        "{text}"
    );
}

/// Tables, biases and outputs that are no rows: each element is converted by itself.
#[test]
fn biases_sinks_and_plain_outputs_have_16_bits_too() {
    for (number, engine) in engines().iter().enumerate() {
        let elem = HALVES[number % 2];
        let graph = Attention::heads(4)
            .head_dim(16)
            .score_with(move |cx, score| {
                let bias = cx.input("pairs", elem, [cx.h, cx.q, cx.k]);
                let slopes = cx.input("slope", elem, [cx.h]);
                let of_keys = cx.input("of_keys", elem, [cx.b, cx.k]);
                score + bias + slopes * (cx.k_pos() - cx.q_pos()) + of_keys
            })
            .mask_with(move |cx| cx.input("seen", elem, [cx.h, cx.k]).gt(-1.0))
            .elem(elem)
            .lse()
            .build()
            .expect("a graph");
        let (kernel, reference) = (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
        for (queries, keys) in [(1, 65), (19, 40)] {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(3), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, elem);
        }
        let builder = GraphBuilder::new("plain");
        let (b, q) = (builder.axis("b"), builder.axis("q"));
        let x = builder.input("x", elem, [b, q]);
        builder.output_as("y", elem, x * x + 1.0, [q, b]);
        builder.output("z", x.exp(), [b, q]);
        let graph = builder.finish().expect("a graph");
        let (kernel, reference) = (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
        let lengths = Lengths { batch: 3, queries: 33, keys: 0 };
        let inputs = inputs(&mut Rng::new(4), kernel.interface(), lengths);
        agree((&kernel, &reference), &inputs, lengths, elem);
    }
}

/// Keys that are rotated for a cache of 16 bits.
#[test]
fn graphs_of_keys_alone_have_the_type_of_keys() {
    for elem in HALVES {
        let attention = Attention::heads(2).head_dim(64).key_elem(elem).scheme(Rope::new()).q_offset(3);
        let graph = attention.key_graph().expect("a graph");
        for engine in &engines() {
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
            let lengths = Lengths { batch: 2, queries: 0, keys: 37 };
            let inputs = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, elem);
        }
    }
}

#[test]
fn other_types_are_refused() {
    let error = Attention::heads(2).head_dim(16).value_elem(Elem::I32).build().expect_err("no floats");
    insta::assert_snapshot!(error, @r"
    the value can't be of element type i32
      hint: give f32, f16, bf16, f8e4m3 or i8
    ");
    let kernel = compile(&engines()[0], &Attention::heads(2).head_dim(16).elem(Elem::Bf16));
    let data = [f16::ZERO; 2 * 16];
    let mut out = [bf16::ZERO; 2 * 16];
    let (shape, out) = ([1, 2, 1, 16], &mut out[..]);
    let view = TensorView::from_slice(&data, &shape).expect("a view");
    let call = kernel.call().input("q", view).input("k", view).input("v", view);
    let error = call.output("out", TensorViewMut::from_slice(out, &shape).expect("a view")).run().expect_err("f16");
    insta::assert_snapshot!(error, @"input `q` holds f16, but the graph wants bf16[b, h = 2, q, d = 16]; make the view from a slice of `half::bf16`");
}
