//! Hinges of a score: which of them bend within a key tile, and the sum of all.
//!
//! ```text
//! units    a, b, z, w of each: w max(a x + b, z)       written when a query tile begins; the same for all tiles of a task
//! range    least and greatest x of the key tile
//! line     A = sum w a, B = sum w b, of those whose a x + b is not below z at either end; B too has w z of those that are not above
//! bent     a, b, z, w of all others, one after the other, and of those with numbers that are too large or not finite
//! sum      A x + B + sum w max(a x + b, z) of the bent ones
//! ```
//!
//! `a x + b` is computed as it is for a pair, and rounding keeps order: what holds at both ends holds between them.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Value;

use super::lanes::joined;
use super::made::Made;
use super::query_tile::{Tile, call_word, set_column};
use super::{distance, runs};
use crate::abi::{HingeTile, HingeUnit, TileCall};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{either, range_loop};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Hinges, Number, Unit};

/// Products of this magnitude or less are summed up to a line.
const LARGEST: f64 = 1e30;
/// Keys of which the range is joined in one turn of a loop.
const KEYS: i64 = 4;
/// The numbers of a unit that bends, in their order.
const NUMBERS: [usize; 4] = [
    offset_of!(HingeUnit, slope),
    offset_of!(HingeUnit, shift),
    offset_of!(HingeUnit, other),
    offset_of!(HingeUnit, weight),
];

/// Where things lie in the scratch memory.
struct Places {
    /// The [`HingeTile`].
    tile: i32,
    /// The [`HingeUnit`] of each.
    units: i32,
    /// The numbers of those that bend.
    bent: i32,
}

impl Places {
    fn of(emitter: &ExprEmitter<'_, '_>, hinges: &Hinges) -> Places {
        let tile = emitter.plan.scratch.hinges;
        let units = tile + size_of::<HingeTile>();
        let bent = units + hinges.units.len() * size_of::<HingeUnit>();
        Places { tile: tile as i32, units: units as i32, bent: bent as i32 }
    }
}

/// Writes what does not change from tile to tile.
pub(super) fn begin(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let Some(hinges) = &emitter.plan.hinges else { return Ok(()) };
    let (places, scratch) = (Places::of(emitter, hinges), emitter.scratch);
    emitter.in_rows(attention.query, 1, |emitter| {
        for (number, unit) in hinges.units.iter().enumerate() {
            let place = places.units + (number * size_of::<HingeUnit>()) as i32;
            for (field, x) in NUMBERS.iter().zip(numbers(emitter, *unit)?) {
                emitter.fb().ins().store(access(), x, scratch, place + *field as i32);
            }
        }
        let start = emitter.fb().ins().iadd_imm_s(scratch, i64::from(places.units));
        over_units(emitter, hinges, start, &[], |emitter, unit, _| {
            products(emitter, unit);
            Vec::new()
        });
        Ok(())
    })
}

/// A loop over the units, the first of which is at `start`.
fn over_units<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    hinges: &Hinges,
    start: Ssa,
    carried: &[Ssa],
    body: impl FnOnce(&mut ExprEmitter<'a, 'f>, Ssa, &[Ssa]) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let each = size_of::<HingeUnit>() as i64;
    let end = emitter.fb().ins().iadd_imm_s(start, each * hinges.units.len() as i64);
    range_loop(emitter, start, end, each, carried, body)
}

/// The numbers of a unit, in the order of [`NUMBERS`].
fn numbers(emitter: &mut ExprEmitter<'_, '_>, unit: Unit) -> Result<[Ssa; 4], CodegenError> {
    let (slope, shift) = (emit(emitter, unit.slope)?, emit(emitter, unit.shift)?);
    let (other, mut weight) = (emit(emitter, unit.other)?, emit(emitter, unit.weight)?);
    if let Some(factor) = unit.factor {
        let factor = emitter.emit(factor)?;
        weight = emitter.v.fmul(weight, factor);
    }
    if unit.strict {
        let nan = emitter.v.float(f64::NAN);
        let is_number = emitter.v.fcmp(FloatCC::Ordered, other, other);
        weight = emitter.v.select_float(is_number, weight, nan);
    }
    Ok([slope, shift, other, weight])
}

