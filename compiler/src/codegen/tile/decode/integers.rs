//! Products of pairs of integers of 16 bits. What rows of `i8` are multiplied with becomes integers times a scale:
//!
//! ```text
//! begin   X[rows][d / 2]    = pairs of Q / s, rounded;  s[rows] = max |Q| / 32767
//! keys    S[rows][keys]     = s X K^T                   keys are widened to 16 bits as they are loaded
//!         P                 = P times the scales of values, hidden ones 0
//!         Y[rows][keys / 2] = pairs of P / t, rounded;  t[rows] = max |P| / 32767
//!         O[rows][e]        = O r + t Y V               the values of two keys are widened, their elements in turn
//! ```
//!
//! A row with a magnitude that such a scale does not suit is odd: it is multiplied in single precision, after all others.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::numbers::Numbers;
use super::rows::{Rows, elements_before, load, padded, padded_pairs, query_bytes, scratch};
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, either, range_loop};
use crate::codegen::tile::lanes::{joined, sums_of_fours};
use crate::codegen::tile::query_tile::Mode;
use crate::codegen::vocab::{access, by_name, lane_order};
use crate::machine::LANE_BYTES;
use crate::plan::{Product, RowTile};

/// The greatest integer.
const MOST: f64 = 32767.0;
/// What a number of single precision is added to so that its last digits are an integer: those of 16 bits are exact.
const UNITS: f64 = 12_582_912.0;
/// The bits of a magnitude.
const MAGNITUDE: i32 = i32::MAX;
/// The bits of the least magnitude whose scale has all digits, 2^-110, and of the greatest that is finite.
const SUITS: [i64; 2] = [(127 - 110) << 23, (255 << 23) - 1];

/// How numbers become integers.
struct Scale {
    /// What integers are multiplied with.
    scale: Ssa,
    /// What numbers are: 0 where none are.
    inverse: Ssa,
    /// Whether there is no such scale.
    odd: Ssa,
}

impl Scale {
    /// The scale of numbers up to a magnitude. Zeros have one too, of 0.
    fn of(emitter: &mut ExprEmitter<'_, '_>, most: Ssa) -> Scale {
        let [least, greatest] = SUITS;
        let bits = emitter.fb().ins().bitcast(types::I32, lane_order(), most);
        let above = emitter.fb().ins().iadd_imm_s(bits, -least);
        let range = emitter.fb().ins().iconst(types::I32, greatest - least);
        let suits = emitter.fb().ins().icmp(IntCC::UnsignedLessThanOrEqual, above, range);
        let [units, zero] = [MOST as f32, 0.0].map(|x| emitter.fb().ins().f32const(x));
        let scale = emitter.fb().ins().fdiv(most, units);
        let scale = emitter.fb().ins().select(suits, scale, zero);
        let inverse = emitter.fb().ins().fdiv(units, most);
        let inverse = emitter.fb().ins().select(suits, inverse, zero);
        let some = emitter.fb().ins().icmp_imm_s(IntCC::NotEqual, bits, 0);
        let unsuited = emitter.fb().ins().icmp(IntCC::UnsignedGreaterThan, above, range);
        Scale { scale, inverse, odd: emitter.fb().ins().band(some, unsuited) }
    }
}

/// The greater magnitude of each lane, as bits; that of NaN is the greatest.
fn greater(emitter: &mut ExprEmitter<'_, '_>, x: Ssa, most: Ssa) -> Ssa {
    let (bits, mask) = (emitter.v.bits_of(x), emitter.v.int(MAGNITUDE));
    let magnitude = emitter.fb().ins().band(bits, mask);
    emitter.fb().ins().smax(magnitude, most)
}

/// The greatest magnitude of all lanes, as a number.
fn greatest(emitter: &mut ExprEmitter<'_, '_>, most: Ssa) -> Ssa {
    let most = emitter.v.float_of(most);
    joined(emitter, most, &|emitter, a, b| {
        let [a, b] = [a, b].map(|x| emitter.v.bits_of(x));
        let most = emitter.fb().ins().smax(a, b);
        emitter.v.float_of(most)
    })
}

