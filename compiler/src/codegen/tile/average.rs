//! Weights and the average: the second half of a key tile.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::prefetch::Asks;
use super::product::{Factors, Guard, ProductTile, Rows};
use super::query_tile::{KeyTileRows, Mode, Tile};
use super::{bf16, prefetch};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{either, range_loop};
use crate::codegen::vocab::access;
use crate::plan::{HEADROOM, RUN, Reduction};

/// Moves the bases of queries whose scores pass their limit, and tells what their accumulators are to be multiplied by.
pub(super) fn rebase(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) {
    let Tile { shape, state, .. } = tile;
    let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
    let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
    let columns = 0..shape.columns as i32;
    let passes = |emitter: &mut ExprEmitter<'_, '_>, c: i32| {
        let limit = emitter.fb().ins().load(ty, access(), state, layout.limits as i32 + width * c);
        let most = emitter.fb().ins().load(ty, access(), scratch, layout.tile_maxima as i32 + width * c);
        (limit, most, emitter.v.fcmp(FloatCC::GreaterThan, most, limit))
    };
    let mut any: Option<Ssa> = None;
    for c in columns.clone() {
        let (_, _, passed) = passes(emitter, c);
        any = Some(match any {
            Some(any) => emitter.fb().ins().bor(any, passed),
            None => passed,
        });
    }
    let any = match any {
        Some(any) => emitter.fb().ins().vany_true(any),
        None => emitter.fb().ins().iconst(types::I8, 0),
    };
    let moved = |emitter: &mut ExprEmitter<'_, '_>| {
        for c in columns {
            let (limit, most, passed) = passes(emitter, c);
            let base_place = layout.bases as i32 + width * c;
            let old = emitter.fb().ins().load(ty, access(), state, base_place);
            let base = emitter.v.select_float(passed, most, old);
            // A query that has seen no key yet has nothing to rescale.
            let low = emitter.v.float(f64::NEG_INFINITY);
            let unseen = emitter.v.fcmp(FloatCC::Equal, limit, low);
            let difference = emitter.v.fsub(old, base);
            let low = emitter.v.float(f64::NEG_INFINITY);
            let difference = emitter.v.select_float(unseen, low, difference);
            let rescale = emitter.v.exp2_bounded(difference);
            let headroom = emitter.v.float(f64::from(HEADROOM));
            let raised = emitter.v.fadd(base, headroom);
            let limit = emitter.v.select_float(passed, raised, limit);
            emitter.fb().ins().store(access(), base, state, base_place);
            emitter.fb().ins().store(access(), limit, state, layout.limits as i32 + width * c);
            emitter.fb().ins().store(access(), rescale, scratch, layout.rescale as i32 + width * c);
        }
        Vec::new()
    };
    let stayed = |emitter: &mut ExprEmitter<'_, '_>| {
        stay(emitter, tile);
        Vec::new()
    };
    either(emitter, any, moved, stayed);
}

/// Leaves bases as they are: accumulators are multiplied by 1.
pub(super) fn stay(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) {
    let (scratch, rescale) = (emitter.scratch, emitter.plan.scratch.rescale as i32);
    let width = emitter.plan.machine.vector_bytes() as i32;
    for c in 0..tile.shape.columns as i32 {
        let one = emitter.v.float(1.0);
        emitter.fb().ins().store(access(), one, scratch, rescale + width * c);
    }
}

