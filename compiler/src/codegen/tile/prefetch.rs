//! Prefetches: the query tiles that take turns at a key tile ask for the keys and values of the next one, each for its share, row by row
//! while products are formed. Of what is asked for at once in larger numbers cores drop much.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::even::Even;
use super::query_tile::{KeyTileRows, Mode, Tile, call_word};
use crate::abi::{SHARES, TileCall};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::machine::LINE;
use crate::plan::{Product, Reduction, TensorId};

/// Cache lines of a row that are asked for one by one; more by a loop.
const MOST_LINES: u32 = 64;

/// Code for no more queries asks into the second cache: it takes less time for the rows of a key tile than these take to come, and what is asked
/// into the first waits in the same buffers as what is loaded.
const FEW_QUERIES: usize = 16;

/// The cache that lines are asked into.
#[derive(Clone, Copy)]
pub(super) enum Cache {
    First,
    Second,
}

/// Asks for a cache line.
pub(super) fn ask(emitter: &mut ExprEmitter<'_, '_>, cache: Cache, address: Ssa, offset: i32) {
    // A load whose result is not used: clif-wide emits a prefetch for the cache that its type tells, Cranelift a load of so many bytes.
    let ty = match cache {
        Cache::First => types::I8,
        Cache::Second => types::I16,
    };
    emitter.fb().ins().load(ty, access(), address, offset);
}

/// Rows of the next key tile that are asked for.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    rows: KeyTileRows,
    /// From which row on, and to which.
    pub(super) from: Ssa,
    to: Ssa,
    /// The most that they are.
    most: usize,
    /// Cache lines of a row, and the bytes from one to the next.
    lines: u32,
    distance: Ssa,
    /// The cache that they are asked into.
    cache: Cache,
}

/// The share in some rows of the next key tile's keys: from which row on, and how many.
pub(super) fn keys(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    product: &Product,
    rows: (Ssa, usize),
) -> Result<Option<Asks>, CodegenError> {
    next(emitter, tile, (product.key, product.dim, product.length), TileCall::next_keys_of(product.index), rows)
}

/// As [`keys`], of its values.
pub(super) fn values(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    reduction: &Reduction,
    rows: (Ssa, usize),
) -> Result<Option<Asks>, CodegenError> {
    let field = TileCall::next_values_of(reduction.index);
    next(emitter, tile, (reduction.value, reduction.dim, reduction.length), field, rows)
}

/// The share in rows of a tensor with a row of this length for each key, the first at the address in this field of the [`TileCall`].
fn next(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    (tensor, dim, length): (TensorId, Axis, u32),
    field: usize,
    (row, rows): (Ssa, usize),
) -> Result<Option<Asks>, CodegenError> {
    // What computes rows asks for what it reads.
    if emitter.plan.loaded_rows(tensor).is_some() {
        return Ok(None);
    }
    let of_tile = KeyTileRows::new(emitter, tile.attention, (tensor, dim), field)?;
    // Elements of a cache line.
    let of_line = (LINE / emitter.plan.tensors[tensor].storage.bytes()) as u32;
    let distance = emitter.fb().ins().imul_imm_s(of_tile.element, i64::from(of_line));
    let [first, end, from, to] = [
        offset_of!(TileCall, next_key),
        offset_of!(TileCall, next_end),
        offset_of!(TileCall, share_from),
        offset_of!(TileCall, share_to),
    ]
    .map(|word| call_word(emitter, word));
    let count = emitter.fb().ins().isub(end, first);
    let [from, to] = [from, to].map(|share| {
        let part = emitter.fb().ins().imul_imm_s(share, rows as i64);
        let part = emitter.fb().ins().ushr_imm_u(part, i64::from(SHARES.ilog2()));
        let at = emitter.fb().ins().iadd(row, part);
        emitter.v.smin(at, count)
    });
    let cache = if tile.shape.queries <= FEW_QUERIES { Cache::Second } else { Cache::First };
    Ok(Some(Asks { rows: of_tile, from, to, most: rows, lines: length.div_ceil(of_line), distance, cache }))
}

impl Asks {
    /// What is asked for row by row; all at once where a mask is evaluated or values are guarded: few key tiles run that code, and there is less
    /// of it so.
    pub(super) fn row_by_row(self, emitter: &mut ExprEmitter<'_, '_>, mode: Mode) -> Option<Asks> {
        if mode.masked || mode.guarded {
            self.all(emitter);
            return None;
        }
        Some(self)
    }

    /// The iterations of a loop of so many from one row that is asked for to the next.
    pub(super) fn between(self, iterations: usize) -> usize {
        (iterations / self.most).max(1)
    }

    /// Asks for all rows at once.
    pub(super) fn all(self, emitter: &mut ExprEmitter<'_, '_>) {
        self.some(emitter, self.from, self.to);
    }

    /// Asks for a row, if it is one of them; gives the one after it.
    pub(super) fn one(self, emitter: &mut ExprEmitter<'_, '_>, row: Ssa) -> Ssa {
        let after = emitter.fb().ins().iadd_imm_s(row, 1);
        let to = emitter.v.smin(after, self.to);
        self.some(emitter, row, to);
        after
    }

    fn some(self, emitter: &mut ExprEmitter<'_, '_>, from: Ssa, to: Ssa) {
        let Asks { rows, lines, distance, cache, .. } = self;
        let skipped = emitter.fb().ins().imul(from, rows.stride);
        let row = emitter.fb().ins().iadd(rows.first, skipped);
        range_loop(emitter, from, to, 1, &[row], |emitter, _, row| {
            if lines > MOST_LINES {
                let [start, end] = [0, lines].map(|line| emitter.fb().ins().iconst(types::I64, i64::from(line)));
                range_loop(emitter, start, end, 1, row, |emitter, _, line| {
                    ask(emitter, cache, line[0], 0);
                    vec![emitter.fb().ins().iadd(line[0], distance)]
                });
            } else {
                let lines = Even::new(emitter, row[0], distance, lines as usize);
                for address in lines.addresses(emitter, &lines.pointers) {
                    ask(emitter, cache, address, 0);
                }
            }
            vec![emitter.fb().ins().iadd(row[0], rows.stride)]
        });
    }
}
