//! The scan of a key tile for values that are NaN or infinite.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, types};

use super::query_tile::{KeyTileRows, bind_outer, call_word};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::vocab::access;
use crate::plan::Attention;

/// Tells whether the values of a key tile are all finite.
pub(crate) fn scan(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let Some(weighted) = &attention.weighted else { return Ok(()) };
    bind_outer(eval, attention);
    let first = call_word(eval, offset_of!(TileCall, first_key));
    let end = call_word(eval, offset_of!(TileCall, end_key));
    let count = eval.fb().ins().isub(end, first);
    let of_tile = KeyTileRows::new(eval, attention, (weighted.value, weighted.dim), offset_of!(TileCall, values))?;
    let KeyTileRows { first: base, stride: key_stride, element: stride } = of_tile;
    let lanes = eval.v.shape.lanes;
    let ty = eval.v.float_type();
    let length = i64::from(weighted.length);
    let contiguous = eval.fb().ins().icmp_imm_s(IntCC::Equal, stride, 4);
    // Without contiguous rows every element is read by itself.
    let (whole, none) =
        (eval.fb().ins().iconst(types::I64, length - length % lanes as i64), eval.fb().ins().iconst(types::I64, 0));
    let vectors = eval.fb().ins().select(contiguous, whole, none);
    let length = eval.fb().ins().iconst(types::I64, length);
    let zeros = [eval.v.float(0.0), eval.fb().ins().f32const(0.0)];
    let sums = counted_loop(eval, count, &zeros, |eval, key, sums| {
        let offset = eval.fb().ins().imul(key, key_stride);
        let row = eval.fb().ins().iadd(base, offset);
        let start = eval.fb().ins().iconst(types::I64, 0);
        let wide = range_loop(eval, start, vectors, lanes as i64, &[sums[0]], |eval, element, sums| {
            let offset = eval.fb().ins().imul_imm_s(element, 4);
            let address = eval.fb().ins().iadd(row, offset);
            let x = eval.fb().ins().load(ty, access(), address, 0);
            let zero = eval.v.float(0.0);
            vec![eval.v.fma(x, zero, sums[0])]
        });
        let narrow = range_loop(eval, vectors, length, 1, &[sums[1]], |eval, element, sums| {
            let offset = eval.fb().ins().imul(element, stride);
            let address = eval.fb().ins().iadd(row, offset);
            let x = eval.fb().ins().load(types::F32, access(), address, 0);
            let zero = eval.fb().ins().f32const(0.0);
            let product = eval.fb().ins().fmul(x, zero);
            vec![eval.fb().ins().fadd(sums[0], product)]
        });
        vec![wide[0], narrow[0]]
    });
    // Zero times anything finite is zero; the sum is NaN otherwise.
    let mut sum = sums[1];
    for lane in 0..lanes {
        let x = eval.fb().ins().extractlane(sums[0], lane as u8);
        sum = eval.fb().ins().fadd(sum, x);
    }
    let bad = eval.fb().ins().fcmp(FloatCC::Unordered, sum, sum);
    let bad = eval.fb().ins().uextend(types::I64, bad);
    let (scratch, call) = (eval.scratch, eval.plan.scratch.call);
    eval.fb().ins().store(access(), bad, scratch, (call + offset_of!(TileCall, not_finite)) as i32);
    Ok(())
}
