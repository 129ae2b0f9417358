//! The references of queries: what their key terms are taken relative to.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::query_tile::{Tile, bind_outer, call_word, set_column};
use super::score::{KeyRows, masked};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Raises the reference of each query of a tile, of any shape, to the greatest key term among some keys that it sees. NaN counts for
/// nothing.
pub(crate) fn reference(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (Some(&shape), Some(term)) = (attention.tiling.shapes.first(), attention.key_term) else { return Ok(()) };
    bind_outer(eval, attention);
    let tile = Tile::new(eval, attention, shape);
    let (layout, ty) = (eval.plan.scratch, eval.v.float_type());
    let width = eval.plan.machine.vector_bytes() as i32;
    let [first, end] =
        [offset_of!(TileCall, first_key), offset_of!(TileCall, end_key)].map(|word| call_word(eval, word));
    let rows = KeyRows::new(eval, attention, term)?;
    let place = |column: usize| layout.references as i32 + width * column as i32;
    let load = |eval: &mut Eval<'_, '_>, column| eval.fb().ins().load(ty, access(), tile.state, place(column));
    let before: Vec<Ssa> = (0..shape.columns).map(|column| load(eval, column)).collect();
    let mut result = Ok(());
    let after = range_loop(eval, first, end, 1, &before, |eval, key, greatest| {
        let saved = eval.save();
        eval.set(attention.key, key);
        eval.forget(attention.key);
        let high = KeyRows::splat(eval, rows.high, key);
        let mut next = Vec::with_capacity(greatest.len());
        for (column, &greatest) in greatest.iter().enumerate() {
            let kept = eval.save();
            set_column(eval, tile, column);
            let seen = masked(eval, attention, high).unwrap_or_else(|error| {
                result = Err(error);
                high
            });
            next.push(eval.v.pseudo_max(seen, greatest));
            eval.restore(kept);
        }
        eval.restore(saved);
        next
    });
    result?;
    for (column, greatest) in after.into_iter().enumerate() {
        eval.fb().ins().store(access(), greatest, tile.state, place(column));
    }
    Ok(())
}
