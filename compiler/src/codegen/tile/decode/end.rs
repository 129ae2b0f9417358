//! The end of a tile of rows: normalisation of a softmax, and the output.

use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};

use super::rows::{Rows, accumulators, average_bytes, load};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, range_loop};
use crate::codegen::stored;
use crate::codegen::tile::end::{OutputRows, average, factor, normalise_all};
use crate::plan::{Attention, Decode, Reduction, Storage};

/// Normalises and stores the rows.
pub(crate) fn end(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
) -> Result<(), CodegenError> {
    let Some(rows) = Rows::new(emitter, attention, decode) else { return Ok(()) };
    normalise_all(emitter, rows.tile)?;
    attention.reductions.iter().try_for_each(|reduction| averages(emitter, rows, reduction))
}

/// Stores the averages: by vectors where rows of the output are contiguous.
fn averages(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, reduction: &Reduction) -> Result<(), CodegenError> {
    let outputs = OutputRows::new(emitter, rows.tile, reduction)?;
    let dense = outputs.dense(emitter);
    let ty = by_vectors_of(emitter, reduction, outputs.storage);
    let lanes = ty.lane_count();
    let whole = reduction.length - reduction.length % lanes;
    let [zero, whole, length] =
        [0, whole, reduction.length].map(|n| emitter.fb().ins().iconst(types::I64, i64::from(n)));
    let vectors = emitter.fb().ins().select(dense, whole, zero);
    let accumulators = accumulators(emitter, rows, reduction);
    let start = emitter.fb().ins().iadd_imm_s(rows.tile.state, accumulators);
    let pitch = average_bytes(emitter, reduction);
    counted_loop(emitter, rows.count, &[start], |emitter, row, from| {
        let out = outputs.row(emitter, row);
        let column = outputs.column(emitter, row);
        let store = |emitter: &mut ExprEmitter<'_, '_>, ty: Type, (first, end): (Ssa, Ssa), step: i64| {
            let factor = factor(emitter, rows.tile, types::F32, column);
            let factor = factor.map(|x| if ty.is_vector() { emitter.fb().ins().splat(ty, x) } else { x });
            range_loop(emitter, first, end, step, &[], |emitter, element, _| {
                let offset = emitter.lane_bytes(element);
                let address = emitter.fb().ins().iadd(from[0], offset);
                let x = load(emitter, ty, address, 0);
                let x = average(emitter, rows.tile, x, factor);
                let offset = emitter.fb().ins().imul(element, outputs.stride);
                let address = emitter.fb().ins().iadd(out, offset);
                stored::store(emitter.fb(), outputs.storage, x, address);
                Vec::new()
            });
        };
        store(emitter, ty, (zero, vectors), i64::from(lanes));
        store(emitter, types::F32, (vectors, length), 1);
        vec![emitter.fb().ins().iadd_imm_s(from[0], pitch)]
    });
    Ok(())
}

/// The vectors that rows of averages are stored by. Elements of fewer bits are stored one by one, which takes no longer for few lanes.
fn by_vectors_of(emitter: &ExprEmitter<'_, '_>, reduction: &Reduction, storage: Storage) -> Type {
    let widest = emitter.v.float_type();
    let fits = !storage.is_narrow() && reduction.length.is_multiple_of(widest.lane_count());
    if fits && widest.is_vector() { widest } else { types::F32X4 }
}
