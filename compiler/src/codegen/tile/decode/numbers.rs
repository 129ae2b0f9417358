//! What is the same for all elements of a row that is stored in fewer bits: its scale, and what is added to its elements before. Each is
//! computed once for a key tile.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Value;

use super::rows::{Rows, load, scratch, splat};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::rows::{ROW_LANES, contiguous_anywhere, read_rows};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::Scaled;

/// Where the numbers of a key tile's rows are, one for each key; none where there are no such.
#[derive(Clone, Copy, Default)]
pub(super) struct Numbers {
    scale: Option<Ssa>,
    shift: Option<Ssa>,
}

impl Numbers {
    /// Computes the numbers of rows along an axis, at a place in the scratch memory.
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        rows: Rows<'_>,
        (scaled, place): (Option<Scaled>, usize),
    ) -> Result<Numbers, CodegenError> {
        let Some(Scaled { scale, shift, .. }) = scaled else { return Ok(Numbers::default()) };
        let [scales, shifts] = [place, place + emitter.plan.tiling.number_bytes()].map(|at| scratch(emitter, at));
        if let Some(scale) = scale {
            write(emitter, rows, (scale, false), scales)?;
        }
        if let Some(shift) = shift {
            write(emitter, rows, (shift.value, shift.negative), shifts)?;
        }
        Ok(Numbers { scale: scale.map(|_| scales), shift: shift.map(|_| shifts) })
    }

    /// The numbers from a key on, whose own are these bytes from the first key's.
    pub(super) fn from(self, emitter: &mut ExprEmitter<'_, '_>, bytes: Ssa) -> Numbers {
        let mut skip = |numbers: Option<Ssa>| numbers.map(|first| emitter.fb().ins().iadd(first, bytes));
        Numbers { scale: skip(self.scale), shift: skip(self.shift) }
    }

    pub(super) fn has_scale(self) -> bool {
        self.scale.is_some()
    }

    /// The numbers of rows whose scale is taken into account.
    pub(super) fn unscaled(self) -> Numbers {
        Numbers { scale: None, ..self }
    }

    /// Elements of the row of a key, counted from the first, before they are scaled.
    pub(super) fn shifted(self, emitter: &mut ExprEmitter<'_, '_>, elements: Ssa, key: usize) -> Ssa {
        let Some(shift) = self.shift else { return elements };
        let shift = splat(emitter, (shift, (LANE_BYTES * key) as i32));
        emitter.v.fadd(elements, shift)
    }

    /// The scale of the first key, in every lane.
    pub(super) fn scale(self, emitter: &mut ExprEmitter<'_, '_>) -> Option<Ssa> {
        self.scale.map(|scale| splat(emitter, (scale, 0)))
    }

    /// Numbers of successive keys, in lanes, each times the scale of its key: the first has these bytes before it.
    pub(super) fn scaled_lanes(self, emitter: &mut ExprEmitter<'_, '_>, lanes: Ssa, bytes: i32) -> Ssa {
        let Some(scale) = self.scale else { return lanes };
        let ty = emitter.fb().func.dfg.value_type(lanes);
        let scales = load(emitter, ty, scale, bytes);
        emitter.v.fmul(lanes, scales)
    }
}

/// Writes a number, or its opposite, for each key of the tile: by vectors where that can be, but for the last keys.
fn write(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    number: (Value, bool),
    place: Ssa,
) -> Result<(), CodegenError> {
    let first = emitter.fb().ins().iconst(types::I64, 0);
    let Some(dense) = contiguous_anywhere(emitter, number.0, rows.tile.attention.key) else {
        return write_keys(emitter, rows, number, (first, rows.keys, 1), place);
    };
    let whole = emitter.fb().ins().band_imm_s(rows.keys, -(ROW_LANES as i64));
    let whole = emitter.fb().ins().select(dense, whole, first);
    write_keys(emitter, rows, number, (first, whole, ROW_LANES), place)?;
    write_keys(emitter, rows, number, (whole, rows.keys, 1), place)
}

/// Writes the numbers of the keys from one up to another, so many at a time.
fn write_keys(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    (number, negative): (Value, bool),
    (first, end, lanes): (Ssa, Ssa, usize),
    place: Ssa,
) -> Result<(), CodegenError> {
    let key = rows.tile.attention.key;
    // What is read of a tensor is one number after the other: where the first is, is found once.
    let read = read_rows(emitter, number, key);
    let mut result = Ok(());
    let written = emitter.in_rows(key, lanes, |emitter| {
        emitter.with_rows(&read, None, |emitter| {
            range_loop(emitter, first, end, lanes as i64, &[], |emitter, row, _| {
                let saved = emitter.save();
                let index = emitter.fb().ins().iadd(rows.first_key, row);
                emitter.set(key, index);
                emitter.forget(key);
                let done = emitter.emit(number).map(|x| {
                    let x = if negative { emitter.fb().ins().fneg(x) } else { x };
                    let offset = emitter.lane_bytes(row);
                    let to = emitter.fb().ins().iadd(place, offset);
                    emitter.fb().ins().store(access(), x, to, 0);
                });
                result = std::mem::replace(&mut result, Ok(())).and(done);
                emitter.restore(saved);
                Vec::new()
            });
        })
    });
    written.and(result)
}
