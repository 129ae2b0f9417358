//! The rows of a tile: their places in the scratch memory, and loops over them.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};

use crate::abi::TileCall;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{either, range_loop, stepped_loop};
use crate::codegen::tile::computed::next_or;
use crate::codegen::tile::lanes::joined;
use crate::codegen::tile::query_tile::{Tile, bind_batch_indices, call_word};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Decode, Product, Reduction, RowTile};

/// A tile of rows, and a key tile; in [`Rows::new`], all keys of a call.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) tile: Tile<'a>,
    pub(super) decode: &'a Decode,
    /// The number of rows.
    pub(super) count: Ssa,
    /// First key of the key tile, and the number of its keys.
    pub(super) first_key: Ssa,
    pub(super) keys: Ssa,
    /// Keys of the call before the key tile, and after it.
    pub(super) before: Ssa,
    pub(super) after: Ssa,
}

impl<'a> Rows<'a> {
    /// The rows and the keys of a call, whose outer indices it sets.
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        attention: &'a Attention,
        decode: &'a Decode,
    ) -> Option<Rows<'a>> {
        bind_batch_indices(emitter, attention);
        let &shape = emitter.plan.tiling.shapes.first()?;
        let tile = Tile::new(emitter, attention, shape);
        let count = call_word(emitter, offset_of!(TileCall, queries));
        let first_key = call_word(emitter, offset_of!(TileCall, first_key));
        let end = call_word(emitter, offset_of!(TileCall, end_key));
        let keys = emitter.fb().ins().isub(end, first_key);
        let none = emitter.fb().ins().iconst(types::I64, 0);
        Some(Rows { tile, decode, count, first_key, keys, before: none, after: none })
    }

    /// Emits a loop over the key tiles that these keys are of: they end at multiples of their size.
    pub(super) fn each_tile(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        body: impl FnOnce(&mut ExprEmitter<'_, '_>, Rows<'a>),
    ) {
        let size = emitter.plan.tiling.keys as i64;
        let end = emitter.fb().ins().iadd(self.first_key, self.keys);
        stepped_loop(emitter, self.first_key, end, |emitter, first_key| {
            let saved = emitter.save();
            let whole = emitter.fb().ins().band_imm_s(first_key, -size);
            let whole = emitter.fb().ins().iadd_imm_s(whole, size);
            let tile_end = emitter.v.smin(whole, end);
            let keys = emitter.fb().ins().isub(tile_end, first_key);
            let before = emitter.fb().ins().isub(first_key, self.first_key);
            let after = emitter.fb().ins().isub(end, tile_end);
            body(emitter, Rows { first_key, keys, before, after, ..*self });
            emitter.restore(saved);
            tile_end
        });
    }

    /// Of the key tile that comes next, what this call has or else what the record of the call tells, if it has as many keys; else of this one.
    pub(super) fn next(&self, emitter: &mut ExprEmitter<'_, '_>, [here, next, told]: [Ssa; 3]) -> Ssa {
        let told = next_or(emitter, self.keys, [told, here]);
        let whole = emitter.fb().ins().icmp(IntCC::SignedGreaterThanOrEqual, self.after, self.keys);
        emitter.fb().ins().select(whole, next, told)
    }

    /// The number of keys up to the end of a vector.
    pub(super) fn whole_vectors(&self, emitter: &mut ExprEmitter<'_, '_>) -> Ssa {
        let lanes = emitter.plan.machine.lanes as i64;
        let up = emitter.fb().ins().iadd_imm_s(self.keys, lanes - 1);
        emitter.fb().ins().band_imm_s(up, -lanes)
    }

    /// Writes the index of each lane's key, clamped to the last.
    pub(super) fn write_key_lanes(&self, emitter: &mut ExprEmitter<'_, '_>) {
        let (lanes, ty) = (emitter.plan.machine.lanes as i64, emitter.v.int_type());
        let splat = |emitter: &mut ExprEmitter<'_, '_>, index: Ssa| {
            let index = emitter.fb().ins().ireduce(types::I32, index);
            emitter.v.splat(index, ty)
        };
        let last = emitter.fb().ins().iadd_imm_s(self.keys, -1);
        let last = emitter.fb().ins().iadd(self.first_key, last);
        let last = splat(emitter, last);
        let words = scratch(emitter, emitter.plan.scratch.key_lanes);
        let start = emitter.fb().ins().iconst(types::I64, 0);
        range_loop(emitter, start, self.keys, lanes, &[], |emitter, key, _| {
            let offset = emitter.lane_bytes(key);
            let place = emitter.fb().ins().iadd(words, offset);
            let first = emitter.fb().ins().iadd(self.first_key, key);
            let (first, numbers) = (splat(emitter, first), emitter.v.lane_numbers());
            let index = emitter.fb().ins().iadd(first, numbers);
            let index = emitter.fb().ins().smin(index, last);
            emitter.fb().ins().store(access(), index, place, 0);
            Vec::new()
        });
    }

    /// The address of a row of scores.
    pub(super) fn scores(&self, emitter: &mut ExprEmitter<'_, '_>, row: Ssa) -> Ssa {
        let pitch = score_bytes(emitter);
        let offset = emitter.fb().ins().imul_imm_s(row, pitch);
        let scores = scratch(emitter, emitter.plan.scratch.scores);
        emitter.fb().ins().iadd(scores, offset)
    }

    /// Replaces the vectors of a row of scores, up to that of the last key: `make` gets the bytes before a vector, what is there, and what is
    /// carried on; gives what takes its place, and what is carried on from there.
    pub(super) fn replace<'e, 'f>(
        &self,
        emitter: &mut ExprEmitter<'e, 'f>,
        row: Ssa,
        carried: &[Ssa],
        make: impl FnOnce(&mut ExprEmitter<'e, 'f>, Ssa, Ssa, &[Ssa]) -> (Ssa, Vec<Ssa>),
    ) -> Vec<Ssa> {
        let (ty, lanes) = (emitter.v.float_type(), emitter.plan.machine.lanes as i64);
        let at = self.scores(emitter, row);
        let start = emitter.fb().ins().iconst(types::I64, 0);
        range_loop(emitter, start, self.keys, lanes, carried, |emitter, key, carried| {
            let offset = emitter.lane_bytes(key);
            let place = emitter.fb().ins().iadd(at, offset);
            let old = load(emitter, ty, place, 0);
            let (new, carried) = make(emitter, offset, old, carried);
            emitter.fb().ins().store(access(), new, place, 0);
            carried
        })
    }

    /// The number that a row has in a part of the state.
    pub(super) fn number(&self, emitter: &mut ExprEmitter<'_, '_>, row: Ssa, part: usize) -> (Ssa, i32) {
        let offset = emitter.lane_bytes(row);
        (emitter.fb().ins().iadd(self.tile.state, offset), part as i32)
    }
}