/// Writes what a unit adds to a line, and what it is compared with.
fn products(emitter: &mut ExprEmitter<'_, '_>, unit: Ssa) {
    let [a, b, other, w] = NUMBERS.map(|field| emitter.fb().ins().load(types::F32, access(), unit, field as i32));
    let [a, b, z, w] = [a, b, other, w].map(|x| emitter.fb().ins().fpromote(types::F64, x));
    // Nothing is below what is less than all.
    let (none, zero) = (emitter.fb().ins().f64const(f64::NEG_INFINITY), emitter.fb().ins().f64const(0.0));
    let is_none = emitter.fb().ins().fcmp(FloatCC::Equal, z, none);
    let z = emitter.fb().ins().select(is_none, zero, z);
    let most = emitter.fb().ins().f64const(LARGEST);
    // Nothing is above NaN, or below it.
    let mut bound = other;
    for (x, field) in
        [(a, offset_of!(HingeUnit, rise)), (b, offset_of!(HingeUnit, start)), (z, offset_of!(HingeUnit, level))]
    {
        let product = emitter.fb().ins().fmul(w, x);
        emitter.fb().ins().store(access(), product, unit, field as i32);
        let size = emitter.fb().ins().fabs(product);
        let fits = emitter.fb().ins().fcmp(FloatCC::LessThanOrEqual, size, most);
        let nan = emitter.v.float(f64::NAN);
        bound = emitter.v.select_float(fits, bound, nan);
    }
    emitter.fb().ins().store(access(), bound, unit, offset_of!(HingeUnit, bound) as i32);
}

/// A number, as a scalar.
fn emit(emitter: &mut ExprEmitter<'_, '_>, number: Number) -> Result<Ssa, CodegenError> {
    Ok(match number {
        Number::Is(x) => emitter.v.float(f64::from(x)),
        Number::Of(value, negative) => {
            let x = emitter.emit(value)?;
            if negative { emitter.fb().ins().fneg(x) } else { x }
        }
    })
}

/// Finds the line of a key tile, and the units that bend within it.
pub(super) fn fill(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, count: Ssa) -> Result<(), CodegenError> {
    let Some(hinges) = &emitter.plan.hinges else { return Ok(()) };
    let (places, [least, most]) = (Places::of(emitter, hinges), range(emitter, tile, (hinges, count))?);
    let scratch = emitter.scratch;
    let start = emitter.fb().ins().iadd_imm_s(scratch, i64::from(places.units));
    let bent = emitter.fb().ins().iadd_imm_s(scratch, i64::from(places.bent));
    let zero = emitter.fb().ins().f64const(0.0);
    let made = emitter.in_rows(tile.attention.query, 1, |emitter| {
        over_units(emitter, hinges, start, &[bent, zero, zero], |emitter, unit, carried| {
            decide(emitter, unit, [least, most], [carried[0], carried[1], carried[2]])
        })
    });
    for (field, x) in [offset_of!(HingeTile, rise), offset_of!(HingeTile, start)].into_iter().zip(&made[1..]) {
        let x = emitter.fb().ins().fdemote(types::F32, *x);
        emitter.fb().ins().store(access(), x, scratch, places.tile + field as i32);
    }
    let bytes = emitter.fb().ins().isub(made[0], bent);
    emitter.fb().ins().store(access(), bytes, scratch, places.tile + offset_of!(HingeTile, bent) as i32);
    Ok(())
}

