//! The references of queries: what their key terms are taken relative to.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::query_tile::{Tile, bind_batch_indices, call_word, set_column};
use super::score::{KeyRows, masked};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Raises the reference of each query of a tile, of any shape, to the greatest key term among some keys that it sees. NaN counts for
/// nothing.
pub(crate) fn reference(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (Some(&shape), Some(term)) = (emitter.plan.tiling.shapes.first(), attention.key_term) else { return Ok(()) };
    bind_batch_indices(emitter, attention);
    let tile = Tile::new(emitter, attention, shape);
    let (layout, ty) = (emitter.plan.scratch, emitter.v.float_type());
    let width = emitter.plan.machine.vector_bytes() as i32;
    let [first, end] =
        [offset_of!(TileCall, first_key), offset_of!(TileCall, end_key)].map(|word| call_word(emitter, word));
    let rows = KeyRows::new(emitter, attention, term)?;
    let place = |column: usize| layout.references as i32 + width * column as i32;
    let load =
        |emitter: &mut ExprEmitter<'_, '_>, column| emitter.fb().ins().load(ty, access(), tile.state, place(column));
    let before: Vec<Ssa> = (0..shape.columns).map(|column| load(emitter, column)).collect();
    let mut result = Ok(());
    let after = range_loop(emitter, first, end, 1, &before, |emitter, key, greatest| {
        let saved = emitter.save();
        emitter.set(attention.key, key);
        emitter.forget(attention.key);
        let high = KeyRows::splat(emitter, rows.high, key);
        let mut next = Vec::with_capacity(greatest.len());
        for (column, &greatest) in greatest.iter().enumerate() {
            let kept = emitter.save();
            set_column(emitter, tile, column);
            let seen = masked(emitter, attention, high, f64::NEG_INFINITY).unwrap_or_else(|error| {
                result = Err(error);
                high
            });
            next.push(emitter.v.pseudo_max(seen, greatest));
            emitter.restore(kept);
        }
        emitter.restore(saved);
        next
    });
    result?;
    for (column, greatest) in after.into_iter().enumerate() {
        emitter.fb().ins().store(access(), greatest, tile.state, place(column));
    }
    Ok(())
}
