//! Keys and values of 8 bits: kernels are held to the interpreter, which reads the same numbers.

use crate::common::calls::{call, compile, sweep};
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, inputs};
use rhumb::prelude::*;
use rhumb::runtime::f8e4m3;

/// An engine for each target and each of the two kernels.
fn engines() -> Vec<Engine> {
    crate::common::engines_of_each_kernel(2).into_iter().map(|(_, engine)| engine).collect()
}

/// An attention over rows of 8 bits.
type Quantised = fn(Attention) -> Attention;

/// What is stored, and how it is scaled.
const STORED: [(&str, Quantised); 6] = [
    ("tokens", |of| of.cache_elem(Elem::I8)),
    ("zero points", |of| of.cache_elem(Elem::I8).zero_points()),
    ("channels", |of| of.cache_elem(Elem::I8).scales(Scales::PerChannel)),
    ("zero points of channels", |of| of.cache_elem(Elem::I8).scales(Scales::PerChannel).zero_points()),
    ("floats", |of| of.cache_elem(Elem::F8e4m3)),
    ("values alone", |of| of.key_elem(Elem::F8e4m3).value_elem(Elem::I8).scales(Scales::PerToken)),
];

/// Attentions of four heads in groups of two, that differ in what is made of rows.
fn attentions(d: u32, e: u32) -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e).lse();
    let mut all = vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("capped", of().softcap(20.0).sinks().scheme(SlidingWindow::new(9))),
        ("norms", of().scheme(QkNorm::rms())),
        ("sigmoid", Attention::heads(4).head_dim(d).value_dim(e).weights_with(|_, score| score.sigmoid())),
    ];
    if d.is_multiple_of(2) {
        all.push(("rotations", of().scheme(Rope::new()).scheme(Causal)));
        all.push(("neighbours", of().scheme(Rope::new().interleaved())));
    }
    all
}

/// The same tensors, each in a random layout.
fn scattered(rng: &mut Rng, tensors: &Tensors) -> Tensors {
    let stored = |rng: &mut Rng, tensor: &Tensor| match Layout::random(rng, tensor.shape().len(), false) {
        Layout::Repeated => tensor.clone(),
        layout => tensor.stored(&layout),
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), stored(rng, tensor))).collect()
}

#[test]
fn kernels_agree_with_the_interpreter_on_rows_of_8_bits() {
    let dims = [(1, 1), (15, 17), (17, 15), (64, 64), (130, 64), (64, 130)];
    let lengths = [(1, 77), (5, 1), (3, 0), (50, 67), (17, 130), (1, 15), (2, 17)];
    sweep(&engines(), &dims, attentions, |which, engine, (name, attention), (d, e)| {
        if which % 2 == 1 {
            return;
        }
        let (stored, quantised) = STORED[which / 2 % STORED.len()];
        let graph = quantised(attention.clone()).build().expect("a graph");
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}, {stored}: {error}"));
        let reference = engine.reference(&graph).expect("one");
        for seed in 0..2 {
            let rng = &mut Rng::new((10 * which + seed) as u64);
            let (queries, keys) = lengths[(which + seed) % lengths.len()];
            let lengths = Lengths { batch: 2, queries, keys };
            let tensors = inputs(rng, kernel.interface(), lengths);
            let tensors = scattered(rng, &tensors);
            agree((&kernel, &reference), &tensors, lengths, format_args!("{name}, {stored}, {d} x {e}"));
        }
    });
}

/// With one key, an average is its value: all numbers come through as they are.
#[test]
fn all_numbers_are_widened() {
    let lengths = Lengths { batch: 1, queries: 1, keys: 1 };
    for engine in &engines() {
        for elem in [Elem::I8, Elem::F8e4m3] {
            let kernel = compile(engine, &Attention::heads(4).head_dim(64).value_elem(elem));
            let all: Vec<f32> = match elem {
                Elem::I8 => (-128i16..128).map(f32::from).collect(),
                _ => (0..=u8::MAX).map(|bits| f8e4m3::from_bits(bits).to_f32()).collect(),
            };
            let mut tensors = inputs(&mut Rng::new(1), kernel.interface(), lengths);
            tensors.insert("v".to_owned(), Tensor::f32([1, 4, 1, 64], all.clone()).rounded(elem));
            if elem == Elem::I8 {
                tensors.insert("v_scale".to_owned(), Tensor::f32([1, 4, 1], [1.0; 4]));
            }
            let found = call(&kernel, &tensors, lengths).expect("runs")["out"].values();
            for (found, expected) in found.iter().zip(&all) {
                let same = found == expected || found.is_nan() && expected.is_nan();
                assert!(same, "{elem}: {found}, not {expected}, {}", kernel.target());
            }
        }
    }
}

