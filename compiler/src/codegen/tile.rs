//! The tile kernel: online softmax over key tiles for one tile of queries. Lanes are queries.
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
//! Keys and values are read in their own layout, one scalar broadcast at a time; all else is lane-wise. No vector lives across a hot
//! loop but its accumulators: bases and sums stay in the scratch memory, constants are loaded where they are used.
//!
//! Scores are measured from a base `m`. It need not be their maximum: weights up to 2^8 cost a float no digits, so the base follows only
//! when a score passes it by more, and most key tiles change no base.
//!
//! Terms of keys alone, such as ALiBi's, may be far larger than their differences among the keys that a query sees. They come as two
//! numbers of single precision, and each query takes them relative to a reference of its own: where they are near it the difference is
//! exact. What a query does not see takes no part in its reference.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

mod average;
mod begin;
mod end;
mod long;
mod prefetch;
mod product;
mod reference;
mod scan;
mod squares;

use self::average::{average, weights};
pub(crate) use self::begin::begin;
pub(crate) use self::end::end;
use self::product::{Product, Rows};
pub(crate) use self::reference::reference;
pub(crate) use self::scan::scan;
pub(crate) use self::squares::squares;
use super::CodegenError;
use super::eval::{Eval, Order};
use super::loops::range_loop;
use super::map::least;
use super::vocab::access;
use crate::plan::{Attention, Content, KeyTerm, TensorId, TileShape};

/// Which kind of key tile is emitted.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// The mask is evaluated per element.
    pub(crate) masked: bool,
    /// Values that a query does not see are kept from it even if they are NaN or infinite.
    pub(crate) guarded: bool,
}

/// The most products that one chain of additions sums up.
const LONGEST_SUM: u32 = 64;

/// Parts of a sum that are code of their own; of more, a loop is made.
const MOST_PARTS: u32 = 16;

/// Words of the range.
const FIRST_QUERY: i32 = 0;
const QUERIES: i32 = 8;
const FIRST_KEY: i32 = 16;
const END_KEY: i32 = 24;
const STATE: i32 = 32;
const NEXT_KEY: i32 = 40;
const NEXT_END: i32 = 48;
const SHARE_FROM: i32 = 56;
const SHARE_TO: i32 = 64;

/// A tile of queries that code is emitted for.
#[derive(Clone, Copy)]
struct Tile<'a> {
    attention: &'a Attention,
    shape: TileShape,
    /// The address of its state.
    state: Ssa,
}

