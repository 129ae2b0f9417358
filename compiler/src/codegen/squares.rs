//! The map step of squared norms: the sum of squares of each row of keys or values.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::error::CodegenError;
use super::eval::Eval;
use super::loops::range_loop;
use super::rows::ROW_LANES;
use super::vocab::access;
use crate::plan::TensorId;

/// Emits the sums of squares of the rows of `tensor` along `dim`, one for each index along `key`, at the outer point: row-major in `target`.
pub(crate) fn squares(
    eval: &mut Eval<'_, '_>,
    (tensor, dim): (TensorId, Axis),
    target: TensorId,
    key: Axis,
) -> Result<(), CodegenError> {
    let (rows, key_stride) = eval.row_base(tensor, key, dim)?;
    let stride = eval.dim_stride(tensor, dim);
    let sums = eval.address(target, &[key])?;
    let (keys, length) = (eval.extent(key), eval.extent(dim));
    let zero = eval.fb().ins().iconst(types::I64, 0);
    // Without contiguous rows every element is read by itself.
    let contiguous = eval.fb().ins().icmp_imm_s(IntCC::Equal, stride, 4);
    let whole = eval.fb().ins().band_imm_s(length, -(ROW_LANES as i64));
    let vectors = eval.fb().ins().select(contiguous, whole, zero);
    range_loop(eval, zero, keys, 1, &[rows, sums], |eval, _, carried| {
        let (row, out) = (carried[0], carried[1]);
        let wide = eval.in_rows(dim, ROW_LANES, |eval| {
            let start = eval.v.float(0.0);
            range_loop(eval, zero, vectors, ROW_LANES as i64, &[start], |eval, element, sum| {
                let offset = eval.fb().ins().ishl_imm_u(element, 2);
                let address = eval.fb().ins().iadd(row, offset);
                let x = eval.fb().ins().load(types::F32X4, access(), address, 0);
                vec![eval.v.fma(x, x, sum[0])]
            })
        });
        let lane = |eval: &mut Eval<'_, '_>, lane: u8| eval.fb().ins().extractlane(wide[0], lane);
        let lanes: Vec<Ssa> = (0..ROW_LANES as u8).map(|n| lane(eval, n)).collect();
        let sum = lanes.into_iter().reduce(|a, b| eval.fb().ins().fadd(a, b));
        let sum = sum.unwrap_or_else(|| eval.fb().ins().f32const(0.0));
        let sum = range_loop(eval, vectors, length, 1, &[sum], |eval, element, sum| {
            let offset = eval.fb().ins().imul(element, stride);
            let address = eval.fb().ins().iadd(row, offset);
            let x = eval.fb().ins().load(types::F32, access(), address, 0);
            let square = eval.fb().ins().fmul(x, x);
            vec![eval.fb().ins().fadd(sum[0], square)]
        });
        eval.fb().ins().store(access(), sum[0], out, 0);
        vec![eval.fb().ins().iadd(row, key_stride), eval.fb().ins().iadd_imm_s(out, 4)]
    });
    Ok(())
}
