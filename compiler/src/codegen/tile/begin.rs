//! The begin of a query tile: its queries are loaded and transposed, its state is reset.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{Tile, bind_batch_indices, call_word, first_row, lane_query, set_query, slot, split};
use super::{bf16, hinges, prefetch};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::rows::{ROW_LANES, by_rows, contiguous, rows};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Product};

/// Loads a query tile, of any shape, and resets its state.
pub(crate) fn begin(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (layout, width) = (emitter.plan.scratch, emitter.plan.machine.vector_bytes() as i32);
    bind_batch_indices(emitter, attention);
    let Some(&shape) = emitter.plan.tiling.shapes.first() else { return Ok(()) };
    let tile = Tile::new(emitter, attention, shape);
    write_lanes(emitter, tile);
    hinges::begin(emitter, attention)?;
    for product in &attention.products {
        match emitter.plan.bf16_pairs.factor {
            Some(_) => bf16::queries(emitter, tile, product)?,
            None => queries(emitter, tile, product)?,
        }
    }
    reset(emitter, tile);
    if !attention.reductions.is_empty() {
        let start = emitter.fb().ins().iadd_imm_s(tile.state, layout.accumulators as i64);
        let end = emitter.fb().ins().iadd_imm_s(start, attention.value_length() as i64 * tile.row_bytes());
        let queries = call_word(emitter, offset_of!(TileCall, queries));
        let live = emitter.fb().ins().imul_imm_s(queries, 4);
        range_loop(emitter, start, end, tile.row_bytes(), &[], |emitter, row, _| {
            let end = emitter.fb().ins().iadd(row, live);
            range_loop(emitter, row, end, i64::from(width), &[], |emitter, vector, _| {
                let zero = emitter.v.float(0.0);
                emitter.fb().ins().store(access(), zero, vector, 0);
                Vec::new()
            });
            Vec::new()
        });
    }
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let rows = (start, emitter.plan.tiling.keys);
    for product in &attention.products {
        if let Some(asks) = prefetch::keys(emitter, tile, product, rows)? {
            asks.all(emitter);
        }
    }
    for reduction in &attention.reductions {
        if let Some(asks) = prefetch::values(emitter, tile, reduction, rows)? {
            asks.all(emitter);
        }
    }
    Ok(())
}

/// Writes the position of each lane's query.
pub(super) fn write_lanes(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) {
    let first = call_word(emitter, offset_of!(TileCall, first_query));
    let lanes = emitter.fb().ins().iconst(types::I64, tile.shape.queries as i64);
    counted_loop(emitter, lanes, &[], |emitter, lane, _| {
        let query = lane_query(emitter, lane, first);
        let (position, _) = split(emitter, tile.attention, query);
        let word = word_of(emitter, tile, lane);
        emitter.fb().ins().istore32(access(), position, word, 0);
        Vec::new()
    });
}

/// Resets what a softmax keeps of each query.
pub(super) fn reset(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) {
    let (layout, width) = (emitter.plan.scratch, emitter.plan.machine.vector_bytes() as i32);
    let columns = if tile.of_softmax() { tile.shape.columns } else { 0 };
    for c in 0..columns as i32 {
        let low = emitter.v.float(f64::NEG_INFINITY);
        emitter.fb().ins().store(access(), low, tile.state, layout.limits as i32 + width * c);
        for part in [layout.bases, layout.sums] {
            let zero = emitter.v.float(0.0);
            emitter.fb().ins().store(access(), zero, tile.state, part as i32 + width * c);
        }
    }
}

/// The address of the word that holds the index of a lane.
fn word_of(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, lane: Ssa) -> Ssa {
    let offset = emitter.fb().ins().imul_imm_s(lane, 4);
    let word = emitter.fb().ins().iadd(tile.state, offset);
    let lanes = emitter.plan.scratch.lanes;
    emitter.fb().ins().iadd_imm_s(word, lanes as i64)
}

