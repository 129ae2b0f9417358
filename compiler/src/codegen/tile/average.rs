//! Weights and the average: the second half of a key tile.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::prefetch;
use super::product::{Product, Rows};
use super::query_tile::{KeyTileRows, Mode, Tile};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::{either, range_loop};
use crate::codegen::vocab::access;
use crate::plan::HEADROOM;

/// Weights that are summed up one after the other.
const RUN: i64 = 16;

/// Moves the bases of queries whose scores pass their limit, and tells what their accumulators are to be multiplied by.
fn rebase(eval: &mut Eval<'_, '_>, tile: Tile<'_>) {
    let Tile { shape, state, .. } = tile;
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let (ty, width) = (eval.v.float_type(), eval.plan.machine.vector_bytes() as i32);
    let columns = 0..shape.columns as i32;
    let passes = |eval: &mut Eval<'_, '_>, c: i32| {
        let limit = eval.fb().ins().load(ty, access(), state, layout.limits as i32 + width * c);
        let most = eval.fb().ins().load(ty, access(), scratch, layout.tile_maxima as i32 + width * c);
        (limit, most, eval.v.fcmp(FloatCC::GreaterThan, most, limit))
    };
    let mut any: Option<Ssa> = None;
    for c in columns.clone() {
        let (_, _, passed) = passes(eval, c);
        any = Some(match any {
            Some(any) => eval.fb().ins().bor(any, passed),
            None => passed,
        });
    }
    let any = match any {
        Some(any) => eval.fb().ins().vany_true(any),
        None => eval.fb().ins().iconst(types::I8, 0),
    };
    let moved = |eval: &mut Eval<'_, '_>| {
        for c in columns {
            let (limit, most, passed) = passes(eval, c);
            let base_place = layout.bases as i32 + width * c;
            let old = eval.fb().ins().load(ty, access(), state, base_place);
            let base = eval.v.select_float(passed, most, old);
            // A query that has seen no key yet has nothing to rescale.
            let low = eval.v.float(f64::NEG_INFINITY);
            let unseen = eval.v.fcmp(FloatCC::Equal, limit, low);
            let difference = eval.v.fsub(old, base);
            let low = eval.v.float(f64::NEG_INFINITY);
            let difference = eval.v.select_float(unseen, low, difference);
            let rescale = eval.v.exp2_bounded(difference);
            let headroom = eval.v.float(f64::from(HEADROOM));
            let raised = eval.v.fadd(base, headroom);
            let limit = eval.v.select_float(passed, raised, limit);
            eval.fb().ins().store(access(), base, state, base_place);
            eval.fb().ins().store(access(), limit, state, layout.limits as i32 + width * c);
            eval.fb().ins().store(access(), rescale, scratch, layout.rescale as i32 + width * c);
        }
        Vec::new()
    };
    let stayed = |eval: &mut Eval<'_, '_>| {
        for c in 0..shape.columns as i32 {
            let one = eval.v.float(1.0);
            eval.fb().ins().store(access(), one, scratch, layout.rescale as i32 + width * c);
        }
        Vec::new()
    };
    either(eval, any, moved, stayed);
}

/// Scores to weights, lane-wise; bases and sums move on.
pub(super) fn weights(eval: &mut Eval<'_, '_>, tile: Tile<'_>, mode: Mode, count: Ssa) {
    let Tile { shape, state, .. } = tile;
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let (ty, width) = (eval.v.float_type(), eval.plan.machine.vector_bytes() as i32);
    rebase(eval, tile);
    let rows = eval.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
    let start = eval.fb().ins().iconst(types::I64, 0);
    let mut carried = vec![rows];
    carried.extend((0..shape.columns).map(|_| eval.v.float(0.0)));
    // Summed by runs of keys: rounding errors grow with the length of a sum.
    let sums = range_loop(eval, start, count, RUN, &carried, |eval, first, carried| {
        let end = eval.fb().ins().iadd_imm_s(first, RUN);
        let end = eval.v.smin(end, count);
        let mut run = vec![carried[0]];
        run.extend((0..shape.columns).map(|_| eval.v.float(0.0)));
        let mut run = range_loop(eval, first, end, 1, &run, |eval, _, run| weigh(eval, tile, mode, run));
        for (sum, before) in run[1..].iter_mut().zip(&carried[1..]) {
            *sum = eval.v.fadd(*before, *sum);
        }
        run
    });
    for c in 0..shape.columns {
        let column = width * c as i32;
        let old = eval.fb().ins().load(ty, access(), state, layout.sums as i32 + column);
        let rescale = eval.fb().ins().load(ty, access(), scratch, layout.rescale as i32 + column);
        let new = eval.v.fma(old, rescale, sums[1 + c]);
        eval.fb().ins().store(access(), new, state, layout.sums as i32 + column);
    }
}

