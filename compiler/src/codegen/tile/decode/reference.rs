//! The references of rows: what their key terms are taken relative to.

use super::key_term;
use super::rows::{Rows, raise};
use super::score::{each_row, each_vector};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::counted_loop;
use crate::codegen::tile::score::masked;
use crate::plan::{Attention, Decode};

/// Raises the reference of each row to the greatest key term among some keys that it sees. NaN counts for nothing.
pub(crate) fn reference(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
    let (Some(all), Some(term)) = (Rows::new(emitter, attention, decode), attention.key_term) else { return Ok(()) };
    let mut result = Ok(());
    all.each_tile(emitter, |emitter, rows| {
        rows.write_key_lanes(emitter);
        result = each_row(emitter, rows, f64::NEG_INFINITY, |emitter, _, at| {
            let key_rows = key_term::key_rows(emitter, rows, term)?;
            each_vector(emitter, rows, at, |emitter, index, _| {
                let high = key_rows.high_lanes(emitter, index);
                masked(emitter, attention, high, f64::NEG_INFINITY)
            })
        });
        counted_loop(emitter, rows.count, &[], |emitter, row, _| {
            let place = rows.number(emitter, row, emitter.plan.scratch.references);
            raise(emitter, rows, row, place);
            Vec::new()
        });
    });
    result
}
