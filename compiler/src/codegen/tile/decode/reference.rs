//! The references of rows: what their key terms are taken relative to.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, types};

use super::rows::{Rows, raise};
use super::score::{each_row, each_vector};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::tile::query_tile::call_word;
use crate::codegen::tile::score::{KeyRows, masked};
use crate::plan::{Attention, Decode};

/// Raises the reference of each row to the greatest key term among some keys that it sees. NaN counts for nothing.
pub(crate) fn reference(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
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
        counted_loop(emitter, rows.count, &[], |emitter, row, _| {
            let place = rows.number(emitter, row, emitter.plan.scratch.references);
            raise(emitter, rows, row, place);
            Vec::new()
        });
        Vec::new()
    });
    result
}
