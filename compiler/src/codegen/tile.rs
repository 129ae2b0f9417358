//! The tile kernel: online softmax over key tiles for one tile of queries. Lanes are queries.
//!
//! ```text
//! begin   Q^T[d][queries]  <- rows of the query side, rotated and scaled as they are read
//! keys    for each block of queries (columns x lanes):
//!           S[keys][queries]  = K Q^T, + bias, masked     register tile: key_rows x columns vectors
//!           m' = max(m, S);  P = exp2(S - m');  r = exp2(m - m');  l = l r + sum P
//!           O^T[e][queries]   = O^T r + V^T P             register tile: value_rows x columns vectors
//! end     out = O / l,  lse = m + log2(l)
//! ```
//!
//! Keys and values are read in their own layout, one scalar broadcast at a time; all else is lane-wise. No vector lives across a hot
//! loop but its accumulators: running maxima and sums stay in the scratch memory, constants are loaded where they are used.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::CodegenError;
use super::eval::Eval;
use super::loops::{counted_loop, range_loop};
use super::map::{least, rows};
use super::vocab::{Shape, access};
use crate::plan::{Attention, TensorId};

/// Which kind of key tile is emitted.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// The mask is evaluated per element.
    pub(crate) masked: bool,
    /// Values that a query does not see are kept from it even if they are NaN or infinite.
    pub(crate) guarded: bool,
}

/// Adding this in double precision and subtracting it again rounds to a multiple of 2^-10: the grid of key terms.
const GRID_ROUNDER_F64: f64 = 6_597_069_766_656.0;
/// The same in single precision, for numbers below 2^12 in magnitude.
const GRID_ROUNDER_F32: f64 = 12_288.0;

/// Words of the range: first query, number of queries, first key, end of keys.
const FIRST_QUERY: i32 = 0;
const QUERIES: i32 = 8;
const FIRST_KEY: i32 = 16;
const END_KEY: i32 = 24;

fn range_word(eval: &mut Eval<'_, '_>, offset: i32) -> Ssa {
    let (scratch, range) = (eval.scratch, eval.plan.scratch.range as i32);
    eval.fb().ins().load(types::I64, access(), scratch, range + offset)
}

/// Sets the index along every outer axis.
fn enter(eval: &mut Eval<'_, '_>, attention: &Attention) {
    let (scratch, base) = (eval.scratch, eval.plan.scratch.outer as i32);
    for (position, &axis) in attention.outer.iter().enumerate() {
        let index = eval.fb().ins().load(types::I64, access(), scratch, base + 8 * position as i32);
        eval.set(axis, index);
    }
}

fn set_shape(eval: &mut Eval<'_, '_>, lanes: usize, double: bool) {
    eval.v.shape = Shape { lanes, double, fma: eval.v.shape.fma };
}

/// The number of register tiles of queries that hold a query.
fn live_blocks(eval: &mut Eval<'_, '_>, attention: &Attention) -> Ssa {
    let block = attention.tile.block_queries() as i64;
    let queries = range_word(eval, QUERIES);
    let rounded = eval.fb().ins().iadd_imm_s(queries, block - 1);
    eval.fb().ins().udiv_imm_u(rounded, block)
}

/// `scratch + offset + index * bytes`.
fn slot(eval: &mut Eval<'_, '_>, offset: usize, index: Ssa, bytes: usize) -> Ssa {
    let scratch = eval.scratch;
    let scaled = eval.fb().ins().imul_imm_s(index, bytes as i64);
    let base = eval.fb().ins().iadd(scratch, scaled);
    eval.fb().ins().iadd_imm_s(base, offset as i64)
}