/// An address in the scratch memory.
pub(super) fn scratch(emitter: &mut ExprEmitter<'_, '_>, offset: usize) -> Ssa {
    let scratch = emitter.scratch;
    emitter.fb().ins().iadd_imm_s(scratch, offset as i64)
}

/// Bytes from one row of scores to the next.
pub(super) fn score_bytes(emitter: &ExprEmitter<'_, '_>) -> i64 {
    (LANE_BYTES * emitter.plan.tiling.keys) as i64
}

/// Elements of a row of this length up to the end of a vector.
pub(super) fn padded(emitter: &ExprEmitter<'_, '_>, length: u32) -> u32 {
    length.next_multiple_of(emitter.plan.machine.lanes as u32)
}

/// As [`padded`], of a vector of pairs.
pub(super) fn padded_pairs(emitter: &ExprEmitter<'_, '_>, length: u32) -> u32 {
    length.next_multiple_of(2 * emitter.plan.machine.lanes as u32)
}

/// Bytes from one row of queries to the next.
pub(super) fn query_bytes(emitter: &ExprEmitter<'_, '_>, attention: &Attention) -> i64 {
    (LANE_BYTES * attention.query_padded(emitter.plan.machine.lanes)) as i64
}

/// Elements of a row of queries, or of a copied row of keys, before those of a product.
pub(super) fn elements_before(emitter: &ExprEmitter<'_, '_>, attention: &Attention, product: &Product) -> usize {
    let before = attention.products.iter().take(product.index);
    before.map(|product| padded(emitter, product.length) as usize).sum()
}

/// Bytes that a row of values takes of each of the reductions before one, all together.
pub(super) fn values_before(emitter: &ExprEmitter<'_, '_>, rows: Rows<'_>, reduction: &Reduction) -> usize {
    let before = rows.tile.attention.reductions.iter().take(reduction.index);
    before.map(|before| average_bytes(emitter, before) as usize).sum()
}

