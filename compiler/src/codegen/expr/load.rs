//! Elements of tensors.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;
use rhumb_ir::{Axis, ElemKind};

use super::{ExprEmitter, Lanes, Order};
use crate::abi::WORD_BYTES;
use crate::codegen::error::CodegenError;
use crate::codegen::stored;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Origin, Plan, Storage, TensorId};

impl ExprEmitter<'_, '_> {
    /// The element of a tensor at this point.
    pub(crate) fn load(&mut self, tensor: TensorId) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        let spec = &plan.tensors[tensor];
        if spec.origin == Origin::Index {
            return self.own_index(tensor);
        }
        if let Some(lanes) = self.lanes
            && let lane_axis = lanes.axis()
            && let Some(dim) = spec.dims.iter().position(|axis| *axis == lane_axis)
        {
            let Lanes::Clamped(_, _, order) = lanes else {
                let address = self.address(tensor, &[])?;
                if spec.storage == Storage::F64 {
                    let ty = self.v.float_type();
                    let rounded = |fb: &mut FunctionBuilder<'_>, lane: usize| {
                        let x = fb.ins().load(types::F64, access(), address, (WORD_BYTES * lane) as i32);
                        fb.ins().fdemote(types::F32, x)
                    };
                    return Ok(self.v.by_lane(&[], ty, |fb, lane, _| rounded(fb, lane)));
                }
                return Ok(stored::load_lanes(self.v.fb, spec.storage, self.v.shape.lanes, (address, 0)));
            };
            let table = order == Order::Successive && !matches!(spec.origin, Origin::Input(_));
            if table && dim + 1 == spec.dims.len() && spec.storage.bytes() == 4 {
                // Rows of tables are contiguous and padded: the last vector may read past the axis.
                let address = self.address(tensor, &[])?;
                return Ok(stored::load_lanes(self.v.fb, spec.storage, self.v.shape.lanes, (address, 0)));
            }
        }
        if let Some(Lanes::Clamped(lane_axis, clamped, _)) = self.lanes
            && let dims = lane_dims(self.plan, tensor, lane_axis)
            && !dims.is_empty()
        {
            let base = self.address(tensor, &dims.iter().map(|dim| spec.dims[dim.position]).collect::<Vec<_>>())?;
            let steps = self.lane_steps(tensor, &dims);
            return Ok(self.load_lanes(spec.storage, base, &steps, clamped, None));
        }
        let address = self.address(tensor, &[])?;
        let scalar = stored::load(self.v.fb, spec.storage, address);
        Ok(self.in_shape(spec.storage, scalar))
    }

    /// The index along the one dimension of a tensor.
    fn own_index(&mut self, tensor: TensorId) -> Result<Ssa, CodegenError> {
        let axis = self.plan.tensors[tensor].dims[0];
        if let Some(Lanes::Clamped(of, clamped, _)) = self.lanes
            && of == axis
        {
            let ty = self.v.int_type();
            return Ok(self.fb().ins().load(ty, access(), clamped, 0));
        }
        self.check_bound(tensor, &[])?;
        let index = self.index(axis);
        let index = index.map(|index| self.count(index));
        let follows = matches!(self.lanes, Some(Lanes::Successive(of)) if of == axis);
        match index {
            Some(first) if follows => {
                let numbers = self.v.lane_numbers();
                Ok(self.fb().ins().iadd(first, numbers))
            }
            Some(index) => Ok(index),
            None => Err(self.unbound(tensor, axis)),
        }
    }

    /// The address of a lane's element, from its index.
    pub(super) fn lane_steps(&mut self, tensor: TensorId, dims: &[LaneDim]) -> Vec<LaneStep> {
        dims.iter().map(|dim| LaneStep { stride: self.stride(tensor, dim.position), ratio: dim.ratio }).collect()
    }

    /// Loads one element per lane: at `base`, plus the steps that the clamped index of the lane makes, plus an own offset.
    pub(super) fn load_lanes(
        &mut self,
        storage: Storage,
        base: Ssa,
        steps: &[LaneStep],
        clamped: Ssa,
        offsets: Option<&[Ssa]>,
    ) -> Ssa {
        let ty = if storage.is_float() { self.v.float_type() } else { self.v.int_type() };
        let loaded = self.v.by_lane(&[], ty, |fb, lane, _| {
            let mut address = base;
            for step in steps {
                let mut index = fb.ins().uload32(access(), clamped, (LANE_BYTES * lane) as i32);
                if step.ratio > 1 {
                    index = fb.ins().udiv_imm_u(index, i64::from(step.ratio));
                }
                let offset = fb.ins().imul(index, step.stride);
                address = fb.ins().iadd(address, offset);
            }
            if let Some(offsets) = offsets {
                address = fb.ins().iadd(address, offsets[lane]);
            }
            lane_of(fb, storage, address)
        });
        self.mask_of(storage, loaded)
    }

    /// Turns loaded integers into masks where they stand for bools.
    fn mask_of(&mut self, storage: Storage, loaded: Ssa) -> Ssa {
        if storage.kind() == ElemKind::Truth && self.v.is_vector() {
            let zero = self.v.int(0);
            return self.v.icmp(IntCC::NotEqual, loaded, zero);
        }
        loaded
    }

    /// A loaded scalar in the shape of this expression.
    pub(super) fn in_shape(&mut self, storage: Storage, scalar: Ssa) -> Ssa {
        let (vector, double) = (self.v.is_vector(), self.v.shape.double);
        match storage.kind() {
            ElemKind::Real => {
                let scalar = match (storage == Storage::F64, double && !vector) {
                    (true, false) => self.fb().ins().fdemote(types::F32, scalar),
                    (false, true) => self.fb().ins().fpromote(types::F64, scalar),
                    (true, true) | (false, false) => scalar,
                };
                let ty = self.v.float_type();
                self.v.splat(scalar, ty)
            }
            ElemKind::Whole => {
                let ty = self.v.int_type();
                self.v.splat(scalar, ty)
            }
            ElemKind::Truth if vector => {
                let is_byte = storage.bytes() == 1;
                let wide = if is_byte { self.fb().ins().uextend(types::I32, scalar) } else { scalar };
                let ty = self.v.int_type();
                let loaded = self.v.splat(wide, ty);
                self.mask_of(storage, loaded)
            }
            ElemKind::Truth => self.fb().ins().icmp_imm_s(IntCC::NotEqual, scalar, 0),
        }
    }
}

