//! The table of squared norms: the sum of squares of each row of keys or values.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::range_loop;
use super::rows::ROW_LANES;
use super::stored;
use super::tile::row_at;
use super::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{Loaded, Storage, TensorId};

/// Emits the sums of squares of the rows of `tensor` along `dim`, one for each index along `key`, at the outer point: row-major in `target`.
pub(crate) fn squares(
    emitter: &mut ExprEmitter<'_, '_>,
    (tensor, dim): (TensorId, Axis),
    target: TensorId,
    key: Axis,
) -> Result<(), CodegenError> {
    let plan = emitter.plan;
    let loaded = plan.schedule.loaded().iter().find(|loaded| loaded.table.target == tensor);
    let sums = emitter.address(target, &[key])?;
    let (keys, length) = (emitter.extent(key), emitter.extent(dim));
    let zero = emitter.fb().ins().iconst(types::I64, 0);
    let mut result = Ok(());
    if let Some(Loaded { table, .. }) = loaded {
        let stride = emitter.fb().ins().iconst(types::I64, LANE_BYTES as i64);
        let of_rows = Squares::new(emitter, dim, (Storage::F32, stride, length));
        range_loop(emitter, zero, keys, 1, &[sums], |emitter, index, out| {
            let saved = emitter.save();
            emitter.set(key, index);
            emitter.forget(key);
            emitter.bind_groups();
            result = row_at(emitter, table).map(|row| {
                if let Some(row) = row {
                    of_rows.sum(emitter, row, out[0]);
                }
            });
            emitter.restore(saved);
            vec![emitter.fb().ins().iadd_imm_s(out[0], LANE_BYTES as i64)]
        });
        return result;
    }
    let (rows, key_stride) = emitter.row_base(tensor, key, dim)?;
    let stride = emitter.dim_stride(tensor, dim);
    let of_rows = Squares::new(emitter, dim, (plan.tensors[tensor].storage, stride, length));
    range_loop(emitter, zero, keys, 1, &[rows, sums], |emitter, _, carried| {
        let (row, out) = (carried[0], carried[1]);
        of_rows.sum(emitter, row, out);
        vec![emitter.fb().ins().iadd(row, key_stride), emitter.fb().ins().iadd_imm_s(out, LANE_BYTES as i64)]
    });
    Ok(())
}

/// How rows lie that are squared.
struct Squares {
    dim: Axis,
    storage: Storage,
    /// From element to element, in bytes.
    stride: Ssa,
    length: Ssa,
    /// The elements that are read by vectors.
    vectors: Ssa,
}

impl Squares {
    fn new(emitter: &mut ExprEmitter<'_, '_>, dim: Axis, (storage, stride, length): (Storage, Ssa, Ssa)) -> Squares {
        let zero = emitter.fb().ins().iconst(types::I64, 0);
        // Without contiguous rows every element is read by itself.
        let contiguous = emitter.fb().ins().icmp_imm_s(IntCC::Equal, stride, storage.bytes() as i64);
        let whole = emitter.fb().ins().band_imm_s(length, -(ROW_LANES as i64));
        let vectors = emitter.fb().ins().select(contiguous, whole, zero);
        Squares { dim, storage, stride, length, vectors }
    }

    /// Stores the sum of the squares of a row.
    fn sum(&self, emitter: &mut ExprEmitter<'_, '_>, row: Ssa, out: Ssa) {
        let Squares { dim, storage, stride, length, vectors } = *self;
        let wide = emitter.in_rows(dim, ROW_LANES, |emitter| {
            let (start, zero) = (emitter.v.float(0.0), emitter.fb().ins().iconst(types::I64, 0));
            range_loop(emitter, zero, vectors, ROW_LANES as i64, &[start], |emitter, element, sum| {
                let offset = emitter.fb().ins().ishl_imm_u(element, i64::from(storage.bytes().ilog2()));
                let address = emitter.fb().ins().iadd(row, offset);
                let x = stored::load_lanes(emitter.fb(), storage, ROW_LANES, (address, 0));
                vec![emitter.v.fma(x, x, sum[0])]
            })
        });
        let lane = |emitter: &mut ExprEmitter<'_, '_>, lane: u8| emitter.fb().ins().extractlane(wide[0], lane);
        let lanes: Vec<Ssa> = (0..ROW_LANES as u8).map(|n| lane(emitter, n)).collect();
        let sum = lanes.into_iter().reduce(|a, b| emitter.fb().ins().fadd(a, b));
        let sum = sum.unwrap_or_else(|| emitter.fb().ins().f32const(0.0));
        let sum = range_loop(emitter, vectors, length, 1, &[sum], |emitter, element, sum| {
            let offset = emitter.fb().ins().imul(element, stride);
            let address = emitter.fb().ins().iadd(row, offset);
            let x = stored::load(emitter.fb(), storage, address);
            let square = emitter.fb().ins().fmul(x, x);
            vec![emitter.fb().ins().fadd(sum[0], square)]
        });
        emitter.fb().ins().store(access(), sum[0], out, 0);
    }
}