/// Loads a query tile and resets its state.
pub(crate) fn begin(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    let lanes = eval.v.shape.lanes;
    enter(eval, attention);
    let blocks = live_blocks(eval, attention);
    let live = eval.fb().ins().imul_imm_s(blocks, tile.block_queries() as i64);
    let first = range_word(eval, FIRST_QUERY);
    let extent = eval.extent(attention.query);
    let last = eval.fb().ins().iadd_imm_s(extent, -1);
    let mut result = Ok(());
    counted_loop(eval, live, &[], |eval, lane, _| {
        // Lanes past the last query repeat it; they are never stored.
        let index = eval.fb().ins().iadd(first, lane);
        let index = least(eval, index, last);
        let word = slot(eval, layout.lanes, lane, 8);
        eval.fb().ins().store(access(), index, word, 0);
        let saved = eval.save();
        eval.set(attention.query, index);
        result = begin_query(eval, attention, lane);
        eval.restore(saved);
        Vec::new()
    });
    result?;
    set_shape(eval, lanes, false);
    let vectors = eval.fb().ins().imul_imm_s(blocks, tile.columns as i64);
    counted_loop(eval, vectors, &[], |eval, vector, _| {
        let base = slot(eval, 0, vector, 4 * lanes);
        let low = eval.v.float(f64::NEG_INFINITY);
        eval.fb().ins().store(access(), low, base, layout.maxima as i32);
        let zero = eval.v.float(0.0);
        eval.fb().ins().store(access(), zero, base, layout.sums as i32);
        Vec::new()
    });
    if let Some(weighted) = &attention.weighted {
        let vectors = weighted.length as i64 * (tile.queries() / lanes) as i64;
        let vectors = eval.fb().ins().iconst(types::I64, vectors);
        counted_loop(eval, vectors, &[], |eval, vector, _| {
            let base = slot(eval, layout.accumulators, vector, 4 * lanes);
            let zero = eval.v.float(0.0);
            eval.fb().ins().store(access(), zero, base, 0);
            Vec::new()
        });
    }
    Ok(())
}

/// Loads one query into its lane.
fn begin_query(eval: &mut Eval<'_, '_>, attention: &Attention, lane: Ssa) -> Result<(), CodegenError> {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    if let Some(content) = &attention.content {
        set_shape(eval, 1, false);
        let column = slot(eval, layout.queries, lane, 4);
        rows(
            eval,
            Some(content.query),
            content.dim,
            &mut |eval, index, x| {
                let row = eval.fb().ins().imul_imm_s(index, 4 * tile.queries() as i64);
                let address = eval.fb().ins().iadd(column, row);
                eval.fb().ins().store(access(), x, address, 0);
                Ok(())
            },
            &mut |eval| eval.emit(content.query),
        )?;
    }
    Ok(())
}

/// A register tile of products: `rows` pointers to scalars that step together, times `columns` vectors.
struct Product {
    rows: Vec<Ssa>,
    row_step: Ssa,
    vectors: Ssa,
    vector_step: i64,
    columns: usize,
    turns: Ssa,
    guarded: bool,
}

impl Product {
    /// Adds the products to the accumulators, row-major.
    fn emit(&self, eval: &mut Eval<'_, '_>, accumulators: &[Ssa]) -> Vec<Ssa> {
        let zero = eval.fb().ins().iconst(types::I64, 0);
        let mut carried = vec![self.vectors, zero];
        carried.extend(accumulators);
        let start = eval.fb().ins().iconst(types::I64, 0);
        let done = range_loop(eval, start, self.turns, 1, &carried, |eval, _, carried| {
            let mut sums = carried[2..].to_vec();
            self.turn(eval, carried[0], carried[1], &mut sums);
            let vectors = eval.fb().ins().iadd_imm_s(carried[0], self.vector_step);
            let mut next = vec![vectors, eval.fb().ins().iadd(carried[1], self.row_step)];
            next.extend(sums);
            next
        });
        done[2..].to_vec()
    }

    fn turn(&self, eval: &mut Eval<'_, '_>, vectors: Ssa, offset: Ssa, sums: &mut [Ssa]) {
        let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
        let columns: Vec<Ssa> =
            (0..self.columns).map(|c| eval.fb().ins().load(ty, access(), vectors, width * c as i32)).collect();
        for (r, &row) in self.rows.iter().enumerate() {
            let address = eval.fb().ins().iadd(row, offset);
            let scalar = eval.fb().ins().load(types::F32, access(), address, 0);
            let splat = eval.v.splat(scalar, ty);
            for (c, &column) in columns.iter().enumerate() {
                let sum = &mut sums[r * self.columns + c];
                let added = eval.v.fma(splat, column, *sum);
                *sum = if self.guarded {
                    // A weight below 0 marks a query that does not see the key.
                    let zero = eval.v.float(0.0);
                    let hidden = eval.v.fcmp(FloatCC::LessThan, column, zero);
                    eval.v.select_float(hidden, *sum, added)
                } else {
                    added
                };
            }
        }
    }
}