/// Numbers times a factor, rounded to integers, in the lower halves of lanes whose upper halves are something else.
fn rounded(emitter: &mut ExprEmitter<'_, '_>, x: Ssa, factor: Ssa) -> Ssa {
    let ty = emitter.v.float_type();
    let factor = emitter.v.splat(factor, ty);
    let units = emitter.v.float(UNITS);
    let units = emitter.v.fma(x, factor, units);
    emitter.v.bits_of(units)
}

/// Pairs of the lower halves of lanes, those of the first vector in the lower halves.
fn pairs(emitter: &mut ExprEmitter<'_, '_>, low: Ssa, high: Ssa) -> Ssa {
    let lower = emitter.v.int(0xffff);
    let low = emitter.fb().ins().band(low, lower);
    let high = emitter.fb().ins().ishl_imm_u(high, 16);
    emitter.fb().ins().bor(low, high)
}

/// Every second lane of two vectors, from this one on.
fn second_lanes(emitter: &mut ExprEmitter<'_, '_>, vectors: (Ssa, Ssa), from: u8) -> Ssa {
    let (lanes, ty) = (emitter.plan.machine.lanes as u8, emitter.v.float_type());
    let order: Vec<u8> = (0..lanes).map(|lane| 2 * lane + from).collect();
    emitter.v.permute(vectors, &order, ty)
}

/// Bytes of a row of pairs of a product's queries.
pub(super) fn pair_bytes(emitter: &ExprEmitter<'_, '_>, product: &Product) -> i64 {
    2 * i64::from(padded_pairs(emitter, product.length))
}

/// Writes the queries of a product, which are there in single precision, as pairs, and their scales.
pub(super) fn queries(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, product: &Product) {
    let layout = emitter.plan.scratch;
    let attention = rows.tile.attention;
    let first = layout.queries + LANE_BYTES * elements_before(emitter, attention, product);
    let [from, to] = [first, layout.query_pairs].map(|at| emitter.fb().ins().iadd_imm_s(rows.tile.state, at as i64));
    let pitches = [query_bytes(emitter, attention), pair_bytes(emitter, product)];
    counted_loop(emitter, rows.count, &[from, to], |emitter, row, carried| {
        let scale = query(emitter, product, [carried[0], carried[1]]);
        let (place, part) = rows.number(emitter, row, layout.query_scales);
        let none = emitter.fb().ins().f32const(f32::NAN);
        let kept = emitter.fb().ins().select(scale.odd, none, scale.scale);
        emitter.fb().ins().store(access(), kept, place, part);
        carried.iter().zip(pitches).map(|(row, pitch)| emitter.fb().ins().iadd_imm_s(*row, pitch)).collect()
    });
}

/// Writes a query as pairs: its scale.
fn query(emitter: &mut ExprEmitter<'_, '_>, product: &Product, [from, to]: [Ssa; 2]) -> Scale {
    let (ty, bytes) = (emitter.v.float_type(), emitter.plan.machine.vector_bytes() as i64);
    let vectors = i64::from(padded(emitter, product.length)) / emitter.plan.machine.lanes as i64;
    let zero = emitter.v.int(0);
    let end = emitter.fb().ins().iadd_imm_s(from, bytes * vectors);
    let most = range_loop(emitter, from, end, bytes, &[zero], |emitter, address, most| {
        let x = load(emitter, ty, address, 0);
        vec![greater(emitter, x, most[0])]
    });
    let most = greatest(emitter, most[0]);
    let scale = Scale::of(emitter, most);
    let write = |emitter: &mut ExprEmitter<'_, '_>, to: Ssa, both: (Ssa, Ssa)| {
        let [low, high] = [0, 1].map(|part| {
            let x = second_lanes(emitter, both, part);
            rounded(emitter, x, scale.inverse)
        });
        let pairs = pairs(emitter, low, high);
        emitter.fb().ins().store(access(), pairs, to, 0);
    };
    let end = emitter.fb().ins().iadd_imm_s(from, bytes * (vectors / 2 * 2));
    let to = range_loop(emitter, from, end, 2 * bytes, &[to], |emitter, address, to| {
        let both = (load(emitter, ty, address, 0), load(emitter, ty, address, bytes as i32));
        write(emitter, to[0], both);
        vec![emitter.fb().ins().iadd_imm_s(to[0], bytes)]
    });
    if vectors % 2 == 1 {
        let (last, nothing) = (load(emitter, ty, end, 0), emitter.v.float(0.0));
        write(emitter, to[0], (last, nothing));
    }
    scale
}

