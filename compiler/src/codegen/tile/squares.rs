//! Squared norms of the queries of a tile.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::bf16;
use super::query_tile::Tile;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Sums the squares of each column of queries of a tile, of any shape.
pub(crate) fn squares(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (Some(&shape), Some(product)) = (emitter.plan.tiling.shapes.first(), attention.products.first()) else {
        return Ok(());
    };
    let tile = Tile::new(emitter, attention, shape);
    let layout = emitter.plan.scratch;
    let width = emitter.plan.machine.vector_bytes() as i32;
    let ty = emitter.v.float_type();
    let start = emitter.fb().ins().iadd_imm_s(tile.state, layout.queries as i64);
    let factor = emitter.plan.bf16_pairs.factor;
    let rows = product.length / if factor.is_some() { bf16::PAIR } else { 1 };
    let end = emitter.fb().ins().iadd_imm_s(start, i64::from(rows) * tile.row_bytes());
    let zeros: Vec<Ssa> = (0..shape.columns).map(|_| emitter.v.float(0.0)).collect();
    let sums = range_loop(emitter, start, end, tile.row_bytes(), &zeros, |emitter, row, sums| {
        let square = |emitter: &mut ExprEmitter<'_, '_>, (column, sum): (i32, &Ssa)| {
            if let Some(factor) = factor {
                let halves = bf16::halves(emitter, (row, width * column));
                return halves.into_iter().fold(*sum, |sum, x| {
                    let factor = emitter.v.float(factor);
                    let x = emitter.v.fmul(x, factor);
                    emitter.v.fma(x, x, sum)
                });
            }
            let x = emitter.fb().ins().load(ty, access(), row, width * column);
            emitter.v.fma(x, x, *sum)
        };
        (0..).zip(sums).map(|at| square(emitter, at)).collect()
    });
    for (column, sum) in (0..).zip(sums) {
        emitter.fb().ins().store(access(), sum, tile.state, layout.squares as i32 + width * column);
    }
    Ok(())
}