/// Adds a key tile to a query tile.
pub(crate) fn keys(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode) -> Result<(), CodegenError> {
    enter(eval, attention);
    let first = range_word(eval, FIRST_KEY);
    let end = range_word(eval, END_KEY);
    let count = eval.fb().ins().isub(end, first);
    key_terms(eval, attention, first, count)?;
    let blocks = live_blocks(eval, attention);
    let mut result = Ok(());
    counted_loop(eval, blocks, &[], |eval, block, _| {
        let saved = eval.save();
        result = key_block(eval, attention, mode, first, count, block);
        eval.restore(saved);
        Vec::new()
    });
    result
}

/// Shifts the key terms of the tile and splits them into a multiple of the grid and the rest, which is small: differences of multiples
/// are exact, so that a score keeps its digits however far its key term lies from those of other queries of the tile.
fn key_terms(eval: &mut Eval<'_, '_>, attention: &Attention, first: Ssa, count: Ssa) -> Result<(), CodegenError> {
    let Some(term) = attention.key_term else { return Ok(()) };
    let shape = eval.v.shape;
    set_shape(eval, 1, true);
    let rows = attention.tile.key_rows as i64;
    let rounded = eval.fb().ins().iadd_imm_s(count, rows - 1);
    let turns = eval.fb().ins().udiv_imm_u(rounded, rows);
    let turns = eval.fb().ins().imul_imm_s(turns, rows);
    let last = eval.fb().ins().iadd_imm_s(count, -1);
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let shift = eval.fb().ins().load(types::F64, access(), scratch, layout.shift as i32);
    let mut result = Ok(());
    counted_loop(eval, turns, &[], |eval, row, _| {
        let saved = eval.save();
        let index = least(eval, row, last);
        let index = eval.fb().ins().iadd(first, index);
        eval.set(attention.key, index);
        result = eval.load(term).map(|x| {
            let x = eval.fb().ins().fsub(x, shift);
            let rounder = eval.fb().ins().f64const(GRID_ROUNDER_F64);
            let rounded = eval.fb().ins().fadd(x, rounder);
            let coarse = eval.fb().ins().fsub(rounded, rounder);
            let rest = eval.fb().ins().fsub(x, coarse);
            // Infinite terms have no rest.
            let ordered = eval.fb().ins().fcmp(FloatCC::Ordered, rest, rest);
            let zero = eval.fb().ins().f64const(0.0);
            let rest = eval.fb().ins().select(ordered, rest, zero);
            let address = slot(eval, 0, row, 4);
            for (x, offset) in [(coarse, layout.key_terms), (rest, layout.key_rests)] {
                let x = eval.fb().ins().fdemote(types::F32, x);
                eval.fb().ins().store(access(), x, address, offset as i32);
            }
        });
        eval.restore(saved);
        Vec::new()
    });
    eval.v.shape = shape;
    result
}

fn key_block(
    eval: &mut Eval<'_, '_>,
    attention: &Attention,
    mode: Mode,
    first: Ssa,
    count: Ssa,
    block: Ssa,
) -> Result<(), CodegenError> {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    // Offset of this block's first vector in every row of queries.
    let column = eval.fb().ins().imul_imm_s(block, 4 * tile.block_queries() as i64);
    let scratch = eval.scratch;
    let state = eval.fb().ins().iadd(scratch, column);
    let width = 4 * eval.v.shape.lanes as i32;
    let ty = eval.v.float_type();
    for c in 0..tile.columns as i32 {
        let old = eval.fb().ins().load(ty, access(), state, layout.maxima as i32 + width * c);
        eval.fb().ins().store(access(), old, state, layout.tile_maxima as i32 + width * c);
    }
    let start = eval.fb().ins().iconst(types::I64, 0);
    let mut result = Ok(());
    range_loop(eval, start, count, tile.key_rows as i64, &[], |eval, row, _| {
        let saved = eval.save();
        result = scores(eval, attention, mode, Place { first, count, block, state, row });
        eval.restore(saved);
        Vec::new()
    });
    result?;
    weights(eval, attention, mode, count, state);
    average(eval, attention, mode, first, count, state)
}

