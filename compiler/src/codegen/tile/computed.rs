//! Rows of keys and values that are computed for a key tile: they lie in the scratch memory, never whole.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Value};

use super::bf16;
use super::prefetch::{Cache, ask};
use super::query_tile::{bind_batch_indices, call_word};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::counted_loop;
use crate::codegen::rows::{by_rows, contiguous, read_rows, rows as each_row};
use crate::codegen::vocab::access;
use crate::machine::LINE;
use crate::plan::{Attention, Loaded, Origin, Source, Table, TensorId};

/// The keys of a key tile.
#[derive(Clone, Copy)]
pub(super) struct KeyTile {
    /// Their axis.
    pub(super) key: Axis,
    /// The first.
    pub(super) first: Ssa,
    /// Their number.
    pub(super) count: Ssa,
    /// The first of the key tile that comes next, if that has as many; else the first of these.
    pub(super) next: Ssa,
}

/// Rows that are computed for a key tile.
#[derive(Clone, Copy)]
pub(super) struct ComputedRows<'t> {
    /// What holds the rows of all keys where they are computed once for a call.
    pub(super) table: &'t Table,
    /// The axis that rows run along, and their length.
    pub(super) dim: Axis,
    pub(super) length: u32,
    /// Where in the scratch memory they lie, and the bytes from one to the next.
    pub(super) place: usize,
    pub(super) pitch: i64,
}

/// Makes the rows that all query tiles which take turns at a key tile read.
pub(crate) fn load(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    bind_batch_indices(emitter, attention);
    let first = call_word(emitter, offset_of!(TileCall, first_key));
    let end = call_word(emitter, offset_of!(TileCall, end_key));
    let count = emitter.fb().ins().isub(end, first);
    let next = call_word(emitter, offset_of!(TileCall, next_key));
    let next = next_or(emitter, count, [next, first]);
    let plan = emitter.plan;
    for Loaded { table, .. } in plan.schedule.loaded() {
        if let Some(rows) = ComputedRows::of_prefill(emitter, table) {
            rows.compute(emitter, KeyTile { key: attention.key, first, count, next })?;
        }
    }
    bf16::pair_rows(emitter, attention, count)
}

/// Computes the row of a table that is not made, in prefill, at a point that has all indices but that along the row: its address.
pub(crate) fn row_at(emitter: &mut ExprEmitter<'_, '_>, table: &Table) -> Result<Option<Ssa>, CodegenError> {
    let Some(rows) = ComputedRows::of_prefill(emitter, table) else { return Ok(None) };
    let (scratch, root, ComputedRows { dim, length, place, .. }) = (emitter.scratch, rows.root(emitter)?, rows);
    let to = emitter.fb().ins().iadd_imm_s(scratch, place as i64);
    let wide = contiguous(emitter, root, dim, None);
    by_rows(emitter, dim, wide, |emitter| write_row(emitter, root, (dim, length), to))?;
    Ok(Some(to))
}

