//! Lengths, indices, strides and addresses at a point.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Extent};

use super::Eval;
use crate::codegen::error::CodegenError;
use crate::codegen::vocab::frame_access;
use crate::plan::TensorId;

impl Eval<'_, '_> {
    /// A word of the frame.
    pub(crate) fn word(&mut self, word: usize) -> Ssa {
        let frame = self.frame;
        self.fb().ins().load(types::I64, frame_access(), frame, (8 * word) as i32)
    }

    /// The length of an axis, as `i64`.
    pub(crate) fn extent(&mut self, axis: Axis) -> Ssa {
        match self.plan.graph.axis(axis).extent {
            Extent::Static(n) => self.fb().ins().iconst(types::I64, i64::from(n)),
            Extent::Dynamic => {
                let word = self.plan.frame.lengths().start + axis.index();
                self.word(word)
            }
        }
    }

    /// The index along an axis at this point: its own, or that of an axis it groups.
    pub(crate) fn index(&mut self, axis: Axis) -> Option<Ssa> {
        if let Some(index) = self.env[axis.index()] {
            return Some(index);
        }
        let (finer, ratio) = self.plan.graph.grouped(axis)?;
        let index = self.env[finer.index()]?;
        Some(self.fb().ins().udiv_imm_u(index, i64::from(ratio)))
    }

    /// The stride of a dimension of a tensor, in bytes.
    pub(crate) fn stride(&mut self, tensor: TensorId, dim: usize) -> Ssa {
        let word = self.plan.frame.strides(tensor).start + dim;
        self.word(word)
    }

    /// The address of an element of a tensor, without the dimensions in `skip`.
    pub(crate) fn address(&mut self, tensor: TensorId, skip: &[Axis]) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        let mut address = self.word(plan.frame.address(tensor));
        for (dim, &axis) in plan.tensors[tensor].dims.iter().enumerate() {
            if skip.contains(&axis) {
                continue;
            }
            let Some(index) = self.index(axis) else {
                let axis = plan.graph.axis(axis).name.clone();
                return Err(CodegenError::Unbound { tensor: plan.tensors[tensor].name.clone(), axis });
            };
            let stride = self.stride(tensor, dim);
            let offset = self.fb().ins().imul(index, stride);
            address = self.fb().ins().iadd(address, offset);
        }
        Ok(address)
    }

    /// The address of key 0, element 0 of a tensor at the outer point, and the stride from key to key.
    pub(crate) fn row_base(&mut self, tensor: TensorId, key: Axis, dim: Axis) -> Result<(Ssa, Ssa), CodegenError> {
        let base = self.address(tensor, &[key, dim])?;
        Ok((base, self.dim_stride(tensor, key)))
    }

    /// The stride of a tensor along an axis, in bytes: 0 if it does not vary along it.
    pub(crate) fn dim_stride(&mut self, tensor: TensorId, axis: Axis) -> Ssa {
        match self.plan.tensors[tensor].dims.iter().position(|dim| *dim == axis) {
            Some(dim) => self.stride(tensor, dim),
            None => self.fb().ins().iconst(types::I64, 0),
        }
    }
}
