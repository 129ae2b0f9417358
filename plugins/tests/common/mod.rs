//! Learned tensors of tests, and the inputs that they are bound to.

use rhumb_ir::{Axis, Elem, Expr, Tensor};
use rhumb_plugins::AttentionParts;

/// The element of a learned tensor, by its place.
pub(crate) fn wave(place: usize) -> f64 {
    (place as f64 * 0.7 + 0.3).sin()
}

/// A learned tensor.
pub(crate) fn waves<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::f32(shape, (0..shape.iter().product::<usize>()).map(wave).collect::<Vec<_>>())
}

/// An input of `f32` over some axes.
pub(crate) fn input<'g>(cx: &AttentionParts<'g>, name: &str, dims: &[Axis]) -> Expr<'g> {
    cx.input(name, Elem::F32, dims.iter().copied())
}
