//! Weights from scores. Lanes are keys, but where bases move on: there they are rows.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::rows::{Rows, greatest, load, raise, splat};
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, either, range_loop};
use crate::codegen::tile::average::{marked, rebase, stay};
use crate::codegen::tile::begin_maxima;
use crate::codegen::tile::lanes::joined;
use crate::codegen::tile::query_tile::Mode;
use crate::codegen::vocab::access;

/// Scores to weights; bases and sums move on.
pub(super) fn weights(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode) {
    let (base, layout) = (emitter.scratch, emitter.plan.scratch);
    let (ty, lanes) = (emitter.v.float_type(), emitter.plan.machine.lanes as i64);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    // Weights wait for the scores alone: that none passes its limit is predicted.
    let passed = any_passes(emitter, rows);
    either(
        emitter,
        passed,
        |emitter| {
            begin_maxima(emitter, rows.tile);
            counted_loop(emitter, rows.count, &[], |emitter, row, _| {
                let offset = emitter.lane_bytes(row);
                let maxima = emitter.fb().ins().iadd(base, offset);
                raise(emitter, rows, row, (maxima, layout.tile_maxima as i32));
                Vec::new()
            });
            rebase(emitter, rows.tile);
            Vec::new()
        },
        |emitter| {
            stay(emitter, rows.tile);
            Vec::new()
        },
    );
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        let at = rows.scores(emitter, row);
        let place = rows.number(emitter, row, layout.bases);
        let from = splat(emitter, place);
        let zero = emitter.v.float(0.0);
        let sum = range_loop(emitter, start, rows.keys, lanes, &[zero], |emitter, key, sum| {
            let offset = emitter.lane_bytes(key);
            let place = emitter.fb().ins().iadd(at, offset);
            let score = load(emitter, ty, place, 0);
            let difference = emitter.v.fsub(score, from);
            let weight = emitter.v.exp2_bounded(difference);
            let stored = marked(emitter, mode, score, weight);
            emitter.fb().ins().store(access(), stored, place, 0);
            vec![emitter.v.fadd(sum[0], weight)]
        });
        let sum = joined(emitter, sum[0], &|emitter, a, b| emitter.v.fadd(a, b));
        let (sums, part) = rows.number(emitter, row, layout.sums);
        let old = load(emitter, types::F32, sums, part);
        let offset = emitter.lane_bytes(row);
        let scale = emitter.fb().ins().iadd(base, offset);
        let rescale = load(emitter, types::F32, scale, layout.rescale as i32);
        let new = emitter.v.fma(old, rescale, sum);
        emitter.fb().ins().store(access(), new, sums, part);
        Vec::new()
    });
}

/// Whether a score passes the limit of its row. NaN does not.
fn any_passes(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>) -> Ssa {
    let limits = emitter.plan.scratch.limits;
    let none = emitter.fb().ins().iconst(types::I8, 0);
    counted_loop(emitter, rows.count, &[none], |emitter, row, any| {
        let place = rows.number(emitter, row, limits);
        let limit = splat(emitter, place);
        let most = greatest(emitter, rows, row, limit);
        let passed = emitter.v.fcmp(FloatCC::GreaterThan, most, limit);
        let passed = emitter.fb().ins().vany_true(passed);
        vec![emitter.fb().ins().bor(any[0], passed)]
    })[0]
}