/// A register tile of scores in its query tile and key tile.
#[derive(Clone, Copy)]
struct Place {
    first: Ssa,
    count: Ssa,
    block: Ssa,
    /// The scratch memory, moved to the block's first query.
    state: Ssa,
    /// First key of the register tile, counted from the first key of the key tile.
    row: Ssa,
}

/// Scores of one register tile: stored, and joined into the maxima.
fn scores(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, place: Place) -> Result<(), CodegenError> {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    let lanes = eval.v.shape.lanes;
    let width = 4 * lanes as i32;
    let last = eval.fb().ins().iadd_imm_s(place.count, -1);
    // Rows past the last key repeat it: its scores change no maximum, and no weight is taken of them.
    let mut indices = Vec::with_capacity(tile.key_rows);
    for r in 0..tile.key_rows as i64 {
        let row = eval.fb().ins().iadd_imm_s(place.row, r);
        let row = least(eval, row, last);
        indices.push(eval.fb().ins().iadd(place.first, row));
    }
    let mut accumulators = Vec::new();
    if let Some(content) = &attention.content {
        let (base, stride) = row_base(eval, content.key, attention.key, content.dim)?;
        let mut rows = Vec::with_capacity(tile.key_rows);
        for &index in &indices {
            let offset = eval.fb().ins().imul(index, stride);
            rows.push(eval.fb().ins().iadd(base, offset));
        }
        let row_step = dim_stride(eval, content.key, content.dim);
        let vectors = eval.fb().ins().iadd_imm_s(place.state, layout.queries as i64);
        let turns = eval.fb().ins().iconst(types::I64, i64::from(content.length));
        let product = Product {
            rows,
            row_step,
            vectors,
            vector_step: 4 * tile.queries() as i64,
            columns: tile.columns,
            turns,
            guarded: false,
        };
        let zeros: Vec<Ssa> = (0..tile.key_rows * tile.columns).map(|_| eval.v.float(0.0)).collect();
        accumulators = product.emit(eval, &zeros);
    }
    let first_query = range_word(eval, FIRST_QUERY);
    let block_query = eval.fb().ins().imul_imm_s(place.block, tile.block_queries() as i64);
    let first_query = eval.fb().ins().iadd(first_query, block_query);
    let clamped = slot(eval, layout.lanes, block_query, 8);
    let scores_row = eval.fb().ins().imul_imm_s(place.row, 4 * tile.queries() as i64);
    let scores = eval.fb().ins().iadd(place.state, scores_row);
    for c in 0..tile.columns {
        let lane = (c * lanes) as i64;
        let query = eval.fb().ins().iadd_imm_s(first_query, lane);
        let clamped = eval.fb().ins().iadd_imm_s(clamped, 8 * lane);
        let column = width * c as i32;
        let saved = eval.save();
        eval.set(attention.query, query);
        eval.set_lanes(attention.query, clamped);
        let mut most: Option<Ssa> = None;
        for (r, &index) in indices.iter().enumerate() {
            eval.set(attention.key, index);
            eval.forget(attention.key);
            if let Some(content) = &attention.content {
                eval.seed(content.dot, accumulators[r * tile.columns + c]);
            }
            let score = score(eval, attention, mode, place.row, r)?;
            let row = layout.scores as i32 + 4 * (r * tile.queries()) as i32 + column;
            eval.fb().ins().store(access(), score, scores, row);
            let score = match key_part(eval, attention, layout.key_terms, place.row, r) {
                Some(coarse) => eval.v.fadd(score, coarse),
                None => score,
            };
            most = Some(match most {
                Some(most) => eval.v.pseudo_max(score, most),
                None => score,
            });
        }
        if let Some(most) = most {
            let (ty, offset) = (eval.v.float_type(), layout.tile_maxima as i32 + column);
            let old = eval.fb().ins().load(ty, access(), place.state, offset);
            let new = eval.v.pseudo_max(most, old);
            eval.fb().ins().store(access(), new, place.state, offset);
        }
        eval.restore(saved);
    }
    Ok(())
}

