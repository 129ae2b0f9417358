//! Products of pairs of integers, on machines that have an instruction for them: few queries and averages of 16 bits, keys and values of `i8`.
//! Kernels are held to the interpreter, on others too.

use rhumb::compiler::{Features, Kernels};
use rhumb::prelude::*;

use crate::common::calls::{call, compile, sweep};
use crate::common::inputs::scattered;
use crate::common::{Lengths, Rng, Tensor, Tensors, agree, case, inputs, targets};
use crate::pairs::{self, differ};

fn engine(target: &Target, threads: usize) -> Engine {
    let builder = Engine::builder().target(target.clone()).threads(threads);
    builder.kernels(Kernels::Decode).build().expect("an engine")
}

fn has_integers(target: &Target) -> bool {
    target.to_string().contains("vnni")
}

/// For each target with products of integers an engine of the kernel for few queries, and one for another target.
fn engines() -> Vec<Engine> {
    let (with, without): (Vec<Target>, Vec<Target>) = targets().into_iter().partition(has_integers);
    with.iter().chain(without.first()).map(|target| engine(target, 2)).collect()
}

/// Attentions of four heads in groups of two.
fn attentions(d: u32, e: u32) -> Vec<(&'static str, Attention)> {
    let heads = || Attention::heads(4).head_dim(d).kv_heads(2).value_dim(e);
    let of = || heads().elem(Elem::Bf16).cache_elem(Elem::I8).lse();
    let mut all = vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("f16", heads().elem(Elem::F16).cache_elem(Elem::I8).lse()),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("capped", of().softcap(20.0).sinks().scheme(SlidingWindow::new(9))),
        ("norms", of().scheme(QkNorm::rms())),
        ("channels", of().scales(Scales::PerChannel)),
        ("zero points", of().zero_points()),
        ("masked", pairs::masked(of())),
        ("averages of f32", of().output_elem(Elem::F32)),
        ("queries of f32", of().query_elem(Elem::F32)),
        ("values of f16", of().value_elem(Elem::F16)),
        ("sigmoid", heads().elem(Elem::F16).cache_elem(Elem::I8).weights_with(|_, score| score.sigmoid())),
    ];
    if d.is_multiple_of(2) {
        all.push(("rotations", of().scheme(Rope::new().query_only()).scheme(Causal)));
    }
    all
}

/// Numbers of any kind, most of them normal, for queries and scales.
fn ruin(rng: &mut Rng, tensors: &mut Tensors, one_in: usize) {
    let ends = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e-39,
        -1e-40,
        1e-38,
        1e-33,
        0.0,
        -0.0,
        65504.0,
        -3e38,
        1e20,
        -0.5,
    ];
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| *name == "q" || name.contains("scale")) {
        let one_in = if name == "q" { 10 * one_in } else { one_in };
        tensor.replace(|_| rng.one_in(one_in).then(|| rng.pick(&ends)));
    }
}

#[test]
fn kernels_agree_with_the_interpreter() {
    let dims = [(1, 1), (15, 17), (17, 15), (64, 64), (130, 66), (128, 128), (66, 130), (260, 300), (520, 40)];
    let lengths = [(1, 77), (5, 1), (3, 0), (1, 15), (4, 130), (2, 17), (1, 200)];
    sweep(&engines(), &dims, attentions, |which, engine, (name, attention), (d, e)| {
        if which % 2 == 1 {
            return;
        }
        let (queries, keys) = lengths[which / 2 % lengths.len()];
        let graph = attention.build().expect("a graph");
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reference = engine.reference(&graph).expect("one");
        let rng = &mut Rng::new(which as u64);
        let lengths = Lengths { batch: 2, queries, keys };
        for kind in 0..3 {
            let mut tensors = inputs(rng, kernel.interface(), lengths);
            match kind {
                1 => ruin(rng, &mut tensors, 60),
                2 => ruin(rng, &mut tensors, 4),
                _ => {}
            }
            let tensors = scattered(rng, &tensors);
            agree((&kernel, &reference), &tensors, lengths, format_args!("{name}, {kind}, {d} x {e}, {which}"));
        }
    });
}

