//! The tensors of a call.

use rhumb_ir::{Bindings, Elem, Tensor};
use rhumb_runtime::{Call, TensorView, TensorViewMut, ViewError, bf16, f8e4m3, f16};

use super::failure::Finding;
use super::shape::Shape;

/// The tensors that a call reads.
pub(super) struct Inputs {
    tensors: Vec<Input>,
    /// Whether rounding to single precision changed none of them.
    pub(super) exact: bool,
}

pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// Row-major elements.
pub(super) enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F8e4m3(Vec<f8e4m3>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    Bool(Vec<bool>),
}

impl Inputs {
    pub(super) fn of(bindings: &Bindings) -> Inputs {
        let input = |(name, tensor): (&String, &Tensor)| {
            let data = match tensor.elem {
                Elem::F32 => Data::F32(tensor.data.iter().map(|x| *x as f32).collect()),
                // Exact: the interpreter takes elements of the type alone.
                Elem::F16 => Data::F16(tensor.data.iter().map(|x| f16::from_f32(*x as f32)).collect()),
                Elem::Bf16 => Data::Bf16(tensor.data.iter().map(|x| bf16::from_f32(*x as f32)).collect()),
                Elem::F8e4m3 => Data::F8e4m3(tensor.data.iter().map(|x| f8e4m3::from_f32(*x as f32)).collect()),
                Elem::I8 => Data::I8(tensor.data.iter().map(|x| *x as i8).collect()),
                Elem::I32 => Data::I32(tensor.data.iter().map(|x| *x as i32).collect()),
                Elem::Bool => Data::Bool(tensor.data.iter().map(|x| *x != 0.0).collect()),
            };
            Input { name: name.clone(), shape: tensor.shape.clone(), data }
        };
        let same = |x: &f64| f64::from(*x as f32) == *x || x.is_nan();
        let exact = bindings.values().all(|tensor| tensor.elem != Elem::F32 || tensor.data.iter().all(same));
        Inputs { tensors: bindings.iter().map(input).collect(), exact }
    }

    pub(super) fn tensors(&self) -> &[Input] {
        &self.tensors
    }
}

/// The tensors that a call writes.
pub(super) struct Results {
    pub(super) out: Vec<f32>,
    pub(super) lse: Vec<f32>,
}

impl Results {
    /// Not yet written.
    pub(super) fn of(shape: &Shape) -> Results {
        let [batch, heads, queries, dim] = shape.query_shape();
        let rows = batch * heads * queries;
        Results { out: vec![f32::NAN; rows * dim], lse: vec![f32::NAN; rows] }
    }

    /// Runs a call of the shape that these results are of.
    pub(super) fn run<'a>(
        &'a mut self,
        shape: &Shape,
        mut call: Call<'_, 'a>,
        inputs: &'a Inputs,
    ) -> Result<(), Finding> {
        let wrong = |tensor: &str| {
            let tensor = tensor.to_owned();
            move |source: ViewError| Finding::View { tensor, source: Box::new(source) }
        };
        for Input { name, shape, data } in &inputs.tensors {
            let view = match data {
                Data::F32(data) => TensorView::from_slice(data, shape),
                Data::F16(data) => TensorView::from_slice(data, shape),
                Data::Bf16(data) => TensorView::from_slice(data, shape),
                Data::F8e4m3(data) => TensorView::from_slice(data, shape),
                Data::I8(data) => TensorView::from_slice(data, shape),
                Data::I32(data) => TensorView::from_slice(data, shape),
                Data::Bool(data) => TensorView::from_slice(data, shape),
            };
            call = call.input(name, view.map_err(wrong(name))?);
        }
        let dims = shape.query_shape();
        let out = TensorViewMut::from_slice(&mut self.out, &dims).map_err(wrong("out"))?;
        let lse = TensorViewMut::from_slice(&mut self.lse, &dims[..3]).map_err(wrong("lse"))?;
        call.output("out", out).output("lse", lse).run().map_err(|error| Finding::Call(Box::new(error)))
    }
}