impl<'a> Tile<'a> {
    fn new(eval: &mut Eval<'_, '_>, attention: &'a Attention, shape: TileShape) -> Tile<'a> {
        let offset = range_word(eval, STATE);
        let scratch = eval.scratch;
        let state = eval.fb().ins().iadd(scratch, offset);
        Tile { attention, shape, state }
    }

    /// Keys of a register tile that may pass the last key: enough sums to keep multiply-adds busy.
    fn last_rows(&self) -> i64 {
        if self.shape.columns == 1 { 8 } else { 4 }
    }

    /// Bytes of a row of queries: from one key's scores to the next, from one element to the next.
    fn row_bytes(&self) -> i64 {
        4 * self.attention.tiling.queries() as i64
    }
}

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

/// Sets the indices of a query of a tile: its position and, where heads are packed, its head.
fn set_query(eval: &mut Eval<'_, '_>, attention: &Attention, query: Ssa) {
    let (position, head) = split(eval, attention, query);
    eval.set(attention.query, position);
    eval.forget(attention.query);
    if let (Some(packed), Some(head)) = (attention.packed, head) {
        // The outer point has the first head of the group.
        let (scratch, base) = (eval.scratch, eval.plan.scratch.outer as i32);
        let axis = attention.outer.iter().position(|axis| *axis == packed.axis).unwrap_or(0);
        let first = eval.fb().ins().load(types::I64, access(), scratch, base + 8 * axis as i32);
        let head = eval.fb().ins().iadd(first, head);
        eval.set(packed.axis, head);
        eval.forget(packed.axis);
    }
}

/// The position of a query and, where heads are packed, its head within the group.
fn split(eval: &mut Eval<'_, '_>, attention: &Attention, query: Ssa) -> (Ssa, Option<Ssa>) {
    let Some(packed) = attention.packed else { return (query, None) };
    let heads = i64::from(packed.heads);
    let position = eval.fb().ins().udiv_imm_u(query, heads);
    let before = eval.fb().ins().imul_imm_s(position, heads);
    (position, Some(eval.fb().ins().isub(query, before)))
}

/// `scratch + offset + index * bytes`.
fn slot(eval: &mut Eval<'_, '_>, offset: usize, index: Ssa, bytes: usize) -> Ssa {
    let scratch = eval.scratch;
    let scaled = eval.fb().ins().imul_imm_s(index, bytes as i64);
    let base = eval.fb().ins().iadd(scratch, scaled);
    eval.fb().ins().iadd_imm_s(base, offset as i64)
}

/// Adds a key tile to a query tile.
pub(crate) fn keys(
    eval: &mut Eval<'_, '_>,
    attention: &Attention,
    shape: TileShape,
    mode: Mode,
) -> Result<(), CodegenError> {
    enter(eval, attention);
    let tile = Tile::new(eval, attention, shape);
    let first = range_word(eval, FIRST_KEY);
    let end = range_word(eval, END_KEY);
    let count = eval.fb().ins().isub(end, first);
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let (ty, width) = (eval.v.float_type(), 4 * shape.lanes as i32);
    for c in 0..shape.columns as i32 {
        let limit = eval.fb().ins().load(ty, access(), tile.state, layout.limits as i32 + width * c);
        eval.fb().ins().store(access(), limit, scratch, layout.tile_maxima as i32 + width * c);
    }
    let rows = shape.key_rows as i64;
    let start = eval.fb().ins().iconst(types::I64, 0);
    let tiles = eval.fb().ins().udiv_imm_u(count, rows);
    let whole = eval.fb().ins().imul_imm_s(tiles, rows);
    let mut result = Ok(());
    // Rows of the last register tiles may pass the last key, and their addresses take more registers: few at a time.
    for (start, end, rows, whole) in [(start, whole, rows, true), (whole, count, tile.last_rows().min(rows), false)] {
        range_loop(eval, start, end, rows, &[], |eval, row, _| {
            let saved = eval.save();
            let place = Place { first, count, row, rows: rows as usize, whole };
            result = std::mem::replace(&mut result, Ok(())).and_then(|()| scores(eval, tile, mode, place));
            eval.restore(saved);
            Vec::new()
        });
    }
    result?;
    weights(eval, tile, mode, count);
    average(eval, tile, mode, first, count)
}

/// A register tile of scores in its query tile and key tile.
#[derive(Clone, Copy)]
struct Place {
    first: Ssa,
    count: Ssa,
    /// First key of the register tile, counted from the first key of the key tile.
    row: Ssa,
    rows: usize,
    /// Whether every row is a key of the tile.
    whole: bool,
}

/// Scores of one register tile: stored, and joined into the maxima.
fn scores(eval: &mut Eval<'_, '_>, tile: Tile<'_>, mode: Mode, place: Place) -> Result<(), CodegenError> {
    let Tile { attention, shape, state } = tile;
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let width = 4 * shape.lanes as i32;
    let last = eval.fb().ins().iadd_imm_s(place.count, -1);
    // Rows past the last key repeat it: its scores change no maximum, and no weight is taken of them.
    let mut indices = Vec::with_capacity(place.rows);
    for r in 0..place.rows as i64 {
        let row = eval.fb().ins().iadd_imm_s(place.row, r);
        let row = if place.whole { row } else { least(eval, row, last) };
        indices.push(eval.fb().ins().iadd(place.first, row));
    }
    let scores = slot(eval, 0, place.row, tile.row_bytes() as usize);
    let accumulators = match &attention.content {
        Some(content) => products(eval, tile, content, place, &indices, scores)?,
        None => Vec::new(),
    };
    if let (Some(content), true) = (&attention.content, place.whole) {
        prefetch::next(eval, tile, (content.key, content.dim, content.length), place.row, place.rows)?;
    }
    if eval.plan.has_long_scores(attention) {
        return long::scores(eval, tile, mode, place, &accumulators, scores);
    }
    let key_rows = match attention.key_term {
        Some(term) => Some(KeyRows::new(eval, attention, term)?),
        None => None,
    };
    for c in 0..shape.columns {
        let column = width * c as i32;
        let saved = eval.save();
        set_column(eval, tile, c);
        let ty = eval.v.float_type();
        let reference = key_rows.map(|_| eval.fb().ins().load(ty, access(), state, layout.references as i32 + column));
        let mut most: Option<Ssa> = None;
        for (r, &index) in indices.iter().enumerate() {
            eval.set(attention.key, index);
            eval.forget(attention.key);
            if let Some(content) = &attention.content {
                eval.seed(content.dot, accumulators[r * shape.columns + c]);
            }
            let term = key_rows.zip(reference).map(|(rows, reference)| rows.relative(eval, index, reference));
            let score = score(eval, attention, mode, term)?;
            let row = layout.scores as i32 + r as i32 * tile.row_bytes() as i32 + column;
            eval.fb().ins().store(access(), score, scores, row);
            most = Some(match most {
                Some(most) => eval.v.pseudo_max(score, most),
                None => score,
            });
        }
        if let Some(most) = most {
            let offset = layout.tile_maxima as i32 + column;
            let old = eval.fb().ins().load(ty, access(), scratch, offset);
            let new = eval.v.pseudo_max(most, old);
            eval.fb().ins().store(access(), new, scratch, offset);
        }
        eval.restore(saved);
    }
    Ok(())
}

/// Products of queries and keys over the head dimension. A long one is summed in parts: rounding errors grow with the length of a sum.
fn products(
    eval: &mut Eval<'_, '_>,
    tile: Tile<'_>,
    content: &Content,
    place: Place,
    indices: &[Ssa],
    scores: Ssa,
) -> Result<Vec<Ssa>, CodegenError> {
    let (base, stride) = row_base(eval, content.key, tile.attention.key, content.dim)?;
    let row_step = dim_stride(eval, content.key, content.dim);
    let chains = tile.shape.key_chains as u32;
    let chains = if content.length.is_multiple_of(chains) { chains } else { 1 };
    let parts = Parts { tile, place, indices, scores, base, stride, row_step, chains };
    let count = content.length.div_ceil(LONGEST_SUM * chains).max(1);
    if count > MOST_PARTS {
        return Ok(parts.looped(eval, content.length));
    }
    let mut sums = Vec::new();
    for part in 0..count {
        let [from, to] = [part, part + 1].map(|part| part * (content.length / chains) / count * chains);
        sums = parts.part(eval, Start::Element(from), to - from, (part > 0, part + 1 < count));
    }
    Ok(sums)
}

/// The element that a part begins at.
#[derive(Clone, Copy)]
enum Start {
    Element(u32),
    Loop(Ssa),
}

/// Sums that are computed in parts.
struct Parts<'t> {
    tile: Tile<'t>,
    place: Place,
    indices: &'t [Ssa],
    /// The address of the scores, where sums are kept from part to part.
    scores: Ssa,
    base: Ssa,
    stride: Ssa,
    row_step: Ssa,
    chains: u32,
}