impl<'t> ComputedRows<'t> {
    /// The rows of a table that is not made, in prefill.
    pub(super) fn of_prefill(emitter: &ExprEmitter<'_, '_>, table: &'t Table) -> Option<ComputedRows<'t>> {
        let (plan, dim) = (emitter.plan, table.inner?);
        let ((place, pitch), length) = (plan.loaded_rows(table.target)?, plan.graph.static_extent(dim)?);
        Some(ComputedRows { table, dim, length, place, pitch: pitch as i64 })
    }

    /// What is computed.
    pub(super) fn root(self, emitter: &ExprEmitter<'_, '_>) -> Result<Value, CodegenError> {
        match self.table.source {
            Source::Value(root) => Ok(root),
            _ => Err(CodegenError::Unsupported {
                op: emitter.plan.tensors[self.table.target].name.clone(),
                reason: "rows that are computed while they are loaded are values",
            }),
        }
    }

    /// Computes the rows of some keys, and asks for what those of the next key tile are computed of.
    pub(super) fn compute(self, emitter: &mut ExprEmitter<'_, '_>, keys: KeyTile) -> Result<(), CodegenError> {
        let root = self.root(emitter)?;
        let ComputedRows { dim, length, place, pitch, .. } = self;
        let scratch = emitter.scratch;
        let own = emitter.fb().ins().iadd_imm_s(scratch, place as i64);
        let bound = emitter.save();
        emitter.bind_groups();
        let wide = contiguous(emitter, root, dim, None);
        let read = read_rows(emitter, root, dim);
        let done = by_rows(emitter, dim, wide, |emitter| {
            let mut result = Ok(());
            counted_loop(emitter, keys.count, &[own], |emitter, row, to| {
                let saved = emitter.save();
                let index = emitter.fb().ins().iadd(keys.next, row);
                emitter.set(keys.key, index);
                let asked = ask_row(emitter, &read, (dim, length));
                let index = emitter.fb().ins().iadd(keys.first, row);
                emitter.set(keys.key, index);
                emitter.forget(keys.key);
                let done = emitter.with_rows(&read, None, |emitter| write_row(emitter, root, (dim, length), to[0]));
                let done = asked.and(done.and_then(|done| done));
                result = std::mem::replace(&mut result, Ok(())).and(done);
                emitter.restore(saved);
                vec![emitter.fb().ins().iadd_imm_s(to[0], pitch)]
            });
            result
        });
        emitter.restore(bound);
        done
    }
}

/// What the record of the call tells of the key tile that comes next, if that has so many keys, or more; else of this one.
pub(super) fn next_or(emitter: &mut ExprEmitter<'_, '_>, count: Ssa, [told, here]: [Ssa; 2]) -> Ssa {
    let [first, end] =
        [offset_of!(TileCall, next_key), offset_of!(TileCall, next_end)].map(|word| call_word(emitter, word));
    let next = emitter.fb().ins().isub(end, first);
    let whole = emitter.fb().ins().icmp(IntCC::SignedGreaterThanOrEqual, next, count);
    emitter.fb().ins().select(whole, told, here)
}

/// Asks for the rows of inputs at this point, where they are contiguous.
fn ask_row(
    emitter: &mut ExprEmitter<'_, '_>,
    read: &[(TensorId, Axis)],
    (dim, length): (Axis, u32),
) -> Result<(), CodegenError> {
    let plan = emitter.plan;
    let inputs = read.iter().filter(|(tensor, along)| {
        *along == dim && matches!(plan.tensors[*tensor].origin, Origin::Input(_)) && emitter.v.is_vector()
    });
    let inputs: Vec<TensorId> = inputs.map(|(tensor, _)| *tensor).collect();
    for tensor in inputs {
        let (row, bytes) = (emitter.address(tensor, &[dim])?, plan.tensors[tensor].storage.bytes());
        // Not for a last line of one byte: an ask may load two.
        let lines = (0..bytes as i32 * length as i32 - 1).step_by(LINE);
        lines.for_each(|line| ask(emitter, Cache::Second, row, line));
    }
    Ok(())
}

/// Computes a row along an axis of this length, zeros at its end.
pub(super) fn write_row(
    emitter: &mut ExprEmitter<'_, '_>,
    root: Value,
    (dim, length): (Axis, u32),
    to: Ssa,
) -> Result<(), CodegenError> {
    each_row(
        emitter,
        Some(root),
        dim,
        &mut |emitter, index, x| {
            let offset = emitter.lane_bytes(index);
            let address = emitter.fb().ins().iadd(to, offset);
            emitter.fb().ins().store(access(), x, address, 0);
            Ok(())
        },
        &mut |emitter| emitter.emit(root),
    )?;
    let end = length.next_multiple_of(emitter.plan.machine.lanes as u32);
    fill_up(emitter, to, (length, end), size_of::<f32>());
    Ok(())
}

/// Zeros from the end of a row, whose elements have these bytes, to that of its last vector.
pub(super) fn fill_up(emitter: &mut ExprEmitter<'_, '_>, row: Ssa, (length, end): (u32, u32), bytes: usize) {
    let zero = match bytes {
        1 => emitter.fb().ins().iconst(types::I8, 0),
        2 => emitter.fb().ins().iconst(types::I16, 0),
        _ => emitter.fb().ins().f32const(0.0),
    };
    for element in length..end {
        emitter.fb().ins().store(access(), zero, row, bytes as i32 * element as i32);
    }
}