/// Adds a unit to the line, or to those that bend; gives the end of these, and the line.
fn decide(emitter: &mut ExprEmitter<'_, '_>, unit: Ssa, ends: [Ssa; 2], [bent, rise, start]: [Ssa; 3]) -> Vec<Ssa> {
    let load =
        |emitter: &mut ExprEmitter<'_, '_>, ty, field: usize| emitter.fb().ins().load(ty, access(), unit, field as i32);
    let slope = load(emitter, types::F32, offset_of!(HingeUnit, slope));
    let shift = load(emitter, types::F32, offset_of!(HingeUnit, shift));
    let bound = load(emitter, types::F32, offset_of!(HingeUnit, bound));
    let [a, b] = ends.map(|x| emitter.v.fma(x, slope, shift));
    let (least, most) = (emitter.v.pseudo_min(a, b), emitter.v.pseudo_max(a, b));
    let is_above = emitter.v.fcmp(FloatCC::LessThanOrEqual, bound, least);
    let added = |emitter: &mut ExprEmitter<'_, '_>, sum, field: usize| {
        let x = emitter.fb().ins().load(types::F64, access(), unit, field as i32);
        emitter.fb().ins().fadd(sum, x)
    };
    either(
        emitter,
        is_above,
        |emitter| {
            let rise = added(emitter, rise, offset_of!(HingeUnit, rise));
            vec![bent, rise, added(emitter, start, offset_of!(HingeUnit, start))]
        },
        |emitter| {
            let is_below = emitter.v.fcmp(FloatCC::LessThanOrEqual, most, bound);
            either(
                emitter,
                is_below,
                |emitter| vec![bent, rise, added(emitter, start, offset_of!(HingeUnit, level))],
                |emitter| {
                    for (place, field) in NUMBERS.iter().enumerate() {
                        let x = emitter.fb().ins().load(types::F32, access(), unit, *field as i32);
                        emitter.fb().ins().store(access(), x, bent, (LANE_BYTES * place) as i32);
                    }
                    let end = emitter.fb().ins().iadd_imm_s(bent, (LANE_BYTES * NUMBERS.len()) as i64);
                    vec![end, rise, start]
                },
            )
        },
    )
}

/// The least and the greatest `x` of the key tile.
fn range(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    (hinges, count): (&Hinges, Ssa),
) -> Result<[Ssa; 2], CodegenError> {
    let first = call_word(emitter, offset_of!(TileCall, first_key));
    let last = emitter.fb().ins().iadd_imm_s(count, -1);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let none = [f64::INFINITY, f64::NEG_INFINITY].map(|end| emitter.v.float(end));
    let columns = tile.shape.columns;
    let carried = none.repeat(columns);
    let mut result = Ok(());
    let ends = range_loop(emitter, start, count, KEYS, &carried, |emitter, key, carried| {
        let mut ends = carried.to_vec();
        let keys: Vec<Ssa> = (0..KEYS)
            .map(|more| {
                let key = emitter.fb().ins().iadd_imm_s(key, more);
                emitter.v.smin(key, last)
            })
            .collect();
        let distances: Vec<Ssa> = keys.iter().filter_map(|key| distance::of_key(emitter, count, *key)).collect();
        let pairs: Vec<Ssa> = keys.iter().filter_map(|key| runs::of_key(emitter, tile, *key)).collect();
        let made = Made { distances: &distances, pairs: &pairs };
        for c in 0..columns {
            let saved = emitter.save();
            set_column(emitter, tile, c);
            match bends(emitter, tile, made, (first, &keys), (hinges.x, c)) {
                Ok(found) => {
                    for x in found {
                        ends[2 * c] = emitter.v.pseudo_min(x, ends[2 * c]);
                        ends[2 * c + 1] = emitter.v.pseudo_max(x, ends[2 * c + 1]);
                    }
                }
                Err(error) => result = Err(error),
            }
            emitter.restore(saved);
        }
        ends
    });
    result?;
    let (scratch, place) = (emitter.scratch, Places::of(emitter, hinges).tile);
    let deciding = [offset_of!(HingeTile, first_query), offset_of!(HingeTile, end_query)]
        .map(|field| emitter.fb().ins().load(types::I64, access(), scratch, place + field as i32));
    let [mut least, mut most] = none;
    for (c, ends) in ends.chunks(2).enumerate() {
        // Other lanes see nothing, or are no queries and may hold anything.
        let lane = (c * emitter.plan.machine.lanes) as i64;
        let lane = emitter.fb().ins().iconst(types::I64, lane);
        let is_query = runs::of_run(emitter, lane, (deciding[0], deciding[1]));
        let [of_column, most_of_column] = [0, 1].map(|end| emitter.v.select_float(is_query, ends[end], none[end]));
        least = emitter.v.pseudo_min(of_column, least);
        most = emitter.v.pseudo_max(most_of_column, most);
    }
    let least = joined(emitter, least, &|emitter, a, b| emitter.v.pseudo_min(a, b));
    let most = joined(emitter, most, &|emitter, a, b| emitter.v.pseudo_max(a, b));
    Ok([least, most])
}

