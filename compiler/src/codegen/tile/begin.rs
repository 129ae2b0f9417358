//! The begin of a query tile: its queries are loaded and transposed, its state is reset.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::prefetch;
use super::query_tile::{Tile, bind_outer, call_word, set_query, slot, split};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::rows::{ROW_LANES, by_rows, contiguous, rows};
use crate::codegen::vocab::access;
use crate::plan::{Attention, Content};

/// Loads a query tile, of any shape, and resets its state.
pub(crate) fn begin(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let layout = eval.plan.scratch;
    bind_outer(eval, attention);
    let Some(&shape) = attention.tiling.shapes.first() else { return Ok(()) };
    let tile = Tile::new(eval, attention, shape);
    let first = call_word(eval, offset_of!(TileCall, first_query));
    let lanes = eval.fb().ins().iconst(types::I64, shape.queries as i64);
    counted_loop(eval, lanes, &[], |eval, lane, _| {
        let query = lane_query(eval, lane, first);
        let (position, _) = split(eval, attention, query);
        let word = word_of(eval, tile, lane);
        eval.fb().ins().istore32(access(), position, word, 0);
        Vec::new()
    });
    if let Some(content) = &attention.content {
        queries(eval, tile, content)?;
    }
    let width = eval.plan.machine.vector_bytes() as i32;
    for c in 0..shape.columns as i32 {
        let low = eval.v.float(f64::NEG_INFINITY);
        eval.fb().ins().store(access(), low, tile.state, layout.limits as i32 + width * c);
        for part in [layout.bases, layout.sums] {
            let zero = eval.v.float(0.0);
            eval.fb().ins().store(access(), zero, tile.state, part as i32 + width * c);
        }
    }
    if let Some(weighted) = &attention.weighted {
        let start = eval.fb().ins().iadd_imm_s(tile.state, layout.accumulators as i64);
        let end = eval.fb().ins().iadd_imm_s(start, i64::from(weighted.length) * tile.row_bytes());
        let queries = call_word(eval, offset_of!(TileCall, queries));
        let live = eval.fb().ins().imul_imm_s(queries, 4);
        range_loop(eval, start, end, tile.row_bytes(), &[], |eval, row, _| {
            let end = eval.fb().ins().iadd(row, live);
            range_loop(eval, row, end, i64::from(width), &[], |eval, vector, _| {
                let zero = eval.v.float(0.0);
                eval.fb().ins().store(access(), zero, vector, 0);
                Vec::new()
            });
            Vec::new()
        });
    }
    let start = eval.fb().ins().iconst(types::I64, 0);
    if let Some(content) = &attention.content {
        let next = offset_of!(TileCall, next_keys);
        prefetch::next(eval, tile, (content.key, content.dim, content.length), next, (start, attention.tiling.keys))?;
    }
    match &attention.weighted {
        Some(weighted) => {
            let next = offset_of!(TileCall, next_values);
            prefetch::next(
                eval,
                tile,
                (weighted.value, weighted.dim, weighted.length),
                next,
                (start, attention.tiling.keys),
            )
        }
        None => Ok(()),
    }
}

/// The query of a lane. Lanes past the last query repeat it; they are never stored.
fn lane_query(eval: &mut Eval<'_, '_>, lane: Ssa, first: Ssa) -> Ssa {
    let queries = call_word(eval, offset_of!(TileCall, queries));
    let last = eval.fb().ins().iadd_imm_s(queries, -1);
    let lane = eval.v.smin(lane, last);
    eval.fb().ins().iadd(first, lane)
}

/// The address of the word that holds the index of a lane.
fn word_of(eval: &mut Eval<'_, '_>, tile: Tile<'_>, lane: Ssa) -> Ssa {
    let offset = eval.fb().ins().imul_imm_s(lane, 4);
    let word = eval.fb().ins().iadd(tile.state, offset);
    let lanes = eval.plan.scratch.lanes;
    eval.fb().ins().iadd_imm_s(word, lanes as i64)
}

