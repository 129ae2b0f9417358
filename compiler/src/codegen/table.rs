//! Tables: transformed rows and plain outputs too, element by element or by four along contiguous rows.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, types};
use rhumb_ir::{Axis, Value};

use super::angle_rows::{AngleRows, angle_lanes};
use super::doubles::{doubles, in_doubles};
use super::element::{compute, store};
use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::rows::{by_rows, contiguous, rows};
use super::squares::squares;
use super::turned::Turned;
use super::vocab::{access, lane_order};
use crate::abi::TableCall;
use crate::plan::{Source, Table};

/// Emits the function that makes a table.
pub(crate) fn table(emitter: &mut ExprEmitter<'_, '_>, index: usize, step: &Table) -> Result<(), CodegenError> {
    let plan = emitter.plan;
    emitter.run_as_step(index);
    if let Some(turned) = Turned::of(emitter, step) {
        return turned.emit(emitter);
    }
    let dims = plan.tensors[step.target].dims.clone();
    let outer: Vec<Axis> = dims.iter().copied().filter(|axis| Some(*axis) != step.inner).collect();
    let scratch = emitter.scratch;
    let [start, end] = [offset_of!(TableCall, first), offset_of!(TableCall, end)].map(|field| {
        let offset = (plan.scratch.call + field) as i32;
        emitter.fb().ins().load(types::I64, access(), scratch, offset)
    });
    let mut result = Ok(());
    range_loop(emitter, start, end, 1, &[], |emitter, flat, _| {
        let saved = emitter.save();
        let mut rest = flat;
        for &axis in outer.iter().rev() {
            let extent = emitter.extent(axis);
            let index = emitter.fb().ins().urem(rest, extent);
            rest = emitter.fb().ins().udiv(rest, extent);
            emitter.set(axis, index);
        }
        result = match step.inner {
            None => element(emitter, step),
            Some(key) if let Source::Squares { tensor, dim } = step.source => {
                squares(emitter, (tensor, dim), step.target, key)
            }
            Some(inner) if angle_lanes(emitter, step, inner).is_some() => angles(emitter, step, inner),
            Some(inner) if in_doubles(emitter, step, inner) => doubles(emitter, step, inner),
            Some(inner) => {
                let wide = (!step.double)
                    .then(|| step.root())
                    .flatten()
                    .and_then(|root| contiguous(emitter, root, inner, Some(step.target)));
                by_rows(emitter, inner, wide, |emitter| {
                    rows(
                        emitter,
                        step.root(),
                        inner,
                        &mut |emitter, index, x| {
                            emitter.set(inner, index);
                            store(emitter, step, x)
                        },
                        &mut |emitter| compute(emitter, step),
                    )
                })
            }
        };
        emitter.restore(saved);
        Vec::new()
    });
    result
}

impl Table {
    /// The value whose rotations are computed in place, if the step computes a value itself.
    fn root(&self) -> Option<Value> {
        match &self.source {
            Source::Value(value) => Some(*value),
            _ => None,
        }
    }
}

/// Makes a row of cosines and a row of sines: angles one by one, what is made of them by vectors, in double precision to the end.
fn angles(emitter: &mut ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Result<(), CodegenError> {
    let (Source::Cos(angle), Some(sines), Some(lanes)) = (&step.source, step.second, angle_lanes(emitter, step, inner))
    else {
        return Ok(());
    };
    let (scratch, place) = (emitter.scratch, emitter.plan.scratch.scores);
    let kept = AngleRows::at(emitter, inner, (scratch, place));
    kept.fill(emitter, *angle, (inner, lanes))?;
    let AngleRows { length, zero, cosines: kept, sines: kept_sines, .. } = kept;
    emitter.set(inner, zero);
    for (kept, table) in [(kept, step.target), (kept_sines, sines)] {
        let row = emitter.address(table, &[])?;
        range_loop(emitter, zero, length, 2, &[], |emitter, index, _| {
            let offset = emitter.double_bytes(index);
            let address = emitter.fb().ins().iadd(kept, offset);
            let pair = emitter.fb().ins().load(types::F64X2, access(), address, 0);
            let pair = emitter.fb().ins().fvdemote(pair);
            let pair = emitter.fb().ins().bitcast(types::I64X2, lane_order(), pair);
            let pair = emitter.fb().ins().extractlane(pair, 0);
            let offset = emitter.lane_bytes(index);
            let address = emitter.fb().ins().iadd(row, offset);
            emitter.fb().ins().store(access(), pair, address, 0);
            Vec::new()
        });
    }
    Ok(())
}

fn element(emitter: &mut ExprEmitter<'_, '_>, step: &Table) -> Result<(), CodegenError> {
    let x = compute(emitter, step)?;
    store(emitter, step, x)
}
