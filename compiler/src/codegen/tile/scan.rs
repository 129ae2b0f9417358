//! The scan of a key tile for values that are NaN or infinite.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::{KeyTileRows, bind_batch_indices, call_word};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::stored;
use crate::codegen::vocab::access;
use crate::plan::{Attention, Reduction};

/// Tells whether the values of a key tile are all finite, those of every reduction.
pub(crate) fn scan(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    bind_batch_indices(emitter, attention);
    tell_all(emitter, attention, |emitter, reduction| zeros(emitter, attention, reduction))
}

/// Tells whether the values of every reduction are finite, where `zeros` gives the sum of zeros times those of one.
pub(super) fn tell_all<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    attention: &Attention,
    mut zeros: impl FnMut(&mut ExprEmitter<'a, 'f>, &Reduction) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let mut sum = None;
    for reduction in &attention.reductions {
        let of_values = zeros(emitter, reduction)?;
        sum = Some(match sum {
            Some(sum) => emitter.fb().ins().fadd(sum, of_values),
            None => of_values,
        });
    }
    if let Some(sum) = sum {
        tell(emitter, sum);
    }
    Ok(())
}

/// The sum of zeros times the values of a key tile.
fn zeros(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention, reduction: &Reduction) -> Result<Ssa, CodegenError> {
    let first = call_word(emitter, offset_of!(TileCall, first_key));
    let end = call_word(emitter, offset_of!(TileCall, end_key));
    let count = emitter.fb().ins().isub(end, first);
    let of_tile = KeyTileRows::of_values(emitter, attention, reduction)?;
    let KeyTileRows { first: base, stride: key_stride, element: stride } = of_tile;
    let lanes = emitter.v.shape.lanes;
    let length = i64::from(reduction.length);
    let storage = emitter.plan.tensors[reduction.value].storage;
    let bytes = storage.bytes() as i64;
    let contiguous = emitter.fb().ins().icmp_imm_s(IntCC::Equal, stride, bytes);
    // Without contiguous rows every element is read by itself.
    let (whole, none) = (
        emitter.fb().ins().iconst(types::I64, length - length % lanes as i64),
        emitter.fb().ins().iconst(types::I64, 0),
    );
    let vectors = emitter.fb().ins().select(contiguous, whole, none);
    let length = emitter.fb().ins().iconst(types::I64, length);
    let zeros = [emitter.v.float(0.0), emitter.fb().ins().f32const(0.0)];
    let sums = counted_loop(emitter, count, &zeros, |emitter, key, sums| {
        let offset = emitter.fb().ins().imul(key, key_stride);
        let row = emitter.fb().ins().iadd(base, offset);
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let wide = range_loop(emitter, start, vectors, lanes as i64, &[sums[0]], |emitter, element, sums| {
            let offset = emitter.fb().ins().imul_imm_s(element, bytes);
            let address = emitter.fb().ins().iadd(row, offset);
            let x = stored::load_lanes(emitter.fb(), storage, lanes, (address, 0));
            let zero = emitter.v.float(0.0);
            vec![emitter.v.fma(x, zero, sums[0])]
        });
        let narrow = range_loop(emitter, vectors, length, 1, &[sums[1]], |emitter, element, sums| {
            let offset = emitter.fb().ins().imul(element, stride);
            let address = emitter.fb().ins().iadd(row, offset);
            let x = stored::load(emitter.fb(), storage, address);
            let zero = emitter.fb().ins().f32const(0.0);
            let product = emitter.fb().ins().fmul(x, zero);
            vec![emitter.fb().ins().fadd(sums[0], product)]
        });
        vec![wide[0], narrow[0]]
    });
    // Zero times anything finite is zero; the sum is NaN otherwise.
    let mut sum = sums[1];
    for lane in 0..lanes {
        let x = emitter.fb().ins().extractlane(sums[0], lane as u8);
        sum = emitter.fb().ins().fadd(sum, x);
    }
    Ok(sum)
}

/// Tells whether a sum of zeros times the values is NaN: then one of them is not finite.
pub(super) fn tell(emitter: &mut ExprEmitter<'_, '_>, sum: Ssa) {
    let bad = emitter.fb().ins().fcmp(FloatCC::Unordered, sum, sum);
    let bad = emitter.fb().ins().uextend(types::I64, bad);
    let (scratch, call) = (emitter.scratch, emitter.plan.scratch.call);
    emitter.fb().ins().store(access(), bad, scratch, (call + offset_of!(TileCall, not_finite)) as i32);
}
