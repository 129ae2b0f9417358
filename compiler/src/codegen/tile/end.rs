//! The end of a query tile: normalisation, in double precision for what every query has once.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::query_tile::{Tile, bind_outer, call_word, set_query, split};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::loops::{counted_loop, either, range_loop};
use crate::codegen::rows::ROW_LANES;
use crate::codegen::vocab::{access, lane_order};
use crate::plan::{Attention, TensorId, Weighted};

/// Normalises and stores a query tile, of any shape.
pub(crate) fn end(eval: &mut Eval<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let Some(&shape) = attention.tiling.shapes.first() else { return Ok(()) };
    bind_outer(eval, attention);
    let tile = Tile::new(eval, attention, shape);
    let queries = call_word(eval, offset_of!(TileCall, queries));
    let first = call_word(eval, offset_of!(TileCall, first_query));
    let mut result = Ok(());
    counted_loop(eval, queries, &[], |eval, lane, _| {
        let saved = eval.save();
        let index = eval.fb().ins().iadd(first, lane);
        set_query(eval, attention, index);
        result = normalise(eval, tile, lane);
        eval.restore(saved);
        Vec::new()
    });
    result?;
    match &attention.weighted {
        Some(weighted) => averages(eval, tile, weighted, first, queries),
        None => Ok(()),
    }
}

/// Stores the averages, transposed: four queries by four elements where rows are contiguous, else one by one.
fn averages(
    eval: &mut Eval<'_, '_>,
    tile: Tile<'_>,
    weighted: &Weighted,
    first: Ssa,
    queries: Ssa,
) -> Result<(), CodegenError> {
    let layout = eval.plan.scratch;
    let base = eval.address(weighted.output, &[tile.attention.query, weighted.dim])?;
    let query_stride = eval.dim_stride(weighted.output, tile.attention.query);
    let stride = eval.dim_stride(weighted.output, weighted.dim);
    let head_stride = tile.attention.packed.map(|packed| eval.dim_stride(weighted.output, packed.axis));
    let zero = eval.fb().ins().iconst(types::I64, 0);
    let length = eval.fb().ins().iconst(types::I64, i64::from(weighted.length));
    let column_of = |eval: &mut Eval<'_, '_>, lane: Ssa| {
        let offset = eval.fb().ins().imul_imm_s(lane, 4);
        eval.fb().ins().iadd(tile.state, offset)
    };
    // The outer point has the first head of those that are packed.
    let out_of = |eval: &mut Eval<'_, '_>, lane: Ssa| {
        let query = eval.fb().ins().iadd(first, lane);
        let (position, head) = split(eval, tile.attention, query);
        let offset = eval.fb().ins().imul(position, query_stride);
        let mut out = eval.fb().ins().iadd(base, offset);
        if let (Some(head), Some(stride)) = (head, head_stride) {
            let offset = eval.fb().ins().imul(head, stride);
            out = eval.fb().ins().iadd(out, offset);
        }
        out
    };
    let step = ROW_LANES as i64;
    let mut single = zero;
    if weighted.length.is_multiple_of(ROW_LANES as u32) {
        let dense = eval.fb().ins().icmp_imm_s(IntCC::Equal, stride, 4);
        single = eval.fb().ins().select(dense, queries, zero);
        let last = eval.fb().ins().iadd_imm_s(queries, -1);
        range_loop(eval, zero, single, step, &[], |eval, lane, _| {
            let column = column_of(eval, lane);
            // What passes the last query is stored where that goes, before it.
            let outs = [0, 1, 2, 3].map(|row| {
                let lane = eval.fb().ins().iadd_imm_s(lane, row);
                let lane = eval.v.smin(lane, last);
                out_of(eval, lane)
            });
            let factor = eval.fb().ins().load(types::F32X4, access(), column, layout.sums as i32);
            let accumulators = eval.fb().ins().iadd_imm_s(column, layout.accumulators as i64);
            range_loop(eval, zero, length, step, &[accumulators], |eval, element, carried| {
                let scaled = [0, 1, 2, 3].map(|row| {
                    let at = (row * tile.row_bytes()) as i32;
                    let x = eval.fb().ins().load(types::F32X4, access(), carried[0], at);
                    average(eval, tile, x, factor)
                });
                let offset = eval.fb().ins().ishl_imm_u(element, 2);
                for (x, out) in eval.v.transpose(scaled).into_iter().zip(outs).rev() {
                    let address = eval.fb().ins().iadd(out, offset);
                    eval.fb().ins().store(access(), x, address, 0);
                }
                vec![eval.fb().ins().iadd_imm_s(carried[0], step * tile.row_bytes())]
            });
            Vec::new()
        });
    }
    range_loop(eval, single, queries, 1, &[], |eval, lane, _| {
        let column = column_of(eval, lane);
        let out = out_of(eval, lane);
        let factor = eval.fb().ins().load(types::F32, access(), column, layout.sums as i32);
        let accumulators = eval.fb().ins().iadd_imm_s(column, layout.accumulators as i64);
        range_loop(eval, zero, length, 1, &[accumulators, out], |eval, _, carried| {
            let x = eval.fb().ins().load(types::F32, access(), carried[0], 0);
            let x = average(eval, tile, x, factor);
            eval.fb().ins().store(access(), x, carried[1], 0);
            let next = eval.fb().ins().iadd_imm_s(carried[0], tile.row_bytes());
            vec![next, eval.fb().ins().iadd(carried[1], stride)]
        });
        Vec::new()
    });
    Ok(())
}

