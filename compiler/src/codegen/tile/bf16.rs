//! Products of pairs of `bf16`: two elements of a head, or the values of two keys, in each 32 bits.
//!
//! ```text
//! begin   Q^T[d / 2][queries]  <- pairs of elements of each query, as they lie
//! keys    V[keys / 2][e]       <- pairs of values of two keys: once for the query tiles that take turns
//!         S[keys][queries]      = K Q^T, then times a factor        keys are read as they lie, two elements at a time
//!         P[keys / 2][queries] <- pairs of weights, rounded
//! ```

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{KeyTileRows, Tile, call_word, first_row, lane_query, set_query};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::half;
use crate::codegen::loops::{either, range_loop};
use crate::codegen::rows::ROW_LANES;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Product, Reduction, TensorId};

/// Bytes of an element.
const ELEMENT: i64 = 2;
/// Elements of a pair.
pub(super) const PAIR: u32 = 2;

/// The input that holds the queries of a product of pairs.
pub(super) fn queries_of(emitter: &ExprEmitter<'_, '_>, product: &Product) -> Result<TensorId, CodegenError> {
    emitter.plan.input(product.query).ok_or_else(|| {
        let op = emitter.plan.graph.line(product.query);
        CodegenError::Unsupported { op, reason: "queries that are multiplied as they lie are inputs" }
    })
}

/// Copies a row of this length: by vectors where it is contiguous.
pub(super) fn copy_row(emitter: &mut ExprEmitter<'_, '_>, (from, stride): (Ssa, Ssa), to: Ssa, length: u32) {
    let of_vector = 2 * ROW_LANES as u32;
    let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, stride, ELEMENT);
    let [zero, whole, length] =
        [0, length - length % of_vector, length].map(|n| emitter.fb().ins().iconst(types::I64, i64::from(n)));
    let vectors = emitter.fb().ins().select(dense, whole, zero);
    for (ty, first, end, step) in
        [(types::F32X4, zero, vectors, i64::from(of_vector)), (types::I16, vectors, length, 1)]
    {
        range_loop(emitter, first, end, step, &[], |emitter, element, _| {
            let offset = emitter.fb().ins().imul(element, stride);
            let from = emitter.fb().ins().iadd(from, offset);
            let x = emitter.fb().ins().load(ty, access(), from, 0);
            let offset = emitter.fb().ins().imul_imm_s(element, ELEMENT);
            let to = emitter.fb().ins().iadd(to, offset);
            emitter.fb().ins().store(access(), x, to, 0);
            Vec::new()
        });
    }
}

/// Stores pairs of elements of the queries as columns.
pub(super) fn queries(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    product: &Product,
) -> Result<(), CodegenError> {
    let tensor = queries_of(emitter, product)?;
    let live = call_word(emitter, offset_of!(TileCall, queries));
    let stride = emitter.dim_stride(tensor, product.dim);
    let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, stride, ELEMENT);
    let words = product.length / PAIR;
    let whole = words - words % ROW_LANES as u32;
    let [zero, whole, words] = [0, whole, words].map(|n| emitter.fb().ins().iconst(types::I64, i64::from(n)));
    let vectors = emitter.fb().ins().select(dense, whole, zero);
    let up = emitter.fb().ins().iadd_imm_s(live, ROW_LANES as i64 - 1);
    let lanes = emitter.fb().ins().band_imm_s(up, -(ROW_LANES as i64));
    let place = first_row(emitter, tile, product);
    let mut result = Ok(());
    range_loop(emitter, zero, lanes, ROW_LANES as i64, &[], |emitter, lane, _| {
        let first = call_word(emitter, offset_of!(TileCall, first_query));
        let mut rows = Vec::with_capacity(ROW_LANES);
        for row in 0..ROW_LANES as i64 {
            let lane = emitter.fb().ins().iadd_imm_s(lane, row);
            let query = lane_query(emitter, lane, first);
            let saved = emitter.save();
            set_query(emitter, tile.attention, query);
            match emitter.address(tensor, &[product.dim]) {
                Ok(address) => rows.push(address),
                Err(error) => result = Err(error),
            }
            emitter.restore(saved);
        }
        let Ok(rows) = <[Ssa; ROW_LANES]>::try_from(rows) else { return Vec::new() };
        let offset = emitter.lane_bytes(lane);
        let column = emitter.fb().ins().iadd(tile.state, offset);
        let column = emitter.fb().ins().iadd_imm_s(column, place);
        emitter.in_rows(product.dim, ROW_LANES, |emitter| {
            transposed(emitter, tile, (rows, column), (zero, vectors));
        });
        one_by_one(emitter, tile, (rows, column, stride), (vectors, words));
        Vec::new()
    });
    result
}

