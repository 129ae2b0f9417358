//! The scan of a key tile for values that are NaN or infinite.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::average::values;
use super::rows::{Rows, padded};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::tile::lanes::joined;
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

/// Sums that are formed side by side, each of vectors of its own, so that none waits for another.
const SUMS: i64 = 4;

/// The sum of zeros times the values of a key tile.
fn zeros(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, reduction: &Reduction) -> Result<Ssa, CodegenError> {
    let source = values(emitter, rows, reduction)?.by_elements();
    let vector = source.vector_bytes(emitter);
    let vectors = i64::from(padded(emitter, reduction.length)) / emitter.plan.machine.lanes as i64;
    let side_by_side = (1..=SUMS.min(vectors)).rev().find(|sums| vectors % sums == 0).unwrap_or(1);
    let (zero, bytes) = (emitter.fb().ins().iconst(types::I64, 0), vectors * vector);
    let bytes = emitter.fb().ins().iconst(types::I64, bytes);
    let mut carried = vec![source.first];
    carried.extend((0..side_by_side).map(|_| emitter.v.float(0.0)));
    let done = counted_loop(emitter, rows.keys, &carried, |emitter, key, carried| {
        let row = carried[0];
        let number = emitter.lane_bytes(key);
        let numbers = source.numbers.from(emitter, number);
        let sums = range_loop(emitter, zero, bytes, side_by_side * vector, &carried[1..], |emitter, offset, sums| {
            let address = emitter.fb().ins().iadd(row, offset);
            let nothing = emitter.v.float(0.0);
            let scale = numbers.scale(emitter);
            let mut add = |(number, sum): (i64, &Ssa)| {
                let x = source.load(emitter, address, (number * vector) as i32);
                let x = numbers.shifted(emitter, x, 0);
                let x = scale.map_or(x, |scale| emitter.v.fmul(x, scale));
                emitter.v.fma(x, nothing, *sum)
            };
            (0..).zip(sums).map(&mut add).collect()
        });
        let next = emitter.fb().ins().iadd(row, source.stride);
        std::iter::once(next).chain(sums).collect()
    });
    let sum = done[2..].iter().fold(done[1], |sum, other| emitter.v.fadd(sum, *other));
    Ok(joined(emitter, sum, &|emitter, a, b| emitter.v.fadd(a, b)))
}
