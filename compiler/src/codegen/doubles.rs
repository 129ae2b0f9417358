//! Rows in double precision by vectors: sums and products of an index along the row and of what does not vary along it. For calls of few
//! queries, where terms of keys weigh as much as all else.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Value};

use super::element::{compute, store};
use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::rows::{iconst, plain};
use crate::plan::{Leaves, Storage, Table};

/// Whether a table's rows are made so.
pub(super) fn in_doubles(emitter: &ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> bool {
    let plan = emitter.plan;
    let few = plan.schedule.is_for_few_queries() && plan.machine.is_wide();
    let single = [Some(step.target), step.second].into_iter().flatten().all(|table| {
        let spec = &plan.tensors[table];
        spec.storage == Storage::F32 && spec.dims.last() == Some(&inner)
    });
    few && step.double && single && Leaves::of(plan, step, inner).is_some_and(|leaves| !leaves.indices.is_empty())
}

/// Makes a row: whole vectors, then what is left one by one.
pub(super) fn doubles(emitter: &mut ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Result<(), CodegenError> {
    let Some(leaves) = Leaves::of(emitter.plan, step, inner) else { return Ok(()) };
    let lanes = emitter.plan.machine.double_lanes();
    let fixed = fixed(emitter, &leaves)?;
    let length = emitter.extent(inner);
    let (zero, whole) = (iconst(emitter, 0), emitter.fb().ins().band_imm_s(length, -(lanes as i64)));
    let mut result = Ok(());
    vectors(emitter, (inner, &leaves, &fixed), (zero, whole), |emitter, _| {
        result = compute(emitter, step).and_then(|x| store(emitter, step, x));
    });
    result?;
    plain(
        emitter,
        inner,
        whole,
        length,
        &mut |emitter, index, x| {
            emitter.set(inner, index);
            store(emitter, step, x)
        },
        &mut |emitter| compute(emitter, step),
    )
}

/// The values that do not vary along a row.
pub(super) fn fixed(emitter: &mut ExprEmitter<'_, '_>, leaves: &Leaves) -> Result<Vec<(Value, Ssa)>, CodegenError> {
    leaves.fixed.iter().map(|value| Ok((*value, emitter.emit(*value)?))).collect()
}

/// Emits a loop over the vectors of a row from one index on, up to another: `body` gets the index of the first lane, where the leaves are
/// known.
pub(super) fn vectors<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    (along, leaves, fixed): (Axis, &Leaves, &[(Value, Ssa)]),
    (from, to): (Ssa, Ssa),
    body: impl FnOnce(&mut ExprEmitter<'a, 'f>, Ssa),
) {
    let lanes = emitter.plan.machine.double_lanes();
    emitter.in_rows(along, lanes, |emitter| {
        range_loop(emitter, from, to, lanes as i64, &[], |emitter, index, _| {
            let saved = emitter.save();
            emitter.set(along, index);
            emitter.forget(along);
            let ty = emitter.v.float_type();
            for (value, x) in fixed {
                let x = emitter.v.splat(*x, ty);
                emitter.seed(*value, x);
            }
            let indices = successive(emitter, index, lanes);
            leaves.indices.iter().for_each(|value| emitter.seed(*value, indices));
            body(emitter, index);
            emitter.restore(saved);
            Vec::new()
        });
    });
}

/// An index and those that follow it, in double precision.
fn successive(emitter: &mut ExprEmitter<'_, '_>, index: Ssa, lanes: usize) -> Ssa {
    let ty = emitter.v.float_type();
    let index = emitter.fb().ins().fcvt_from_sint(types::F64, index);
    let index = emitter.v.splat(index, ty);
    let bytes: Vec<u8> = (0..lanes).flat_map(|lane| (lane as f64).to_le_bytes()).collect();
    let steps = emitter.fb().func.dfg.constants.insert(bytes.into());
    let steps = emitter.fb().ins().vconst(ty, steps);
    emitter.v.fadd(index, steps)
}
