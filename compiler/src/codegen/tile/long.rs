//! Scores of long expressions: a loop over the vectors of a register tile, where shorter ones are written out for each.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{Mode, Tile, call_word};
use super::score::{KeyRows, Place, score};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::{Eval, Order};
use crate::codegen::loops::counted_loop;
use crate::codegen::vocab::access;

/// Scores of a register tile, from its products: stored at `scores`, and joined into the maxima.
pub(super) fn scores(
    eval: &mut Eval<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    place: Place,
    products: &[Ssa],
    scores: Ssa,
) -> Result<(), CodegenError> {
    let (layout, columns) = (eval.plan.scratch, tile.shape.columns);
    let width = eval.plan.machine.vector_bytes() as i64;
    // Products wait where the scores go.
    for (index, &product) in products.iter().enumerate() {
        let offset = (index / columns) as i64 * tile.row_bytes() + (index % columns) as i64 * width;
        eval.fb().ins().store(access(), product, scores, (layout.scores as i64 + offset) as i32);
    }
    let last = eval.fb().ins().iadd_imm_s(place.count, -1);
    let rows = eval.fb().ins().iconst(types::I64, place.rows as i64);
    let mut result = Ok(());
    counted_loop(eval, rows, &[], |eval, r, _| {
        let row = eval.fb().ins().iadd(place.row, r);
        let within = if place.whole { row } else { eval.v.smin(row, last) };
        let key = eval.fb().ins().iadd(place.first, within);
        let offset = eval.fb().ins().imul_imm_s(r, tile.row_bytes());
        let scores = eval.fb().ins().iadd(scores, offset);
        let columns = eval.fb().ins().iconst(types::I64, columns as i64);
        counted_loop(eval, columns, &[], |eval, c, _| {
            let saved = eval.save();
            result = vector(eval, tile, mode, (key, c), scores);
            eval.restore(saved);
            Vec::new()
        });
        Vec::new()
    });
    result
}

/// A vector of scores: those of a key and of a column of queries.
fn vector(
    eval: &mut Eval<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    (key, column): (Ssa, Ssa),
    scores: Ssa,
) -> Result<(), CodegenError> {
    let Tile { attention, state, .. } = tile;
    let (scratch, layout, ty) = (eval.scratch, eval.plan.scratch, eval.v.float_type());
    let lanes = eval.plan.machine.lanes as i64;
    let lane = eval.fb().ins().imul_imm_s(column, lanes);
    let offset = eval.fb().ins().imul_imm_s(lane, 4);
    let words = eval.fb().ins().iadd(state, offset);
    let clamped = eval.fb().ins().iadd_imm_s(words, layout.lanes as i64);
    let (first, order) = match attention.packed {
        None => {
            let first = call_word(eval, offset_of!(TileCall, first_query));
            (eval.fb().ins().iadd(first, lane), Order::Successive)
        }
        Some(_) => (eval.fb().ins().uload32(access(), clamped, 0), Order::Any),
    };
    eval.set(attention.query, first);
    eval.forget(attention.query);
    eval.set_lanes(attention.query, clamped, order);
    eval.set(attention.key, key);
    eval.forget(attention.key);
    let at = eval.fb().ins().iadd(scores, offset);
    if let Some(content) = &attention.content {
        let product = eval.fb().ins().load(ty, access(), at, layout.scores as i32);
        eval.seed(content.dot, product);
    }
    let term = match attention.key_term {
        Some(term) => {
            let reference = eval.fb().ins().load(ty, access(), words, layout.references as i32);
            Some(KeyRows::new(eval, attention, term)?.relative(eval, key, reference))
        }
        None => None,
    };
    let score = score(eval, attention, mode, term)?;
    eval.fb().ins().store(access(), score, at, layout.scores as i32);
    let maxima = eval.fb().ins().iadd(scratch, offset);
    let old = eval.fb().ins().load(ty, access(), maxima, layout.tile_maxima as i32);
    let new = eval.v.pseudo_max(score, old);
    eval.fb().ins().store(access(), new, maxima, layout.tile_maxima as i32);
    Ok(())
}