/// Emits code for each odd row, by itself: `body` gets the row, and the register tile of one. A row is odd if its word is not 0.
pub(super) fn odd_rows(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    is_odd: impl FnOnce(&mut ExprEmitter<'_, '_>, Ssa) -> Ssa,
    body: impl FnOnce(&mut ExprEmitter<'_, '_>, Ssa, RowTile),
) {
    let Some(&tile) = rows.decode.tiles.last() else { return };
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        let odd = is_odd(emitter, row);
        either(
            emitter,
            odd,
            |emitter| {
                body(emitter, row, tile);
                Vec::new()
            },
            |_| Vec::new(),
        );
        Vec::new()
    });
}

/// Whether a query is multiplied in single precision.
pub(super) fn is_odd_query(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, row: Ssa) -> Ssa {
    let (place, part) = rows.number(emitter, row, emitter.plan.scratch.query_scales);
    let scale = load(emitter, types::F32, place, part);
    emitter.fb().ins().fcmp(FloatCC::Unordered, scale, scale)
}

/// The address of the number that a row has in a part of the scratch memory.
pub(super) fn number(emitter: &mut ExprEmitter<'_, '_>, row: Ssa, part: usize) -> Ssa {
    let offset = emitter.lane_bytes(row);
    let first = scratch(emitter, part);
    emitter.fb().ins().iadd(first, offset)
}

/// Whether the weights of a row are multiplied in single precision.
pub(super) fn has_odd_weights(emitter: &mut ExprEmitter<'_, '_>, row: Ssa) -> Ssa {
    let place = number(emitter, row, emitter.plan.scratch.odd_weights);
    load(emitter, types::I32, place, 0)
}

/// Multiplies weights with the scales of their keys' rows, where there are such, and makes pairs of each two of them, at the place of the first.
/// Odd rows stay as they are.
pub(super) fn weights(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode, numbers: Numbers) {
    let layout = emitter.plan.scratch;
    counted_loop(emitter, rows.count, &[], |emitter, row, _| {
        let most = scaled(emitter, rows, mode, (row, numbers));
        let scale = Scale::of(emitter, most);
        let place = number(emitter, row, layout.weight_scales);
        emitter.fb().ins().store(access(), scale.scale, place, 0);
        let place = number(emitter, row, layout.odd_weights);
        let odd = emitter.fb().ins().uextend(types::I32, scale.odd);
        emitter.fb().ins().store(access(), odd, place, 0);
        either(
            emitter,
            odd,
            |_| Vec::new(),
            |emitter| {
                paired(emitter, rows, (row, scale.inverse));
                Vec::new()
            },
        );
        Vec::new()
    });
}

/// Multiplies the weights of a row with scales: the greatest magnitude. Lanes are keys.
fn scaled(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode, (row, numbers): (Ssa, Numbers)) -> Ssa {
    let none = emitter.v.int(0);
    let most = rows.replace(emitter, row, &[none], |emitter, offset, weights, most| {
        let mut scaled = numbers.from(emitter, offset).scaled_lanes(emitter, weights, 0);
        // What is hidden is marked by a weight below 0. Past the last key there are no scales.
        if mode.guarded || numbers.has_scale() {
            let nothing = emitter.v.float(0.0);
            let none = emitter.v.fcmp(FloatCC::LessThanOrEqual, weights, nothing);
            let nothing = emitter.v.float(0.0);
            scaled = emitter.v.select_float(none, nothing, scaled);
        }
        (scaled, vec![greater(emitter, scaled, most[0])])
    });
    greatest(emitter, most[0])
}

