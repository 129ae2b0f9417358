//! Values of a score by the distance of a run of queries and a run of keys.
//!
//! Of a run of keys that ends with key `K`, and a run of queries that begins with query `Q`, the value of a query and a key is that of the
//! distance `(query - Q) + (K - key)` from these two: the differences that it is computed of are those of `Q` and `K` and as many steps. The
//! values lie in a row, from which each key of the run copies those of its queries to where all pairs of the key tile lie.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::query_tile::{Tile, call_word, slot};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Order};
use crate::codegen::loops::{range_loop, stepped_loop};
use crate::codegen::vocab::{access, floor_divide};
use crate::machine::LANE_BYTES;
use crate::plan::End;

/// Keys whose values are copied in one turn of a loop.
const KEYS: i64 = 4;

/// A run of queries and a run of keys, counted from the first of the tile.
#[derive(Clone, Copy)]
struct Cell {
    first_query: Ssa,
    queries: Ssa,
    first_key: Ssa,
    keys: Ssa,
}

/// Computes the values of the key tile.
pub(super) fn fill(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, count: Ssa) -> Result<(), CodegenError> {
    if emitter.plan.by_runs.values.is_empty() {
        return Ok(());
    }
    let [first_query, queries, first_key] =
        [offset_of!(TileCall, first_query), offset_of!(TileCall, queries), offset_of!(TileCall, first_key)]
            .map(|field| call_word(emitter, field));
    let all = emitter.fb().ins().iconst(types::I64, tile.shape.queries as i64);
    // The shape may be that of a part of the tile.
    let queries = emitter.v.smin(queries, all);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let mut result = Ok(());
    stepped_loop(emitter, start, count, |emitter, key| {
        let index = emitter.fb().ins().iadd(first_key, key);
        let rest = emitter.fb().ins().isub(count, key);
        let (keys, found) = or(length(emitter, tile.attention.key, (index, rest)), rest);
        result = found;
        stepped_loop(emitter, start, queries, |emitter, query| {
            let index = emitter.fb().ins().iadd(first_query, query);
            let rest = emitter.fb().ins().isub(queries, query);
            let (length, found) = or(length(emitter, tile.attention.query, (index, rest)), rest);
            // Lanes past the last query belong to its run.
            let end = emitter.fb().ins().iadd(query, length);
            let is_last = emitter.fb().ins().icmp(IntCC::SignedGreaterThanOrEqual, end, queries);
            let end = emitter.fb().ins().select(is_last, all, end);
            let length = emitter.fb().ins().isub(end, query);
            let cell = Cell { first_query: query, queries: length, first_key: key, keys };
            let done = found.and_then(|()| values(emitter, tile, cell, (first_query, first_key)));
            result = std::mem::replace(&mut result, Ok(())).and(done);
            copy(emitter, tile, cell);
            end
        });
        emitter.fb().ins().iadd(key, keys)
    });
    result
}

/// The value, or the error beside another value.
fn or(value: Result<Ssa, CodegenError>, other: Ssa) -> (Ssa, Result<(), CodegenError>) {
    match value {
        Ok(value) => (value, Ok(())),
        Err(error) => (other, Err(error)),
    }
}

/// How far the run goes on along an axis from an index, which is part of it; `rest` at most.
fn length(emitter: &mut ExprEmitter<'_, '_>, axis: Axis, (index, rest): (Ssa, Ssa)) -> Result<Ssa, CodegenError> {
    let plan = emitter.plan;
    let saved = emitter.save();
    emitter.set(axis, index);
    let length = emitter.in_rows(axis, 1, |emitter| {
        plan.by_runs.breaks.iter().filter(|at| at.axis == axis).try_fold(rest, |length, at| {
            let index = emitter.emit(at.index)?;
            let left = left(emitter, index, (at.end, length));
            Ok(emitter.v.smin(length, left))
        })
    });
    emitter.restore(saved);
    length
}

/// How far it is from an index to an end after it; `otherwise` if there is none.
fn left(emitter: &mut ExprEmitter<'_, '_>, index: Ssa, (end, otherwise): (End, Ssa)) -> Ssa {
    match end {
        End::Multiple(period) => {
            let period = emitter.v.int(period);
            let (_, passed) = floor_divide(emitter.fb(), index, period);
            let left = emitter.fb().ins().isub(period, passed);
            emitter.fb().ins().sextend(types::I64, left)
        }
        End::At(end) => {
            let index = emitter.fb().ins().sextend(types::I64, index);
            let end = emitter.fb().ins().iconst(types::I64, i64::from(end));
            let left = emitter.fb().ins().isub(end, index);
            let is_after = emitter.fb().ins().icmp_imm_s(IntCC::SignedGreaterThan, left, 0);
            emitter.fb().ins().select(is_after, left, otherwise)
        }
    }
}

