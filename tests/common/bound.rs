//! Results of kernels held to what the kernels promise of them.

use std::fmt;

use rhumb::prelude::*;
use rhumb::runtime::{ErrorBound, Reference};

use super::{Layout, Lengths, Tensor, Tensors, outputs, run};

/// What a kernel promises of its errors: for each of the outputs `made` the bounds of its elements.
pub(crate) fn bounds(kernel: &Kernel, inputs: &Tensors, made: &Tensors) -> Tensors {
    let unwritten =
        |(name, of): (&String, &Tensor)| (name.clone(), Tensor::unwritten_of(of.elem(), of.shape(), &Layout::Rows));
    let mut bounds: Tensors = made.iter().map(unwritten).collect();
    run(kernel.error_bound().call(), inputs, &mut bounds).expect("bounds are evaluated");
    bounds
}

/// The element that is furthest from what is expected, in parts of its bound.
#[derive(Default)]
pub(crate) struct Furthest {
    pub(crate) parts: f64,
    index: usize,
    made: f32,
    expected: f32,
    bound: f32,
    /// Elements that nothing is promised of.
    pub(crate) unlimited: usize,
}

impl fmt::Display for Furthest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Furthest { parts, index, made, expected, bound, .. } = self;
        write!(f, "{index} is {made}, not {expected}, off by {parts:.1} times its bound {bound:.1e}")
    }
}

impl Furthest {
    pub(crate) fn of(made: &[f32], expected: impl IntoIterator<Item = f32>, bounds: &[f32]) -> Furthest {
        let mut furthest = Furthest::default();
        for (index, ((&made, expected), &bound)) in made.iter().zip(expected).zip(bounds).enumerate() {
            furthest.unlimited += usize::from(bound == f32::INFINITY);
            let parts = (f64::from(made) - f64::from(expected)).abs() / f64::from(bound);
            let parts = match ErrorBound::holds(made, expected, bound) {
                true if parts.is_finite() => parts.min(1.0),
                true => 0.0,
                false if parts.is_nan() => f64::INFINITY,
                false => parts.max(1.0 + f64::EPSILON),
            };
            if parts > furthest.parts {
                furthest = Furthest { parts, index, made, expected, bound, ..furthest };
            }
        }
        furthest
    }
}

/// The element of all outputs that is furthest from the reference's, in parts of its bound, with the name of the output.
pub(crate) fn furthest(kernel: &Kernel, inputs: &Tensors, made: &Tensors, expected: &Tensors) -> (String, Furthest) {
    let bounds = bounds(kernel, inputs, made);
    let all = made.iter().map(|(name, made)| {
        (name.clone(), Furthest::of(&made.values(), expected[name].values(), &bounds[name].values()))
    });
    all.reduce(|a, b| if b.1.parts > a.1.parts { b } else { a }).expect("an output")
}

/// Holds all outputs of a call to the kernel's bounds.
#[track_caller]
pub(crate) fn hold(kernel: &Kernel, inputs: &Tensors, made: &Tensors, expected: &Tensors, context: impl fmt::Display) {
    let (name, off) = furthest(kernel, inputs, made, expected);
    assert!(off.parts <= 1.0, "{context}, {}: `{name}` {off}", kernel.target());
}

/// Runs a kernel and its reference on row-major tensors, and holds the kernel to its bounds.
#[track_caller]
pub(crate) fn agree(
    (kernel, reference): (&Kernel, &Reference),
    inputs: &Tensors,
    lengths: Lengths,
    context: impl fmt::Display,
) {
    let [mut made, mut expected] = [0, 1].map(|_| outputs(kernel.interface(), lengths, |_| Layout::Rows));
    run(kernel.call(), inputs, &mut made).expect("runs");
    run(reference.call(), inputs, &mut expected).expect("interprets");
    hold(kernel, inputs, &made, &expected, context);
}
