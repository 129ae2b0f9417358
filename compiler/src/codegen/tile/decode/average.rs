//! The weighted sum of values. Lanes are elements of the values.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::ahead::{Ahead, ask_for, each_key, turns};
use super::computed;
use super::integers;
use super::numbers::Numbers;
use super::rows::{
    Rows, Turn, accumulators, average_bytes, by_register_tiles, load, padded, score_bytes, splat, values_before,
};
use super::source::{Loaded, Source, Wanted};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::tile::product::Guard;
use crate::codegen::tile::query_tile::Mode;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Reduction, RowTile};

/// The rows of a key tile's values.
pub(super) fn values(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    reduction: &Reduction,
) -> Result<Source, CodegenError> {
    let reductions = &rows.tile.attention.reductions[..reduction.index];
    let numbered = reductions.iter().filter_map(|before| before.scaled).count();
    let wanted = Wanted {
        tensor: reduction.value,
        scaled: reduction.scaled,
        dim: reduction.dim,
        length: reduction.length,
        loaded: if emitter.plan.integers.values { Loaded::IntegerPairs } else { Loaded::Elements },
        fields: [TileCall::values_of(reduction.index), TileCall::next_values_of(reduction.index)],
        place: emitter.plan.scratch.value_rows + emitter.plan.tiling.keys * values_before(emitter, rows, reduction),
        pitch: average_bytes(emitter, reduction),
        numbers: emitter.plan.scratch.value_numbers + 2 * emitter.plan.tiling.number_bytes() * numbered,
    };
    let saved = emitter.save();
    if !rows.decode.loaded.is_empty() {
        emitter.bind_groups();
    }
    let (source, computed) = computed::source(emitter, rows, wanted)?;
    if let Some(computed) = computed {
        computed.all(emitter)?;
    }
    emitter.restore(saved);
    Ok(source)
}

/// Adds the weighted values of every reduction to its accumulators.
pub(super) fn averages(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode) -> Result<(), CodegenError> {
    rows.tile.attention.reductions.iter().try_for_each(|reduction| average(emitter, rows, mode, reduction))
}

fn average(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    mode: Mode,
    reduction: &Reduction,
) -> Result<(), CodegenError> {
    let mut source = values(emitter, rows, reduction)?;
    if source.loaded == Loaded::IntegerPairs {
        return by_integers(emitter, (rows, mode), reduction, source);
    }
    // Nothing else reads weights, and none of them is marked.
    if rows.tile.attention.reductions.len() == 1 && Guard::of(rows.tile, mode).is_none() {
        source.numbers = scaled_weights(emitter, rows, source.numbers);
    }
    let turns = turns(emitter, source, mode);
    by_register_tiles(emitter, rows, turns, |emitter, row, tile, turn| {
        Block { rows, reduction, source, row, tile, turn, mode, joined: false }.all_columns(emitter);
    });
    Ok(())
}

/// As [`average`], by pairs of integers: odd rows in single precision.
fn by_integers(
    emitter: &mut ExprEmitter<'_, '_>,
    (rows, mode): (Rows<'_>, Mode),
    reduction: &Reduction,
    mut source: Source,
) -> Result<(), CodegenError> {
    integers::weights(emitter, rows, mode, source.numbers);
    source.numbers = source.numbers.unscaled();
    // Nothing is hidden any more: what was has no weight.
    let mode = Mode { guarded: false, ..mode };
    let turns = turns(emitter, source, mode);
    by_register_tiles(emitter, rows, turns, |emitter, row, tile, turn| {
        Block { rows, reduction, source, row, tile, turn, mode, joined: false }.all_columns(emitter);
    });
    integers::odd_rows(emitter, rows, integers::has_odd_weights, |emitter, row, tile| {
        let source = source.by_elements();
        Block { rows, reduction, source, row, tile, turn: Turn::Later, mode, joined: true }.all_columns(emitter);
    });
    Ok(())
}

/// Multiplies weights with the scales of their keys' rows, where there are such; gives the numbers that are left. Lanes are keys.
fn scaled_weights(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, numbers: Numbers) -> Numbers {
    if !numbers.has_scale() {
        return numbers;
    }
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        rows.replace(emitter, row, &[], |emitter, offset, weights, _| {
            (numbers.from(emitter, offset).scaled_lanes(emitter, weights, 0), Vec::new())
        })
    });
    numbers.unscaled()
}

