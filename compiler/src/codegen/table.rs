//! Tables: transformed rows and plain outputs too, element by element or by four along contiguous rows.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Value};

use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::half;
use super::loops::range_loop;
use super::rows::{by_rows, contiguous, iconst, plain, rows};
use super::squares::squares;
use super::vocab::{access, lane_order};
use crate::abi::TableCall;
use crate::plan::{Origin, Source, Storage, Table, TensorId};

/// Emits the function that makes a table.
pub(crate) fn table(emitter: &mut ExprEmitter<'_, '_>, index: usize, step: &Table) -> Result<(), CodegenError> {
    let plan = emitter.plan;
    emitter.run_as_step(index);
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

/// Lanes of `f64` for the sines and cosines of a row, where there are such and the scratch memory has room for them.
fn angle_lanes(emitter: &ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Option<usize> {
    let (plan, layout) = (emitter.plan, emitter.plan.scratch);
    plan.attention.as_ref()?;
    let lanes = plan.machine.lanes / 2;
    let length = plan.graph.static_extent(inner)? as usize;
    let rows = |tensor: TensorId| {
        let spec = &plan.tensors[tensor];
        spec.dims.last() == Some(&inner) && spec.storage == Storage::F32 && spec.origin == Origin::Table
    };
    let fits = length.is_multiple_of(lanes) && 16 * length <= layout.tile_maxima - layout.scores;
    let tables = step.second.is_some_and(|sines| rows(sines) && rows(step.target));
    (step.double && fits && tables && matches!(step.source, Source::Cos(_))).then_some(lanes)
}

/// Makes a row of cosines and a row of sines: angles one by one, what is made of them by vectors, in double precision to the end.
fn angles(emitter: &mut ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Result<(), CodegenError> {
    let (Source::Cos(angle), Some(sines), Some(lanes)) = (&step.source, step.second, angle_lanes(emitter, step, inner))
    else {
        return Ok(());
    };
    let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
    let length = emitter.extent(inner);
    let bytes = emitter.fb().ins().ishl_imm_u(length, 3);
    let kept = emitter.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
    let kept_sines = emitter.fb().ins().iadd(kept, bytes);
    let zero = iconst(emitter, 0);
    plain(
        emitter,
        inner,
        zero,
        length,
        &mut |emitter, index, x| {
            let offset = emitter.fb().ins().ishl_imm_u(index, 3);
            let address = emitter.fb().ins().iadd(kept, offset);
            emitter.fb().ins().store(access(), x, address, 0);
            Ok(())
        },
        &mut |emitter| emitter.emit(*angle),
    )?;
    emitter.in_rows(inner, lanes, |emitter| {
        let ty = emitter.v.float_type();
        range_loop(emitter, zero, bytes, 8 * lanes as i64, &[], |emitter, offset, _| {
            let address = emitter.fb().ins().iadd(kept, offset);
            let angle = emitter.fb().ins().load(ty, access(), address, 0);
            let (sin, cos) = emitter.v.sin_cos(angle);
            emitter.fb().ins().store(access(), cos, address, 0);
            let address = emitter.fb().ins().iadd(kept_sines, offset);
            emitter.fb().ins().store(access(), sin, address, 0);
            Vec::new()
        });
    });
    emitter.set(inner, zero);
    for (kept, table) in [(kept, step.target), (kept_sines, sines)] {
        let row = emitter.address(table, &[])?;
        range_loop(emitter, zero, length, 2, &[], |emitter, index, _| {
            let offset = emitter.fb().ins().ishl_imm_u(index, 3);
            let address = emitter.fb().ins().iadd(kept, offset);
            let pair = emitter.fb().ins().load(types::F64X2, access(), address, 0);
            let pair = emitter.fb().ins().fvdemote(pair);
            let pair = emitter.fb().ins().bitcast(types::I64X2, lane_order(), pair);
            let pair = emitter.fb().ins().extractlane(pair, 0);
            let offset = emitter.fb().ins().ishl_imm_u(index, 2);
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

fn compute(emitter: &mut ExprEmitter<'_, '_>, step: &Table) -> Result<Ssa, CodegenError> {
    match &step.source {
        Source::Value(value) => emitter.emit(*value),
        Source::Sum(terms) => {
            let sum = emitter.sum(terms)?;
            let Some(low) = step.second else { return Ok(sum) };
            let (high, rest) = emitter.v.parts(sum);
            store_to(emitter, low, rest)?;
            Ok(high)
        }
        Source::Cos(angle) | Source::Sin(angle) => {
            let angle = emitter.emit(*angle)?;
            let (sin, cos) = emitter.v.sin_cos(angle);
            if let Some(sines) = step.second {
                store_to(emitter, sines, sin)?;
            }
            Ok(cos)
        }
        Source::Squares { .. } => Err(CodegenError::Unsupported {
            op: emitter.plan.tensors[step.target].name.clone(),
            reason: "squared norms are made row by row",
        }),
    }
}

/// Stores the element of a step's target at the current point.
fn store(emitter: &mut ExprEmitter<'_, '_>, step: &Table, x: Ssa) -> Result<(), CodegenError> {
    store_to(emitter, step.target, x)
}

fn store_to(emitter: &mut ExprEmitter<'_, '_>, target: TensorId, x: Ssa) -> Result<(), CodegenError> {
    let address = emitter.address(target, &[])?;
    let double = emitter.v.shape.double;
    let storage = emitter.plan.tensors[target].storage;
    let fb = emitter.fb();
    let x = match storage {
        Storage::F32 | Storage::F16 | Storage::Bf16 if double => fb.ins().fdemote(types::F32, x),
        Storage::F64 if !double => fb.ins().fpromote(types::F64, x),
        Storage::Mask => {
            let wide = fb.ins().uextend(types::I32, x);
            fb.ins().ineg(wide)
        }
        _ => x,
    };
    half::store_as(fb, storage, x, address);
    Ok(())
}