/// Computes the values of two runs by their distance.
fn values(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    cell: Cell,
    (first_query, first_key): (Ssa, Ssa),
) -> Result<(), CodegenError> {
    let (plan, attention) = (emitter.plan, tile.attention);
    let saved = emitter.save();
    let query = emitter.fb().ins().iadd(first_query, cell.first_query);
    let end = emitter.fb().ins().iadd(cell.first_key, cell.keys);
    let end = emitter.fb().ins().iadd(first_key, end);
    let last_key = emitter.fb().ins().iadd_imm_s(end, -1);
    emitter.set(attention.query, query);
    emitter.set(attention.key, last_key);
    emitter.forget(attention.query);
    emitter.forget(attention.key);
    let first: Result<Vec<Ssa>, CodegenError> = emitter.in_rows(attention.query, 1, |emitter| {
        plan.by_runs.differences.iter().map(|(value, _)| emitter.emit(*value)).collect()
    });
    let first = first?;
    let all = emitter.fb().ins().iadd(cell.queries, cell.keys);
    let distances = emitter.fb().ins().iadd_imm_s(all, -1);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let lanes = emitter.fb().ins().iadd_imm_s(tile.state, plan.scratch.lanes as i64);
    let mut result = Ok(());
    range_loop(emitter, start, distances, plan.machine.lanes as i64, &[], |emitter, distance, _| {
        let saved = emitter.save();
        // What the values are computed of has no table by query.
        emitter.set_lanes(attention.query, lanes, Order::Any);
        let steps = successive(emitter, distance);
        for ((value, step), first) in plan.by_runs.differences.iter().zip(&first) {
            let x = difference(emitter, *first, (steps, *step));
            emitter.seed(*value, x);
        }
        result = store(emitter, distance);
        emitter.restore(saved);
        Vec::new()
    });
    emitter.restore(saved);
    result
}

/// A difference after as many steps, from the first; a bool takes none.
fn difference(emitter: &mut ExprEmitter<'_, '_>, first: Ssa, (steps, step): (Ssa, i32)) -> Ssa {
    let ty = emitter.fb().func.dfg.value_type(first);
    let added = match step {
        0 => None,
        1 => Some(steps),
        step => {
            let step = emitter.v.int(step);
            Some(emitter.fb().ins().imul(steps, step))
        }
    };
    if ty == types::I8 {
        let vector = emitter.v.int_type();
        let first = emitter.fb().ins().uextend(types::I32, first);
        let first = emitter.v.splat(first, vector);
        let zero = emitter.v.int(0);
        return emitter.v.icmp(IntCC::NotEqual, first, zero);
    }
    if ty == types::I32 {
        let vector = emitter.v.int_type();
        let first = emitter.v.splat(first, vector);
        return added.map_or(first, |added| emitter.fb().ins().iadd(first, added));
    }
    let vector = emitter.v.float_type();
    let first = emitter.v.splat(first, vector);
    match added {
        None => first,
        Some(added) => {
            let added = emitter.v.int_to_float(added);
            emitter.v.fadd(first, added)
        }
    }
}

/// A number and those that follow it, in the lanes of a vector.
fn successive(emitter: &mut ExprEmitter<'_, '_>, first: Ssa) -> Ssa {
    let ty = emitter.v.int_type();
    let first = emitter.fb().ins().ireduce(types::I32, first);
    let first = emitter.v.splat(first, ty);
    let bytes: Vec<u8> = (0..emitter.plan.machine.lanes as i32).flat_map(i32::to_le_bytes).collect();
    let lanes = emitter.fb().func.dfg.constants.insert(bytes.into());
    let lanes = emitter.fb().ins().vconst(ty, lanes);
    emitter.fb().ins().iadd(first, lanes)
}

/// Computes and stores a vector of each value.
fn store(emitter: &mut ExprEmitter<'_, '_>, distance: Ssa) -> Result<(), CodegenError> {
    let (plan, scratch) = (emitter.plan, emitter.scratch);
    let offset = emitter.lane_bytes(distance);
    let address = emitter.fb().ins().iadd(scratch, offset);
    for (number, value) in plan.by_runs.values.iter().enumerate() {
        let x = emitter.emit(*value)?;
        let row = row(emitter, number);
        emitter.fb().ins().store(access(), x, address, row);
    }
    Ok(())
}

/// Where the value of distance 0 lies in the scratch memory.
fn row(emitter: &ExprEmitter<'_, '_>, number: usize) -> i32 {
    let (layout, vector) = (emitter.plan.scratch, emitter.plan.machine.vector_bytes());
    (layout.runs + number * layout.run_bytes + vector) as i32
}