/// Offset in the state of the accumulators of a reduction, which follow those of the ones before it.
pub(super) fn accumulators(emitter: &ExprEmitter<'_, '_>, rows: Rows<'_>, reduction: &Reduction) -> i64 {
    let before = emitter.plan.tiling.queries() * values_before(emitter, rows, reduction);
    (emitter.plan.scratch.accumulators + before) as i64
}

/// Bytes from one row of accumulators to the next.
pub(super) fn average_bytes(emitter: &ExprEmitter<'_, '_>, reduction: &Reduction) -> i64 {
    LANE_BYTES as i64 * i64::from(padded(emitter, reduction.length))
}

/// A number of single precision in every lane.
pub(super) fn splat(emitter: &mut ExprEmitter<'_, '_>, (address, offset): (Ssa, i32)) -> Ssa {
    let (x, ty) = (emitter.fb().ins().load(types::F32, access(), address, offset), emitter.v.float_type());
    emitter.v.splat(x, ty)
}

/// The greatest scores of a row, lane by lane, and `least` where none is greater. NaN counts for nothing.
pub(super) fn greatest(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, row: Ssa, least: Ssa) -> Ssa {
    let (ty, lanes) = (emitter.v.float_type(), emitter.plan.machine.lanes as i64);
    let at = rows.scores(emitter, row);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    range_loop(emitter, start, rows.keys, lanes, &[least], |emitter, key, most| {
        let skipped = emitter.lane_bytes(key);
        let place = emitter.fb().ins().iadd(at, skipped);
        let score = load(emitter, ty, place, 0);
        vec![emitter.v.pseudo_max(score, most[0])]
    })[0]
}

/// Raises a number in memory to the greatest of a row of scores. NaN counts for nothing.
pub(super) fn raise(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, row: Ssa, (address, offset): (Ssa, i32)) {
    let before = splat(emitter, (address, offset));
    let most = greatest(emitter, rows, row, before);
    // No lane is NaN: each began with the number.
    let most = joined(emitter, most, &|emitter, a, b| emitter.v.pseudo_max(a, b));
    emitter.fb().ins().store(access(), most, address, offset);
}

pub(super) fn load(emitter: &mut ExprEmitter<'_, '_>, ty: Type, address: Ssa, offset: i32) -> Ssa {
    emitter.fb().ins().load(ty, access(), address, offset)
}

/// Emits code for all rows, as many at once as register tiles have: `body` gets the first row, the register tile, and its turn, one that has
/// code of its own.
pub(super) fn by_register_tiles(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    turns: Turns,
    body: impl FnMut(&mut ExprEmitter<'_, '_>, Ssa, RowTile, Turn),
) {
    let body = std::cell::RefCell::new(body);
    let mut from = emitter.fb().ins().iconst(types::I64, 0);
    let far = turns.far.then(|| call_word(emitter, offset_of!(TileCall, far)));
    for (number, tile) in rows.decode.tiles.iter().enumerate() {
        let step = tile.rows as i64;
        let rest = emitter.fb().ins().isub(rows.count, from);
        let whole = emitter.fb().ins().band_imm_s(rest, -step);
        let to = emitter.fb().ins().iadd(from, whole);
        range_loop(emitter, from, to, step, &[], |emitter, row, _| {
            let body = &body;
            let take = |turn: Turn| {
                move |emitter: &mut ExprEmitter<'_, '_>| {
                    (body.borrow_mut())(emitter, row, *tile, turn);
                    Vec::new()
                }
            };
            let first = |emitter: &mut ExprEmitter<'_, '_>| match far {
                Some(far) => either(emitter, far, take(Turn::Far), take(Turn::Near)),
                None => take(Turn::Near)(emitter),
            };
            let saved = emitter.save();
            // Most rows are in the largest register tiles.
            let done = if turns.later && number == 0 {
                let is_first = emitter.fb().ins().icmp_imm_s(IntCC::Equal, row, 0);
                either(emitter, is_first, first, take(Turn::Later))
            } else {
                first(emitter)
            };
            emitter.restore(saved);
            done
        });
        from = to;
    }
}

/// The turn of a register tile at the keys and values of a key tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first, where they come from memory.
    Far,
    /// The first, where they are in a cache, or there is no code for [`Turn::Far`].
    Near,
    /// A later one: they are in the first cache.
    Later,
}

/// What has code of its own beside [`Turn::Near`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// [`Turn::Far`].
    pub(super) far: bool,
    /// [`Turn::Later`], for the largest register tiles.
    pub(super) later: bool,
}
