//! Scores of a register tile of keys and queries: products summed in accumulators, made into scores, joined into the maxima.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::made::Made;
use super::prefetch::Asks;
use super::product::{Factors, ProductTile, Rows};
use super::query_tile::{KeyTileRows, Mode, Tile, set_column, slot};
use super::score::{KeyRows, Place, score};
use super::{bf16, distance, hinges, long, prefetch, runs, turned};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::{LONGEST_SUM, Product};

/// Parts of a sum that are code of their own; of more, a loop is made.
const MOST_PARTS: u32 = 16;

/// Scores of one register tile: stored, and joined into the maxima.
pub(super) fn scores(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    place: Place,
) -> Result<(), CodegenError> {
    let Tile { attention, shape, .. } = tile;
    let last = emitter.fb().ins().iadd_imm_s(place.count, -1);
    // Rows past the last key repeat it: its scores change no maximum, and no weight is taken of them.
    let mut rows = Vec::with_capacity(place.rows);
    for r in 0..place.rows as i64 {
        let row = emitter.fb().ins().iadd_imm_s(place.row, r);
        rows.push(if place.whole { row } else { emitter.v.smin(row, last) });
    }
    let scores = slot(emitter, 0, place.row, tile.row_bytes() as usize);
    let mut accumulators = Vec::new();
    let by_pair: Vec<&Product> = attention.products.iter().filter(|of| !emitter.plan.is_by_distance(of)).collect();
    for (number, product) in by_pair.iter().enumerate() {
        let others = (number > 0, number + 1 < by_pair.len());
        accumulators = products(emitter, (tile, mode), (product, others), place, &rows, scores)?;
    }
    let distances: Vec<Ssa> = rows.iter().filter_map(|row| distance::of_key(emitter, place.count, *row)).collect();
    for (index, sum) in accumulators.iter_mut().enumerate() {
        if let Some(address) = distances.get(index / shape.columns) {
            let column = (index % shape.columns * emitter.plan.machine.vector_bytes()) as i32;
            *sum = turned::add(emitter, (*address, column), *sum);
        }
    }
    if emitter.plan.has_long_scores(attention) {
        return long::scores(emitter, tile, mode, place, &accumulators, scores);
    }
    let key_rows = match attention.key_term {
        Some(term) => Some(KeyRows::new(emitter, attention, term)?),
        None => None,
    };
    let pairs: Vec<Ssa> = rows.iter().filter_map(|row| runs::of_key(emitter, tile, *row)).collect();
    let made = Made { distances: &distances, pairs: &pairs };
    let parts = Column { place, rows: &rows, accumulators: &accumulators, scores, key_rows, made };
    (0..shape.columns).try_for_each(|c| parts.emit(emitter, tile, mode, c))
}

/// What the columns of a register tile of scores have in common.
struct Column<'t> {
    place: Place,
    /// The rows of the keys in their tile.
    rows: &'t [Ssa],
    /// The sums of products, row by row.
    accumulators: &'t [Ssa],
    /// The address of the scores.
    scores: Ssa,
    key_rows: Option<KeyRows>,
    made: Made<'t>,
}

impl Column<'_> {
    /// The scores of a column of queries: stored, and joined into the maxima.
    fn emit(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        tile: Tile<'_>,
        mode: Mode,
        c: usize,
    ) -> Result<(), CodegenError> {
        let Tile { attention, shape, state, .. } = tile;
        let Column { place, rows, accumulators, scores, key_rows, made } = *self;
        let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
        let column = emitter.plan.machine.vector_bytes() as i32 * c as i32;
        let saved = emitter.save();
        set_column(emitter, tile, c);
        let ty = emitter.v.float_type();
        let reference =
            key_rows.map(|_| emitter.fb().ins().load(ty, access(), state, layout.references as i32 + column));
        let hinges = hinges::column(emitter, tile, made, (place.first, rows), c)?;
        let mut most: Option<Ssa> = None;
        for (r, &row) in rows.iter().enumerate() {
            let index = emitter.fb().ins().iadd(place.first, row);
            emitter.set(attention.key, index);
            emitter.forget(attention.key);
            if let Some(dot) = attention.dot {
                emitter.seed(dot, accumulators[r * shape.columns + c]);
            }
            made.seed(emitter, r, column);
            let term = key_rows.zip(reference).map(|(rows, reference)| rows.relative(emitter, index, reference));
            let score = score(emitter, attention, mode, (term, hinges.get(r).copied()))?;
            let row = layout.scores as i32 + r as i32 * tile.row_bytes() as i32 + column;
            emitter.fb().ins().store(access(), score, scores, row);
            if tile.of_softmax() {
                most = Some(match most {
                    Some(most) => emitter.v.pseudo_max(score, most),
                    None => score,
                });
            }
        }
        if let Some(most) = most {
            let offset = layout.tile_maxima as i32 + column;
            let old = emitter.fb().ins().load(ty, access(), scratch, offset);
            let new = emitter.v.pseudo_max(most, old);
            emitter.fb().ins().store(access(), new, scratch, offset);
        }
        emitter.restore(saved);
        Ok(())
    }
}