/// A dimension of a tensor that changes from lane to lane.
pub(super) struct LaneDim {
    pub(super) position: usize,
    /// Lanes that share an index: more than 1 along an axis of groups.
    ratio: u32,
}

/// A lane's element lies its index, divided by `ratio`, times `stride` bytes from the first.
pub(super) struct LaneStep {
    stride: Ssa,
    ratio: u32,
}

/// The dimensions of a tensor along the axis of lanes, and those that group it.
pub(super) fn lane_dims(plan: &Plan, tensor: TensorId, lane_axis: Axis) -> Vec<LaneDim> {
    let ratio = |axis: Axis| match plan.graph.grouped(axis) {
        _ if axis == lane_axis => Some(1),
        Some((finer, ratio)) if finer == lane_axis => Some(ratio),
        _ => None,
    };
    let dims = plan.tensors[tensor].dims.iter().enumerate();
    dims.filter_map(|(position, axis)| ratio(*axis).map(|ratio| LaneDim { position, ratio })).collect()
}

/// Loads an element as a lane of a vector of floats or ints.
fn lane_of(fb: &mut FunctionBuilder<'_>, storage: Storage, address: Ssa) -> Ssa {
    let x = stored::load(fb, storage, address);
    match (storage.kind(), storage.bytes()) {
        (ElemKind::Real, 8) => fb.ins().fdemote(types::F32, x),
        (ElemKind::Truth, 1) => fb.ins().uextend(types::I32, x),
        _ => x,
    }
}
