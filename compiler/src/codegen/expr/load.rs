//! Elements of tensors: loads and lookups.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;
use rhumb_ir::{Axis, Elem, ElemKind, Value};

use super::{ExprEmitter, Lanes, Order};
use crate::abi::WORD_BYTES;
use crate::codegen::error::CodegenError;
use crate::codegen::stored;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Plan, Source, Storage, TensorId};
use crate::row_index::period;

impl ExprEmitter<'_, '_> {
    /// The element of a tensor at this point.
    pub(crate) fn load(&mut self, tensor: TensorId) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        let spec = &plan.tensors[tensor];
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
            let table = order == Order::Successive && !matches!(spec.origin, crate::plan::Origin::Input(_));
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

    /// The address of a lane's element, from its index.
    fn lane_steps(&mut self, tensor: TensorId, dims: &[LaneDim]) -> Vec<LaneStep> {
        dims.iter().map(|dim| LaneStep { stride: self.stride(tensor, dim.position), ratio: dim.ratio }).collect()
    }

    /// Loads one element per lane: at `base`, plus the steps that the clamped index of the lane makes, plus an own offset.
    fn load_lanes(
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
    fn in_shape(&mut self, storage: Storage, scalar: Ssa) -> Ssa {
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

    /// An index brought into `0..n`, as `i64`.
    pub(super) fn clamp(fb: &mut FunctionBuilder<'_>, index: Ssa, n: Ssa) -> Ssa {
        let index = fb.ins().sextend(types::I64, index);
        let last = fb.ins().iadd_imm_s(n, -1);
        let index = fb.ins().smin(index, last);
        let zero = fb.ins().iconst(types::I64, 0);
        fb.ins().smax(index, zero)
    }

    pub(super) fn gather(&mut self, table: Value, axis: Axis, index: Ssa) -> Result<Ssa, CodegenError> {
        let n = self.extent(axis);
        let elem = self.plan.graph.ty(table).elem;
        let ty = self.scalar_type(elem);
        let (read, merge) = (self.fb().create_block(), self.fb().create_block());
        self.fb().append_block_param(merge, ty);
        let nothing = match elem.kind() {
            ElemKind::Real => self.v.float(0.0),
            ElemKind::Whole => self.v.int(0),
            ElemKind::Truth => self.v.bool(false),
        };
        self.fb().ins().brif(n, read, &[], merge, &[nothing.into()]);
        self.fb().switch_to_block(read);
        self.fb().seal_block(read);
        let index = Self::clamp(self.v.fb, index, n);
        let x = match self.table(&Source::Value(table)) {
            Some(tensor) => {
                let outside = self.env[axis.index()].replace(index);
                let x = self.load(tensor)?;
                self.env[axis.index()] = outside;
                x
            }
            None => {
                let saved = self.save();
                self.set(axis, index);
                self.forget(axis);
                let x = self.emit(table)?;
                self.restore(saved);
                x
            }
        };
        self.fb().ins().jump(merge, &[x.into()]);
        self.fb().switch_to_block(merge);
        self.fb().seal_block(merge);
        Ok(self.fb().block_params(merge)[0])
    }

    /// After how many elements a lookup begins again, where lanes are along a row that it follows.
    pub(super) fn period(&self, lookup: (Value, Axis, Value)) -> Option<u32> {
        match self.lanes {
            Some(Lanes::Successive(row)) => period(&self.plan.graph, lookup, row),
            _ => None,
        }
    }

    /// A gather along a row, which begins again after `period` elements: lanes along `axis`.
    pub(super) fn gather_row(&mut self, table: Value, axis: Axis, period: u32) -> Result<Ssa, CodegenError> {
        let index = self.lanes.and_then(|lanes| self.index(lanes.axis()));
        let Some(index) = index else { return Err(self.unsupported(table, "gathered from along no row")) };
        let index = self.fb().ins().urem_imm_u(index, i64::from(period));
        let saved = self.save();
        let x = self.along(axis, |emitter| {
            emitter.set(axis, index);
            emitter.emit(table)
        });
        self.restore(saved);
        x
    }

    fn scalar_type(&self, elem: Elem) -> Type {
        match elem.kind() {
            ElemKind::Real => self.v.float_type(),
            ElemKind::Whole => types::I32,
            ElemKind::Truth => types::I8,
        }
    }

    /// A gather with an index per lane, from a table in memory.
    pub(super) fn gather_lanes(&mut self, table: Value, axis: Axis, index: Ssa) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        let (Some(tensor), Some(Lanes::Clamped(lane_axis, clamped, _))) =
            (self.table(&Source::Value(table)), self.lanes)
        else {
            return Err(self.unsupported(table, "gathered from without a table"));
        };
        let spec = &plan.tensors[tensor];
        // The axis that is gathered over is indexed by `index` alone, even if it is that of lanes.
        let mut dims = lane_dims(plan, tensor, lane_axis);
        dims.retain(|dim| spec.dims[dim.position] != axis);
        let skipped: Vec<Axis> = dims.iter().map(|dim| spec.dims[dim.position]).chain([axis]).collect();
        let base = self.address(tensor, &skipped)?;
        let stride = match spec.dims.iter().position(|dim| *dim == axis) {
            Some(dim) => self.stride(tensor, dim),
            None => self.fb().ins().iconst(types::I64, 0),
        };
        let steps = self.lane_steps(tensor, &dims);
        let n = self.extent(axis);
        let mut offsets = Vec::with_capacity(self.v.shape.lanes);
        for lane in 0..self.v.shape.lanes {
            let index = self.fb().ins().extractlane(index, lane as u8);
            let index = Self::clamp(self.v.fb, index, n);
            offsets.push(self.fb().ins().imul(index, stride));
        }
        let loaded = self.load_lanes(spec.storage, base, &steps, clamped, Some(&offsets));
        // Tables are padded, so that an empty axis can be read; what is read there does not count.
        let empty = self.fb().ins().icmp_imm_s(IntCC::Equal, n, 0);
        let zero = if spec.storage.is_float() { self.v.float(0.0) } else { self.v.int(0) };
        Ok(self.fb().ins().select(empty, zero, loaded))
    }
}

/// A dimension of a tensor that changes from lane to lane.
struct LaneDim {
    position: usize,
    /// Lanes that share an index: more than 1 along an axis of groups.
    ratio: u32,
}

/// A lane's element lies its index, divided by `ratio`, times `stride` bytes from the first.
struct LaneStep {
    stride: Ssa,
    ratio: u32,
}

/// The dimensions of a tensor along the axis of lanes, and those that group it.
fn lane_dims(plan: &Plan, tensor: TensorId, lane_axis: Axis) -> Vec<LaneDim> {
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