fn add(eval: &mut Eval<'_, '_>, sum: Option<Ssa>, x: Ssa) -> Ssa {
    match sum {
        Some(sum) => eval.v.fadd(sum, x),
        None => x,
    }
}

/// What is known of a row: the greatest score, measured without the `shift` that belongs to all of them, and the sum of the powers.
#[derive(Clone, Copy)]
struct Row {
    most: Ssa,
    sum: Ssa,
    shift: Option<Ssa>,
    /// `-inf` where no key was seen.
    limit: Ssa,
}

impl Row {
    /// The row as its tiles left it.
    fn of_tiles(eval: &mut Eval<'_, '_>, tile: Tile<'_>, column: Ssa) -> Row {
        let layout = eval.plan.scratch;
        let base = eval.fb().ins().load(types::F32, access(), column, layout.bases as i32);
        let base = eval.fb().ins().fpromote(types::F64, base);
        // Without a limit no key was seen, and the base stands for nothing.
        let limit = eval.fb().ins().load(types::F32, access(), column, layout.limits as i32);
        let limit = eval.fb().ins().fpromote(types::F64, limit);
        let low = eval.v.float(f64::NEG_INFINITY);
        let unseen = eval.v.fcmp(FloatCC::Equal, limit, low);
        let most = eval.v.select_float(unseen, low, base);
        let sum = eval.fb().ins().load(types::F32, access(), column, layout.sums as i32);
        let sum = eval.fb().ins().fpromote(types::F64, sum);
        // With the reference of the key terms, which comes negated, scores are the true ones.
        let shift = tile.attention.key_term.map(|_| {
            let reference = eval.fb().ins().load(types::F32, access(), column, layout.references as i32);
            let reference = eval.fb().ins().fpromote(types::F64, reference);
            eval.fb().ins().fneg(reference)
        });
        Row { most, sum, shift, limit }
    }

    /// The row with a term of the query alone, which changes no weight where it is finite. `-inf` hides the whole row; NaN and `inf` make
    /// NaN of it, where it sees a key.
    fn with_query_term(
        self,
        eval: &mut Eval<'_, '_>,
        attention: &Attention,
        term: Option<TensorId>,
    ) -> Result<Row, CodegenError> {
        let Some(term) = term else { return Ok(self) };
        let term = eval.load(term)?;
        let (zero, low) = (eval.v.float(0.0), eval.v.float(f64::NEG_INFINITY));
        let seen = if attention.masks.is_empty() {
            let keys = eval.extent(attention.key);
            eval.fb().ins().icmp_imm_s(IntCC::NotEqual, keys, 0)
        } else {
            eval.v.fcmp(FloatCC::NotEqual, self.limit, low)
        };
        // Where nothing is seen there is no term, whatever it holds: the sink is all there is.
        let term = eval.v.select_float(seen, term, zero);
        let hidden = eval.v.fcmp(FloatCC::Equal, term, low);
        let term = eval.v.select_float(hidden, zero, term);
        // 0, but for a term that is NaN or infinite.
        let spoilt = eval.v.fsub(term, term);
        let sum = eval.v.fadd(self.sum, spoilt);
        // 0, but for a sum that is NaN.
        let none = eval.v.fmul(sum, zero);
        let sum = eval.v.select_float(hidden, none, sum);
        let most = eval.v.select_float(hidden, low, self.most);
        let shift = Some(add(eval, self.shift, term));
        Ok(Row { most, sum, shift, limit: self.limit })
    }
}

