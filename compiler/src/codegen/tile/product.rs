//! The register tile of products that scores and averages are made of.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use crate::codegen::eval::Eval;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::access;

/// A register tile of products: `rows` pointers to scalars that step together, times `columns` vectors.
pub(super) struct Product {
    pub(super) rows: Vec<Ssa>,
    pub(super) row_step: Ssa,
    pub(super) vectors: Ssa,
    pub(super) vector_step: i64,
    pub(super) columns: usize,
    pub(super) turns: Ssa,
    pub(super) guarded: bool,
}

impl Product {
    /// Adds the products to the accumulators, row-major.
    pub(super) fn emit(&self, eval: &mut Eval<'_, '_>, accumulators: &[Ssa]) -> Vec<Ssa> {
        let zero = eval.fb().ins().iconst(types::I64, 0);
        let mut carried = vec![self.vectors, zero];
        carried.extend(accumulators);
        let start = eval.fb().ins().iconst(types::I64, 0);
        let done = range_loop(eval, start, self.turns, 1, &carried, |eval, _, carried| {
            let mut sums = carried[2..].to_vec();
            self.turn(eval, carried[0], carried[1], &mut sums);
            let vectors = eval.fb().ins().iadd_imm_s(carried[0], self.vector_step);
            let mut next = vec![vectors, eval.fb().ins().iadd(carried[1], self.row_step)];
            next.extend(sums);
            next
        });
        done[2..].to_vec()
    }

    fn turn(&self, eval: &mut Eval<'_, '_>, vectors: Ssa, offset: Ssa, sums: &mut [Ssa]) {
        let (ty, width) = (eval.v.float_type(), 4 * eval.v.shape.lanes as i32);
        let columns: Vec<Ssa> =
            (0..self.columns).map(|c| eval.fb().ins().load(ty, access(), vectors, width * c as i32)).collect();
        for (r, &row) in self.rows.iter().enumerate() {
            let address = eval.fb().ins().iadd(row, offset);
            let scalar = eval.fb().ins().load(types::F32, access(), address, 0);
            let splat = eval.v.splat(scalar, ty);
            for (c, &column) in columns.iter().enumerate() {
                let sum = &mut sums[r * self.columns + c];
                let added = eval.v.fma(splat, column, *sum);
                *sum = if self.guarded {
                    // A weight below 0 marks a query that does not see the key.
                    let zero = eval.v.float(0.0);
                    let hidden = eval.v.fcmp(FloatCC::LessThan, column, zero);
                    eval.v.select_float(hidden, *sum, added)
                } else {
                    added
                };
            }
        }
    }
}