/// Scores to weights, lane-wise; bases and sums move on.
pub(super) fn weights(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, mode: Mode, count: Ssa) {
    let Tile { shape, state, .. } = tile;
    let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
    let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
    rebase(emitter, tile);
    let rows = emitter.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let paired = emitter.plan.bf16_pairs.values;
    // Where scores are read, and pairs are written.
    let mut carried = if paired { vec![rows, rows] } else { vec![rows] };
    let places = carried.len();
    if paired {
        bf16::hide_after_last(emitter, tile, (rows, count));
    }
    carried.extend((0..shape.columns).map(|_| emitter.v.float(0.0)));
    // Summed by runs of keys: rounding errors grow with the length of a sum.
    let sums = range_loop(emitter, start, count, RUN as i64, &carried, |emitter, first, carried| {
        let end = emitter.fb().ins().iadd_imm_s(first, RUN as i64);
        let end = emitter.v.smin(end, count);
        let mut run = carried[..places].to_vec();
        run.extend((0..shape.columns).map(|_| emitter.v.float(0.0)));
        let mut run = if paired {
            range_loop(emitter, first, end, i64::from(bf16::PAIR), &run, |emitter, _, run| {
                weigh_two(emitter, tile, mode, run)
            })
        } else {
            range_loop(emitter, first, end, 1, &run, |emitter, _, run| weigh(emitter, tile, mode, run))
        };
        for (sum, before) in run[places..].iter_mut().zip(&carried[places..]) {
            *sum = emitter.v.fadd(*before, *sum);
        }
        run
    });
    for c in 0..shape.columns {
        let column = width * c as i32;
        let old = emitter.fb().ins().load(ty, access(), state, layout.sums as i32 + column);
        let rescale = emitter.fb().ins().load(ty, access(), scratch, layout.rescale as i32 + column);
        let new = emitter.v.fma(old, rescale, sums[places + c]);
        emitter.fb().ins().store(access(), new, state, layout.sums as i32 + column);
    }
}

/// The weights of a key; carries the address of its scores and the sums.
fn weigh(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, mode: Mode, carried: &[Ssa]) -> Vec<Ssa> {
    let Tile { shape, state, .. } = tile;
    let layout = emitter.plan.scratch;
    let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
    let row = carried[0];
    let mut next = vec![emitter.fb().ins().iadd_imm_s(row, tile.row_bytes())];
    for c in 0..shape.columns {
        let column = width * c as i32;
        let score = emitter.fb().ins().load(ty, access(), row, column);
        let base = emitter.fb().ins().load(ty, access(), state, layout.bases as i32 + column);
        let difference = emitter.v.fsub(score, base);
        let weight = emitter.v.exp2_bounded(difference);
        next.push(emitter.v.fadd(carried[1 + c], weight));
        let stored = marked(emitter, mode, score, weight);
        emitter.fb().ins().store(access(), stored, row, column);
    }
    next
}

/// The weights of two keys, which are stored as pairs; carries the address of the first one's scores, that of the pairs, and the sums.
fn weigh_two(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, mode: Mode, carried: &[Ssa]) -> Vec<Ssa> {
    let Tile { shape, state, .. } = tile;
    let bases = emitter.plan.scratch.bases as i32;
    let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
    let (scores, pairs, row) = (carried[0], carried[1], tile.row_bytes());
    let mut next = vec![
        emitter.fb().ins().iadd_imm_s(scores, i64::from(bf16::PAIR) * row),
        emitter.fb().ins().iadd_imm_s(pairs, row),
    ];
    for c in 0..shape.columns {
        let column = width * c as i32;
        let base = emitter.fb().ins().load(ty, access(), state, bases + column);
        let mut sum = carried[2 + c];
        let stored = [0, row as i32].map(|row| {
            let score = emitter.fb().ins().load(ty, access(), scores, row + column);
            let difference = emitter.v.fsub(score, base);
            let weight = emitter.v.exp2_bounded(difference);
            sum = emitter.v.fadd(sum, weight);
            marked(emitter, mode, score, weight)
        });
        next.push(sum);
        let stored = bf16::rounded(emitter, stored);
        emitter.fb().ins().store(access(), stored, pairs, column);
    }
    next
}

/// A weight as it is stored: guarded, that of a hidden score is marked.
pub(super) fn marked(emitter: &mut ExprEmitter<'_, '_>, mode: Mode, score: Ssa, weight: Ssa) -> Ssa {
    if !mode.guarded {
        return weight;
    }
    let low = emitter.v.float(f64::NEG_INFINITY);
    let hidden = emitter.v.fcmp(FloatCC::Equal, score, low);
    let mark = emitter.v.float(-1.0);
    emitter.v.select_float(hidden, mark, weight)
}

/// Adds the weighted values of every reduction to its accumulators.
pub(super) fn averages(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    count: Ssa,
) -> Result<(), CodegenError> {
    tile.attention.reductions.iter().try_for_each(|reduction| average(emitter, tile, mode, (reduction, count)))
}

