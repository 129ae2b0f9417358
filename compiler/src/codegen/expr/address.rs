//! Lengths, indices, strides and addresses at a point.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Extent};

use super::ExprEmitter;
use crate::abi::WORD_BYTES;
use crate::codegen::error::CodegenError;
use crate::codegen::vocab::frame_access;
use crate::machine::LANE_BYTES;
use crate::plan::TensorId;

impl ExprEmitter<'_, '_> {
    /// A word of the frame.
    pub(crate) fn word(&mut self, word: usize) -> Ssa {
        let frame = self.frame;
        self.fb().ins().load(types::I64, frame_access(), frame, (WORD_BYTES * word) as i32)
    }

    /// The bytes of so many lanes.
    pub(crate) fn lane_bytes(&mut self, lanes: Ssa) -> Ssa {
        self.fb().ins().ishl_imm_u(lanes, i64::from(LANE_BYTES.ilog2()))
    }

    /// The bytes of so many numbers of double precision.
    pub(crate) fn double_bytes(&mut self, numbers: Ssa) -> Ssa {
        self.fb().ins().ishl_imm_u(numbers, i64::from(size_of::<f64>().ilog2()))
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

    /// Computes the indices of all groups that have one at this point, so that loops that follow do not divide.
    pub(crate) fn bind_groups(&mut self) {
        let axes = self.plan.graph.axes().len();
        for axis in (0..axes).filter_map(Axis::from_index) {
            self.env[axis.index()] = self.index(axis);
        }
    }

    /// The stride of a dimension of a tensor, in bytes.
    pub(crate) fn stride(&mut self, tensor: TensorId, dim: usize) -> Ssa {
        let word = self.plan.frame.strides(tensor).start + dim;
        self.word(word)
    }

    /// The address of an element of a tensor, without the dimensions in `skip`.
    pub(crate) fn address(&mut self, tensor: TensorId, skip: &[Axis]) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        if let Some(row) = self.rows.iter().find(|row| row.tensor == tensor && skip.is_empty()).copied() {
            let index = self.index(row.along).ok_or_else(|| self.unbound(tensor, row.along))?;
            let offset = if self.v.is_vector() {
                // Contiguous, or there would be no vectors.
                let bytes = plan.tensors[tensor].storage.bytes();
                self.fb().ins().ishl_imm_u(index, i64::from(bytes.ilog2()))
            } else {
                let stride = self.dim_stride(tensor, row.along);
                self.fb().ins().imul(index, stride)
            };
            return Ok(self.fb().ins().iadd(row.address, offset));
        }
        let mut address = self.word(plan.frame.address(tensor));
        for (dim, &axis) in plan.tensors[tensor].dims.iter().enumerate() {
            if skip.contains(&axis) {
                continue;
            }
            let index = self.index(axis).ok_or_else(|| self.unbound(tensor, axis))?;
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

    /// Checks that the point has an index along every dimension of a tensor but those in `skip`.
    ///
    /// # Errors
    /// [`CodegenError::Unbound`] if it does not.
    pub(crate) fn check_bound(&self, tensor: TensorId, skip: &[Axis]) -> Result<(), CodegenError> {
        let graph = &self.plan.graph;
        let known = |axis: Axis| self.env[axis.index()].is_some();
        let bound = |axis: &Axis| known(*axis) || graph.grouped(*axis).is_some_and(|(finer, _)| known(finer));
        match self.plan.tensors[tensor].dims.iter().find(|axis| !skip.contains(axis) && !bound(axis)) {
            Some(axis) => Err(self.unbound(tensor, *axis)),
            None => Ok(()),
        }
    }

    pub(super) fn unbound(&self, tensor: TensorId, axis: Axis) -> CodegenError {
        let axis = self.plan.graph.axis(axis).name.clone();
        CodegenError::Unbound { tensor: self.plan.tensors[tensor].name.clone(), axis }
    }

    /// The stride of a tensor along an axis, in bytes: 0 if it does not vary along it.
    pub(crate) fn dim_stride(&mut self, tensor: TensorId, axis: Axis) -> Ssa {
        match self.plan.tensors[tensor].dims.iter().position(|dim| *dim == axis) {
            Some(dim) => self.stride(tensor, dim),
            None => self.fb().ins().iconst(types::I64, 0),
        }
    }
}