/// The weights of a key; carries the address of its scores and the sums.
fn weigh(eval: &mut Eval<'_, '_>, tile: Tile<'_>, mode: Mode, carried: &[Ssa]) -> Vec<Ssa> {
    let Tile { shape, state, .. } = tile;
    let layout = eval.plan.scratch;
    let (ty, width) = (eval.v.float_type(), eval.plan.machine.vector_bytes() as i32);
    let row = carried[0];
    let mut next = vec![eval.fb().ins().iadd_imm_s(row, tile.row_bytes())];
    for c in 0..shape.columns {
        let column = width * c as i32;
        let score = eval.fb().ins().load(ty, access(), row, column);
        let base = eval.fb().ins().load(ty, access(), state, layout.bases as i32 + column);
        let difference = eval.v.fsub(score, base);
        let weight = eval.v.exp2_bounded(difference);
        next.push(eval.v.fadd(carried[1 + c], weight));
        let stored = if mode.guarded {
            let low = eval.v.float(f64::NEG_INFINITY);
            let hidden = eval.v.fcmp(FloatCC::Equal, score, low);
            let mark = eval.v.float(-1.0);
            eval.v.select_float(hidden, mark, weight)
        } else {
            weight
        };
        eval.fb().ins().store(access(), stored, row, column);
    }
    next
}

/// Adds the weighted values to the accumulators.
pub(super) fn average(eval: &mut Eval<'_, '_>, tile: Tile<'_>, mode: Mode, count: Ssa) -> Result<(), CodegenError> {
    let Tile { attention, shape, .. } = tile;
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    let of_tile = KeyTileRows::new(eval, attention, (weighted.value, weighted.dim), offset_of!(TileCall, values))?;
    let whole = i64::from(weighted.length) / shape.value_rows as i64;
    let rest = weighted.length as usize % shape.value_rows;
    let whole_end = eval.fb().ins().iconst(types::I64, whole * shape.value_rows as i64);
    let start = eval.fb().ins().iconst(types::I64, 0);
    let values = Values { tile, of_tile, count };
    // Each register tile asks for the values of some of the next keys.
    let asked = attention.tiling.keys.div_ceil(whole.max(1) as usize);
    let mut result = Ok(());
    range_loop(eval, start, whole_end, shape.value_rows as i64, &[start], |eval, element, asked_before| {
        values.rows(eval, mode, element, shape.value_rows);
        let next = offset_of!(TileCall, next_values);
        let rows = (weighted.value, weighted.dim, weighted.length);
        result = prefetch::next(eval, tile, rows, next, (asked_before[0], asked));
        vec![eval.fb().ins().iadd_imm_s(asked_before[0], asked as i64)]
    });
    if rest > 0 {
        values.rows(eval, mode, whole_end, rest);
    }
    result
}

/// The values of a key tile.
struct Values<'a> {
    tile: Tile<'a>,
    of_tile: KeyTileRows,
    count: Ssa,
}

impl Values<'_> {
    /// A register tile of the average: `n` elements of the value head from `element`.
    fn rows(&self, eval: &mut Eval<'_, '_>, mode: Mode, element: Ssa, n: usize) {
        let (scratch, layout, shape) = (eval.scratch, eval.plan.scratch, self.tile.shape);
        let (ty, width) = (eval.v.float_type(), eval.plan.machine.vector_bytes() as i32);
        let row_bytes = self.tile.row_bytes();
        let KeyTileRows { first, stride: key_stride, element: stride } = self.of_tile;
        let offset = eval.fb().ins().imul(element, stride);
        let first = eval.fb().ins().iadd(first, offset);
        let place = eval.fb().ins().imul_imm_s(element, row_bytes);
        let place = eval.fb().ins().iadd(self.tile.state, place);
        let offset = |r: usize, c: usize| layout.accumulators as i32 + r as i32 * row_bytes as i32 + width * c as i32;
        let vectors = eval.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
        let product = Product {
            rows: Rows::Even { first, distance: stride, count: n },
            row_step: key_stride,
            vectors,
            vector_step: row_bytes,
            columns: shape.columns,
            turns: self.count,
            guarded: mode.guarded,
            chains: 1,
            chain_bytes: 0,
        };
        let sums = product.emit(eval);
        for r in 0..n {
            for c in 0..shape.columns {
                let old = eval.fb().ins().load(ty, access(), place, offset(r, c));
                let rescale = eval.fb().ins().load(ty, access(), scratch, layout.rescale as i32 + width * c as i32);
                let new = eval.v.fma(old, rescale, sums[r * shape.columns + c]);
                eval.fb().ins().store(access(), new, place, offset(r, c));
            }
        }
    }
}
