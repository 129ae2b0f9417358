//! Rows that are computed for a key tile, in the scratch memory. Where each is computed of the row of an input, it is so just before queries
//! are multiplied with it: what comes from memory meanwhile waits for neither.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Value};

use super::ahead::{Ahead, Away, ask_for, each_key};
use super::numbers::Numbers;
use super::rows::{Rows, Turn, scratch};
use super::source::{self, Source, Wanted};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Row};
use crate::codegen::rows::{Wide, by_rows, contiguous, read_rows};
use crate::codegen::tile::computed::{ComputedRows, KeyTile, write_row};
use crate::codegen::tile::query_tile::call_word;
use crate::plan::{Loaded, RowTile, TensorId};

/// Rows of a key tile that are computed, each of the row of an input that lies where the call record says.
pub(super) struct Computed<'t> {
    rows: Rows<'t>,
    computed: ComputedRows<'t>,
    root: Value,
    /// The input, and its rows.
    input: TensorId,
    of: Source,
    /// Whether they are computed by vectors, and what is read then.
    wide: Option<Wide>,
    read: Vec<(TensorId, Axis)>,
    /// What is taken of the number of a key for its slot.
    slots: Ssa,
}

/// The rows of a key tile: in the scratch memory if they are computed. Those that are computed of an input's are yet to be.
pub(super) fn source<'t>(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'t>,
    wanted: Wanted,
) -> Result<(Source, Option<Computed<'t>>), CodegenError> {
    let loaded = rows.decode.loaded.iter().find(|loaded| loaded.table.target == wanted.tensor);
    let Some(Loaded { table, input, .. }) = loaded else { return Ok((Source::new(emitter, rows, wanted)?, None)) };
    let Wanted { dim, length, place, pitch, .. } = wanted;
    let computed = ComputedRows { table, dim, length, place, pitch };
    let found = match *input {
        Some(input) => Some(Computed::new(emitter, rows, wanted, (computed, input))?),
        None => {
            let after = emitter.fb().ins().iadd(rows.first_key, rows.keys);
            let told = call_word(emitter, offset_of!(TileCall, next_key));
            let next = rows.next(emitter, [rows.first_key, after, told]);
            let keys = KeyTile { key: rows.tile.attention.key, first: rows.first_key, count: rows.keys, next };
            computed.compute(emitter, keys)?;
            None
        }
    };
    Ok((wanted.in_scratch(emitter, rows)?, found))
}

impl<'t> Computed<'t> {
    fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        rows: Rows<'t>,
        wanted: Wanted,
        (computed, input): (ComputedRows<'t>, TensorId),
    ) -> Result<Computed<'t>, CodegenError> {
        let (root, dim) = (computed.root(emitter)?, computed.dim);
        let (lie, _) = wanted.lie(emitter, rows, input)?;
        let (ahead, storage) = (wanted.ahead(emitter, rows, lie), emitter.plan.tensors[input].storage);
        let (first, stride, loaded) = (lie.first, lie.stride, source::Loaded::Elements);
        let of = Source { first, stride, ahead, storage, loaded, numbers: Numbers::default() };
        let wide = contiguous(emitter, root, dim, None);
        let read = read_rows(emitter, root, dim);
        let slots = slots(emitter, rows);
        Ok(Computed { rows, computed, root, input, of, wide, read, slots })
    }

    /// What is read, which takes memory's time.
    pub(super) fn of(&self) -> Source {
        self.of
    }

    /// What is asked for while rows are computed in a turn.
    pub(super) fn ahead(&self, emitter: &mut ExprEmitter<'_, '_>, turn: Turn) -> Vec<Ahead> {
        Ahead::new(emitter, (self.rows, turn), (self.of, 1))
    }

    /// The place of a key's row, counted in rows: where one register tile has all rows of queries, those of keys are not needed again, and stay
    /// in the first cache if they take each other's places.
    pub(super) fn slot(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Ssa {
        emitter.fb().ins().band(key, self.slots)
    }

    /// Computes the rows of the keys from one up to another, no more than a register tile has, each in its slot.
    pub(super) fn compute(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        keys: (Ssa, Ssa),
        ahead: &[Ahead],
    ) -> Result<(), CodegenError> {
        let slot = self.slot(emitter, keys.0);
        self.each(emitter, keys, slot, ahead)
    }

    /// Computes the rows of all keys, each in a place of its own.
    pub(super) fn all(&self, emitter: &mut ExprEmitter<'_, '_>) -> Result<(), CodegenError> {
        let first = emitter.fb().ins().iconst(types::I64, 0);
        let ahead = self.ahead(emitter, Turn::Near);
        self.each(emitter, (first, self.rows.keys), first, &ahead)
    }

    /// Computes the rows of the keys from one up to another, in places from one on.
    fn each(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        (from, to): (Ssa, Ssa),
        slot: Ssa,
        ahead: &[Ahead],
    ) -> Result<(), CodegenError> {
        let pitch = self.computed.pitch;
        let skipped = emitter.fb().ins().imul_imm_s(slot, pitch);
        let own = scratch(emitter, self.computed.place);
        let own = emitter.fb().ins().iadd(own, skipped);
        let skipped = emitter.fb().ins().imul(from, self.of.stride);
        let row = emitter.fb().ins().iadd(self.of.first, skipped);
        let bound = emitter.save();
        let done = by_rows(emitter, self.computed.dim, self.wide, |emitter| {
            let mut result = Ok(());
            // Elements that are not contiguous are no lines of a row.
            let ahead = if emitter.v.is_vector() { ahead } else { &[] };
            each_key(emitter, (from, to, 1), ahead, &[own, row], |emitter, key, ahead, carried| {
                let (own, row) = (carried[0], carried[1]);
                result = self.row(emitter, key, ahead, (row, own));
                vec![emitter.fb().ins().iadd_imm_s(own, pitch), emitter.fb().ins().iadd(row, self.of.stride)]
            });
            result
        });
        emitter.restore(bound);
        done
    }

    /// Computes the row of a key of that at an address, at another.
    fn row(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        key: Ssa,
        ahead: &[Away],
        (address, to): (Ssa, Ssa),
    ) -> Result<(), CodegenError> {
        let (key_axis, ComputedRows { dim, length, .. }) = (self.rows.tile.attention.key, self.computed);
        let saved = emitter.save();
        let index = emitter.fb().ins().iadd(self.rows.first_key, key);
        emitter.set(key_axis, index);
        emitter.forget(key_axis);
        // Not for a last line of one byte: an ask may load two.
        ask_for(emitter, (address, self.of.storage.bytes() as i32 * length as i32 - 1), ahead);
        let given = Row { tensor: self.input, along: dim, address };
        let written =
            emitter.with_rows(&self.read, Some(given), |emitter| write_row(emitter, self.root, (dim, length), to));
        emitter.restore(saved);
        written.and_then(|written| written)
    }
}

/// What is taken of the number of a key for its slot: all of it, but where a register tile has as many rows as there are.
fn slots(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>) -> Ssa {
    let tiles = &rows.decode.tiles;
    let most = tiles.iter().map(|tile| RowTile::GROUP * tile.key_groups).max().unwrap_or(1);
    let [all, few] = [-1, most as i64 - 1].map(|bits| emitter.fb().ins().iconst(types::I64, bits));
    tiles.iter().fold(all, |slots, tile| {
        let is_one = emitter.fb().ins().icmp_imm_s(IntCC::Equal, rows.count, tile.rows as i64);
        emitter.fb().ins().select(is_one, few, slots)
    })
}
