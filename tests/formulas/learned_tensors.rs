//! Learned tensors of tests, and the inputs that they are bound to.

use rhumb::ir::{Axis, Elem, Expr, Tensor};
use rhumb::plugins::AttentionParts;

/// The element of a learned tensor, by its place: a number of single precision, so that kernels read the very number that formulas have.
pub(crate) fn wave(place: usize) -> f64 {
    f64::from((place as f64 * 0.7 + 0.3).sin() as f32)
}

/// A learned tensor.
pub(crate) fn waves<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::f32(shape, (0..shape.iter().product::<usize>()).map(wave).collect::<Vec<_>>())
}

/// An input of `f32` over some axes.
pub(crate) fn input<'g>(cx: &AttentionParts<'g>, name: &str, dims: &[Axis]) -> Expr<'g> {
    cx.input(name, Elem::F32, dims.iter().copied())
}