/// The `x` of each key and the vector of queries that lanes are.
fn bends(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    made: Made<'_>,
    (first, keys): (Ssa, &[Ssa]),
    (x, column): (Value, usize),
) -> Result<Vec<Ssa>, CodegenError> {
    let column = (column * emitter.plan.machine.vector_bytes()) as i32;
    let of_key = |(row, key): (usize, &Ssa)| {
        let index = emitter.fb().ins().iadd(first, *key);
        emitter.set(tile.attention.key, index);
        emitter.forget(tile.attention.key);
        made.seed(emitter, row, column);
        emitter.emit(x)
    };
    keys.iter().enumerate().map(of_key).collect()
}

/// The sum for each key and the vector of queries that lanes are; none where there are no hinges.
pub(super) fn column(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    made: Made<'_>,
    keys: (Ssa, &[Ssa]),
    column: usize,
) -> Result<Vec<Ssa>, CodegenError> {
    let Some(hinges) = &emitter.plan.hinges else { return Ok(Vec::new()) };
    let x = bends(emitter, tile, made, keys, (hinges.x, column))?;
    Ok(sums(emitter, hinges, &x))
}

/// The sum at this point, if there are hinges.
pub(super) fn vector(emitter: &mut ExprEmitter<'_, '_>) -> Result<Option<Ssa>, CodegenError> {
    let Some(hinges) = &emitter.plan.hinges else { return Ok(None) };
    let x = emitter.emit(hinges.x)?;
    Ok(sums(emitter, hinges, &[x]).pop())
}

/// The sum for each of some vectors of `x`.
fn sums(emitter: &mut ExprEmitter<'_, '_>, hinges: &Hinges, x: &[Ssa]) -> Vec<Ssa> {
    let (places, scratch) = (Places::of(emitter, hinges), emitter.scratch);
    let splat = |emitter: &mut ExprEmitter<'_, '_>, address, offset| {
        let (x, ty) = (emitter.fb().ins().load(types::F32, access(), address, offset), emitter.v.float_type());
        emitter.v.splat(x, ty)
    };
    let [rise, start] = [offset_of!(HingeTile, rise), offset_of!(HingeTile, start)]
        .map(|field| splat(emitter, scratch, places.tile + field as i32));
    let line: Vec<Ssa> = x.iter().map(|x| emitter.v.fma(*x, rise, start)).collect();
    let first = emitter.fb().ins().iadd_imm_s(scratch, i64::from(places.bent));
    let bytes =
        emitter.fb().ins().load(types::I64, access(), scratch, places.tile + offset_of!(HingeTile, bent) as i32);
    let end = emitter.fb().ins().iadd(first, bytes);
    range_loop(emitter, first, end, (LANE_BYTES * NUMBERS.len()) as i64, &line, |emitter, unit, sums| {
        let [a, b, z, w] = [0, 1, 2, 3].map(|number| splat(emitter, unit, LANE_BYTES as i32 * number));
        let add = |(sum, x): (&Ssa, &Ssa)| {
            let line = emitter.v.fma(*x, a, b);
            let hinge = emitter.v.pseudo_max(z, line);
            emitter.v.fma(hinge, w, *sum)
        };
        sums.iter().zip(x).map(add).collect()
    })
}
