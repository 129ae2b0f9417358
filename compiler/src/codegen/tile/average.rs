//! Weights and the average: the second half of a key tile.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::product::Product;
use super::{GRID_ROUNDER_F32, Mode, dim_stride, key_part, row_base};
use crate::codegen::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Scores to weights, lane-wise; the running maximum, sum and rescaling factor move on.
pub(super) fn weights(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, count: Ssa, state: Ssa) {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
    for c in 0..tile.columns as i32 {
        let column = width * c;
        let old = eval.fb().ins().load(ty, access(), state, layout.maxima as i32 + column);
        let mut new = eval.fb().ins().load(ty, access(), state, layout.tile_maxima as i32 + column);
        if attention.key_term.is_some() {
            // Any number near the maximum serves; one of the grid makes its difference to a key term exact.
            let rounder = eval.v.float(GRID_ROUNDER_F32);
            let rounded = eval.v.fadd(new, rounder);
            let rounder = eval.v.float(GRID_ROUNDER_F32);
            new = eval.v.fsub(rounded, rounder);
        }
        eval.fb().ins().store(access(), new, state, layout.maxima as i32 + column);
        // A query that has seen no key yet has maximum -inf: measured from 0 its weights are 0, not NaN.
        let low = eval.v.float(f64::NEG_INFINITY);
        let unseen = eval.v.fcmp(FloatCC::Equal, new, low);
        let zero = eval.v.float(0.0);
        let base = eval.v.select_float(unseen, zero, new);
        eval.fb().ins().store(access(), base, state, layout.tile_maxima as i32 + column);
        let difference = eval.v.fsub(old, base);
        let rescale = eval.v.exp2_nonpositive(difference);
        eval.fb().ins().store(access(), rescale, state, layout.rescale as i32 + column);
    }
    let zeros: Vec<Ssa> = (0..tile.columns).map(|_| eval.v.float(0.0)).collect();
    let rows = eval.fb().ins().iadd_imm_s(state, layout.scores as i64);
    let mut carried = vec![rows];
    carried.extend(zeros);
    let sums = counted_loop(eval, count, &carried, |eval, key, carried| {
        let row = carried[0];
        let mut next = vec![eval.fb().ins().iadd_imm_s(row, 4 * tile.queries() as i64)];
        for c in 0..tile.columns {
            let column = width * c as i32;
            let score = eval.fb().ins().load(ty, access(), row, column);
            let base = eval.fb().ins().load(ty, access(), state, layout.tile_maxima as i32 + column);
            let difference = match key_part(eval, attention, layout.key_terms, key, 0) {
                Some(coarse) => {
                    let exact = eval.v.fsub(coarse, base);
                    eval.v.fadd(score, exact)
                }
                None => eval.v.fsub(score, base),
            };
            let weight = eval.v.exp2_nonpositive(difference);
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
    });
    for c in 0..tile.columns {
        let column = width * c as i32;
        let old = eval.fb().ins().load(ty, access(), state, layout.sums as i32 + column);
        let rescale = eval.fb().ins().load(ty, access(), state, layout.rescale as i32 + column);
        let new = eval.v.fma(old, rescale, sums[1 + c]);
        eval.fb().ins().store(access(), new, state, layout.sums as i32 + column);
    }
}

/// Adds the weighted values to the accumulators.
pub(super) fn average(
    eval: &mut Eval<'_, '_>,
    attention: &Attention,
    mode: Mode,
    first: Ssa,
    count: Ssa,
    state: Ssa,
) -> Result<(), CodegenError> {
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    let tile = attention.tile;
    let (base, key_stride) = row_base(eval, weighted.value, attention.key, weighted.dim)?;
    let skipped = eval.fb().ins().imul(first, key_stride);
    let base = eval.fb().ins().iadd(base, skipped);
    let stride = dim_stride(eval, weighted.value, weighted.dim);
    let whole = i64::from(weighted.length) / tile.value_rows as i64;
    let rest = weighted.length as usize % tile.value_rows;
    let whole_end = eval.fb().ins().iconst(types::I64, whole * tile.value_rows as i64);
    let start = eval.fb().ins().iconst(types::I64, 0);
    let values = Values { base, key_stride, stride, count, state };
    range_loop(eval, start, whole_end, tile.value_rows as i64, &[], |eval, element, _| {
        values.rows(eval, attention, mode, element, tile.value_rows);
        Vec::new()
    });
    if rest > 0 {
        values.rows(eval, attention, mode, whole_end, rest);
    }
    Ok(())
}

/// The values of a key tile.
struct Values {
    base: Ssa,
    key_stride: Ssa,
    stride: Ssa,
    count: Ssa,
    state: Ssa,
}

impl Values {
    /// A register tile of the average: `n` elements of the value head from `element`.
    fn rows(&self, eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, element: Ssa, n: usize) {
        let (layout, tile) = (eval.plan.scratch, attention.tile);
        let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
        let mut rows = Vec::with_capacity(n);
        for r in 0..n as i64 {
            let index = eval.fb().ins().iadd_imm_s(element, r);
            let offset = eval.fb().ins().imul(index, self.stride);
            rows.push(eval.fb().ins().iadd(self.base, offset));
        }
        let place = eval.fb().ins().imul_imm_s(element, 4 * tile.queries() as i64);
        let place = eval.fb().ins().iadd(self.state, place);
        let offset =
            |r: usize, c: usize| layout.accumulators as i32 + 4 * (r * tile.queries()) as i32 + width * c as i32;
        let mut accumulators = Vec::with_capacity(n * tile.columns);
        for r in 0..n {
            for c in 0..tile.columns {
                let old = eval.fb().ins().load(ty, access(), place, offset(r, c));
                let rescale = eval.fb().ins().load(ty, access(), self.state, layout.rescale as i32 + width * c as i32);
                accumulators.push(eval.v.fmul(old, rescale));
            }
        }
        let vectors = eval.fb().ins().iadd_imm_s(self.state, layout.scores as i64);
        let product = Product {
            rows,
            row_step: self.key_stride,
            vectors,
            vector_step: 4 * tile.queries() as i64,
            columns: tile.columns,
            turns: self.count,
            guarded: mode.guarded,
        };
        let sums = product.emit(eval, &accumulators);
        for r in 0..n {
            for c in 0..tile.columns {
                eval.fb().ins().store(access(), sums[r * tile.columns + c], place, offset(r, c));
            }
        }
    }
}