/// The splatted key term of a key of the tile, or the rest of it.
fn key_part(eval: &mut Eval<'_, '_>, attention: &Attention, part: usize, row: Ssa, r: usize) -> Option<Ssa> {
    attention.key_term?;
    let ty = eval.v.float_type();
    let address = slot(eval, part, row, 4);
    let term = eval.fb().ins().load(types::F32, access(), address, 4 * r as i32);
    Some(eval.v.splat(term, ty))
}

/// A vector of scores, without the coarse part of the key term.
fn score(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, row: Ssa, r: usize) -> Result<Ssa, CodegenError> {
    let layout = eval.plan.scratch;
    let mut score = eval.sum(&attention.terms)?;
    if let Some(rest) = key_part(eval, attention, layout.key_rests, row, r) {
        score = eval.v.fadd(score, rest);
    }
    if mode.masked {
        for mask in &attention.masks {
            let seen = eval.emit(mask.value)?;
            let hidden = eval.v.float(f64::NEG_INFINITY);
            score = if mask.negative {
                eval.v.select_float(seen, hidden, score)
            } else {
                eval.v.select_float(seen, score, hidden)
            };
        }
    }
    Ok(score)
}

/// Scores to weights, lane-wise; the running maximum, sum and rescaling factor move on.
fn weights(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, count: Ssa, state: Ssa) {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
    for c in 0..tile.columns as i32 {
        let column = width * c;
        let old = eval.fb().ins().load(ty, access(), state, layout.maxima as i32 + column);
        let mut new = eval.fb().ins().load(ty, access(), state, layout.tile_maxima as i32 + column);
        if attention.key_term.is_some() {
            // Any number near the maximum serves; one of the grid makes its difference to a key term exact.
            let rounder = eval.v.float(GRID_ROUNDER_F32);
            let rounded = eval.v.fadd(new, rounder);
            let rounder = eval.v.float(GRID_ROUNDER_F32);
            new = eval.v.fsub(rounded, rounder);
        }
        eval.fb().ins().store(access(), new, state, layout.maxima as i32 + column);
        // A query that has seen no key yet has maximum -inf: measured from 0 its weights are 0, not NaN.
        let low = eval.v.float(f64::NEG_INFINITY);
        let unseen = eval.v.fcmp(FloatCC::Equal, new, low);
        let zero = eval.v.float(0.0);
        let base = eval.v.select_float(unseen, zero, new);
        eval.fb().ins().store(access(), base, state, layout.tile_maxima as i32 + column);
        let difference = eval.v.fsub(old, base);
        let rescale = eval.v.exp2_nonpositive(difference);
        eval.fb().ins().store(access(), rescale, state, layout.rescale as i32 + column);
    }
    let zeros: Vec<Ssa> = (0..tile.columns).map(|_| eval.v.float(0.0)).collect();
    let rows = eval.fb().ins().iadd_imm_s(state, layout.scores as i64);
    let mut carried = vec![rows];
    carried.extend(zeros);
    let sums = counted_loop(eval, count, &carried, |eval, key, carried| {
        let row = carried[0];
        let mut next = vec![eval.fb().ins().iadd_imm_s(row, 4 * tile.queries() as i64)];
        for c in 0..tile.columns {
            let column = width * c as i32;
            let score = eval.fb().ins().load(ty, access(), row, column);
            let base = eval.fb().ins().load(ty, access(), state, layout.tile_maxima as i32 + column);
            let difference = match key_part(eval, attention, layout.key_terms, key, 0) {
                Some(coarse) => {
                    let exact = eval.v.fsub(coarse, base);
                    eval.v.fadd(score, exact)
                }
                None => eval.v.fsub(score, base),
            };
            let weight = eval.v.exp2_nonpositive(difference);
            next.push(eval.v.fadd(carried[1 + c], weight));
            let stored = if mode.guarded {
                let low = eval.v.float(f64::NEG_INFINITY);
                let hidden = eval.v.fcmp(FloatCC::Equal, score, low);
                let mark = eval.v.float(-1.0);
                eval.v.select_float(hidden, mark, weight)
            } else {
                weight
            };
            eval.fb().ins().store(access(), stored, row, column);
        }
        next
    });
    for c in 0..tile.columns {
        let column = width * c as i32;
        let old = eval.fb().ins().load(ty, access(), state, layout.sums as i32 + column);
        let rescale = eval.fb().ins().load(ty, access(), state, layout.rescale as i32 + column);
        let new = eval.v.fma(old, rescale, sums[1 + c]);
        eval.fb().ins().store(access(), new, state, layout.sums as i32 + column);
    }
}

