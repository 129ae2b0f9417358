//! The tile kernel: values weighed by scores, key tile by key tile, for one tile of queries. Lanes are queries. With an online softmax:
//!
//! ```text
//! begin   Q^T[d][queries]  <- rows of the query side, rotated and scaled as they are read
//! refer   R[queries]       = max of the key term over the keys that each query sees
//! keys    S[keys][queries] = K Q^T, + bias, + (key term - R), masked     register tile: key_rows x columns vectors
//!         r = 1, but where max S passes the limit: r = exp2(m - max S);  m = max S;  limit = m + 8
//!         P = exp2(S - m);  l = l r + sum P
//!         O^T[e][queries]  = O^T r + V^T P              register tile: value_rows x columns vectors
//! end     out = O / l,  lse = R + m + log2(l)
//! ```
//!
//! With a plain sum the scores are the weights, `O^T = O^T + V^T S`, and what a mask hides is 0.
//!
//! Keys and values are read in their own layout, one scalar broadcast at a time (in [`bf16`] pairs of them); all else is lane-wise. No vector lives across a hot
//! loop but its accumulators: bases and sums stay in the scratch memory, constants are loaded where they are used.
//!
//! Scores are measured from a base `m`. It need not be their maximum: weights up to 2^8 cost a float no digits, so the base follows only
//! when a score passes it by more, and most key tiles change no base.
//!
//! Terms of keys alone, such as ALiBi's, may be far larger than their differences among the keys that a query sees. They come as two
//! numbers of single precision, and each query takes them relative to a reference of its own: where they are near it the difference is
//! exact. What a query does not see takes no part in its reference.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, types};

mod average;
mod begin;
mod bf16;
mod computed;
pub(crate) mod decode;
mod distance;
mod end;
mod even;
mod hinges;
mod lanes;
mod long;
mod made;
mod prefetch;
mod product;
mod query_tile;
mod reference;
mod runs;
mod scan;
mod score;
mod scores;
mod squares;
mod turned;

use self::average::{averages, weights};
pub(crate) use self::begin::begin;
pub(crate) use self::computed::{load, row_at};
pub(crate) use self::end::end;
pub(crate) use self::query_tile::Mode;
use self::query_tile::{Tile, bind_batch_indices, call_word};
pub(crate) use self::reference::reference;
pub(crate) use self::scan::scan;
use self::score::Place;
use self::scores::scores;
pub(crate) use self::squares::squares;
use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::vocab::access;
use crate::abi::TileCall;
use crate::plan::{Attention, TileShape};

/// Adds a key tile to a query tile.
pub(crate) fn keys(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    shape: TileShape,
    mode: Mode,
) -> Result<(), CodegenError> {
    bind_batch_indices(emitter, attention);
    let tile = Tile::new(emitter, attention, shape);
    let first = call_word(emitter, offset_of!(TileCall, first_key));
    let end = call_word(emitter, offset_of!(TileCall, end_key));
    let count = emitter.fb().ins().isub(end, first);
    if tile.of_softmax() {
        begin_maxima(emitter, tile);
    }
    distance::fill(emitter, tile, count)?;
    runs::fill(emitter, tile, count)?;
    turned::fill(emitter, tile, count)?;
    hinges::fill(emitter, tile, count)?;
    let rows = shape.key_rows as i64;
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let tiles = emitter.fb().ins().udiv_imm_u(count, rows);
    let whole = emitter.fb().ins().imul_imm_s(tiles, rows);
    let mut result = Ok(());
    // Rows of the last register tiles may pass the last key, and their addresses take more registers: few at a time.
    for (start, end, rows, whole) in [(start, whole, rows, true), (whole, count, tile.last_rows().min(rows), false)] {
        range_loop(emitter, start, end, rows, &[], |emitter, row, _| {
            let saved = emitter.save();
            let place = Place { first, count, row, rows: rows as usize, whole };
            result = std::mem::replace(&mut result, Ok(())).and_then(|()| scores(emitter, tile, mode, place));
            emitter.restore(saved);
            Vec::new()
        });
    }
    result?;
    if tile.of_softmax() {
        weights(emitter, tile, mode, count);
    }
    averages(emitter, tile, mode, count)
}

/// A score counts as a new maximum from the limit on.
fn begin_maxima(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) {
    let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
    let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
    for c in 0..tile.shape.columns as i32 {
        let limit = emitter.fb().ins().load(ty, access(), tile.state, layout.limits as i32 + width * c);
        emitter.fb().ins().store(access(), limit, scratch, layout.tile_maxima as i32 + width * c);
    }
}
