//! Values of a score by the distance of query and key.
//!
//! Of a key tile whose last key is `K`, and a query tile whose first query is `Q`, the value of a query and a key is that of query
//! `Q + (query - Q) + (K - key)` and key `K`. So it is computed for key `K` and the queries from `Q` on, some of them past the last one, and
//! lies in a row: the queries of a vector read theirs side by side.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{Tile, call_word};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Order};
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;

/// Computes the values of the key tile.
pub(super) fn fill(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, count: Ssa) -> Result<(), CodegenError> {
    let plan = emitter.plan;
    if plan.by_distance.is_empty() {
        return Ok(());
    }
    let attention = tile.attention;
    let first_query = call_word(emitter, offset_of!(TileCall, first_query));
    let first_key = call_word(emitter, offset_of!(TileCall, first_key));
    let end = emitter.fb().ins().iadd(first_key, count);
    let last_key = emitter.fb().ins().iadd_imm_s(end, -1);
    let distances = emitter.fb().ins().iadd_imm_s(count, tile.shape.queries as i64 - 1);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let mut result = Ok(());
    range_loop(emitter, start, distances, plan.machine.lanes as i64, &[], |emitter, place, _| {
        let saved = emitter.save();
        let query = emitter.fb().ins().iadd(first_query, place);
        emitter.set(attention.query, query);
        emitter.set(attention.key, last_key);
        emitter.forget(attention.query);
        emitter.forget(attention.key);
        result = emitter.without_tables_over([attention.query, attention.key], |emitter| {
            let lanes = positions(emitter, query);
            emitter.set_lanes(attention.query, lanes, Order::Any);
            values(emitter, place)
        });
        emitter.restore(saved);
        Vec::new()
    });
    result
}

/// Writes the positions of successive queries from `query` on, and gives their address.
fn positions(emitter: &mut ExprEmitter<'_, '_>, query: Ssa) -> Ssa {
    let (scratch, lanes) = (emitter.scratch, emitter.plan.scratch.distance_lanes as i64);
    let address = emitter.fb().ins().iadd_imm_s(scratch, lanes);
    for lane in 0..emitter.plan.machine.lanes as i64 {
        let position = emitter.fb().ins().iadd_imm_s(query, lane);
        emitter.fb().ins().istore32(access(), position, address, LANE_BYTES as i32 * lane as i32);
    }
    address
}

/// Computes and stores a vector of each value.
fn values(emitter: &mut ExprEmitter<'_, '_>, place: Ssa) -> Result<(), CodegenError> {
    let (plan, scratch) = (emitter.plan, emitter.scratch);
    let offset = emitter.lane_bytes(place);
    let address = emitter.fb().ins().iadd(scratch, offset);
    for (number, value) in plan.by_distance.iter().enumerate() {
        let x = emitter.emit(*value)?;
        let row = row(emitter, number);
        emitter.fb().ins().store(access(), x, address, row);
    }
    Ok(())
}

/// Whether there is a row of products.
pub(super) fn fills(emitter: &ExprEmitter<'_, '_>) -> bool {
    !emitter.plan.products_by_distance.is_empty()
}

/// Where the row of a value begins in the scratch memory; after all values that of products.
pub(super) fn row(emitter: &ExprEmitter<'_, '_>, number: usize) -> i32 {
    let layout = emitter.plan.scratch;
    (layout.distances + number * layout.distance_bytes) as i32
}

/// The address of what the first query of the tile reads for a key, in the first row, if there is one: `key` counts from the first key of
/// the key tile.
pub(super) fn of_key(emitter: &mut ExprEmitter<'_, '_>, count: Ssa, key: Ssa) -> Option<Ssa> {
    if emitter.plan.by_distance.is_empty() && !fills(emitter) {
        return None;
    }
    let last = emitter.fb().ins().iadd_imm_s(count, -1);
    let distance = emitter.fb().ins().isub(last, key);
    let offset = emitter.lane_bytes(distance);
    let scratch = emitter.scratch;
    Some(emitter.fb().ins().iadd(scratch, offset))
}

/// Tells the emitter the values of a key for a vector of queries, `column` bytes from the first query; `address` is that of the key.
pub(super) fn seed(emitter: &mut ExprEmitter<'_, '_>, address: Ssa, column: i32) {
    let (plan, ty) = (emitter.plan, emitter.v.float_type());
    for (number, value) in plan.by_distance.iter().enumerate() {
        let offset = row(emitter, number) + column;
        let x = emitter.fb().ins().load(ty, access(), address, offset);
        emitter.seed(*value, x);
    }
}