fn average(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    mode: Mode,
    (reduction, count): (&Reduction, Ssa),
) -> Result<(), CodegenError> {
    let Tile { attention, shape, .. } = tile;
    let of_tile = KeyTileRows::of_values(emitter, attention, reduction)?;
    let whole = i64::from(reduction.length) / shape.value_rows as i64;
    let rest = reduction.length as usize % shape.value_rows;
    let whole_end = emitter.fb().ins().iconst(types::I64, whole * shape.value_rows as i64);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let values = Values { tile, reduction, of_tile, count };
    // Each register tile asks for the values of some of the next keys.
    let asked = emitter.plan.tiling.keys.div_ceil(whole.max(1) as usize);
    let mut result = Ok(());
    range_loop(emitter, start, whole_end, shape.value_rows as i64, &[start], |emitter, element, asked_before| {
        result = prefetch::values(emitter, tile, reduction, (asked_before[0], asked)).map(|asks| {
            let asks = asks.and_then(|asks| asks.row_by_row(emitter, mode));
            values.rows(emitter, mode, element, shape.value_rows, asks);
        });
        vec![emitter.fb().ins().iadd_imm_s(asked_before[0], asked as i64)]
    });
    if rest > 0 {
        values.rows(emitter, mode, whole_end, rest, None);
    }
    result
}

/// The values of a key tile that a reduction sums up.
struct Values<'a> {
    tile: Tile<'a>,
    reduction: &'a Reduction,
    of_tile: KeyTileRows,
    count: Ssa,
}

impl Values<'_> {
    /// The rows of a sum's scalars, and how many there are.
    fn read(&self, emitter: &mut ExprEmitter<'_, '_>) -> (KeyTileRows, Ssa) {
        if !emitter.plan.bf16_pairs.values {
            return (self.of_tile, self.count);
        }
        let (first, pitch) = bf16::value_pairs(emitter, self.reduction);
        let [stride, element] = [pitch, 4].map(|bytes| emitter.fb().ins().iconst(types::I64, bytes));
        let up = emitter.fb().ins().iadd_imm_s(self.count, 1);
        (KeyTileRows { first, stride, element }, emitter.fb().ins().ushr_imm_u(up, 1))
    }

    /// A register tile of the sum: `n` elements of the value head from `element`.
    fn rows(&self, emitter: &mut ExprEmitter<'_, '_>, mode: Mode, element: Ssa, n: usize, asks: Option<Asks>) {
        let (scratch, layout, shape) = (emitter.scratch, emitter.plan.scratch, self.tile.shape);
        let (ty, width) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32);
        let row_bytes = self.tile.row_bytes();
        let (rows, iterations) = self.read(emitter);
        let KeyTileRows { first, stride: key_stride, element: stride } = rows;
        let offset = emitter.fb().ins().imul(element, stride);
        let first = emitter.fb().ins().iadd(first, offset);
        let place = emitter.fb().ins().imul_imm_s(element, row_bytes);
        let place = emitter.fb().ins().iadd(self.tile.state, place);
        let first_row = layout.accumulators as i32 + self.reduction.first as i32 * row_bytes as i32;
        let offset = |r: usize, c: usize| first_row + r as i32 * row_bytes as i32 + width * c as i32;
        let vectors = emitter.fb().ins().iadd_imm_s(scratch, layout.scores as i64);
        let (factors, most) = match emitter.plan.bf16_pairs.values {
            true => (Factors::Pairs, emitter.plan.tiling.keys / 2),
            false => (Factors::Singles, emitter.plan.tiling.keys),
        };
        let product = ProductTile {
            factors,
            rows: Rows::Even { first, distance: stride, count: n },
            row_step: key_stride,
            vectors,
            vector_step: row_bytes,
            columns: shape.columns,
            iterations,
            guard: Guard::of(self.tile, mode),
            asks: asks.map(|asks| (asks, asks.between(most))),
            chains: 1,
            chain_bytes: 0,
        };
        let sums = product.emit(emitter);
        for r in 0..n {
            for c in 0..shape.columns {
                let old = emitter.fb().ins().load(ty, access(), place, offset(r, c));
                let sum = sums[r * shape.columns + c];
                let new = if self.tile.of_softmax() {
                    let rescale = layout.rescale as i32 + width * c as i32;
                    let rescale = emitter.fb().ins().load(ty, access(), scratch, rescale);
                    emitter.v.fma(old, rescale, sum)
                } else {
                    emitter.v.fadd(old, sum)
                };
                emitter.fb().ins().store(access(), new, place, offset(r, c));
            }
        }
    }
}