/// A register tile: some rows, some vectors of the values.
struct Block<'a> {
    rows: Rows<'a>,
    reduction: &'a Reduction,
    source: Source,
    /// The first row, and how many.
    row: Ssa,
    tile: RowTile,
    turn: Turn,
    mode: Mode,
    /// Whether accumulators are rescaled already.
    joined: bool,
}

impl Block<'_> {
    /// Adds the products of weights and of all vectors of the values.
    fn all_columns(&self, emitter: &mut ExprEmitter<'_, '_>) {
        let (lanes, bytes) = (emitter.plan.machine.lanes, emitter.plan.machine.vector_bytes() as i64);
        let vectors = padded(emitter, self.reduction.length) as usize / lanes;
        let pairs = self.source.loaded.is_pairs();
        // Two vectors of pairs become two of sums.
        let width = self.tile.columns.min(vectors).next_multiple_of(if pairs { 2 } else { 1 });
        let whole = vectors / width.max(1) * width;
        let some = |emitter: &mut ExprEmitter<'_, '_>, at: Ssa, count: usize| match pairs {
            true => self.integers(emitter, at, count),
            false => self.columns(emitter, at, count),
        };
        let [start, end] = [0, whole as i64 * bytes].map(|at| emitter.fb().ins().iconst(types::I64, at));
        range_loop(emitter, start, end, width as i64 * bytes, &[], |emitter, at, _| {
            some(emitter, at, width);
            Vec::new()
        });
        if whole < vectors {
            some(emitter, end, vectors - whole);
        }
    }

    /// Adds the products of weights and of some vectors of values, from a byte of their rows in single precision on.
    fn columns(&self, emitter: &mut ExprEmitter<'_, '_>, at: Ssa, count: usize) {
        let (width, pitch) = (self.source.vector_bytes(emitter) as i32, score_bytes(emitter));
        let weights = self.rows.scores(emitter, self.row);
        let skipped = self.source.bytes_of(emitter, at);
        let first = emitter.fb().ins().iadd(self.source.first, skipped);
        let ahead = Ahead::new(emitter, (self.rows, self.turn), (self.source, 1));
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let mut carried = vec![first];
        carried.extend((0..self.tile.rows * count).map(|_| emitter.v.float(0.0)));
        let sums = each_key(emitter, (start, self.rows.keys, 1), &ahead, &carried, |emitter, key, ahead, carried| {
            let value = carried[0];
            let bytes = emitter.lane_bytes(key);
            let weight = emitter.fb().ins().iadd(weights, bytes);
            let numbers = self.source.numbers.from(emitter, bytes);
            let element = |emitter: &mut ExprEmitter<'_, '_>, c: i32| {
                let elements = self.source.load(emitter, value, width * c);
                numbers.shifted(emitter, elements, 0)
            };
            let values: Vec<Ssa> = (0..count as i32).map(|c| element(emitter, c)).collect();
            let scale = numbers.scale(emitter);
            ask_for(emitter, (value, width * count as i32), ahead);
            let mut next = vec![emitter.fb().ins().iadd(value, self.source.stride)];
            for (row, sums) in carried[1..].chunks(count).enumerate() {
                let weight = splat(emitter, (weight, (row as i64 * pitch) as i32));
                let factor = scale.map_or(weight, |scale| emitter.v.fmul(weight, scale));
                let weight = (weight, factor);
                next.extend(values.iter().zip(sums).map(|(value, sum)| self.add(emitter, weight, *value, *sum)));
            }
            next
        });
        self.store(emitter, at, count, &sums[1..]);
    }

    /// As [`Block::columns`], by pairs of integers.
    fn integers(&self, emitter: &mut ExprEmitter<'_, '_>, at: Ssa, count: usize) {
        let (pitch, twos) = (score_bytes(emitter), count.div_ceil(2));
        let weights = self.rows.scores(emitter, self.row);
        let skipped = self.source.bytes_of(emitter, at);
        let first = emitter.fb().ins().iadd(self.source.first, skipped);
        let pairs = emitter.fb().ins().band_imm_s(self.rows.keys, -2);
        let two = emitter.fb().ins().ishl_imm_u(self.source.stride, 1);
        let ahead = Ahead::new(emitter, (self.rows, self.turn), (self.source, 2));
        let width = self.source.vector_bytes(emitter) as i32;
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let none = emitter.v.int(0);
        let mut carried = vec![first];
        carried.resize(1 + 2 * self.tile.rows * twos, none);
        // The last of an odd number of keys is beside itself, without weight.
        for (from, to, next) in [(start, pairs, Some(self.source.stride)), (pairs, self.rows.keys, None)] {
            carried = each_key(emitter, (from, to, 2), &ahead, &carried, |emitter, key, ahead, carried| {
                let value = carried[0];
                let second = next.map_or(value, |stride| emitter.fb().ins().iadd(value, stride));
                for row in [value, second] {
                    ask_for(emitter, (row, width * twos as i32), ahead);
                }
                let values: Vec<[Ssa; 2]> = (0..twos as i32)
                    .map(|number| {
                        let [a, b] = [value, second].map(|row| self.source.load(emitter, row, width * number));
                        integers::in_turn(emitter, a, b)
                    })
                    .collect();
                let mut carried_on = vec![emitter.fb().ins().iadd(value, two)];
                let offset = emitter.lane_bytes(key);
                let weights = emitter.fb().ins().iadd(weights, offset);
                for (row, sums) in carried[1..].chunks(2 * twos).enumerate() {
                    let ty = emitter.v.int_type();
                    let weight = load(emitter, types::I32, weights, (row as i64 * pitch) as i32);
                    let weight = emitter.v.splat(weight, ty);
                    let values = values.iter().flatten();
                    carried_on
                        .extend(values.zip(sums).map(|(value, sum)| integers::dot(emitter, *sum, *value, weight)));
                }
                carried_on
            });
        }
        let scales = integers::number(emitter, self.row, emitter.plan.scratch.weight_scales);
        let mut sums = Vec::with_capacity(self.tile.rows * count);
        for (row, of_row) in carried[1..].chunks(2 * twos).enumerate() {
            let scale = splat(emitter, (scales, (LANE_BYTES * row) as i32));
            let numbers: Vec<Ssa> =
                of_row.chunks(2).flat_map(|two| integers::in_order(emitter, [two[0], two[1]])).collect();
            sums.extend(numbers[..count].iter().map(|sum| emitter.v.fmul(*sum, scale)));
        }
        self.store(emitter, at, count, &sums);
    }

    /// A sum with a value times a factor, the weight of its key, scaled; what a row does not see takes no part, whatever it holds.
    fn add(&self, emitter: &mut ExprEmitter<'_, '_>, (weight, factor): (Ssa, Ssa), value: Ssa, sum: Ssa) -> Ssa {
        let added = emitter.v.fma(factor, value, sum);
        match Guard::of(self.rows.tile, self.mode) {
            Some(guard) => guard.kept(emitter, weight, (sum, added)),
            None => added,
        }
    }

    /// Joins sums to the accumulators.
    fn store(&self, emitter: &mut ExprEmitter<'_, '_>, at: Ssa, count: usize, sums: &[Ssa]) {
        let (ty, width, layout) =
            (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i32, emitter.plan.scratch);
        let pitch = average_bytes(emitter, self.reduction);
        let accumulators = accumulators(emitter, self.rows, self.reduction);
        let skipped = emitter.fb().ins().imul_imm_s(self.row, pitch);
        let place = emitter.fb().ins().iadd(self.rows.tile.state, skipped);
        let place = emitter.fb().ins().iadd(place, at);
        let offset = emitter.lane_bytes(self.row);
        let scratch = emitter.scratch;
        let scales = emitter.fb().ins().iadd(scratch, offset);
        for (row, sums) in sums.chunks(count).enumerate() {
            let rescales = self.rows.tile.of_softmax() && !self.joined;
            let rescale = rescales.then(|| splat(emitter, (scales, (layout.rescale + LANE_BYTES * row) as i32)));
            for (c, &sum) in (0..).zip(sums) {
                let at = (accumulators + row as i64 * pitch) as i32 + width * c;
                let old = load(emitter, ty, place, at);
                let new = match rescale {
                    Some(rescale) => emitter.v.fma(old, rescale, sum),
                    None => emitter.v.fadd(old, sum),
                };
                emitter.fb().ins().store(access(), new, place, at);
            }
        }
    }
}
