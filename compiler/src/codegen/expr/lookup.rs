//! Lookups: of one element, along a row, and lane by lane.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;
use rhumb_ir::{Axis, Elem, ElemKind, Value};

use super::load::{LaneStep, lane_dims};
use super::{ExprEmitter, Lanes};
use crate::codegen::error::CodegenError;
use crate::codegen::loops::either;
use crate::codegen::stored;
use crate::plan::{Source, Storage};
use crate::row_index::period;

impl ExprEmitter<'_, '_> {
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
        let index = self.clamp_lanes(index, n);
        let place = Place { storage: spec.storage, base, stride };
        let loaded = if steps.is_empty() {
            self.look_up(place, index)
        } else {
            self.look_up_apart(place, index, (&steps, clamped))
        };
        // Tables are padded, so that an empty axis can be read; what is read there does not count.
        let empty = self.fb().ins().icmp_imm_s(IntCC::Equal, n, 0);
        let zero = if spec.storage.is_float() { self.v.float(0.0) } else { self.v.int(0) };
        Ok(self.fb().ins().select(empty, zero, loaded))
    }

    /// The indices of lanes brought into `0..n`.
    fn clamp_lanes(&mut self, index: Ssa, n: Ssa) -> Ssa {
        let last = self.fb().ins().iadd_imm_s(n, -1);
        let last = self.count(last);
        let index = self.fb().ins().smin(index, last);
        let zero = self.v.int(0);
        self.fb().ins().smax(index, zero)
    }

    /// Elements at indices of lanes: most often all lanes look up the same one, far from a query, or neighbours.
    fn look_up(&mut self, place: Place, index: Ssa) -> Ssa {
        let ty = self.v.int_type();
        let first = self.fb().ins().extractlane(index, 0);
        let everywhere = self.fb().ins().splat(ty, first);
        let is_first = self.v.icmp(IntCC::Equal, index, everywhere);
        let is_first = self.fb().ins().vall_true(is_first);
        let first = self.fb().ins().uextend(types::I64, first);
        let offset = self.fb().ins().imul(first, place.stride);
        let address = self.fb().ins().iadd(place.base, offset);
        let same = |emitter: &mut Self| {
            let element = stored::load(emitter.v.fb, place.storage, address);
            vec![emitter.in_shape(place.storage, element)]
        };
        either(self, is_first, same, |emitter| {
            if !place.has_lanes() {
                return vec![emitter.look_up_apart(place, index, (&[], address))];
            }
            let numbers = emitter.v.lane_numbers();
            let next = emitter.fb().ins().iadd(everywhere, numbers);
            let are_neighbours = emitter.v.icmp(IntCC::Equal, index, next);
            let are_neighbours = emitter.fb().ins().vall_true(are_neighbours);
            let bytes = place.storage.bytes() as i64;
            let is_contiguous = emitter.fb().ins().icmp_imm_s(IntCC::Equal, place.stride, bytes);
            let are_neighbours = emitter.fb().ins().band(are_neighbours, is_contiguous);
            let lanes = emitter.v.shape.lanes;
            let neighbours =
                |emitter: &mut Self| vec![stored::load_lanes(emitter.v.fb, place.storage, lanes, (address, 0))];
            either(emitter, are_neighbours, neighbours, |emitter| {
                vec![emitter.look_up_apart(place, index, (&[], address))]
            })
        })[0]
    }

    /// Elements at indices of lanes, one by one.
    fn look_up_apart(&mut self, place: Place, index: Ssa, (steps, clamped): (&[LaneStep], Ssa)) -> Ssa {
        let mut offsets = Vec::with_capacity(self.v.shape.lanes);
        for lane in 0..self.v.shape.lanes {
            let index = self.fb().ins().extractlane(index, lane as u8);
            let index = self.fb().ins().uextend(types::I64, index);
            offsets.push(self.fb().ins().imul(index, place.stride));
        }
        self.load_lanes(place.storage, place.base, steps, clamped, Some(&offsets))
    }
}

/// Where a table that is looked up lies: its first element, and the bytes from one to the next.
#[derive(Clone, Copy)]
struct Place {
    storage: Storage,
    base: Ssa,
    stride: Ssa,
}

impl Place {
    /// Whether neighbours can be loaded at once.
    fn has_lanes(self) -> bool {
        self.storage != Storage::F64 && (self.storage.kind() != ElemKind::Truth || self.storage.bytes() == 4)
    }
}