/// What is read as an integer, not as a row: an index, a bias, a condition.
#[test]
fn integers_of_8_bits_are_integers() {
    for engine in &engines() {
        let graph = Attention::heads(4)
            .head_dim(16)
            .score_with(|cx, score| {
                let bias = cx.input("pairs", Elem::I8, [cx.h, cx.q, cx.k]).cast(Elem::F32);
                let of_keys = cx.input("of_keys", Elem::I8, [cx.b, cx.k]);
                let far = cx.input("far", Elem::F8e4m3, [cx.h, cx.k]);
                score + bias * 0.01 + (of_keys * of_keys).cast(Elem::F32) * 1e-4 + far
            })
            .mask_with(|cx| cx.input("seen", Elem::I8, [cx.h, cx.k]).gt(-100))
            .lse()
            .build()
            .expect("a graph");
        let (kernel, reference) = (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
        for (queries, keys) in [(1, 65), (19, 40)] {
            let lengths = Lengths { batch: 2, queries, keys };
            let inputs = inputs(&mut Rng::new(3), kernel.interface(), lengths);
            agree((&kernel, &reference), &inputs, lengths, "integers");
        }
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let error = Attention::heads(2).head_dim(16).elem(Elem::I8).build().expect_err("no cache");
    insta::assert_snapshot!(error, @r"
    the query can't be of element type i8
      hint: give f32, f16 or bf16
    ");
    let kernel = compile(&engines()[0], &Attention::heads(2).head_dim(16).cache_elem(Elem::I8));
    let (rows, scales, mut out) = ([0.0f32; 32], [1.0f32; 2], [0.0f32; 32]);
    let (codes, bytes) = ([0i8; 32], [0u8; 32]);
    let (shape, tokens) = ([1, 2, 1, 16], [1, 2, 1]);
    let q = TensorView::from_slice(&rows, &shape).expect("a view");
    let k = TensorView::from_slice(&codes, &shape).expect("a view");
    let scale = TensorView::from_slice(&scales, &tokens).expect("a view");
    let wrong = TensorView::from_slice(&bytes, &shape).expect("a view");
    let call =
        kernel.call().input("q", q).input("k", wrong).input("v", k).input("k_scale", scale).input("v_scale", scale);
    let error = call.output("out", TensorViewMut::from_slice(&mut out, &shape).expect("a view")).run();
    insta::assert_snapshot!(error.expect_err("bytes"), @"input `k` holds bool, but the graph wants i8[b, h = 2, k, d = 16]; make the view from a slice of `i8`");
    let call = kernel.call().input("q", q).input("k", k).input("v", k).input("k_scale", scale);
    let error = call.output("out", TensorViewMut::from_slice(&mut out, &shape).expect("a view")).run();
    insta::assert_snapshot!(error.expect_err("no scale"), @r#"input `v_scale` is not bound; add `.input("v_scale", ...)` with a tensor f32[b, h = 2, k]"#);
    let text = "graph out\naxis i = ?\n%x = input \"x\" : i8[i]\noutput \"y\" = %x : i8[i]\n";
    insta::assert_snapshot!(Graph::parse(text).expect_err("no output of 8 bits"), @r#"
    error: i8[i] is written, but the type is i32[i]
     --> line 4, column 19
      |
    4 | output "y" = %x : i8[i]
      |                   ^^^^^
      = hint: write the type that it has; behind an op that is no input or table, it may be left away
    "#);
}

/// Scales come from other tensors than one for each key, or are computed.
#[test]
fn scales_may_be_computed() {
    let of_keys = "%ks = input \"k_scale\" : f32[b, k]\n";
    let scales = [
        ("looked up", "%at = input \"at\" : i32[b, k]\n%kscale = gather %table over n at %at"),
        (
            "of an index",
            "%j = iota k\n%five = const 5 : i32\n%at = mod %j, %five\n%kscale = gather %table over n at %at",
        ),
        ("counted", "%j = iota k\n%kscale = cast %j to f32"),
        ("of whole numbers", "%ks = input \"at\" : i32[b, k]\n%kscale = cast %ks to f32"),
        ("of 16 bits", "%ks = input \"k_scale\" : f16[b, k]\n%kscale = cast %ks to f32"),
        ("powers", &format!("{of_keys}%kscale = exp %ks")),
        ("chosen", &format!("{of_keys}%seen = input \"seen\" : bool[k]\n%kscale = select %seen, %ks, %one")),
        ("shared by all keys", "%kscale = input \"k_scale\" : f32[b]"),
    ];
    for (which, (name, lines)) in scales.into_iter().enumerate() {
        let text = format!(
            "graph scales\naxis b = ?\naxis h = 2\naxis q = ?\naxis k = ?\naxis d = 16\naxis n = 5\n\
             %q = input \"q\" : f32[b, h, q, d]\n%k = input \"k\" : i8[b, k, d]\n%v = input \"v\" : i8[b, k, d]\n\
             %table = input \"table\" : f32[n]\n%one = const 1.0 : f32\n{lines}\n\
             %kf = cast %k to f32\n%vf = cast %v to f32\n%kr = mul %kf, %kscale\n%vr = mul %vf, %kscale\n\
             %s = dot %q, %kr over d\n%p = softmax %s over k\n%o = dot %p, %vr over k\n\
             output \"out\" = %o : f32[b, h, q, d]\n"
        );
        let graph = rhumb::ir::Graph::parse(&text).expect("a graph");
        for engine in &engines() {
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
            let reference = engine.reference(&graph).expect("one");
            for (seed, keys) in [1, 6, 67].into_iter().enumerate() {
                let rng = &mut Rng::new((which + seed) as u64);
                let lengths = Lengths { batch: 2, queries: 3, keys };
                let tensors = inputs(rng, kernel.interface(), lengths);
                let tensors = scattered(rng, &tensors);
                agree((&kernel, &reference), &tensors, lengths, format_args!("{name}, {keys} keys"));
            }
        }
    }
}
