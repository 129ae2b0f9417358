//! The references of rows: what their key terms are taken relative to.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, types};

use super::rows::{Rows, across, load, splat};
use super::score::{each_row, each_vector};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::tile::query_tile::{bind_batch_indices, call_word};
use crate::codegen::tile::score::{KeyRows, masked};
use crate::codegen::vocab::access;
use crate::plan::{Attention, Decode};

/// Raises the reference of each row to the greatest key term among some keys that it sees. NaN counts for nothing.
pub(crate) fn reference(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
    bind_batch_indices(emitter, attention);
    let (Some(all), Some(term)) = (Rows::new(emitter, attention, decode), attention.key_term) else { return Ok(()) };
    let end = call_word(emitter, offset_of!(TileCall, end_key));
    let most = emitter.plan.tiling.keys as i64;
    let mut result = Ok(());
    range_loop(emitter, all.first_key, end, most, &[], |emitter, first_key, _| {
        let rest = emitter.fb().ins().isub(end, first_key);
        let most = emitter.fb().ins().iconst(types::I64, most);
        let rows = Rows { first_key, keys: emitter.v.smin(rest, most), ..all };
        rows.write_key_lanes(emitter);
        let done = each_row(emitter, rows, f64::NEG_INFINITY, |emitter, _, at| {
            let key_rows = KeyRows::new(emitter, attention, term)?;
            each_vector(emitter, rows, at, |emitter, index, _| {
                let high = key_rows.high_lanes(emitter, index);
                masked(emitter, attention, high, f64::NEG_INFINITY)
            })
        });
        result = std::mem::replace(&mut result, Ok(())).and(done);
        raise(emitter, rows);
        Vec::new()
    });
    result
}

/// Raises the references to the greatest of what is kept in place of scores.
fn raise(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>) {
    let (ty, lanes) = (emitter.v.float_type(), emitter.plan.machine.lanes as i64);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        let at = rows.scores(emitter, row);
        let (state, part) = rows.number(emitter, row, emitter.plan.scratch.references);
        let before = splat(emitter, (state, part));
        let most = range_loop(emitter, start, rows.keys, lanes, &[before], |emitter, key, most| {
            let offset = emitter.fb().ins().ishl_imm_u(key, 2);
            let place = emitter.fb().ins().iadd(at, offset);
            let seen = load(emitter, ty, place, 0);
            vec![emitter.v.pseudo_max(seen, most[0])]
        });
        let most = across(emitter, most[0], |emitter, a, b| emitter.fb().ins().fmax(a, b));
        emitter.fb().ins().store(access(), most, state, part);
        Vec::new()
    });
}