/// Stores pairs of four contiguous rows as columns, from one pair to another.
fn transposed(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    (rows, column): ([Ssa; ROW_LANES], Ssa),
    (from, to): (Ssa, Ssa),
) {
    range_loop(emitter, from, to, ROW_LANES as i64, &[column], |emitter, word, carried| {
        let offset = emitter.lane_bytes(word);
        let loaded = rows.map(|row| {
            let address = emitter.fb().ins().iadd(row, offset);
            emitter.fb().ins().load(types::F32X4, access(), address, 0)
        });
        for (row, x) in (0..).zip(emitter.v.transpose(loaded)) {
            emitter.fb().ins().store(access(), x, carried[0], (row * tile.row_bytes()) as i32);
        }
        vec![emitter.fb().ins().iadd_imm_s(carried[0], ROW_LANES as i64 * tile.row_bytes())]
    });
}

/// As [`transposed`], of rows whose elements lie at any distance.
fn one_by_one(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    (rows, column, stride): ([Ssa; ROW_LANES], Ssa, Ssa),
    (from, to): (Ssa, Ssa),
) {
    range_loop(emitter, from, to, 1, &[], |emitter, word, _| {
        let element = emitter.fb().ins().ishl_imm_u(word, 1);
        let offset = emitter.fb().ins().imul(element, stride);
        let place = emitter.fb().ins().imul_imm_s(word, tile.row_bytes());
        let place = emitter.fb().ins().iadd(column, place);
        for (lane, row) in (0..).zip(rows) {
            let address = emitter.fb().ins().iadd(row, offset);
            let next = emitter.fb().ins().iadd(address, stride);
            let pair = pair(emitter, [address, next]);
            emitter.fb().ins().store(access(), pair, place, LANE_BYTES as i32 * lane);
        }
        Vec::new()
    });
}

/// Two elements, the first in the lower half.
fn pair(emitter: &mut ExprEmitter<'_, '_>, addresses: [Ssa; 2]) -> Ssa {
    let [low, high] = addresses.map(|address| emitter.fb().ins().uload16(types::I32, access(), address, 0));
    let high = emitter.fb().ins().ishl_imm_u(high, 16);
    emitter.fb().ins().bor(low, high)
}

/// The rows of keys that pairs are read of: as they lie where they are contiguous, else as they are copied.
pub(super) fn key_rows(emitter: &mut ExprEmitter<'_, '_>, product: &Product, lie: KeyTileRows) -> KeyTileRows {
    let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, lie.element, ELEMENT);
    let (scratch, place) = (emitter.scratch, emitter.plan.scratch.key_rows);
    let own = emitter.fb().ins().iadd_imm_s(scratch, place as i64);
    let pitch = emitter.fb().ins().iconst(types::I64, ELEMENT * i64::from(product.length));
    KeyTileRows {
        first: emitter.fb().ins().select(dense, lie.first, own),
        stride: emitter.fb().ins().select(dense, lie.stride, pitch),
        element: emitter.fb().ins().iconst(types::I64, ELEMENT),
    }
}

/// Makes the rows of a key tile that pairs are read of.
pub(super) fn pair_rows(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    count: Ssa,
) -> Result<(), CodegenError> {
    let pairs = emitter.plan.bf16_pairs;
    if let Some(product) = attention.products.first().filter(|_| pairs.factor.is_some()) {
        copy_keys(emitter, attention, product, count)?;
    }
    let mut values = attention.reductions.iter().filter(|_| pairs.values);
    values.try_for_each(|reduction| pair_values(emitter, attention, reduction, count))
}