/// Adds the weighted values to the accumulators.
fn average(
    eval: &mut Eval<'_, '_>,
    attention: &Attention,
    mode: Mode,
    first: Ssa,
    count: Ssa,
    state: Ssa,
) -> Result<(), CodegenError> {
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    let tile = attention.tile;
    let (base, key_stride) = row_base(eval, weighted.value, attention.key, weighted.dim)?;
    let skipped = eval.fb().ins().imul(first, key_stride);
    let base = eval.fb().ins().iadd(base, skipped);
    let stride = dim_stride(eval, weighted.value, weighted.dim);
    let whole = i64::from(weighted.length) / tile.value_rows as i64;
    let rest = weighted.length as usize % tile.value_rows;
    let whole_end = eval.fb().ins().iconst(types::I64, whole * tile.value_rows as i64);
    let start = eval.fb().ins().iconst(types::I64, 0);
    let values = Values { base, key_stride, stride, count, state };
    range_loop(eval, start, whole_end, tile.value_rows as i64, &[], |eval, element, _| {
        values.rows(eval, attention, mode, element, tile.value_rows);
        Vec::new()
    });
    if rest > 0 {
        values.rows(eval, attention, mode, whole_end, rest);
    }
    Ok(())
}

/// The values of a key tile.
struct Values {
    base: Ssa,
    key_stride: Ssa,
    stride: Ssa,
    count: Ssa,
    state: Ssa,
}

impl Values {
    /// A register tile of the average: `n` elements of the value head from `element`.
    fn rows(&self, eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, element: Ssa, n: usize) {
        let (layout, tile) = (eval.plan.scratch, attention.tile);
        let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
        let mut rows = Vec::with_capacity(n);
        for r in 0..n as i64 {
            let index = eval.fb().ins().iadd_imm_s(element, r);
            let offset = eval.fb().ins().imul(index, self.stride);
            rows.push(eval.fb().ins().iadd(self.base, offset));
        }
        let place = eval.fb().ins().imul_imm_s(element, 4 * tile.queries() as i64);
        let place = eval.fb().ins().iadd(self.state, place);
        let offset =
            |r: usize, c: usize| layout.accumulators as i32 + 4 * (r * tile.queries()) as i32 + width * c as i32;
        let mut accumulators = Vec::with_capacity(n * tile.columns);
        for r in 0..n {
            for c in 0..tile.columns {
                let old = eval.fb().ins().load(ty, access(), place, offset(r, c));
                let rescale = eval.fb().ins().load(ty, access(), self.state, layout.rescale as i32 + width * c as i32);
                accumulators.push(eval.v.fmul(old, rescale));
            }
        }
        let vectors = eval.fb().ins().iadd_imm_s(self.state, layout.scores as i64);
        let product = Product {
            rows,
            row_step: self.key_stride,
            vectors,
            vector_step: 4 * tile.queries() as i64,
            columns: tile.columns,
            turns: self.count,
            guarded: mode.guarded,
        };
        let sums = product.emit(eval, &accumulators);
        for r in 0..n {
            for c in 0..tile.columns {
                eval.fb().ins().store(access(), sums[r * tile.columns + c], place, offset(r, c));
            }
        }
    }
}

/// The address of key 0, element 0 of a tensor at the outer point, and the stride from key to key.
fn row_base(
    eval: &mut Eval<'_, '_>,
    tensor: TensorId,
    key: rhumb_ir::Axis,
    dim: rhumb_ir::Axis,
) -> Result<(Ssa, Ssa), CodegenError> {
    let base = eval.address(tensor, &[key, dim])?;
    Ok((base, dim_stride(eval, tensor, key)))
}

