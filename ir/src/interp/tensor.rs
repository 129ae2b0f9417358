//! Tensors, as the interpreter takes and gives them.

use std::collections::BTreeMap;

use crate::types::Elem;

/// A tensor of the interpreter: contiguous, first dimension outermost.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub elem: Elem,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// The elements; truth values are 0 and 1.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of real numbers.
    pub fn f32(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f64>>) -> Tensor {
        Tensor { elem: Elem::F32, shape: shape.into(), data: data.into() }
    }

    /// A tensor of integers.
    pub fn i32(shape: impl Into<Vec<usize>>, data: impl IntoIterator<Item = i32>) -> Tensor {
        Tensor { elem: Elem::I32, shape: shape.into(), data: data.into_iter().map(f64::from).collect() }
    }

    /// A tensor of truth values.
    pub fn bool(shape: impl Into<Vec<usize>>, data: impl IntoIterator<Item = bool>) -> Tensor {
        let data = data.into_iter().map(|x| f64::from(u8::from(x))).collect();
        Tensor { elem: Elem::Bool, shape: shape.into(), data }
    }
}

/// Tensors by input name.
pub type Bindings = BTreeMap<String, Tensor>;

/// Tensors by output name.
pub type Outputs = BTreeMap<String, Tensor>;