/// Computes the rows of the queries and stores them as columns.
fn queries(eval: &mut Eval<'_, '_>, tile: Tile<'_>, content: &Content) -> Result<(), CodegenError> {
    let attention = tile.attention;
    // A few rows at a time are kept where scores will be.
    let room = tile.row_bytes() as usize * attention.tiling.keys;
    let row_bytes = 4 * content.length as usize;
    let wide = if ROW_LANES * row_bytes <= room { contiguous(eval, content.query, content.dim, None) } else { None };
    by_rows(eval, content.dim, wide, |eval| {
        let step = eval.v.shape.lanes as i64;
        // What lanes without a query hold does not count.
        let live = call_word(eval, offset_of!(TileCall, queries));
        let live = eval.fb().ins().iadd_imm_s(live, step - 1);
        let lanes = eval.fb().ins().band_imm_s(live, -step);
        let start = eval.fb().ins().iconst(types::I64, 0);
        let mut result = Ok(());
        range_loop(eval, start, lanes, step, &[], |eval, lane, _| {
            for row in 0..step {
                let lane = eval.fb().ins().iadd_imm_s(lane, row);
                let first = call_word(eval, offset_of!(TileCall, first_query));
                let query_index = lane_query(eval, lane, first);
                let saved = eval.save();
                set_query(eval, attention, query_index);
                let done = query(eval, tile, content, lane, row);
                result = std::mem::replace(&mut result, Ok(())).and(done);
                eval.restore(saved);
            }
            if step > 1 {
                columns(eval, tile, content, lane);
            }
            Vec::new()
        });
        result
    })
}

/// Computes one query: stored as a column where elements come one by one, as row `row` of those kept where they come in vectors.
fn query(eval: &mut Eval<'_, '_>, tile: Tile<'_>, content: &Content, lane: Ssa, row: i64) -> Result<(), CodegenError> {
    let layout = eval.plan.scratch;
    let wide = eval.v.is_vector();
    let (base, step) = if wide {
        let kept = layout.scores as i64 + row * 4 * i64::from(content.length);
        let scratch = eval.scratch;
        (eval.fb().ins().iadd_imm_s(scratch, kept), 4)
    } else {
        let offset = eval.fb().ins().imul_imm_s(lane, 4);
        let column = eval.fb().ins().iadd(tile.state, offset);
        (eval.fb().ins().iadd_imm_s(column, layout.queries as i64), tile.row_bytes())
    };
    rows(
        eval,
        Some(content.query),
        content.dim,
        &mut |eval, index, x| {
            let offset = eval.fb().ins().imul_imm_s(index, step);
            let address = eval.fb().ins().iadd(base, offset);
            eval.fb().ins().store(access(), x, address, 0);
            Ok(())
        },
        &mut |eval| eval.emit(content.query),
    )
}

/// Transposes the rows kept into columns from `lane`.
fn columns(eval: &mut Eval<'_, '_>, tile: Tile<'_>, content: &Content, lane: Ssa) {
    let layout = eval.plan.scratch;
    let length = i64::from(content.length);
    let offset = eval.fb().ins().imul_imm_s(lane, 4);
    let column = eval.fb().ins().iadd(tile.state, offset);
    let column = eval.fb().ins().iadd_imm_s(column, layout.queries as i64);
    let start = eval.fb().ins().iconst(types::I64, 0);
    let end = eval.fb().ins().iconst(types::I64, length);
    range_loop(eval, start, end, ROW_LANES as i64, &[column], |eval, element, carried| {
        let kept = slot(eval, layout.scores, element, 4);
        let loaded =
            [0, 1, 2, 3].map(|row| eval.fb().ins().load(types::F32X4, access(), kept, (row * 4 * length) as i32));
        for (row, x) in (0..).zip(eval.v.transpose(loaded)) {
            eval.fb().ins().store(access(), x, carried[0], (row * tile.row_bytes()) as i32);
        }
        vec![eval.fb().ins().iadd_imm_s(carried[0], ROW_LANES as i64 * tile.row_bytes())]
    });
}
