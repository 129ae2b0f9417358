//! Map steps: tables, transformed rows and plain outputs, element by element or by four along contiguous rows.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Value};

use super::error::CodegenError;
use super::eval::Eval;
use super::loops::range_loop;
use super::rows::{by_rows, contiguous, iconst, plain, rows};
use super::squares::squares;
use super::vocab::{access, lane_order};
use crate::abi::MapCall;
use crate::plan::{MapStep, Origin, Source, Storage, TensorId};

/// Emits the body of a map step.
pub(crate) fn map_step(eval: &mut Eval<'_, '_>, index: usize, step: &MapStep) -> Result<(), CodegenError> {
    let plan = eval.plan;
    eval.run_as_step(index);
    let dims = plan.tensors[step.target].dims.clone();
    let outer: Vec<Axis> = dims.iter().copied().filter(|axis| Some(*axis) != step.inner).collect();
    let scratch = eval.scratch;
    let [start, end] = [offset_of!(MapCall, first), offset_of!(MapCall, end)].map(|field| {
        let offset = (plan.scratch.call + field) as i32;
        eval.fb().ins().load(types::I64, access(), scratch, offset)
    });
    let mut result = Ok(());
    range_loop(eval, start, end, 1, &[], |eval, flat, _| {
        let saved = eval.save();
        let mut rest = flat;
        for &axis in outer.iter().rev() {
            let extent = eval.extent(axis);
            let index = eval.fb().ins().urem(rest, extent);
            rest = eval.fb().ins().udiv(rest, extent);
            eval.set(axis, index);
        }
        result = match step.inner {
            None => element(eval, step),
            Some(key) if let Source::Squares { tensor, dim } = step.source => {
                squares(eval, (tensor, dim), step.target, key)
            }
            Some(inner) if angle_lanes(eval, step, inner).is_some() => angles(eval, step, inner),
            Some(inner) => {
                let wide = (!step.double)
                    .then(|| step.root())
                    .flatten()
                    .and_then(|root| contiguous(eval, root, inner, Some(step.target)));
                by_rows(eval, inner, wide, |eval| {
                    rows(
                        eval,
                        step.root(),
                        inner,
                        &mut |eval, index, x| {
                            eval.set(inner, index);
                            store(eval, step, x)
                        },
                        &mut |eval| compute(eval, step),
                    )
                })
            }
        };
        eval.restore(saved);
        Vec::new()
    });
    result
}

impl MapStep {
    /// The value whose rotations are computed in place, if the step computes a value itself.
    fn root(&self) -> Option<Value> {
        match &self.source {
            Source::Value(value) => Some(*value),
            _ => None,
        }
    }
}

/// Lanes of `f64` for the sines and cosines of a row, where there are such and the scratch memory has room for them.
fn angle_lanes(eval: &Eval<'_, '_>, step: &MapStep, inner: Axis) -> Option<usize> {
    let (plan, layout) = (eval.plan, eval.plan.scratch);
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
fn angles(eval: &mut Eval<'_, '_>, step: &MapStep, inner: Axis) -> Result<(), CodegenError> {
    let (Source::Cos(angle), Some(sines), Some(lanes)) = (&step.source, step.second, angle_lanes(eval, step, inner))
    else {
        return Ok(());
    };
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let length = eval.extent(inner);
    let bytes = eval.fb().ins().ishl_imm_u(length, 3);
    let kept = eval.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
    let kept_sines = eval.fb().ins().iadd(kept, bytes);
    let zero = iconst(eval, 0);
    plain(
        eval,
        inner,
        zero,
        length,
        &mut |eval, index, x| {
            let offset = eval.fb().ins().ishl_imm_u(index, 3);
            let address = eval.fb().ins().iadd(kept, offset);
            eval.fb().ins().store(access(), x, address, 0);
            Ok(())
        },
        &mut |eval| eval.emit(*angle),
    )?;
    eval.in_rows(inner, lanes, |eval| {
        let ty = eval.v.float_type();
        range_loop(eval, zero, bytes, 8 * lanes as i64, &[], |eval, offset, _| {
            let address = eval.fb().ins().iadd(kept, offset);
            let angle = eval.fb().ins().load(ty, access(), address, 0);
            let (sin, cos) = eval.v.sin_cos(angle);
            eval.fb().ins().store(access(), cos, address, 0);
            let address = eval.fb().ins().iadd(kept_sines, offset);
            eval.fb().ins().store(access(), sin, address, 0);
            Vec::new()
        });
    });
    eval.set(inner, zero);
    for (kept, table) in [(kept, step.target), (kept_sines, sines)] {
        let row = eval.address(table, &[])?;
        range_loop(eval, zero, length, 2, &[], |eval, index, _| {
            let offset = eval.fb().ins().ishl_imm_u(index, 3);
            let address = eval.fb().ins().iadd(kept, offset);
            let pair = eval.fb().ins().load(types::F64X2, access(), address, 0);
            let pair = eval.fb().ins().fvdemote(pair);
            let pair = eval.fb().ins().bitcast(types::I64X2, lane_order(), pair);
            let pair = eval.fb().ins().extractlane(pair, 0);
            let offset = eval.fb().ins().ishl_imm_u(index, 2);
            let address = eval.fb().ins().iadd(row, offset);
            eval.fb().ins().store(access(), pair, address, 0);
            Vec::new()
        });
    }
    Ok(())
}

fn element(eval: &mut Eval<'_, '_>, step: &MapStep) -> Result<(), CodegenError> {
    let x = compute(eval, step)?;
    store(eval, step, x)
}

fn compute(eval: &mut Eval<'_, '_>, step: &MapStep) -> Result<Ssa, CodegenError> {
    match &step.source {
        Source::Value(value) => eval.emit(*value),
        Source::Sum(terms) => {
            let sum = eval.sum(terms)?;
            let Some(low) = step.second else { return Ok(sum) };
            let (high, rest) = eval.v.parts(sum);
            store_to(eval, low, rest)?;
            Ok(high)
        }
        Source::Cos(angle) | Source::Sin(angle) => {
            let angle = eval.emit(*angle)?;
            let (sin, cos) = eval.v.sin_cos(angle);
            if let Some(sines) = step.second {
                store_to(eval, sines, sin)?;
            }
            Ok(cos)
        }
        Source::Squares { .. } => Err(CodegenError::Unsupported {
            op: eval.plan.tensors[step.target].name.clone(),
            reason: "squared norms are made row by row",
        }),
    }
}

/// Stores the element of a step's target at the current point.
fn store(eval: &mut Eval<'_, '_>, step: &MapStep, x: Ssa) -> Result<(), CodegenError> {
    store_to(eval, step.target, x)
}

fn store_to(eval: &mut Eval<'_, '_>, target: TensorId, x: Ssa) -> Result<(), CodegenError> {
    let address = eval.address(target, &[])?;
    let double = eval.v.shape.double;
    let storage = eval.plan.tensors[target].storage;
    let fb = eval.fb();
    let x = match storage {
        Storage::F32 if double => fb.ins().fdemote(types::F32, x),
        Storage::F64 if !double => fb.ins().fpromote(types::F64, x),
        Storage::Mask => {
            let wide = fb.ins().uextend(types::I32, x);
            fb.ins().ineg(wide)
        }
        _ => x,
    };
    fb.ins().store(access(), x, address, 0);
    Ok(())
}