/// Copies rows of keys that are not contiguous.
fn copy_keys(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    product: &Product,
    count: Ssa,
) -> Result<(), CodegenError> {
    let field = TileCall::keys_of(product.index);
    let lie = KeyTileRows::new(emitter, attention, (product.key, product.dim), field)?;
    let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, lie.element, ELEMENT);
    let zero = emitter.fb().ins().iconst(types::I64, 0);
    let keys = emitter.fb().ins().select(dense, zero, count);
    let (scratch, place) = (emitter.scratch, emitter.plan.scratch.key_rows);
    let own = emitter.fb().ins().iadd_imm_s(scratch, place as i64);
    range_loop(emitter, zero, keys, 1, &[lie.first, own], |emitter, _, carried| {
        let (from, to) = (carried[0], carried[1]);
        copy_row(emitter, (from, lie.element), to, product.length);
        let pitch = ELEMENT * i64::from(product.length);
        vec![emitter.fb().ins().iadd(from, lie.stride), emitter.fb().ins().iadd_imm_s(to, pitch)]
    });
    Ok(())
}

/// Where the pairs of a reduction's values lie, and the bytes from those of two keys to those of the next two.
pub(super) fn value_pairs(emitter: &mut ExprEmitter<'_, '_>, reduction: &Reduction) -> (Ssa, i64) {
    let (scratch, plan) = (emitter.scratch, emitter.plan);
    let before = LANE_BYTES * plan.tiling.keys.div_ceil(PAIR as usize) * reduction.first as usize;
    let place = plan.scratch.value_rows + before;
    (emitter.fb().ins().iadd_imm_s(scratch, place as i64), LANE_BYTES as i64 * i64::from(reduction.length))
}

/// Stores pairs of the values of two keys. The last key of an odd number has zeros beside it.
fn pair_values(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    reduction: &Reduction,
    count: Ssa,
) -> Result<(), CodegenError> {
    let lie = KeyTileRows::of_values(emitter, attention, reduction)?;
    let (to, pitch) = value_pairs(emitter, reduction);
    let lanes = emitter.plan.machine.lanes;
    let whole = reduction.length - reduction.length % lanes as u32;
    let [zero, whole, length] =
        [0, whole, reduction.length].map(|n| emitter.fb().ins().iconst(types::I64, i64::from(n)));
    let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, lie.element, ELEMENT);
    let vectors = emitter.fb().ins().select(dense, whole, zero);
    let last = emitter.fb().ins().iadd_imm_s(count, -1);
    range_loop(emitter, zero, count, i64::from(PAIR), &[to], |emitter, key, to| {
        let next = emitter.fb().ins().iadd_imm_s(key, 1);
        let there = emitter.fb().ins().icmp(IntCC::SignedLessThan, next, count);
        let next = emitter.v.smin(next, last);
        let rows = [key, next].map(|key| {
            let offset = emitter.fb().ins().imul(key, lie.stride);
            emitter.fb().ins().iadd(lie.first, offset)
        });
        let [all, none] = [-1, 0].map(|bits| emitter.fb().ins().iconst(types::I32, bits));
        let kept = emitter.fb().ins().select(there, all, none);
        range_loop(emitter, zero, vectors, lanes as i64, &[], |emitter, element, _| {
            let offset = emitter.fb().ins().ishl_imm_u(element, 1);
            let [low, high] = rows.map(|row| {
                let address = emitter.fb().ins().iadd(row, offset);
                half::load_bits(emitter.fb(), lanes, (address, 0))
            });
            let ty = emitter.v.int_type();
            let kept = emitter.v.splat(kept, ty);
            let high = emitter.fb().ins().ishl_imm_u(high, 16);
            let high = emitter.fb().ins().band(high, kept);
            let pairs = emitter.fb().ins().bor(low, high);
            let offset = emitter.lane_bytes(element);
            let place = emitter.fb().ins().iadd(to[0], offset);
            emitter.fb().ins().store(access(), pairs, place, 0);
            Vec::new()
        });
        range_loop(emitter, vectors, length, 1, &[], |emitter, element, _| {
            let offset = emitter.fb().ins().imul(element, lie.element);
            let addresses = rows.map(|row| emitter.fb().ins().iadd(row, offset));
            let pair = pair(emitter, addresses);
            let low = emitter.fb().ins().iconst(types::I32, 0xffff);
            let kept = emitter.fb().ins().bor(kept, low);
            let pair = emitter.fb().ins().band(pair, kept);
            let offset = emitter.lane_bytes(element);
            let place = emitter.fb().ins().iadd(to[0], offset);
            emitter.fb().ins().store(access(), pair, place, 0);
            Vec::new()
        });
        vec![emitter.fb().ins().iadd_imm_s(to[0], pitch)]
    });
    Ok(())
}