fn dim_stride(eval: &mut Eval<'_, '_>, tensor: TensorId, axis: rhumb_ir::Axis) -> Ssa {
    match eval.plan.tensors[tensor].dims.iter().position(|dim| *dim == axis) {
        Some(dim) => eval.stride(tensor, dim),
        None => eval.fb().ins().iconst(types::I64, 0),
    }
}

/// Tells whether the values of a key tile are all finite.
pub(crate) fn scan(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    enter(eval, attention);
    let first = range_word(eval, FIRST_KEY);
    let end = range_word(eval, END_KEY);
    let (base, key_stride) = row_base(eval, weighted.value, attention.key, weighted.dim)?;
    let stride = dim_stride(eval, weighted.value, weighted.dim);
    let lanes = eval.v.shape.lanes;
    let ty = eval.v.float_type();
    let length = i64::from(weighted.length);
    let contiguous = eval.fb().ins().icmp_imm_s(IntCC::Equal, stride, 4);
    // Without contiguous rows every element is read by itself.
    let (whole, none) =
        (eval.fb().ins().iconst(types::I64, length - length % lanes as i64), eval.fb().ins().iconst(types::I64, 0));
    let vectors = eval.fb().ins().select(contiguous, whole, none);
    let length = eval.fb().ins().iconst(types::I64, length);
    let zeros = [eval.v.float(0.0), eval.fb().ins().f32const(0.0)];
    let sums = range_loop(eval, first, end, 1, &zeros, |eval, key, sums| {
        let offset = eval.fb().ins().imul(key, key_stride);
        let row = eval.fb().ins().iadd(base, offset);
        let start = eval.fb().ins().iconst(types::I64, 0);
        let wide = range_loop(eval, start, vectors, lanes as i64, &[sums[0]], |eval, element, sums| {
            let offset = eval.fb().ins().imul_imm_s(element, 4);
            let address = eval.fb().ins().iadd(row, offset);
            let x = eval.fb().ins().load(ty, access(), address, 0);
            let zero = eval.v.float(0.0);
            vec![eval.v.fma(x, zero, sums[0])]
        });
        let narrow = range_loop(eval, vectors, length, 1, &[sums[1]], |eval, element, sums| {
            let offset = eval.fb().ins().imul(element, stride);
            let address = eval.fb().ins().iadd(row, offset);
            let x = eval.fb().ins().load(types::F32, access(), address, 0);
            let zero = eval.fb().ins().f32const(0.0);
            let product = eval.fb().ins().fmul(x, zero);
            vec![eval.fb().ins().fadd(sums[0], product)]
        });
        vec![wide[0], narrow[0]]
    });
    // Zero times anything finite is zero; the sum is NaN otherwise.
    let mut sum = sums[1];
    for lane in 0..lanes {
        let x = eval.fb().ins().extractlane(sums[0], lane as u8);
        sum = eval.fb().ins().fadd(sum, x);
    }
    let bad = eval.fb().ins().fcmp(FloatCC::Unordered, sum, sum);
    let bad = eval.fb().ins().uextend(types::I64, bad);
    let (scratch, range) = (eval.scratch, eval.plan.scratch.range as i32);
    eval.fb().ins().store(access(), bad, scratch, range + FIRST_KEY);
    Ok(())
}

