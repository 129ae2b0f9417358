//! Scores from products: terms, the key term, masks. Lanes are keys.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::key_term;
use super::rows::{Rows, load, scratch, splat};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Order};
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::rows::ROW_LANES;
use crate::codegen::tile::query_tile::{Mode, call_word, set_query};
use crate::codegen::tile::score::score;
use crate::codegen::vocab::access;

/// Scores of all rows and keys: what is past the last key is hidden.
pub(super) fn scores(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode) -> Result<(), CodegenError> {
    let attention = rows.tile.attention;
    let hidden = if rows.tile.of_softmax() { f64::NEG_INFINITY } else { 0.0 };
    each_row(emitter, rows, hidden, |emitter, row, at| {
        let key_rows = match attention.key_term {
            Some(term) => Some(key_term::key_rows(emitter, rows, term)?),
            None => None,
        };
        let reference = key_rows.map(|_| {
            let place = rows.number(emitter, row, emitter.plan.scratch.references);
            splat(emitter, place)
        });
        each_vector(emitter, rows, at, |emitter, index, product| {
            if let Some(dot) = attention.dot {
                emitter.seed(dot, product);
            }
            let term = key_rows.zip(reference).map(|(rows, reference)| rows.relative_lanes(emitter, index, reference));
            score(emitter, attention, mode, (term, None))
        })
    })
}

/// Emits code for each row: `body` gets the row and the address of its scores. Those past the last key become `hidden`.
pub(super) fn each_row(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    hidden: f64,
    mut body: impl FnMut(&mut ExprEmitter<'_, '_>, Ssa, Ssa) -> Result<(), CodegenError>,
) -> Result<(), CodegenError> {
    let first = call_word(emitter, offset_of!(TileCall, first_query));
    let mut result = Ok(());
    let whole = rows.whole_vectors(emitter);
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        let saved = emitter.save();
        let query = emitter.fb().ins().iadd(first, row);
        set_query(emitter, rows.tile.attention, query);
        let at = rows.scores(emitter, row);
        result = body(emitter, row, at);
        emitter.restore(saved);
        hide(emitter, at, (rows.keys, whole), hidden);
        Vec::new()
    });
    result
}

/// Stores `hidden` to some scores of a row, up to the end of a vector.
fn hide(emitter: &mut ExprEmitter<'_, '_>, at: Ssa, (from, to): (Ssa, Ssa), hidden: f64) {
    let lanes = ROW_LANES as i64;
    let up = emitter.fb().ins().iadd_imm_s(from, lanes - 1);
    let whole = emitter.fb().ins().band_imm_s(up, -lanes);
    let nothing = emitter.fb().ins().f32const(hidden as f32);
    let of_four = emitter.fb().ins().splat(types::F32X4, nothing);
    for (nothing, first, end, step) in [(nothing, from, whole, 1), (of_four, whole, to, lanes)] {
        range_loop(emitter, first, end, step, &[], |emitter, key, _| {
            let offset = emitter.lane_bytes(key);
            let place = emitter.fb().ins().iadd(at, offset);
            emitter.fb().ins().store(access(), nothing, place, 0);
            Vec::new()
        });
    }
}

/// Replaces the vectors of a row of scores: `make` gets the index of the first lane's key, and what is there.
pub(super) fn each_vector(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    at: Ssa,
    make: impl FnOnce(&mut ExprEmitter<'_, '_>, Ssa, Ssa) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let key_axis = rows.tile.attention.key;
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let (lanes, ty) = (emitter.plan.machine.lanes as i64, emitter.v.float_type());
    let words = scratch(emitter, emitter.plan.scratch.key_lanes);
    let mut result = Ok(());
    range_loop(emitter, start, rows.keys, lanes, &[], |emitter, key, _| {
        let saved = emitter.save();
        let index = emitter.fb().ins().iadd(rows.first_key, key);
        emitter.set(key_axis, index);
        emitter.forget(key_axis);
        let offset = emitter.lane_bytes(key);
        let word = emitter.fb().ins().iadd(words, offset);
        emitter.set_lanes(key_axis, word, Order::Successive);
        let place = emitter.fb().ins().iadd(at, offset);
        let old = load(emitter, ty, place, 0);
        result = make(emitter, index, old).map(|new| {
            emitter.fb().ins().store(access(), new, place, 0);
        });
        emitter.restore(saved);
        Vec::new()
    });
    result
}
