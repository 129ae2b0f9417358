//! Squared norms of the queries of a tile.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::query_tile::Tile;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Sums the squares of each column of queries of a tile, of any shape.
pub(crate) fn squares(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let (Some(&shape), Some(content)) = (attention.tiling.shapes.first(), &attention.content) else { return Ok(()) };
    let tile = Tile::new(eval, attention, shape);
    let layout = eval.plan.scratch;
    let width = eval.plan.machine.vector_bytes() as i32;
    let ty = eval.v.float_type();
    let start = eval.fb().ins().iadd_imm_s(tile.state, layout.queries as i64);
    let end = eval.fb().ins().iadd_imm_s(start, i64::from(content.length) * tile.row_bytes());
    let zeros: Vec<Ssa> = (0..shape.columns).map(|_| eval.v.float(0.0)).collect();
    let sums = range_loop(eval, start, end, tile.row_bytes(), &zeros, |eval, row, sums| {
        let square = |eval: &mut Eval<'_, '_>, (column, sum): (i32, &Ssa)| {
            let x = eval.fb().ins().load(ty, access(), row, width * column);
            eval.v.fma(x, x, *sum)
        };
        (0..).zip(sums).map(|at| square(eval, at)).collect()
    });
    for (column, sum) in (0..).zip(sums) {
        eval.fb().ins().store(access(), sum, tile.state, layout.squares as i32 + width * column);
    }
    Ok(())
}
