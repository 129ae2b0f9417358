//! Rows in double precision by vectors: sums and products of an index along the row and of what does not vary along it. For calls of few
//! queries, where terms of keys weigh as much as all else.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Binary, Elem, Op, Unary, Value, Walk};

use super::element::{compute, store};
use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::rows::{iconst, plain};
use crate::plan::{Source, Storage, Table};

/// What a row is made of: indices along it, and values that do not vary along it.
struct Leaves {
    indices: Vec<Value>,
    fixed: Vec<Value>,
}

/// Whether a table's rows are made so.
pub(super) fn in_doubles(emitter: &ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> bool {
    let plan = emitter.plan;
    let few = plan.schedule.is_for_few_queries() && plan.machine.is_wide();
    let single = [Some(step.target), step.second].into_iter().flatten().all(|table| {
        let spec = &plan.tensors[table];
        spec.storage == Storage::F32 && spec.dims.last() == Some(&inner)
    });
    few && step.double && single && leaves(emitter, step, inner).is_some_and(|leaves| !leaves.indices.is_empty())
}

/// The leaves of a sum of terms, if there is nothing else in it than sums, differences and products.
fn leaves(emitter: &ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Option<Leaves> {
    let (plan, Source::Sum(terms)) = (emitter.plan, &step.source) else { return None };
    let graph = &plan.graph;
    let mut found = Leaves { indices: Vec::new(), fixed: Vec::new() };
    let mut walk = Walk::of(terms.iter().map(|term| term.value));
    while let Some(value) = walk.next() {
        if !graph.varies(graph.ty(value).axes, inner) {
            found.fixed.push(value);
            continue;
        }
        match *graph.op(value) {
            _ if plan.table_of.contains_key(&Source::Value(value)) || graph.ty(value).elem != Elem::F32 => return None,
            Op::Cast(Elem::F32, x) if matches!(*graph.op(x), Op::Iota(axis) if axis == inner) => {
                found.indices.push(value);
            }
            Op::Unary(Unary::Neg, x) => walk.enter([x]),
            Op::Binary(Binary::Add | Binary::Sub | Binary::Mul, a, b) => walk.enter([a, b]),
            _ => return None,
        }
    }
    Some(found)
}

/// Makes a row: whole vectors, then what is left one by one.
pub(super) fn doubles(emitter: &mut ExprEmitter<'_, '_>, step: &Table, inner: Axis) -> Result<(), CodegenError> {
    let Some(leaves) = leaves(emitter, step, inner) else { return Ok(()) };
    let lanes = emitter.plan.machine.double_lanes();
    let fixed: Vec<(Value, Ssa)> =
        leaves.fixed.iter().map(|value| Ok((*value, emitter.emit(*value)?))).collect::<Result<_, CodegenError>>()?;
    let length = emitter.extent(inner);
    let (zero, whole) = (iconst(emitter, 0), emitter.fb().ins().band_imm_s(length, -(lanes as i64)));
    let mut result = Ok(());
    emitter.in_rows(inner, lanes, |emitter| {
        range_loop(emitter, zero, whole, lanes as i64, &[], |emitter, index, _| {
            let saved = emitter.save();
            emitter.set(inner, index);
            emitter.forget(inner);
            let ty = emitter.v.float_type();
            for (value, x) in &fixed {
                let x = emitter.v.splat(*x, ty);
                emitter.seed(*value, x);
            }
            let indices = successive(emitter, index, lanes);
            leaves.indices.iter().for_each(|value| emitter.seed(*value, indices));
            result = compute(emitter, step).and_then(|x| store(emitter, step, x));
            emitter.restore(saved);
            Vec::new()
        });
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
