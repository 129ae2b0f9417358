//! The tensors of a call.

use rhumb_ir::{Bindings, Elem, Tensor};
use rhumb_runtime::{Call, CallError, OutOfMemory, OwnedTensor, TensorViewMut, ViewError};

use super::failure::Finding;
use super::shape::Shape;

/// The tensors that a call reads.
pub(super) struct Inputs {
    tensors: Vec<(String, OwnedTensor)>,
    /// Whether rounding to single precision changed none of them.
    pub(super) exact: bool,
}

impl Inputs {
    pub(super) fn of(bindings: &Bindings) -> Result<Inputs, Finding> {
        let input = |(name, tensor): (&String, &Tensor)| {
            // Exact but for `f32`: the interpreter takes elements of the type alone.
            Ok((name.clone(), owned(tensor.elem, &tensor.shape, &tensor.data)?))
        };
        let same = |x: &f64| f64::from(*x as f32) == *x || x.is_nan();
        let exact = bindings.values().all(|tensor| tensor.elem != Elem::F32 || tensor.data.iter().all(same));
        Ok(Inputs { tensors: bindings.iter().map(input).collect::<Result<_, Finding>>()?, exact })
    }

    pub(super) fn into_tensors(self) -> Vec<(String, OwnedTensor)> {
        self.tensors
    }
}

/// A tensor of these numbers.
pub(super) fn owned(elem: Elem, shape: &[usize], data: &[f64]) -> Result<OwnedTensor, Finding> {
    let too_large = |error: OutOfMemory| Finding::Call(Box::new(CallError::OutOfMemory(error)));
    let mut tensor = OwnedTensor::zeros(elem, shape).map_err(too_large)?;
    tensor.fill_with(|place| data.get(place).copied().unwrap_or_default());
    Ok(tensor)
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
        for (name, tensor) in &inputs.tensors {
            call = call.input(name, tensor.view().map_err(wrong(name))?);
        }
        let dims = shape.query_shape();
        let out = TensorViewMut::from_slice(&mut self.out, &dims).map_err(wrong("out"))?;
        let lse = TensorViewMut::from_slice(&mut self.lse, &dims[..3]).map_err(wrong("lse"))?;
        call.output("out", out).output("lse", lse).run().map_err(|error| Finding::Call(Box::new(error)))
    }
}