/// Makes pairs of the weights of a row.
fn paired(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, (row, inverse): (Ssa, Ssa)) {
    let (ty, lanes) = (emitter.v.float_type(), emitter.plan.machine.lanes);
    let order: Vec<u8> = (0..lanes as u8).map(|lane| lane | 1).collect();
    rows.replace(emitter, row, &[], |emitter, _, weights, _| {
        let low = rounded(emitter, weights, inverse);
        let high = emitter.v.float_of(low);
        let high = emitter.v.permute((high, high), &order, ty);
        let high = emitter.v.bits_of(high);
        (pairs(emitter, low, high), Vec::new())
    });
}

/// A sum with the products of pairs.
pub(super) fn dot(emitter: &mut ExprEmitter<'_, '_>, sum: Ssa, a: Ssa, b: Ssa) -> Ssa {
    let ty = emitter.v.int_type();
    by_name(emitter.fb(), clif_wide::DOT_I16, &[sum, a, b], ty)
}

/// Whether the sum of so many products of elements fits 32 bits, each of them of an integer and of 8 bits.
pub(super) fn fits(length: u32) -> bool {
    (i64::from(length) * i64::from(i16::MAX)) << 7 <= i64::from(i32::MAX)
}

/// Sums across lanes of sets of four vectors of integers, as numbers: see [`sums_of_fours`].
pub(super) fn sums(emitter: &mut ExprEmitter<'_, '_>, sets: &[[Ssa; 4]]) -> Ssa {
    let sets: Vec<[Ssa; 4]> = sets.iter().map(|set| set.map(|sum| emitter.v.float_of(sum))).collect();
    let sums = sums_of_fours(emitter, &sets, &|emitter, a, b| {
        let [a, b] = [a, b].map(|x| emitter.v.bits_of(x));
        let sum = emitter.fb().ins().iadd(a, b);
        emitter.v.float_of(sum)
    });
    let sums = emitter.v.bits_of(sums);
    emitter.v.int_to_float(sums)
}

/// Neighbouring bytes, widened to pairs.
pub(super) fn load_pairs(emitter: &mut ExprEmitter<'_, '_>, address: Ssa, offset: i32) -> Ssa {
    let (ty, lanes) = (emitter.v.int_type(), emitter.plan.machine.lanes as u32);
    let bytes = types::I8.by(2 * lanes).unwrap_or(types::I8X16);
    let bytes = load(emitter, bytes, address, offset);
    by_name(emitter.fb(), clif_wide::WIDEN_BYTES, &[bytes], ty)
}

/// Elements of two rows in turn: what is made of their lower halves, and of their upper halves.
pub(super) fn in_turn(emitter: &mut ExprEmitter<'_, '_>, a: Ssa, b: Ssa) -> [Ssa; 2] {
    let ty = emitter.v.int_type();
    [clif_wide::INTERLEAVE_LOW, clif_wide::INTERLEAVE_HIGH].map(|name| by_name(emitter.fb(), name, &[a, b], ty))
}

/// Sums of elements that were [`in_turn`], in their own order, as numbers.
pub(super) fn in_order(emitter: &mut ExprEmitter<'_, '_>, [low, high]: [Ssa; 2]) -> [Ssa; 2] {
    let lanes = emitter.plan.machine.lanes as u8;
    let [low, high] = [low, high].map(|sums| emitter.v.int_to_float(sums));
    let ty = emitter.v.float_type();
    if lanes == 4 {
        return [low, high];
    }
    // Quarters of both in turn.
    let quarter = |number: u8| number / 2 * 4 + number % 2 * lanes;
    [0, lanes / 4].map(|from| {
        let order = (from..from + lanes / 4).flat_map(|number| (0..4).map(move |lane| quarter(number) + lane));
        let order: Vec<u8> = order.collect();
        emitter.v.permute((low, high), &order, ty)
    })
}
