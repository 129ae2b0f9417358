//! A query tile that code is emitted for: where its state is, which range a call has, and the indices that it fixes.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use crate::abi::{TileCall, WORD_BYTES};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::{ExprEmitter, Order};
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Combiner, Product, Reduction, TensorId, TileShape};

/// The kind of key tile that is emitted.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// The mask is evaluated per element.
    pub(crate) masked: bool,
    /// Values that a query does not see are kept from it even if they are NaN or infinite.
    pub(crate) guarded: bool,
}

/// Sums that multiply-adds go to in turn, so that none waits for the one before: four cycles of two.
const BUSY_SUMS: i64 = 8;

/// A tile of queries that code is emitted for.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) attention: &'a Attention,
    pub(super) shape: TileShape,
    /// The address of its state.
    pub(super) state: Ssa,
    row_bytes: i64,
}

impl<'a> Tile<'a> {
    pub(super) fn new(emitter: &mut ExprEmitter<'_, '_>, attention: &'a Attention, shape: TileShape) -> Tile<'a> {
        let offset = call_word(emitter, offset_of!(TileCall, state));
        let scratch = emitter.scratch;
        let state = emitter.fb().ins().iadd(scratch, offset);
        Tile { attention, shape, state, row_bytes: (LANE_BYTES * emitter.plan.tiling.queries()) as i64 }
    }

    /// Whether scores are weighed by a softmax, not by themselves.
    pub(super) fn of_softmax(&self) -> bool {
        self.attention.combiner != Combiner::Sum
    }

    /// Keys of a register tile that may pass the last key: enough sums to keep multiply-adds busy.
    pub(super) fn last_rows(&self) -> i64 {
        if self.shape.columns == 1 { BUSY_SUMS } else { BUSY_SUMS / 2 }
    }

    /// Bytes of a row of queries: from one key's scores to the next, from one element to the next.
    pub(super) fn row_bytes(&self) -> i64 {
        self.row_bytes
    }
}

/// A field of the [`TileCall`], by its offset.
pub(super) fn call_word(emitter: &mut ExprEmitter<'_, '_>, offset: usize) -> Ssa {
    let (scratch, call) = (emitter.scratch, emitter.plan.scratch.call);
    emitter.fb().ins().load(types::I64, access(), scratch, (call + offset) as i32)
}

/// The query of a lane. Lanes past the last query repeat it; they are never stored.
pub(super) fn lane_query(emitter: &mut ExprEmitter<'_, '_>, lane: Ssa, first: Ssa) -> Ssa {
    let queries = call_word(emitter, offset_of!(TileCall, queries));
    let last = emitter.fb().ins().iadd_imm_s(queries, -1);
    let lane = emitter.v.smin(lane, last);
    emitter.fb().ins().iadd(first, lane)
}

/// Offset in the state of the first row of a product's queries.
pub(super) fn first_row(emitter: &ExprEmitter<'_, '_>, tile: Tile<'_>, product: &Product) -> i64 {
    emitter.plan.scratch.queries as i64 + i64::from(product.first) * tile.row_bytes()
}

/// Sets the index along every outer axis.
pub(super) fn bind_batch_indices(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) {
    let (scratch, base) = (emitter.scratch, emitter.plan.scratch.outer as i32);
    for (position, &axis) in attention.outer.iter().enumerate() {
        let index = emitter.fb().ins().load(types::I64, access(), scratch, base + (WORD_BYTES * position) as i32);
        emitter.set(axis, index);
    }
}

/// Sets the indices of a query of a tile: its position and, where heads are packed, its head.
pub(super) fn set_query(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention, query: Ssa) {
    let (position, head) = split(emitter, attention, query);
    emitter.set(attention.query, position);
    emitter.forget(attention.query);
    if let (Some(packed), Some(head)) = (attention.packed, head) {
        // The outer point has the first head of the group.
        let (scratch, base) = (emitter.scratch, emitter.plan.scratch.outer as i32);
        let axis = attention.outer.iter().position(|axis| *axis == packed.axis).unwrap_or(0);
        let first = emitter.fb().ins().load(types::I64, access(), scratch, base + (WORD_BYTES * axis) as i32);
        let head = emitter.fb().ins().iadd(first, head);
        emitter.set(packed.axis, head);
        emitter.forget(packed.axis);
    }
}

/// The position of a query and, where heads are packed, its head within the group.
pub(super) fn split(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention, query: Ssa) -> (Ssa, Option<Ssa>) {
    let Some(packed) = attention.packed else { return (query, None) };
    let heads = i64::from(packed.heads);
    let position = emitter.fb().ins().udiv_imm_u(query, heads);
    let before = emitter.fb().ins().imul_imm_s(position, heads);
    (position, Some(emitter.fb().ins().isub(query, before)))
}

/// `scratch + offset + index * bytes`.
pub(super) fn slot(emitter: &mut ExprEmitter<'_, '_>, offset: usize, index: Ssa, bytes: usize) -> Ssa {
    let scratch = emitter.scratch;
    let scaled = emitter.fb().ins().imul_imm_s(index, bytes as i64);
    let base = emitter.fb().ins().iadd(scratch, scaled);
    emitter.fb().ins().iadd_imm_s(base, offset as i64)
}

/// Sets the lanes to those of a vector of queries.
pub(super) fn set_column(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, column: usize) {
    let Tile { attention, state, .. } = tile;
    let lane = (column * emitter.plan.machine.lanes) as i64;
    let first = call_word(emitter, offset_of!(TileCall, first_query));
    let query = emitter.fb().ins().iadd_imm_s(first, lane);
    let lanes = emitter.plan.scratch.lanes as i64;
    let clamped = emitter.fb().ins().iadd_imm_s(state, lanes + LANE_BYTES as i64 * lane);
    let (first, order) = match attention.packed {
        None => (query, Order::Successive),
        Some(_) => (emitter.fb().ins().uload32(access(), clamped, 0), Order::Any),
    };
    emitter.set(attention.query, first);
    emitter.set_lanes(attention.query, clamped, order);
}

/// Rows of keys or values, one for each key of a tile.
#[derive(Clone, Copy)]
pub(super) struct KeyTileRows {
    /// Address of the first.
    pub(super) first: Ssa,
    /// From each to the next, in bytes.
    pub(super) stride: Ssa,
    /// From element to element of a row, in bytes.
    pub(super) element: Ssa,
}

impl KeyTileRows {
    /// The values of the key tile that a reduction sums up.
    pub(super) fn of_values(
        emitter: &mut ExprEmitter<'_, '_>,
        attention: &Attention,
        reduction: &Reduction,
    ) -> Result<KeyTileRows, CodegenError> {
        KeyTileRows::new(emitter, attention, (reduction.value, reduction.dim), TileCall::values_of(reduction.index))
    }

    /// The rows of a tensor along `dim`, the first at the address that a field of the [`TileCall`] has, by its offset; in prefill, those that
    /// are computed for the key tile where they lie.
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        attention: &Attention,
        (tensor, dim): (TensorId, Axis),
        field: usize,
    ) -> Result<KeyTileRows, CodegenError> {
        if let Some((place, pitch)) = emitter.plan.loaded_rows(tensor) {
            let scratch = emitter.scratch;
            return Ok(KeyTileRows {
                first: emitter.fb().ins().iadd_imm_s(scratch, place as i64),
                stride: emitter.fb().ins().iconst(types::I64, pitch as i64),
                element: emitter.fb().ins().iconst(types::I64, LANE_BYTES as i64),
            });
        }
        emitter.check_bound(tensor, &[attention.key, dim])?;
        let first = call_word(emitter, field);
        Ok(KeyTileRows {
            first,
            stride: emitter.dim_stride(tensor, attention.key),
            element: emitter.dim_stride(tensor, dim),
        })
    }
}
