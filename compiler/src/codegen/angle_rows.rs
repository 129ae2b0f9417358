//! Cosines and sines of a row of angles, in double precision, by vectors.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};
use rhumb_ir::{Axis, Value};

use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::rows::{iconst, plain};
use super::vocab::access;
use crate::abi::WORD_BYTES;
use crate::plan::{Origin, Source, Storage, Table, TensorId};

/// Bytes that an element takes in a row of cosines and in a row of sines together.
pub(super) const ELEMENT_BYTES: usize = 2 * size_of::<f64>();

/// Lanes of `f64` for the sines and cosines of a row, where there are such and the scratch memory has room for them.
pub(super) fn angle_lanes(emitter: &ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Option<usize> {
    let (plan, layout) = (emitter.plan, emitter.plan.scratch);
    plan.attention.as_ref()?;
    let lanes = plan.machine.double_lanes();
    let length = plan.graph.static_extent(inner)? as usize;
    let rows = |tensor: TensorId| {
        let spec = &plan.tensors[tensor];
        spec.dims.last() == Some(&inner) && spec.storage == Storage::F32 && spec.origin == Origin::Table
    };
    let fits = length.is_multiple_of(lanes) && ELEMENT_BYTES * length <= layout.tile_maxima - layout.scores;
    let tables = step.second.is_some_and(|sines| rows(sines) && rows(step.target));
    (step.double && fits && tables && matches!(step.source, Source::Cos(_))).then_some(lanes)
}

/// A row of cosines and a row of sines in double precision, where memory has room for them.
#[derive(Clone, Copy)]
pub(super) struct AngleRows {
    pub(super) length: Ssa,
    /// Bytes of each.
    pub(super) bytes: Ssa,
    pub(super) cosines: Ssa,
    pub(super) sines: Ssa,
    /// An index: 0.
    pub(super) zero: Ssa,
}

impl AngleRows {
    /// Rows along an axis, at an offset from an address.
    pub(super) fn at(emitter: &mut ExprEmitter<'_, '_>, inner: Axis, (base, offset): (Ssa, usize)) -> AngleRows {
        let length = emitter.extent(inner);
        let bytes = emitter.double_bytes(length);
        let cosines = emitter.fb().ins().iadd_imm_s(base, offset as i64);
        let sines = emitter.fb().ins().iadd(cosines, bytes);
        AngleRows { length, bytes, cosines, sines, zero: iconst(emitter, 0) }
    }

    /// Makes them: angles one by one, what is made of them by vectors.
    pub(super) fn fill(
        self,
        emitter: &mut ExprEmitter<'_, '_>,
        angle: Value,
        (inner, lanes): (Axis, usize),
    ) -> Result<(), CodegenError> {
        let AngleRows { length, bytes, cosines, sines, zero } = self;
        plain(
            emitter,
            inner,
            zero,
            length,
            &mut |emitter, index, x| {
                let offset = emitter.double_bytes(index);
                let address = emitter.fb().ins().iadd(cosines, offset);
                emitter.fb().ins().store(access(), x, address, 0);
                Ok(())
            },
            &mut |emitter| emitter.emit(angle),
        )?;
        emitter.in_rows(inner, lanes, |emitter| {
            let ty = emitter.v.float_type();
            range_loop(emitter, zero, bytes, (WORD_BYTES * lanes) as i64, &[], |emitter, offset, _| {
                let address = emitter.fb().ins().iadd(cosines, offset);
                let angle = emitter.fb().ins().load(ty, access(), address, 0);
                let (sin, cos) = emitter.v.sin_cos(angle);
                emitter.fb().ins().store(access(), cos, address, 0);
                let address = emitter.fb().ins().iadd(sines, offset);
                emitter.fb().ins().store(access(), sin, address, 0);
                Vec::new()
            });
        });
        Ok(())
    }
}