/// Large queries and weights that differ much: what rounding takes is what bounds say, and no more.
#[test]
fn steep_scores_agree_with_the_interpreter() {
    for engine in &engines() {
        let graph = Attention::heads(4).head_dim(64).kv_heads(1).elem(Elem::F16).cache_elem(Elem::I8).lse();
        let graph = graph.build().expect("a graph");
        let (kernel, reference) = (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
        for (seed, size) in [1e-3, 1.0, 30.0, 1e3, 1e30].into_iter().enumerate() {
            let rng = &mut Rng::new(seed as u64);
            let lengths = Lengths { batch: 1, queries: 2, keys: 1100 };
            let mut tensors = inputs(rng, kernel.interface(), lengths);
            for (name, scale) in [("k_scale", size), ("v_scale", 1.0 / size)] {
                let values: Vec<f32> = tensors[name].values().iter().map(|x| x * scale).collect();
                let shape = tensors[name].shape().to_vec();
                tensors.insert(name.to_owned(), Tensor::f32(shape, values));
            }
            agree((&kernel, &reference), &tensors, lengths, format_args!("{size}"));
        }
    }
}

/// What a query does not see changes no bit of its row.
#[test]
fn hidden_keys_change_no_bit() {
    for engine in &engines() {
        let attention = Attention::heads(2).head_dim(32).elem(Elem::Bf16).cache_elem(Elem::I8).lse();
        let garbage = [f64::NAN, f64::INFINITY, 3e38, 1e-40];
        let lengths = [(3, 67), (2, 130), (1, 15)];
        pairs::hidden_keys_change_no_bit(engine, attention, lengths, (["k_scale", "v_scale"], 1), &garbage);
    }
}

/// Rows share loads and nothing else: what another query holds changes no bit, nor do threads.
#[test]
fn rows_depend_on_themselves_alone() {
    for target in targets().iter().filter(|target| has_integers(target)) {
        let attention =
            Attention::heads(8).head_dim(48).kv_heads(2).value_dim(80).elem(Elem::F16).cache_elem(Elem::I8).lse();
        let [one, two] = [1, 2].map(|threads| compile(&engine(target, threads), &attention));
        let lengths = Lengths { batch: 2, queries: 2, keys: 2100 };
        let tensors = inputs(&mut Rng::new(1), one.interface(), lengths);
        let expected = case::bits(&call(&one, &tensors, lengths).expect("runs"));
        assert_eq!(differ(&case::bits(&call(&two, &tensors, lengths).expect("runs")), &expected), None);
        for other in [f64::NAN, f64::INFINITY, 0.0, 1e-7, 60000.0] {
            let mut changed = tensors.clone();
            let query = |place: usize| place / 48;
            changed.get_mut("q").expect("bound").replace(|place| (query(place) % 3 == 0).then_some(other));
            let made = call(&two, &changed, lengths).expect("runs");
            for (name, elements) in [("out", 80), ("lse", 1)] {
                let before = call(&one, &tensors, lengths).expect("runs")[name].values();
                let rows = made[name].values();
                let rows = rows.chunks(elements).zip(before.chunks(elements)).enumerate();
                rows.filter(|(row, _)| row % 3 != 0).for_each(|(row, (made, before))| {
                    let same = made.iter().zip(before).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "`{name}` of row {row}, {other}, {target}");
                });
            }
        }
    }
}

/// Queries that no integers suit are multiplied as on machines without.
#[test]
fn odd_queries_are_those_of_single_precision() {
    let others = Target::of(Features::detect().without_vnni()).expect("this machine runs kernels").candidates();
    for target in targets().iter().filter(|target| has_integers(target)) {
        let other = others.iter().find(|other| other.machine().lanes == target.machine().lanes).expect("one");
        assert!(!has_integers(other));
        let attention = Attention::heads(4).head_dim(40).elem(Elem::Bf16).cache_elem(Elem::I8).output_elem(Elem::F32);
        let [with, without] = [target, other].map(|target| compile(&engine(target, 1), &attention));
        let text = with.decode().expect("a kernel").plan.to_string();
        assert!(text.contains("by pairs of integers"), "{text}");
        let lengths = Lengths { batch: 1, queries: 2, keys: 70 };
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e-36] {
            let mut tensors = inputs(&mut Rng::new(2), with.interface(), lengths);
            let of_row = |place: usize| odd.abs() < 1.0 || place % 40 == 7;
            tensors.get_mut("q").expect("bound").replace(|place| of_row(place).then_some(odd));
            let [made, expected] = [&with, &without].map(|kernel| call(kernel, &tensors, lengths).expect("runs"));
            for (made, expected) in made["out"].values().iter().zip(expected["out"].values()) {
                let same = made.to_bits() == expected.to_bits() || made.is_nan() && expected.is_nan();
                assert!(same, "{odd}: {made}, not {expected}, {target}");
            }
        }
    }
}

/// A kernel's plan says what is computed by pairs of integers: only what a user gives, or takes, in 16 bits and in `i8`.
#[test]
fn plans_say_what_goes_by_integers() {
    for engine in &engines() {
        let has = has_integers(engine.target());
        let found = |attention: Attention| {
            let kernel = compile(engine, &attention);
            let text = kernel.decode().expect("a kernel").plan.to_string();
            (text.contains("queries rounded to 16 bits"), text.contains("weights rounded to 16 bits"))
        };
        let of = || Attention::heads(2).head_dim(64).elem(Elem::Bf16).cache_elem(Elem::I8);
        assert_eq!(found(of()), (has, has));
        assert_eq!(found(of().output_elem(Elem::F32)), (has, false));
        assert_eq!(found(of().query_elem(Elem::F32)), (false, has));
        assert_eq!(found(of().key_elem(Elem::F16)), (false, has));
        assert_eq!(found(of().value_elem(Elem::F16)), (has, false));
        assert_eq!(found(of().zero_points()), (false, false));
        assert_eq!(found(of().cache_elem(Elem::F8e4m3)), (false, false));
        let bound = compile(engine, &of()).decode().expect("a kernel").plan.error_bound().to_string();
        assert_eq!(bound.contains("+ 2^-16 max|"), has, "{bound}");
        assert_eq!(bound.contains("2^-16 sum M|v / s|"), has, "{bound}");
    }
}

/// Machines without the instruction multiply in single precision, with the same bounds as ever.
#[test]
fn features_can_be_left_unused() {
    for target in Target::of(Features::detect().without_vnni()).expect("this machine runs kernels").candidates() {
        let kernel =
            compile(&engine(&target, 1), &Attention::heads(2).head_dim(64).elem(Elem::Bf16).cache_elem(Elem::I8));
        let plan = &kernel.decode().expect("a kernel").plan;
        assert!(!plan.machine.dot_i16 && plan.integers == Default::default(), "{plan}");
    }
}