/// Computes the rows of the queries and stores them as columns.
fn queries(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, product: &Product) -> Result<(), CodegenError> {
    let attention = tile.attention;
    // A few rows at a time are kept where scores will be.
    let room = tile.row_bytes() as usize * emitter.plan.tiling.keys;
    let row_bytes = LANE_BYTES * product.length as usize;
    let fits = ROW_LANES * row_bytes <= room;
    let wide = if fits { contiguous(emitter, product.query, product.dim, None) } else { None };
    by_rows(emitter, product.dim, wide, |emitter| {
        // Four rows are transposed by shuffles of four lanes, whatever the vectors that they are computed in.
        let step = if emitter.v.is_vector() { ROW_LANES as i64 } else { 1 };
        // Padding lanes may hold anything.
        let live = call_word(emitter, offset_of!(TileCall, queries));
        let live = emitter.fb().ins().iadd_imm_s(live, step - 1);
        let lanes = emitter.fb().ins().band_imm_s(live, -step);
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let mut result = Ok(());
        range_loop(emitter, start, lanes, step, &[], |emitter, lane, _| {
            for row in 0..step {
                let lane = emitter.fb().ins().iadd_imm_s(lane, row);
                let first = call_word(emitter, offset_of!(TileCall, first_query));
                let query_index = lane_query(emitter, lane, first);
                let saved = emitter.save();
                set_query(emitter, attention, query_index);
                let done = query(emitter, tile, product, lane, row);
                result = std::mem::replace(&mut result, Ok(())).and(done);
                emitter.restore(saved);
            }
            if step > 1 {
                columns(emitter, tile, product, lane);
            }
            Vec::new()
        });
        result
    })
}

/// Computes one query: stored as a column where elements come one by one, as row `row` of those kept where they come in vectors.
fn query(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    product: &Product,
    lane: Ssa,
    row: i64,
) -> Result<(), CodegenError> {
    let layout = emitter.plan.scratch;
    let wide = emitter.v.is_vector();
    let (base, step) = if wide {
        let kept = layout.scores as i64 + row * LANE_BYTES as i64 * i64::from(product.length);
        let scratch = emitter.scratch;
        (emitter.fb().ins().iadd_imm_s(scratch, kept), 4)
    } else {
        let offset = emitter.fb().ins().imul_imm_s(lane, 4);
        let column = emitter.fb().ins().iadd(tile.state, offset);
        {
            let first = first_row(emitter, tile, product);
            (emitter.fb().ins().iadd_imm_s(column, first), tile.row_bytes())
        }
    };
    rows(
        emitter,
        Some(product.query),
        product.dim,
        &mut |emitter, index, x| {
            let offset = emitter.fb().ins().imul_imm_s(index, step);
            let address = emitter.fb().ins().iadd(base, offset);
            emitter.fb().ins().store(access(), x, address, 0);
            Ok(())
        },
        &mut |emitter| emitter.emit(product.query),
    )
}

/// Transposes the rows kept into columns from `lane`.
fn columns(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, product: &Product, lane: Ssa) {
    let layout = emitter.plan.scratch;
    let length = i64::from(product.length);
    let offset = emitter.fb().ins().imul_imm_s(lane, 4);
    let column = emitter.fb().ins().iadd(tile.state, offset);
    let first = first_row(emitter, tile, product);
    let column = emitter.fb().ins().iadd_imm_s(column, first);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let end = emitter.fb().ins().iconst(types::I64, length);
    range_loop(emitter, start, end, ROW_LANES as i64, &[column], |emitter, element, carried| {
        let kept = slot(emitter, layout.scores, element, 4);
        let loaded = [0, 1, 2, 3].map(|row| {
            emitter.fb().ins().load(types::F32X4, access(), kept, (row * LANE_BYTES as i64 * length) as i32)
        });
        for (row, x) in (0..).zip(emitter.v.transpose(loaded)) {
            emitter.fb().ins().store(access(), x, carried[0], (row * tile.row_bytes()) as i32);
        }
        vec![emitter.fb().ins().iadd_imm_s(carried[0], ROW_LANES as i64 * tile.row_bytes())]
    });
}
