//! The begin of a tile of rows: its queries are loaded, its state is reset.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::integers;
use super::rows::{Rows, accumulators, average_bytes, elements_before, padded_pairs, query_bytes};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::rows::{by_rows, contiguous};
use crate::codegen::tile::begin::{reset, write_lanes};
use crate::codegen::tile::bf16;
use crate::codegen::tile::computed::{fill_up, write_row};
use crate::codegen::tile::query_tile::{call_word, set_query};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Decode, Product};

/// Loads the rows and resets their state.
pub(crate) fn begin(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
    let Some(rows) = Rows::new(emitter, attention, decode) else { return Ok(()) };
    write_lanes(emitter, rows.tile);
    for product in &attention.products {
        queries(emitter, rows, product)?;
    }
    reset(emitter, rows.tile);
    for reduction in &attention.reductions {
        let (accumulators, pitch) = (accumulators(emitter, rows, reduction), average_bytes(emitter, reduction));
        let start = emitter.fb().ins().iadd_imm_s(rows.tile.state, accumulators);
        let bytes = emitter.fb().ins().imul_imm_s(rows.count, pitch);
        let end = emitter.fb().ins().iadd(start, bytes);
        range_loop(emitter, start, end, emitter.plan.machine.vector_bytes() as i64, &[], |emitter, vector, _| {
            let zero = emitter.v.float(0.0);
            emitter.fb().ins().store(access(), zero, vector, 0);
            Vec::new()
        });
    }
    Ok(())
}

/// Computes the rows of a product's queries.
fn queries(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, product: &Product) -> Result<(), CodegenError> {
    let attention = rows.tile.attention;
    let start = emitter.plan.scratch.queries + LANE_BYTES * elements_before(emitter, attention, product);
    let start = emitter.fb().ins().iadd_imm_s(rows.tile.state, start as i64);
    if emitter.plan.bf16_pairs.factor.is_some() {
        let tensor = bf16::queries_of(emitter, product)?;
        let end = padded_pairs(emitter, product.length);
        return each_query(emitter, rows, start, |emitter, to| {
            let from = emitter.address(tensor, &[product.dim])?;
            let stride = emitter.dim_stride(tensor, product.dim);
            bf16::copy_row(emitter, (from, stride), to, product.length);
            fill_up(emitter, to, (product.length, end), size_of::<u16>());
            Ok(())
        });
    }
    let wide = contiguous(emitter, product.query, product.dim, None);
    by_rows(emitter, product.dim, wide, |emitter| {
        each_query(emitter, rows, start, |emitter, to| {
            write_row(emitter, product.query, (product.dim, product.length), to)
        })
    })?;
    if emitter.plan.integers.products {
        integers::queries(emitter, rows, product);
    }
    Ok(())
}

/// Emits a loop over the queries of the tile, whose indices it sets: `write` gets the address of each one's row.
fn each_query<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    rows: Rows<'_>,
    start: Ssa,
    write: impl FnOnce(&mut ExprEmitter<'a, 'f>, Ssa) -> Result<(), CodegenError>,
) -> Result<(), CodegenError> {
    let attention = rows.tile.attention;
    let pitch = query_bytes(emitter, attention);
    let mut result = Ok(());
    counted_loop(emitter, rows.count, &[start], |emitter, row, to| {
        let saved = emitter.save();
        let first = call_word(emitter, offset_of!(TileCall, first_query));
        let query = emitter.fb().ins().iadd(first, row);
        set_query(emitter, attention, query);
        result = write(emitter, to[0]);
        emitter.restore(saved);
        vec![emitter.fb().ins().iadd_imm_s(to[0], pitch)]
    });
    result
}
