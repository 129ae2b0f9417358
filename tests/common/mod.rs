//! What the tests of the crate share: random numbers, tensors in any layout, calls bound from maps.
#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

pub(crate) mod bias;
pub(crate) mod bound;
pub(crate) mod calls;
pub(crate) mod case;
pub(crate) mod graphs;
pub(crate) mod inputs;
pub(crate) mod seeds;
mod spec;
mod tensor;
pub(crate) mod visible;

pub(crate) use bound::{agree, bounds, hold};
pub(crate) use inputs::{Lengths, inputs, outputs, scattered};
pub(crate) use rhumb_random::{Rng, seeds};
pub(crate) use spec::{Family, Spec};
pub(crate) use tensor::{Data, Layout, Tensor};

use std::collections::BTreeMap;

use rhumb::compiler::{Features, Kernels};
use rhumb::prelude::*;
use rhumb::runtime::{Call, CallError};

/// Tensors by the name they are bound to.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// Binds everything and runs.
pub(crate) fn run<'a>(mut call: Call<'_, 'a>, inputs: &'a Tensors, outputs: &'a mut Tensors) -> Result<(), CallError> {
    for (name, tensor) in inputs {
        call = call.input(name, tensor.view());
    }
    for (name, tensor) in outputs {
        call = call.output(name, tensor.view_mut());
    }
    call.run()
}

/// An engine for a target of some threads.
pub(crate) fn engine(target: &Target, threads: usize) -> Engine {
    Engine::builder().target(target.clone()).threads(threads).build().expect("an engine")
}

/// For each target an engine whose calls take the kernel that costs less, and one whose calls take that for few queries wherever there is
/// one; with its name.
pub(crate) fn engines(threads: usize) -> Vec<(String, Engine)> {
    engines_of(&targets(), [Kernels::Cheapest, Kernels::Decode], threads)
}

/// For each target an engine whose calls take the prefill kernel, and one whose calls take that for few queries; with its name.
pub(crate) fn engines_of_each_kernel(threads: usize) -> Vec<(String, Engine)> {
    engines_of(&targets(), [Kernels::Prefill, Kernels::Decode], threads)
}

/// As [`engines_of_each_kernel`], of machines without products of pairs of `bf16`.
pub(crate) fn engines_without_bf16(threads: usize) -> Vec<(String, Engine)> {
    let targets = targets_of(Features::detect().without_bf16());
    engines_of(&targets, [Kernels::Prefill, Kernels::Decode], threads)
}

fn engines_of(targets: &[Target], kernels: [Kernels; 2], threads: usize) -> Vec<(String, Engine)> {
    let of = |target: &Target, kernels: Kernels| {
        let builder = Engine::builder().target(target.clone()).threads(threads);
        (format!("{target}, {}", kernels.name()), builder.kernels(kernels).build().expect("an engine"))
    };
    targets.iter().flat_map(|target| kernels.map(|kernels| of(target, kernels))).collect()
}

/// Every code generator of this machine at every lane count it has; and those of lesser machines, as far as this one can be one: with AVX2
/// alone, whose code has half the registers and other instructions, without fused multiply-add, and with no more than SSE4.1.
pub(crate) fn targets() -> Vec<Target> {
    targets_of(Features::detect())
}

fn targets_of(features: Features) -> Vec<Target> {
    let machines = [features, features.without_avx512(), features.without_fma(), features.without_avx()];
    let mut targets: Vec<Target> = Vec::new();
    for machine in machines {
        for target in Target::of(machine).expect("this machine runs kernels").candidates() {
            if targets.iter().all(|known| known.to_string() != target.to_string()) {
                targets.push(target);
            }
        }
    }
    targets
}

/// The largest difference between two lists, each relative to the `scale` of its index and of `b`; equal infinities and two NaNs do not differ.
pub(crate) fn difference(a: &[f32], b: &[f32], scale: impl Fn(usize, f64) -> f64) -> f64 {
    assert_eq!(a.len(), b.len());
    let off = |(index, (a, b)): (usize, (&f32, &f32))| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        if a == b || (a.is_nan() && b.is_nan()) {
            return 0.0;
        }
        let off = (a - b).abs() / scale(index, b);
        if off.is_nan() { f64::INFINITY } else { off }
    };
    a.iter().zip(b).enumerate().map(off).fold(0.0, f64::max)
}

/// Absolute differences.
pub(crate) fn absolute(_: usize, _: f64) -> f64 {
    1.0
}

/// Differences relative to values above 1.
pub(crate) fn relative(_: usize, value: f64) -> f64 {
    if value.is_finite() { value.abs().max(1.0) } else { 1.0 }
}
