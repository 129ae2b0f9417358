//! Scores of a register tile of keys and queries: products summed in accumulators, made into scores, joined into the maxima.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::product::{Product, Rows};
use super::query_tile::{KeyTileRows, Mode, Tile, set_column, slot};
use super::score::{KeyRows, Place, score};
use super::{long, prefetch};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::Content;

/// The most products that one chain of additions sums up.
const LONGEST_SUM: u32 = 64;

/// Parts of a sum that are code of their own; of more, a loop is made.
const MOST_PARTS: u32 = 16;

/// Scores of one register tile: stored, and joined into the maxima.
pub(super) fn scores(eval: &mut Eval<'_, '_>, tile: Tile<'_>, mode: Mode, place: Place) -> Result<(), CodegenError> {
    let Tile { attention, shape, state } = tile;
    let (scratch, layout) = (eval.scratch, eval.plan.scratch);
    let width = eval.plan.machine.vector_bytes() as i32;
    let last = eval.fb().ins().iadd_imm_s(place.count, -1);
    // Rows past the last key repeat it: its scores change no maximum, and no weight is taken of them.
    let mut rows = Vec::with_capacity(place.rows);
    for r in 0..place.rows as i64 {
        let row = eval.fb().ins().iadd_imm_s(place.row, r);
        rows.push(if place.whole { row } else { eval.v.smin(row, last) });
    }
    let scores = slot(eval, 0, place.row, tile.row_bytes() as usize);
    let accumulators = match &attention.content {
        Some(content) => products(eval, tile, content, place, &rows, scores)?,
        None => Vec::new(),
    };
    if let (Some(content), true) = (&attention.content, place.whole) {
        let next = offset_of!(TileCall, next_keys);
        prefetch::next(eval, tile, (content.key, content.dim, content.length), next, (place.row, place.rows))?;
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
        for (r, &row) in rows.iter().enumerate() {
            let index = eval.fb().ins().iadd(place.first, row);
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
    rows: &[Ssa],
    scores: Ssa,
) -> Result<Vec<Ssa>, CodegenError> {
    let of_tile = KeyTileRows::new(eval, tile.attention, (content.key, content.dim), offset_of!(TileCall, keys))?;
    let chains = tile.shape.key_chains as u32;
    let chains = if content.length.is_multiple_of(chains) { chains } else { 1 };
    let parts = Parts { tile, place, rows, scores, of_tile, chains };
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
    /// The rows of the keys in their tile.
    rows: &'t [Ssa],
    /// The address of the scores, where sums are kept from part to part.
    scores: Ssa,
    of_tile: KeyTileRows,
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
        let Parts { tile: Tile { shape, state, .. }, place, of_tile, chains, .. } = *self;
        let KeyTileRows { first, stride, element: row_step } = of_tile;
        let layout = eval.plan.scratch;
        let (ty, width) = (eval.v.float_type(), eval.plan.machine.vector_bytes() as i32);
        let vector_step = self.tile.row_bytes();
        let skipped = match from {
            Start::Element(from) => eval.fb().ins().imul_imm_s(row_step, i64::from(from)),
            Start::Loop(from) => eval.fb().ins().imul(row_step, from),
        };
        let base = eval.fb().ins().iadd(first, skipped);
        let mut addresses = self.rows.iter().map(|&row| {
            let offset = eval.fb().ins().imul(row, stride);
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
