//! Products of a score by the distance of query and key.
//!
//! Their sum has a row among the values by distance. The queries of a vector and one key make as many distances side by side as there are
//! queries: keys so far apart make all of them, from the last key of the tile on; the first key and all queries make what is left.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::distance::{fills, row};
use super::product::{Factors, ProductTile, Rows};
use super::query_tile::{KeyTileRows, Tile, call_word};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::stepped_loop;
use crate::codegen::vocab::access;
use crate::plan::{LONGEST_SUM, Product};

/// Keys whose products are computed side by side: their sums keep multiply-adds busy.
const KEYS: usize = 4;

/// Computes the products of the key tile.
pub(super) fn fill(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, count: Ssa) -> Result<(), CodegenError> {
    let lanes = emitter.plan.machine.lanes as i64;
    if !fills(emitter) {
        return Ok(());
    }
    // Lanes past the last query repeat it.
    let queries = call_word(emitter, offset_of!(TileCall, queries));
    let all = emitter.fb().ins().iconst(types::I64, lanes);
    let step = emitter.v.smin(queries, all);
    let last = emitter.fb().ins().iadd_imm_s(count, -1);
    let start = emitter.fb().ins().iconst(types::I64, 0);
    let mut result = Ok(());
    stepped_loop(emitter, start, last, |emitter, from| {
        let mut distances = vec![from];
        for _ in 1..KEYS {
            let next = emitter.fb().ins().iadd(distances[distances.len() - 1], step);
            distances.push(next);
        }
        let next = emitter.fb().ins().iadd(distances[KEYS - 1], step);
        let distances: Vec<Ssa> = distances.into_iter().map(|distance| emitter.v.smin(distance, last)).collect();
        let keys: Vec<Ssa> = distances.iter().map(|distance| emitter.fb().ins().isub(last, *distance)).collect();
        match sums(emitter, tile, &keys, 1) {
            // In order: what a vector has of no query is another's.
            Ok(sums) => distances.iter().zip(sums).for_each(|(distance, sum)| store(emitter, *distance, (sum, 0))),
            Err(error) => result = Err(error),
        }
        next
    });
    result?;
    let sums = sums(emitter, tile, &[start], tile.shape.columns)?;
    for (column, sum) in sums.into_iter().enumerate() {
        store(emitter, last, (sum, column as i32));
    }
    Ok(())
}

/// Stores a vector of products, so many vectors from a distance on.
fn store(emitter: &mut ExprEmitter<'_, '_>, distance: Ssa, (sum, column): (Ssa, i32)) {
    let (scratch, width) = (emitter.scratch, emitter.plan.machine.vector_bytes() as i32);
    let offset = emitter.lane_bytes(distance);
    let address = emitter.fb().ins().iadd(scratch, offset);
    let place = row(emitter, emitter.plan.by_distance.len()) + width * column;
    emitter.fb().ins().store(access(), sum, address, place);
}

/// The sums of all products of these keys and some vectors of queries, row-major.
fn sums(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    keys: &[Ssa],
    columns: usize,
) -> Result<Vec<Ssa>, CodegenError> {
    let plan = emitter.plan;
    let mut sums: Option<Vec<Ssa>> = None;
    for product in tile.attention.products.iter().filter(|product| plan.is_by_distance(product)) {
        for part in parts(emitter, tile, product, (keys, columns))? {
            sums = Some(match sums {
                None => part,
                Some(sums) => sums.iter().zip(part).map(|(a, b)| emitter.v.fadd(*a, b)).collect(),
            });
        }
    }
    Ok(sums.unwrap_or_default())
}

/// The sums of a product, in parts of the length that one chain of additions has at most.
fn parts(
    emitter: &mut ExprEmitter<'_, '_>,
    tile: Tile<'_>,
    product: &Product,
    (keys, columns): (&[Ssa], usize),
) -> Result<Vec<Vec<Ssa>>, CodegenError> {
    let field = TileCall::keys_of(product.index);
    let rows = KeyTileRows::new(emitter, tile.attention, (product.key, product.dim), field)?;
    let (length, chains) = (product.length as usize, tile.shape.partial_sums);
    let chains = if length.is_multiple_of(chains) { chains } else { 1 };
    let count = length.div_ceil(LONGEST_SUM * chains).max(1);
    let (step, layout) = (tile.row_bytes(), emitter.plan.scratch);
    let part = |part: usize| {
        let [from, to] = [part, part + 1].map(|part| part * (length / chains) / count * chains);
        let iterations = ((to - from) / chains) as i64;
        let skipped = emitter.fb().ins().imul_imm_s(rows.element, from as i64);
        let base = emitter.fb().ins().iadd(rows.first, skipped);
        let address = |key: &Ssa| {
            let offset = emitter.fb().ins().imul(*key, rows.stride);
            emitter.fb().ins().iadd(base, offset)
        };
        let addresses = keys.iter().map(address).collect();
        let queries = layout.queries as i64 + (i64::from(product.first) + from as i64) * step;
        let tile = ProductTile {
            factors: Factors::Singles,
            rows: Rows::Each(addresses),
            row_step: rows.element,
            vectors: emitter.fb().ins().iadd_imm_s(tile.state, queries),
            vector_step: step,
            columns,
            iterations: emitter.fb().ins().iconst(types::I64, iterations),
            guard: None,
            asks: None,
            chains,
            chain_bytes: iterations * step,
        };
        tile.emit(emitter)
    };
    Ok((0..count).map(part).collect())
}

/// Adds the products of a key to those of a vector of queries, `column` bytes from the first query; `address` is that of the key's values by
/// distance.
pub(super) fn add(emitter: &mut ExprEmitter<'_, '_>, (address, column): (Ssa, i32), sum: Ssa) -> Ssa {
    if !fills(emitter) {
        return sum;
    }
    let place = row(emitter, emitter.plan.by_distance.len()) + column;
    let ty = emitter.v.float_type();
    let products = emitter.fb().ins().load(ty, access(), address, place);
    emitter.v.fadd(sum, products)
}