impl Parts<'_> {
    /// The sums over the whole length, by a loop over its parts.
    fn looped(&self, eval: &mut Eval<'_, '_>, length: u32) -> Vec<Ssa> {
        let part = LONGEST_SUM * self.chains;
        let last = (length - 1) / part * part;
        self.part(eval, Start::Element(0), part, (false, true));
        let [start, end] = [part, last].map(|at| eval.fb().ins().iconst(types::I64, i64::from(at)));
        range_loop(eval, start, end, i64::from(part), &[], |eval, from, _| {
            self.part(eval, Start::Loop(from), part, (true, true));
            Vec::new()
        });
        self.part(eval, Start::Element(last), length - last, (true, false))
    }

    /// The sums with those of `elements` more from `from` on: whether there were some before, and whether more come.
    fn part(&self, eval: &mut Eval<'_, '_>, from: Start, elements: u32, (before, more): (bool, bool)) -> Vec<Ssa> {
        let Parts { tile: Tile { shape, state, .. }, place, stride, row_step, chains, .. } = *self;
        let layout = eval.plan.scratch;
        let (ty, width) = (eval.v.float_type(), 4 * shape.lanes as i32);
        let vector_step = self.tile.row_bytes();
        let skipped = match from {
            Start::Element(from) => eval.fb().ins().imul_imm_s(row_step, i64::from(from)),
            Start::Loop(from) => eval.fb().ins().imul(row_step, from),
        };
        let base = eval.fb().ins().iadd(self.base, skipped);
        let mut addresses = self.indices.iter().map(|&index| {
            let offset = eval.fb().ins().imul(index, stride);
            eval.fb().ins().iadd(base, offset)
        });
        let rows = match addresses.next() {
            Some(first) if place.whole => Rows::Even { first, distance: stride, count: place.rows },
            first => Rows::Each(first.into_iter().chain(addresses).collect()),
        };
        let queries = layout.queries as i64;
        let vectors = match from {
            Start::Element(from) => eval.fb().ins().iadd_imm_s(state, queries + i64::from(from) * vector_step),
            Start::Loop(from) => {
                let skipped = eval.fb().ins().imul_imm_s(from, vector_step);
                let vectors = eval.fb().ins().iadd(state, skipped);
                eval.fb().ins().iadd_imm_s(vectors, queries)
            }
        };
        let turns = i64::from(elements / chains);
        let product = Product {
            rows,
            row_step,
            vectors,
            vector_step,
            columns: shape.columns,
            turns: eval.fb().ins().iconst(types::I64, turns),
            guarded: false,
            chains: chains as usize,
            chain_bytes: turns * vector_step,
        };
        let mut sums = product.emit(eval);
        for (index, sum) in sums.iter_mut().enumerate() {
            let (r, c) = (index / shape.columns, index % shape.columns);
            let offset = layout.scores as i32 + r as i32 * vector_step as i32 + width * c as i32;
            if before {
                let before = eval.fb().ins().load(ty, access(), self.scores, offset);
                *sum = eval.v.fadd(before, *sum);
            }
            if more {
                eval.fb().ins().store(access(), *sum, self.scores, offset);
            }
        }
        sums
    }
}