/// Replaces the sum of a query by the factor of its average, and stores its log-sum-exp. Double precision.
fn normalise(eval: &mut Eval<'_, '_>, tile: Tile<'_>, lane: Ssa) -> Result<(), CodegenError> {
    let (layout, attention) = (eval.plan.scratch, tile.attention);
    let offset = eval.fb().ins().imul_imm_s(lane, 4);
    let column = eval.fb().ins().iadd(tile.state, offset);
    let tiles = Row::of_tiles(eval, tile, column);
    let Row { mut most, mut sum, shift, limit } = tiles.with_query_term(eval, attention, attention.query_term)?;
    let zero = eval.v.float(0.0);
    let one = eval.v.float(1.0);
    let mut numerator = one;
    if let Some(sink) = attention.sink {
        let sink = eval.load(sink)?;
        let sink = match shift {
            Some(shift) => eval.v.fsub(sink, shift),
            None => sink,
        };
        let top = eval.v.pseudo_max(sink, most);
        let low = eval.v.float(f64::NEG_INFINITY);
        let empty = eval.v.fcmp(FloatCC::Equal, top, low);
        let top = eval.v.select_float(empty, zero, top);
        let difference = eval.v.fsub(most, top);
        numerator = eval.v.exp2(difference);
        let difference = eval.v.fsub(sink, top);
        let weight = eval.v.exp2(difference);
        let scaled = eval.v.fmul(sum, numerator);
        sum = eval.v.fadd(scaled, weight);
        most = top;
    }
    let none = eval.v.fcmp(FloatCC::Equal, sum, zero);
    let quotient = eval.fb().ins().fdiv(numerator, sum);
    let factor = eval.v.select_float(none, zero, quotient);
    let factor = eval.fb().ins().fdemote(types::F32, factor);
    eval.fb().ins().store(access(), factor, column, layout.sums as i32);
    let Some(log_sum) = &attention.log_sum else { return Ok(()) };
    let (mut row, mut none) = (Row { most, sum, shift, limit }, none);
    if log_sum.query_term != attention.query_term {
        // Without a sink, then: where there is one, both are of the same score.
        row = tiles.with_query_term(eval, attention, log_sum.query_term)?;
        none = eval.v.fcmp(FloatCC::Equal, row.sum, zero);
    }
    let log = eval.v.log2(row.sum);
    let mut value = eval.v.fadd(row.most, log);
    if let Some(shift) = row.shift {
        value = eval.v.fadd(value, shift);
    }
    let low = eval.v.float(f64::NEG_INFINITY);
    let value = eval.v.select_float(none, low, value);
    eval.seed(log_sum.leaf, value);
    let value = eval.emit(log_sum.value)?;
    let value = eval.fb().ins().fdemote(types::F32, value);
    let address = eval.address(log_sum.output, &[])?;
    let Some(first) = first_of_shared(eval, tile.attention, log_sum.output) else {
        eval.fb().ins().store(access(), value, address, 0);
        return Ok(());
    };
    let store = |eval: &mut Eval<'_, '_>| {
        eval.fb().ins().store(access(), value, address, 0);
        Vec::new()
    };
    either(eval, first, store, |_| Vec::new());
    Ok(())
}

/// An element of an average. Rows that a term of their query hides are 0, whatever the values hold.
fn average(eval: &mut Eval<'_, '_>, tile: Tile<'_>, sum: Ssa, factor: Ssa) -> Ssa {
    let average = eval.fb().ins().fmul(sum, factor);
    if tile.attention.query_term.is_none() {
        return average;
    }
    let ty = eval.fb().func.dfg.value_type(factor);
    let zero = eval.fb().ins().f32const(0.0);
    let zero = if ty.is_vector() { eval.fb().ins().splat(ty, zero) } else { zero };
    let hidden = eval.fb().ins().fcmp(FloatCC::Equal, factor, zero);
    if ty.is_vector() {
        let hidden = eval.fb().ins().bitcast(ty, lane_order(), hidden);
        eval.fb().ins().bitselect(hidden, zero, average)
    } else {
        eval.fb().ins().select(hidden, zero, average)
    }
}

/// Whether this point is the first of those that share an element of a tensor; none if no two do.
fn first_of_shared(eval: &mut Eval<'_, '_>, attention: &Attention, tensor: TensorId) -> Option<Ssa> {
    let plan = eval.plan;
    let dims = &plan.tensors[tensor].dims;
    let mut first = None;
    for &axis in attention.outer.iter().filter(|axis| !dims.contains(axis)) {
        let Some(index) = eval.index(axis) else { continue };
        let groups = |dim: &Axis| plan.graph.grouped(*dim).filter(|(finer, _)| *finer == axis);
        let index = match dims.iter().find_map(groups) {
            Some((_, ratio)) => eval.fb().ins().urem_imm_u(index, i64::from(ratio)),
            None => index,
        };
        let here = eval.fb().ins().icmp_imm_s(IntCC::Equal, index, 0);
        first = Some(match first {
            Some(first) => eval.fb().ins().band(first, here),
            None => here,
        });
    }
    first
}