/// Hides the key after the last of an odd number, so that it weighs nothing in a pair.
pub(super) fn hide_after_last(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, (rows, count): (Ssa, Ssa)) {
    let odd = emitter.fb().ins().band_imm_s(count, 1);
    either(
        emitter,
        odd,
        |emitter| {
            let offset = emitter.fb().ins().imul_imm_s(count, tile.row_bytes());
            let row = emitter.fb().ins().iadd(rows, offset);
            let width = emitter.plan.machine.vector_bytes() as i32;
            for c in 0..tile.shape.columns as i32 {
                let low = emitter.v.float(f64::NEG_INFINITY);
                emitter.fb().ins().store(access(), low, row, width * c);
            }
            Vec::new()
        },
        |_| Vec::new(),
    );
}

/// Weights of two keys, rounded: a pair in each lane, the first key's in the lower half. What is halfway between two numbers is rounded up.
pub(super) fn rounded(emitter: &mut ExprEmitter<'_, '_>, weights: [Ssa; 2]) -> Ssa {
    let [low, high] = weights.map(|weight| {
        let bits = emitter.v.bits_of(weight);
        let half = emitter.v.bits(0x8000);
        emitter.fb().ins().iadd(bits, half)
    });
    let low = emitter.fb().ins().ushr_imm_u(low, 16);
    let upper = emitter.v.bits(-0x1_0000);
    let high = emitter.fb().ins().band(high, upper);
    emitter.fb().ins().bor(low, high)
}

/// A pair of weights and one of values, without what a query does not see: weights that are marked, and their values.
pub(super) fn seen(emitter: &mut ExprEmitter<'_, '_>, weights: Ssa, values: Ssa) -> (Ssa, Ssa) {
    let marks = |emitter: &mut ExprEmitter<'_, '_>, weights: Ssa, half: i64| {
        let marked = emitter.fb().ins().sshr_imm_u(weights, 31);
        let half = emitter.v.bits(half);
        emitter.fb().ins().band(marked, half)
    };
    let high = marks(emitter, weights, -0x1_0000);
    let raised = emitter.fb().ins().ishl_imm_u(weights, 16);
    let low = marks(emitter, raised, 0xffff);
    let hidden = emitter.fb().ins().bor(high, low);
    let kept = emitter.fb().ins().bnot(hidden);
    (emitter.fb().ins().band(weights, kept), emitter.fb().ins().band(values, kept))
}

/// Both elements of pairs in memory, in single precision.
pub(super) fn halves(emitter: &mut ExprEmitter<'_, '_>, (address, offset): (Ssa, i32)) -> [Ssa; 2] {
    let ty = emitter.v.int_type();
    let pairs = emitter.fb().ins().load(ty, access(), address, offset);
    let low = emitter.fb().ins().ishl_imm_u(pairs, 16);
    let upper = emitter.v.bits(-0x1_0000);
    let high = emitter.fb().ins().band(pairs, upper);
    [low, high].map(|bits| emitter.v.float_of(bits))
}
