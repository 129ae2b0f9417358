//! Random tensors, and comparison of results.

use rhumb_ir::{Axis, Bindings, Elem, Graph, Op, Outputs, Tensor, Verified, interpret};
use rhumb_random::Rng;

/// A number from -2 to 2.
fn real(random: &mut Rng) -> f64 {
    4.0 * random.unit() - 2.0
}

/// Which values inputs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Finite numbers, small integers.
    Tame,
    /// Infinities among them, and small integers.
    Infinite,
    /// Infinities, NaN, zeros, and integers at the ends of their range.
    Wild,
}

/// Random tensors for all inputs; `lengths` gives the length of each axis.
pub(super) fn bindings(graph: &Graph, random: &mut Rng, values: Values, lengths: &dyn Fn(Axis) -> usize) -> Bindings {
    let mut bindings = Bindings::new();
    for (name, value) in graph.inputs() {
        let Op::Input { dims, elem, .. } = graph.op(value) else { continue };
        let shape: Vec<usize> = dims.iter().map(|axis| lengths(*axis)).collect();
        let count = shape.iter().product();
        let data = (0..count).map(|_| element(random, values, *elem)).collect();
        bindings.insert(name.to_owned(), Tensor { elem: *elem, shape, data });
    }
    bindings
}

fn element(random: &mut Rng, values: Values, elem: Elem) -> f64 {
    let special = values != Values::Tame && random.below(5) == 0;
    match (elem, special, values) {
        (Elem::Bool, ..) => random.below(2) as f64,
        (Elem::I8, ..) => random.below(256) as f64 - 128.0,
        (Elem::I32, true, Values::Wild) => {
            f64::from([i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1, 0][random.below(5)])
        }
        (Elem::I32, ..) => random.below(13) as f64 - 5.0,
        (Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3, true, Values::Wild) => {
            [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0, -0.0][random.below(5)]
        }
        (Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3, true, _) => {
            [f64::INFINITY, f64::NEG_INFINITY][random.below(2)]
        }
        (Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3, ..) => elem.rounded(real(random)),
    }
}

/// Lengths of axes: static ones have theirs, dynamic ones a random one up to `most`.
pub(super) fn lengths(graph: &Graph, random: &mut Rng, most: usize) -> Vec<usize> {
    (0..graph.axes().len())
        .filter_map(Axis::from_index)
        .map(|axis| graph.static_extent(axis).map_or_else(|| random.below(most + 1), |n| n as usize))
        .collect()
}

/// What the reference interpreter gives.
pub(super) fn run(graph: &Verified, bindings: &Bindings) -> Outputs {
    interpret(graph, bindings).unwrap_or_else(|error| panic!("{error}\n{}", **graph))
}

/// The first difference of two results beyond `tolerance` (absolute and relative); zeros of either sign and all NaN are equal.
pub(super) fn difference(expected: &Outputs, found: &Outputs, tolerance: f64) -> Option<String> {
    for (name, a) in expected {
        let b = &found[name];
        if (&a.shape, a.elem) != (&b.shape, b.elem) {
            return Some(format!("{name}: shape {:?} and {:?}", a.shape, b.shape));
        }
        for (index, (x, y)) in a.data.iter().zip(&b.data).enumerate() {
            let close = (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs()));
            if !(x == y || (x.is_nan() && y.is_nan()) || close) {
                return Some(format!("{name}[{index}]: {x} and {y}"));
            }
        }
    }
    None
}
