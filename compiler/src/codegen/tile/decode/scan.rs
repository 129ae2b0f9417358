//! The scan of a key tile for values that are NaN or infinite.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::average::values;
use super::lanes::joined;
use super::rows::{Rows, padded};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::tile::scan::tell_all;
use crate::plan::{Attention, Decode, Reduction};

/// Tells whether the values of a key tile are all finite, those of every reduction.
pub(crate) fn scan(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
    let Some(rows) = Rows::new(emitter, attention, decode) else { return Ok(()) };
    tell_all(emitter, attention, |emitter, reduction| zeros(emitter, rows, reduction))
}

/// The sum of zeros times the values of a key tile.
fn zeros(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, reduction: &Reduction) -> Result<Ssa, CodegenError> {
    let source = values(emitter, rows, reduction)?;
    let step = source.vector_bytes(emitter);
    let zero = emitter.fb().ins().iconst(types::I64, 0);
    let bytes = i64::from(padded(emitter, reduction.length)) / emitter.plan.machine.lanes as i64 * step;
    let bytes = emitter.fb().ins().iconst(types::I64, bytes);
    let start = emitter.v.float(0.0);
    let sums = counted_loop(emitter, rows.keys, &[source.first, start], |emitter, key, carried| {
        let row = carried[0];
        let number = emitter.fb().ins().ishl_imm_u(key, 2);
        let numbers = source.numbers.from(emitter, number);
        let sum = range_loop(emitter, zero, bytes, step, &[carried[1]], |emitter, offset, sum| {
            let address = emitter.fb().ins().iadd(row, offset);
            let x = source.load(emitter, address, 0);
            let mut x = numbers.shifted(emitter, x, 0);
            if let Some(scale) = numbers.scale(emitter) {
                x = emitter.v.fmul(x, scale);
            }
            let zero = emitter.v.float(0.0);
            vec![emitter.v.fma(x, zero, sum[0])]
        });
        vec![emitter.fb().ins().iadd(row, source.stride), sum[0]]
    });
    Ok(joined(emitter, sums[1], &|emitter, a, b| emitter.v.fadd(a, b)))
}