/// Normalises and stores a query tile.
pub(crate) fn end(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (layout, tile) = (eval.plan.scratch, attention.tile);
    enter(eval, attention);
    let queries = range_word(eval, QUERIES);
    let first = range_word(eval, FIRST_QUERY);
    let mut result = Ok(());
    counted_loop(eval, queries, &[], |eval, lane, _| {
        let saved = eval.save();
        let index = eval.fb().ins().iadd(first, lane);
        eval.set(attention.query, index);
        result = normalise(eval, attention, lane);
        eval.restore(saved);
        Vec::new()
    });
    result?;
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    let base = eval.address(weighted.output, &[attention.query, weighted.dim])?;
    let query_stride = dim_stride(eval, weighted.output, attention.query);
    let stride = dim_stride(eval, weighted.output, weighted.dim);
    let length = eval.fb().ins().iconst(types::I64, i64::from(weighted.length));
    counted_loop(eval, queries, &[], |eval, lane, _| {
        let index = eval.fb().ins().iadd(first, lane);
        let offset = eval.fb().ins().imul(index, query_stride);
        let out = eval.fb().ins().iadd(base, offset);
        let column = slot(eval, 0, lane, 4);
        let factor = eval.fb().ins().load(types::F32, access(), column, layout.sums as i32);
        let accumulators = eval.fb().ins().iadd_imm_s(column, layout.accumulators as i64);
        let zero = eval.fb().ins().iconst(types::I64, 0);
        range_loop(eval, zero, length, 1, &[accumulators, out], |eval, _, carried| {
            let x = eval.fb().ins().load(types::F32, access(), carried[0], 0);
            let x = eval.fb().ins().fmul(x, factor);
            eval.fb().ins().store(access(), x, carried[1], 0);
            let next = eval.fb().ins().iadd_imm_s(carried[0], 4 * tile.queries() as i64);
            vec![next, eval.fb().ins().iadd(carried[1], stride)]
        });
        Vec::new()
    });
    Ok(())
}

fn add(eval: &mut Eval<'_, '_>, sum: Option<Ssa>, x: Ssa) -> Ssa {
    match sum {
        Some(sum) => eval.v.fadd(sum, x),
        None => x,
    }
}

/// Replaces the sum of a query by the factor of its average, and stores its log-sum-exp. Double precision.
fn normalise(eval: &mut Eval<'_, '_>, attention: &Attention, lane: Ssa) -> Result<(), CodegenError> {
    let layout = eval.plan.scratch;
    let column = slot(eval, 0, lane, 4);
    let most = eval.fb().ins().load(types::F32, access(), column, layout.maxima as i32);
    let mut most = eval.fb().ins().fpromote(types::F64, most);
    let sum = eval.fb().ins().load(types::F32, access(), column, layout.sums as i32);
    let mut sum = eval.fb().ins().fpromote(types::F64, sum);
    // Terms of the query alone change no weight; with the shift of the key terms they make the true score.
    let mut shift = match attention.query_term {
        Some(term) => Some(eval.load(term)?),
        None => None,
    };
    if attention.key_term.is_some() {
        let scratch = eval.scratch;
        let keys = eval.fb().ins().load(types::F64, access(), scratch, layout.shift as i32);
        shift = Some(add(eval, shift, keys));
    }
    let zero = eval.v.float(0.0);
    let one = eval.v.float(1.0);
    let mut numerator = one;
    if let Some(sink) = attention.sink {
        let sink = eval.load(sink)?;
        let sink = match shift {
            Some(shift) => eval.v.fsub(sink, shift),
            None => sink,
        };
        let top = eval.v.pseudo_max(sink, most);
        let low = eval.v.float(f64::NEG_INFINITY);
        let empty = eval.v.fcmp(FloatCC::Equal, top, low);
        let top = eval.v.select_float(empty, zero, top);
        let difference = eval.v.fsub(most, top);
        numerator = eval.v.exp2(difference);
        let difference = eval.v.fsub(sink, top);
        let weight = eval.v.exp2(difference);
        let scaled = eval.v.fmul(sum, numerator);
        sum = eval.v.fadd(scaled, weight);
        most = top;
    }
    let none = eval.v.fcmp(FloatCC::Equal, sum, zero);
    let quotient = eval.fb().ins().fdiv(numerator, sum);
    let factor = eval.v.select_float(none, zero, quotient);
    let factor = eval.fb().ins().fdemote(types::F32, factor);
    eval.fb().ins().store(access(), factor, column, layout.sums as i32);
    let Some(log_sum) = &attention.log_sum else { return Ok(()) };
    let log = eval.v.log2(sum);
    let mut value = eval.v.fadd(most, log);
    if let Some(shift) = shift {
        value = eval.v.fadd(value, shift);
    }
    let low = eval.v.float(f64::NEG_INFINITY);
    let value = eval.v.select_float(none, low, value);
    eval.seed(log_sum.leaf, value);
    let value = eval.emit(log_sum.value)?;
    let value = eval.fb().ins().fdemote(types::F32, value);
    let address = eval.address(log_sum.output, &[])?;
    eval.fb().ins().store(access(), value, address, 0);
    Ok(())
}