/// Where the values of the first key lie in the scratch memory.
fn pairs(emitter: &ExprEmitter<'_, '_>, number: usize) -> i32 {
    let layout = emitter.plan.scratch;
    (layout.pairs + number * layout.pair_bytes) as i32
}

/// Copies the values of two runs to their pairs.
fn copy(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, cell: Cell) {
    let lanes = emitter.plan.machine.lanes as i64;
    let end = emitter.fb().ins().iadd(cell.first_query, cell.queries);
    let first_column = emitter.fb().ins().udiv_imm_u(cell.first_query, lanes);
    let up = emitter.fb().ins().iadd_imm_s(end, lanes - 1);
    let end_column = emitter.fb().ins().udiv_imm_u(up, lanes);
    let target = slot(emitter, 0, cell.first_key, tile.row_bytes() as usize);
    range_loop(emitter, first_column, end_column, 1, &[], |emitter, column, _| {
        let lane = emitter.fb().ins().imul_imm_s(column, lanes);
        let offset = emitter.lane_bytes(lane);
        let target = emitter.fb().ins().iadd(target, offset);
        // Of the first key, the distance of the first lane, which may lie before the run.
        let before = emitter.fb().ins().isub(lane, cell.first_query);
        let distance = emitter.fb().ins().iadd(before, cell.keys);
        let distance = emitter.fb().ins().iadd_imm_s(distance, -1);
        let offset = emitter.lane_bytes(distance);
        let scratch = emitter.scratch;
        let source = emitter.fb().ins().iadd(scratch, offset);
        let mask = of_run(emitter, lane, (cell.first_query, end));
        copy_column(emitter, tile, (source, target), (mask, cell.keys));
        Vec::new()
    });
}

/// Which lanes of a vector, the first of which is `lane`, are in a range.
pub(super) fn of_run(emitter: &mut ExprEmitter<'_, '_>, lane: Ssa, (start, end): (Ssa, Ssa)) -> Ssa {
    let (lanes, ty) = (successive(emitter, lane), emitter.v.int_type());
    let [start, end] = [start, end].map(|bound| {
        let bound = emitter.fb().ins().ireduce(types::I32, bound);
        emitter.v.splat(bound, ty)
    });
    let after = emitter.v.icmp(IntCC::SignedGreaterThanOrEqual, lanes, start);
    let before = emitter.v.icmp(IntCC::SignedLessThan, lanes, end);
    emitter.fb().ins().band(after, before)
}

/// Copies a vector of queries for each key of a run: each key's begins one distance before the last one's.
fn copy_column(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    (source, target): (Ssa, Ssa),
    (mask, keys): (Ssa, Ssa),
) {
    let values = emitter.plan.by_runs.values.len();
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let whole = emitter.fb().ins().band_imm_s(keys, -KEYS);
    let mut at = vec![source, target];
    for (start, end, step) in [(start, whole, KEYS), (whole, keys, 1)] {
        at = range_loop(emitter, start, end, step, &at, |emitter, _, at| {
            let ty = emitter.v.float_type();
            for (key, number) in (0..step).flat_map(|key| (0..values).map(move |number| (key, number))) {
                let from = row(emitter, number) - LANE_BYTES as i32 * key as i32;
                let to = pairs(emitter, number) + (key * tile.row_bytes()) as i32;
                let x = emitter.fb().ins().load(ty, access(), at[0], from);
                let other = emitter.fb().ins().load(ty, access(), at[1], to);
                let x = emitter.v.select_float(mask, x, other);
                emitter.fb().ins().store(access(), x, at[1], to);
            }
            let source = emitter.fb().ins().iadd_imm_s(at[0], -(LANE_BYTES as i64) * step);
            vec![source, emitter.fb().ins().iadd_imm_s(at[1], step * tile.row_bytes())]
        });
    }
}

/// The address of the values of a key, of the first query of the tile, if there are such; `key` counts from the first key of the key tile.
pub(super) fn of_key(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, key: Ssa) -> Option<Ssa> {
    let any = !emitter.plan.by_runs.values.is_empty();
    any.then(|| slot(emitter, 0, key, tile.row_bytes() as usize))
}

/// Tells the emitter the values of a key for a vector of queries, `column` bytes from the first query; `address` is that of the key.
pub(super) fn seed(emitter: &mut ExprEmitter<'_, '_>, address: Ssa, column: i32) {
    let (plan, ty) = (emitter.plan, emitter.v.float_type());
    for (number, value) in plan.by_runs.values.iter().enumerate() {
        let offset = pairs(emitter, number) + column;
        let x = emitter.fb().ins().load(ty, access(), address, offset);
        emitter.seed(*value, x);
    }
}