/// Sums of a product of queries and keys over the head dimension, with those of the products before it, if there are such, and whether more
/// come. A long one is summed in parts: rounding errors grow with the length of a sum.
fn products(
    emitter: &mut ExprEmitter<'_, '_>,
    (tile, mode): (Tile<'_>, Mode),
    (product, (before, more)): (&Product, (bool, bool)),
    place: Place,
    rows: &[Ssa],
    scores: Ssa,
) -> Result<Vec<Ssa>, CodegenError> {
    let mut of_tile =
        KeyTileRows::new(emitter, tile.attention, (product.key, product.dim), TileCall::keys_of(product.index))?;
    let (pairs, factor) = (emitter.plan.bf16_pairs.factor.is_some(), emitter.plan.bf16_pairs.outside());
    let at_once = if pairs { bf16::PAIR } else { 1 };
    if pairs {
        of_tile = bf16::key_rows(emitter, product, of_tile);
    }
    let length = product.length / at_once;
    let chains = tile.shape.partial_sums as u32;
    let chains = if length.is_multiple_of(chains) { chains } else { 1 };
    let parts = Parts { tile, place, rows, scores, of_tile, chains, at_once, first: product.first };
    let count = length.div_ceil(parts.longest()).max(1);
    // Rows past the last key ask for nothing.
    let asks = if place.whole { prefetch::keys(emitter, tile, product, (place.row, place.rows))? } else { None };
    let mut asks = asks.and_then(|asks| asks.row_by_row(emitter, mode));
    if count > MOST_PARTS {
        let sums = parts.looped(emitter, length, (before, more), asks);
        return Ok(times(emitter, sums, factor));
    }
    let mut sums = Vec::new();
    for part in 0..count {
        let [from, to] = [part, part + 1].map(|part| part * (length / chains) / count * chains);
        let others = (before || part > 0, more || part + 1 < count);
        sums = parts.part(emitter, Start::Element(from), to - from, others, asks.take());
    }
    Ok(times(emitter, sums, factor))
}

/// Sums times a factor, if there is one.
fn times(emitter: &mut ExprEmitter<'_, '_>, mut sums: Vec<Ssa>, factor: Option<f64>) -> Vec<Ssa> {
    if let Some(factor) = factor {
        for sum in &mut sums {
            let factor = emitter.v.float(factor);
            *sum = emitter.v.fmul(*sum, factor);
        }
    }
    sums
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
    /// Elements of a step: 2 of a pair, or 1. Lengths and positions are in steps.
    at_once: u32,
    /// The elements of queries before those of the product.
    first: u32,
}

impl Parts<'_> {
    /// The most that a part sums up.
    fn longest(&self) -> u32 {
        LONGEST_SUM as u32 / self.at_once * self.chains
    }

    /// The sums over the whole length, by a loop over its parts: whether there were some before, and whether more come.
    fn looped(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        length: u32,
        (before, more): (bool, bool),
        asks: Option<Asks>,
    ) -> Vec<Ssa> {
        let part = self.longest();
        let last = (length - 1) / part * part;
        self.part(emitter, Start::Element(0), part, (before, true), asks);
        let [start, end] = [part, last].map(|at| emitter.fb().ins().iconst(types::I64, i64::from(at)));
        range_loop(emitter, start, end, i64::from(part), &[], |emitter, from, _| {
            self.part(emitter, Start::Loop(from), part, (true, true), None);
            Vec::new()
        });
        self.part(emitter, Start::Element(last), length - last, (true, more), None)
    }

    /// The sums with those of `steps` more from `from` on: whether there were some before, whether more come, and what is asked for meanwhile.
    fn part(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        from: Start,
        steps: u32,
        (before, more): (bool, bool),
        asks: Option<Asks>,
    ) -> Vec<Ssa> {
        let Parts { tile: Tile { shape, state, .. }, place, of_tile, chains, .. } = *self;
        let KeyTileRows { first, stride, element } = of_tile;
        let row_step = match self.at_once {
            1 => element,
            elements => emitter.fb().ins().imul_imm_s(element, i64::from(elements)),
        };
        let layout = emitter.plan.scratch;
        let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
        let vector_step = self.tile.row_bytes();
        let skipped = match from {
            Start::Element(from) => emitter.fb().ins().imul_imm_s(row_step, i64::from(from)),
            Start::Loop(from) => emitter.fb().ins().imul(row_step, from),
        };
        let base = emitter.fb().ins().iadd(first, skipped);
        let mut addresses = self.rows.iter().map(|&row| {
            let offset = emitter.fb().ins().imul(row, stride);
            emitter.fb().ins().iadd(base, offset)
        });
        let rows = match addresses.next() {
            Some(first) if place.whole => Rows::Even { first, distance: stride, count: place.rows },
            first => Rows::Each(first.into_iter().chain(addresses).collect()),
        };
        let queries = layout.queries as i64 + i64::from(self.first) * vector_step;
        let vectors = match from {
            Start::Element(from) => emitter.fb().ins().iadd_imm_s(state, queries + i64::from(from) * vector_step),
            Start::Loop(from) => {
                let skipped = emitter.fb().ins().imul_imm_s(from, vector_step);
                let vectors = emitter.fb().ins().iadd(state, skipped);
                emitter.fb().ins().iadd_imm_s(vectors, queries)
            }
        };
        let iterations = i64::from(steps / chains);
        let product = ProductTile {
            factors: if self.at_once > 1 { Factors::Pairs } else { Factors::Singles },
            rows,
            row_step,
            vectors,
            vector_step,
            columns: shape.columns,
            iterations: emitter.fb().ins().iconst(types::I64, iterations),
            guard: None,
            asks: asks.map(|asks| (asks, asks.between(iterations as usize))),
            chains: chains as usize,
            chain_bytes: iterations * vector_step,
        };
        let mut sums = product.emit(emitter);
        for (index, sum) in sums.iter_mut().enumerate() {
            let (r, c) = (index / shape.columns, index % shape.columns);
            let offset = layout.scores as i32 + r as i32 * vector_step as i32 + width * c as i32;
            if before {
                let before = emitter.fb().ins().load(ty, access(), self.scores, offset);
                *sum = emitter.v.fadd(before, *sum);
            }
            if more {
                emitter.fb().ins().store(access(), *sum, self.scores, offset);
            }
        }
        sums
    }
}
