//! Scores of long expressions: a loop over the vectors of a register tile, where shorter ones are written out for each.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{Mode, Tile, call_word};
use super::score::{KeyRows, Place, score};
use super::{distance, hinges, runs};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Order};
use crate::codegen::loops::counted_loop;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;

/// Scores of a register tile, from its products: stored at `scores`, and joined into the maxima.
pub(super) fn scores(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    place: Place,
    products: &[Ssa],
    scores: Ssa,
) -> Result<(), CodegenError> {
    let (layout, columns) = (emitter.plan.scratch, tile.shape.columns);
    let width = emitter.plan.machine.vector_bytes() as i64;
    // Products wait where the scores go.
    for (index, &product) in products.iter().enumerate() {
        let offset = (index / columns) as i64 * tile.row_bytes() + (index % columns) as i64 * width;
        emitter.fb().ins().store(access(), product, scores, (layout.scores as i64 + offset) as i32);
    }
    let last = emitter.fb().ins().iadd_imm_s(place.count, -1);
    let rows = emitter.fb().ins().iconst(types::I64, place.rows as i64);
    let mut result = Ok(());
    counted_loop(emitter, rows, &[], |emitter, r, _| {
        let row = emitter.fb().ins().iadd(place.row, r);
        let within = if place.whole { row } else { emitter.v.smin(row, last) };
        let key = emitter.fb().ins().iadd(place.first, within);
        let made = Made {
            distances: distance::of_key(emitter, place.count, within),
            pairs: runs::of_key(emitter, tile, within),
        };
        let offset = emitter.fb().ins().imul_imm_s(r, tile.row_bytes());
        let scores = emitter.fb().ins().iadd(scores, offset);
        let columns = emitter.fb().ins().iconst(types::I64, columns as i64);
        counted_loop(emitter, columns, &[], |emitter, c, _| {
            let saved = emitter.save();
            result = vector(emitter, tile, mode, ((key, made), c), scores);
            emitter.restore(saved);
            Vec::new()
        });
        Vec::new()
    });
    result
}

/// The addresses of a key's values by distance and by runs.
#[derive(Clone, Copy)]
struct Made {
    distances: Option<Ssa>,
    pairs: Option<Ssa>,
}

/// A vector of scores: those of a key, some of whose values are made, and of a column of queries.
fn vector(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    ((key, made), column): ((Ssa, Made), Ssa),
    scores: Ssa,
) -> Result<(), CodegenError> {
    let Tile { attention, state, .. } = tile;
    let (scratch, layout, ty) = (emitter.scratch, emitter.plan.scratch, emitter.v.float_type());
    let lanes = emitter.plan.machine.lanes as i64;
    let lane = emitter.fb().ins().imul_imm_s(column, lanes);
    let offset = emitter.fb().ins().imul_imm_s(lane, LANE_BYTES as i64);
    let words = emitter.fb().ins().iadd(state, offset);
    let clamped = emitter.fb().ins().iadd_imm_s(words, layout.lanes as i64);
    let (first, order) = match attention.packed {
        None => {
            let first = call_word(emitter, offset_of!(TileCall, first_query));
            (emitter.fb().ins().iadd(first, lane), Order::Successive)
        }
        Some(_) => (emitter.fb().ins().uload32(access(), clamped, 0), Order::Any),
    };
    emitter.set(attention.query, first);
    emitter.forget(attention.query);
    emitter.set_lanes(attention.query, clamped, order);
    emitter.set(attention.key, key);
    emitter.forget(attention.key);
    let at = emitter.fb().ins().iadd(scores, offset);
    if let Some(dot) = attention.dot {
        let sum = emitter.fb().ins().load(ty, access(), at, layout.scores as i32);
        emitter.seed(dot, sum);
    }
    if let Some(distances) = made.distances {
        let address = emitter.fb().ins().iadd(distances, offset);
        distance::seed(emitter, address, 0);
    }
    if let Some(pairs) = made.pairs {
        let address = emitter.fb().ins().iadd(pairs, offset);
        runs::seed(emitter, address, 0);
    }
    let term = match attention.key_term {
        Some(term) => {
            let reference = emitter.fb().ins().load(ty, access(), words, layout.references as i32);
            Some(KeyRows::new(emitter, attention, term)?.relative(emitter, key, reference))
        }
        None => None,
    };
    let hinges = hinges::vector(emitter)?;
    let score = score(emitter, attention, mode, (term, hinges))?;
    emitter.fb().ins().store(access(), score, at, layout.scores as i32);
    if !tile.of_softmax() {
        return Ok(());
    }
    let maxima = emitter.fb().ins().iadd(scratch, offset);
    let old = emitter.fb().ins().load(ty, access(), maxima, layout.tile_maxima as i32);
    let new = emitter.v.pseudo_max(score, old);
    emitter.fb().ins().store(access(), new, maxima, layout.tile_maxima as i32);
    Ok(())
}
