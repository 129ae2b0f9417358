//! Weights from scores. Lanes are keys, but where bases move on: there they are rows.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::rows::{Rows, Turns, by_register_tiles, greatest, load, raise, scratch, splat};
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, either};
use crate::codegen::tile::average::{marked, rebase, stay};
use crate::codegen::tile::begin_maxima;
use crate::codegen::tile::lanes::of_rows;
use crate::codegen::tile::query_tile::Mode;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::RowTile;

/// Scores to weights; bases and sums move on.
pub(super) fn weights(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode) {
    let (base, layout) = (emitter.scratch, emitter.plan.scratch);
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
    by_register_tiles(emitter, rows, Turns::ONE, |emitter, row, tile, _| {
        let sums = weights_of(emitter, rows, mode, (row, tile.rows));
        add_sums(emitter, rows, row, &sums);
    });
}

/// Scores of some rows to weights: their sums, lane by lane.
fn weights_of(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode, (row, count): (Ssa, usize)) -> Vec<Ssa> {
    let (bases, part) = rows.number(emitter, row, emitter.plan.scratch.bases);
    let bases: Vec<Ssa> = (0..count).map(|n| splat(emitter, (bases, part + (LANE_BYTES * n) as i32))).collect();
    let zeros: Vec<Ssa> = (0..count).map(|_| emitter.v.float(0.0)).collect();
    rows.replace(emitter, (row, count), &zeros, |emitter, (number, _), score, sum| {
        let difference = emitter.v.fsub(score, bases[number]);
        let weight = emitter.v.exp2_bounded(difference);
        let sum = emitter.v.fadd(sum[0], weight);
        (marked(emitter, mode, score, weight), vec![sum])
    })
}

/// Adds the sums of some rows, lane by lane, to those of the key tiles before.
fn add_sums(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, row: Ssa, sums: &[Ssa]) {
    let layout = emitter.plan.scratch;
    let added = of_rows(emitter, sums, &|emitter, a, b| emitter.v.fadd(a, b));
    let (place, part) = rows.number(emitter, row, layout.sums);
    let offset = emitter.lane_bytes(row);
    let scales = scratch(emitter, layout.rescale);
    let scales = emitter.fb().ins().iadd(scales, offset);
    let add = |emitter: &mut ExprEmitter<'_, '_>, added: Ssa, at: i32| {
        let ty = emitter.fb().func.dfg.value_type(added);
        let (old, scale) = (load(emitter, ty, place, part + at), load(emitter, ty, scales, at));
        let new = emitter.v.fma(old, scale, added);
        emitter.fb().ins().store(access(), new, place, part + at);
    };
    if sums.len() == RowTile::GROUP {
        return add(emitter, added, 0);
    }
    for n in 0..sums.len() {
        let added = emitter.fb().ins().extractlane(added, n as u8);
        add(emitter, added, (LANE_BYTES * n) as i32);
    }
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