/// The rows of a key term's tables at the outer point, which are contiguous along keys.
#[derive(Clone, Copy)]
struct KeyRows {
    high: Ssa,
    low: Ssa,
}

impl KeyRows {
    fn new(eval: &mut Eval<'_, '_>, attention: &Attention, term: KeyTerm) -> Result<KeyRows, CodegenError> {
        let [high, low] = [term.high, term.low].map(|part| eval.address(part, &[attention.key]));
        Ok(KeyRows { high: high?, low: low? })
    }

    /// The key term of a key, in every lane.
    fn splat(eval: &mut Eval<'_, '_>, row: Ssa, key: Ssa) -> Ssa {
        let offset = eval.fb().ins().ishl_imm_u(key, 2);
        let address = eval.fb().ins().iadd(row, offset);
        let (x, ty) = (eval.fb().ins().load(types::F32, access(), address, 0), eval.v.float_type());
        eval.v.splat(x, ty)
    }

    /// The key term of a key relative to references, which come negated.
    fn relative(self, eval: &mut Eval<'_, '_>, key: Ssa, reference: Ssa) -> Ssa {
        let high = KeyRows::splat(eval, self.high, key);
        let difference = eval.v.fadd(reference, high);
        let low = KeyRows::splat(eval, self.low, key);
        eval.v.fadd(difference, low)
    }
}

/// Sets the lanes to those of a vector of queries.
fn set_column(eval: &mut Eval<'_, '_>, tile: Tile<'_>, column: usize) {
    let Tile { attention, shape, state } = tile;
    let lane = (column * shape.lanes) as i64;
    let first = range_word(eval, FIRST_QUERY);
    let query = eval.fb().ins().iadd_imm_s(first, lane);
    let lanes = eval.plan.scratch.lanes as i64;
    let clamped = eval.fb().ins().iadd_imm_s(state, lanes + 4 * lane);
    let (first, order) = match attention.packed {
        None => (query, Order::Successive),
        Some(_) => (eval.fb().ins().uload32(access(), clamped, 0), Order::Any),
    };
    eval.set(attention.query, first);
    eval.set_lanes(attention.query, clamped, order);
}

/// A vector of scores; `term` is the key's term relative to the references of the queries.
fn score(eval: &mut Eval<'_, '_>, attention: &Attention, mode: Mode, term: Option<Ssa>) -> Result<Ssa, CodegenError> {
    let mut score = match term {
        Some(term) if attention.terms.is_empty() => term,
        term => {
            let sum = eval.sum(&attention.terms)?;
            term.map_or(sum, |term| eval.v.fadd(sum, term))
        }
    };
    // Last: what a mask hides may be infinite or NaN.
    if mode.masked {
        score = masked(eval, attention, score)?;
    }
    Ok(score)
}

/// A vector where queries see the key, `-inf` where they don't.
fn masked(eval: &mut Eval<'_, '_>, attention: &Attention, x: Ssa) -> Result<Ssa, CodegenError> {
    attention.masks.iter().try_fold(x, |x, mask| {
        let seen = eval.emit(mask.value)?;
        let hidden = eval.v.float(f64::NEG_INFINITY);
        let (on_true, on_false) = if mask.negative { (hidden, x) } else { (x, hidden) };
        Ok(eval.v.select_float(seen, on_true, on_false))
    })
}

/// The address of key 0, element 0 of a tensor at the outer point, and the stride from key to key.
pub(crate) fn row_base(
    eval: &mut Eval<'_, '_>,
    tensor: TensorId,
    key: rhumb_ir::Axis,
    dim: rhumb_ir::Axis,
) -> Result<(Ssa, Ssa), CodegenError> {
    let base = eval.address(tensor, &[key, dim])?;
    Ok((base, dim_stride(eval, tensor, key)))
}

/// The stride of a tensor along an axis, in bytes: 0 if it does not vary along it.
pub(crate) fn dim_stride(eval: &mut Eval<'_, '_>, tensor: TensorId, axis: rhumb_ir::Axis) -> Ssa {
    match eval.plan.tensors[tensor].dims.iter().position(|dim| *dim == axis) {
        Some(dim) => eval.stride(tensor, dim),
        None => eval.fb().ins().iconst(types::I64, 0),
    }
}
