//! Products of rows and keys. Lanes are elements; sums across lanes are formed for four keys at a time, which makes a vector of them.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::rows::{Rows, by_register_tiles, elements_before, joined, load, padded, query_bytes, score_bytes};
use super::source::{Source, Wanted};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::tile::product::Even;
use crate::codegen::vocab::access;
use crate::plan::{Product, RowTile};

/// A register tile: some rows, some keys.
struct Block<'a> {
    rows: Rows<'a>,
    product: &'a Product,
    source: Source,
    /// The first row, and how many.
    row: Ssa,
    tile: RowTile,
}

/// The products of all rows and all keys of the key tile, joined to those of the products before it.
pub(super) fn products(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    product: &Product,
) -> Result<(), CodegenError> {
    let attention = rows.tile.attention;
    let before = elements_before(emitter, attention, product);
    let wanted = Wanted {
        tensor: product.key,
        dim: product.dim,
        length: product.length,
        field: offset_of!(TileCall, keys) + 8 * product.index,
        place: emitter.plan.scratch.key_rows + 4 * before,
        pitch: query_bytes(emitter, attention),
    };
    let source = Source::new(emitter, rows, wanted)?;
    by_register_tiles(emitter, rows, |emitter, row, tile| {
        Block { rows, product, source, row, tile }.all_keys(emitter);
        Ok(())
    })
}

impl Block<'_> {
    /// The products with all keys.
    fn all_keys(&self, emitter: &mut ExprEmitter<'_, '_>) {
        let keys = self.rows.keys;
        let step = (RowTile::GROUP * self.tile.key_groups) as i64;
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let whole = emitter.fb().ins().band_imm_s(keys, -step);
        range_loop(emitter, start, whole, step, &[], |emitter, key, _| {
            self.keys(emitter, key, self.tile.key_groups, true);
            Vec::new()
        });
        range_loop(emitter, whole, keys, RowTile::GROUP as i64, &[], |emitter, key, _| {
            self.keys(emitter, key, 1, false);
            Vec::new()
        });
    }

    /// The products with some groups of keys; those past the last key repeat it.
    fn keys(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa, groups: usize, whole: bool) {
        let Source { first, stride, .. } = self.source;
        let count = groups * RowTile::GROUP;
        let address = |emitter: &mut ExprEmitter<'_, '_>, key: Ssa| {
            let offset = emitter.fb().ins().imul(key, stride);
            emitter.fb().ins().iadd(first, offset)
        };
        let (pointers, even) = if whole {
            let first = address(emitter, key);
            let even = Even::new(emitter, first, stride, count);
            (even.pointers.clone(), Some(even))
        } else {
            let last = emitter.fb().ins().iadd_imm_s(self.rows.keys, -1);
            let each = (0..count as i64).map(|n| {
                let key = emitter.fb().ins().iadd_imm_s(key, n);
                let key = emitter.v.smin(key, last);
                address(emitter, key)
            });
            (each.collect(), None)
        };
        let sums = self.sums(emitter, (pointers, even), count);
        self.store(emitter, key, groups, &sums);
    }

    /// Sums of products, lane by lane: key after key, row after row.
    fn sums(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        (pointers, even): (Vec<Ssa>, Option<Even>),
        count: usize,
    ) -> Vec<Ssa> {
        let attention = self.rows.tile.attention;
        let (pitch, ty) = (query_bytes(emitter, attention), emitter.v.float_type());
        let before = elements_before(emitter, attention, self.product);
        let skipped = emitter.fb().ins().imul_imm_s(self.row, pitch);
        let queries = emitter.fb().ins().iadd(self.rows.tile.state, skipped);
        let start = emitter.plan.scratch.queries + 4 * before;
        let queries = emitter.fb().ins().iadd_imm_s(queries, start as i64);
        let bytes = 4 * i64::from(padded(emitter, self.product.length));
        let end = emitter.fb().ins().iadd_imm_s(queries, bytes);
        let step = emitter.plan.machine.vector_bytes() as i64;
        let held = pointers.len();
        let mut carried = pointers;
        carried.extend((0..count * self.tile.rows).map(|_| emitter.v.float(0.0)));
        let done = range_loop(emitter, queries, end, step, &carried, |emitter, element, carried| {
            let (pointers, sums) = carried.split_at(held);
            let rows = 0..self.tile.rows;
            let queries: Vec<Ssa> = rows.map(|r| load(emitter, ty, element, (r as i64 * pitch) as i32)).collect();
            let keys = match &even {
                Some(even) => even.addresses(emitter, pointers),
                None => pointers.to_vec(),
            };
            let key_step = self.source.vector_bytes(emitter);
            let mut next: Vec<Ssa> = pointers.iter().map(|p| emitter.fb().ins().iadd_imm_s(*p, key_step)).collect();
            for (key, sums) in keys.into_iter().zip(sums.chunks(self.tile.rows)) {
                let key = self.source.load(emitter, key, 0);
                next.extend(queries.iter().zip(sums).map(|(query, sum)| emitter.v.fma(*query, key, *sum)));
            }
            next
        });
        done[held..].to_vec()
    }

    /// Sums across lanes, and stores the products: added to those that are there, if there are.
    fn store(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa, groups: usize, sums: &[Ssa]) {
        let (lanes, rows) = (emitter.plan.machine.lanes, self.tile.rows);
        let (base, place) = (emitter.scratch, emitter.plan.scratch.sums_of_lanes);
        let at = |n: usize| (place + n * 4 * lanes) as i32;
        if lanes > 4 {
            for (n, sum) in sums.iter().enumerate() {
                emitter.fb().ins().store(access(), *sum, base, at(n));
            }
        }
        let scores = self.rows.scores(emitter, self.row);
        let offset = emitter.fb().ins().ishl_imm_u(key, 2);
        let scores = emitter.fb().ins().iadd(scores, offset);
        for group in 0..groups {
            for row in 0..rows {
                let four = [0, 1, 2, 3].map(|n| {
                    let n = (group * RowTile::GROUP + n) * rows + row;
                    match lanes {
                        4 => sums[n],
                        _ => joined(emitter, (base, at(n)), lanes, &|emitter, a, b| emitter.v.fadd(a, b)),
                    }
                });
                let [first, rest @ ..] = emitter.v.transpose(four);
                let mut products = rest.into_iter().fold(first, |sum, lane| emitter.v.fadd(sum, lane));
                let place = (row as i64 * score_bytes(emitter)) as i32 + 16 * group as i32;
                if self.product.index > 0 {
                    let before = load(emitter, types::F32X4, scores, place);
                    products = emitter.v.fadd(before, products);
                }
                emitter.fb().ins().store(access(), products, scores, place);
            }
        }
    }
}
