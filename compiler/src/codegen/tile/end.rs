//! The end of a query tile: normalisation of a softmax, in double precision for what every query has once, and the output.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};
use rhumb_ir::Axis;

use super::query_tile::{Tile, bind_batch_indices, call_word, set_query, split};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, either, range_loop};
use crate::codegen::rows::ROW_LANES;
use crate::codegen::stored;
use crate::codegen::vocab::{access, lane_order};
use crate::machine::LANE_BYTES;
use crate::plan::{Attention, Reduction, Storage, TensorId};

/// Normalises and stores a query tile, of any shape.
pub(crate) fn end(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention) -> Result<(), CodegenError> {
    let Some(&shape) = emitter.plan.tiling.shapes.first() else { return Ok(()) };
    bind_batch_indices(emitter, attention);
    let tile = Tile::new(emitter, attention, shape);
    normalise_all(emitter, tile)?;
    attention.reductions.iter().try_for_each(|reduction| averages(emitter, tile, reduction))
}

/// Normalises all queries of a softmax.
pub(super) fn normalise_all(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>) -> Result<(), CodegenError> {
    if !tile.of_softmax() {
        return Ok(());
    }
    let queries = call_word(emitter, offset_of!(TileCall, queries));
    let first = call_word(emitter, offset_of!(TileCall, first_query));
    let mut result = Ok(());
    counted_loop(emitter, queries, &[], |emitter, lane, _| {
        let saved = emitter.save();
        let index = emitter.fb().ins().iadd(first, lane);
        set_query(emitter, tile.attention, index);
        result = normalise(emitter, tile, lane);
        emitter.restore(saved);
        Vec::new()
    });
    result
}

/// Stores the averages, transposed: four queries by four elements where rows are contiguous, else one by one.
fn averages(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, reduction: &Reduction) -> Result<(), CodegenError> {
    let rows = OutputRows::new(emitter, tile, reduction)?;
    let queries = call_word(emitter, offset_of!(TileCall, queries));
    let mut single = rows.zero;
    if reduction.length.is_multiple_of(ROW_LANES as u32) {
        let dense = rows.dense(emitter);
        single = emitter.fb().ins().select(dense, queries, rows.zero);
        rows.store_by_fours(emitter, single, queries);
    }
    rows.store_each(emitter, (single, queries));
    Ok(())
}

/// The rows of the output that a query tile writes.
pub(super) struct OutputRows<'a> {
    tile: Tile<'a>,
    /// The first query of the tile.
    first: Ssa,
    /// Address of the row of query 0.
    base: Ssa,
    query_stride: Ssa,
    /// From head to head, where heads are packed.
    head_stride: Option<Ssa>,
    /// From element to element.
    pub(super) stride: Ssa,
    /// How elements are stored.
    pub(super) storage: Storage,
    zero: Ssa,
    /// Elements of a row.
    length: Ssa,
    /// Offset in the state of the first row of accumulators.
    accumulators: i64,
}

impl<'a> OutputRows<'a> {
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        tile: Tile<'a>,
        reduction: &Reduction,
    ) -> Result<OutputRows<'a>, CodegenError> {
        let first = call_word(emitter, offset_of!(TileCall, first_query));
        let base = emitter.address(reduction.output, &[tile.attention.query, reduction.dim])?;
        let query_stride = emitter.dim_stride(reduction.output, tile.attention.query);
        let stride = emitter.dim_stride(reduction.output, reduction.dim);
        let head_stride = tile.attention.packed.map(|packed| emitter.dim_stride(reduction.output, packed.axis));
        let zero = emitter.fb().ins().iconst(types::I64, 0);
        let length = emitter.fb().ins().iconst(types::I64, i64::from(reduction.length));
        let accumulators = emitter.plan.scratch.accumulators as i64 + i64::from(reduction.first) * tile.row_bytes();
        let storage = emitter.plan.tensors[reduction.output].storage;
        Ok(OutputRows { tile, first, base, query_stride, head_stride, stride, storage, zero, length, accumulators })
    }

    /// Whether the elements of a row are neighbours.
    pub(super) fn dense(&self, emitter: &mut ExprEmitter<'_, '_>) -> Ssa {
        emitter.fb().ins().icmp_imm_s(IntCC::Equal, self.stride, self.storage.bytes() as i64)
    }

    /// The address of a lane in the state.
    pub(super) fn column(&self, emitter: &mut ExprEmitter<'_, '_>, lane: Ssa) -> Ssa {
        let offset = emitter.fb().ins().imul_imm_s(lane, LANE_BYTES as i64);
        emitter.fb().ins().iadd(self.tile.state, offset)
    }

    /// The address of a lane's row. The outer point has the first head of those that are packed.
    pub(super) fn row(&self, emitter: &mut ExprEmitter<'_, '_>, lane: Ssa) -> Ssa {
        let query = emitter.fb().ins().iadd(self.first, lane);
        let (position, head) = split(emitter, self.tile.attention, query);
        let offset = emitter.fb().ins().imul(position, self.query_stride);
        let mut out = emitter.fb().ins().iadd(self.base, offset);
        if let (Some(head), Some(stride)) = (head, self.head_stride) {
            let offset = emitter.fb().ins().imul(head, stride);
            out = emitter.fb().ins().iadd(out, offset);
        }
        out
    }

    /// Stores the rows of the first lanes, up to `to`, four at a time.
    fn store_by_fours(&self, emitter: &mut ExprEmitter<'_, '_>, to: Ssa, queries: Ssa) {
        let (tile, step) = (self.tile, ROW_LANES as i64);
        let last = emitter.fb().ins().iadd_imm_s(queries, -1);
        range_loop(emitter, self.zero, to, step, &[], |emitter, lane, _| {
            let column = self.column(emitter, lane);
            // Padding lanes write the last row first; the real lane overwrites it.
            let outs = [0, 1, 2, 3].map(|row| {
                let lane = emitter.fb().ins().iadd_imm_s(lane, row);
                let lane = emitter.v.smin(lane, last);
                self.row(emitter, lane)
            });
            let factor = factor(emitter, tile, types::F32X4, column);
            let accumulators = emitter.fb().ins().iadd_imm_s(column, self.accumulators);
            range_loop(emitter, self.zero, self.length, step, &[accumulators], |emitter, element, carried| {
                let scaled = [0, 1, 2, 3].map(|row| {
                    let at = (row * tile.row_bytes()) as i32;
                    let x = emitter.fb().ins().load(types::F32X4, access(), carried[0], at);
                    average(emitter, tile, x, factor)
                });
                let offset = emitter.fb().ins().imul_imm_s(element, self.storage.bytes() as i64);
                for (x, out) in emitter.v.transpose(scaled).into_iter().zip(outs).rev() {
                    let address = emitter.fb().ins().iadd(out, offset);
                    stored::store(emitter.fb(), self.storage, x, address);
                }
                vec![emitter.fb().ins().iadd_imm_s(carried[0], step * tile.row_bytes())]
            });
            Vec::new()
        });
    }

    /// Stores the rows of lanes from and to, element by element.
    fn store_each(&self, emitter: &mut ExprEmitter<'_, '_>, (from, to): (Ssa, Ssa)) {
        let tile = self.tile;
        range_loop(emitter, from, to, 1, &[], |emitter, lane, _| {
            let column = self.column(emitter, lane);
            let out = self.row(emitter, lane);
            let factor = factor(emitter, tile, types::F32, column);
            let accumulators = emitter.fb().ins().iadd_imm_s(column, self.accumulators);
            range_loop(emitter, self.zero, self.length, 1, &[accumulators, out], |emitter, _, carried| {
                let x = emitter.fb().ins().load(types::F32, access(), carried[0], 0);
                let x = average(emitter, tile, x, factor);
                stored::store(emitter.fb(), self.storage, x, carried[1]);
                let next = emitter.fb().ins().iadd_imm_s(carried[0], tile.row_bytes());
                vec![next, emitter.fb().ins().iadd(carried[1], self.stride)]
            });
            Vec::new()
        });
    }
}

fn add(emitter: &mut ExprEmitter<'_, '_>, sum: Option<Ssa>, x: Ssa) -> Ssa {
    match sum {
        Some(sum) => emitter.v.fadd(sum, x),
        None => x,
    }
}

/// A row's state: its greatest score, without the `shift` that all scores share, and the sum of its powers.
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
    fn of_tiles(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, column: Ssa) -> Row {
        let layout = emitter.plan.scratch;
        let base = emitter.fb().ins().load(types::F32, access(), column, layout.bases as i32);
        let base = emitter.fb().ins().fpromote(types::F64, base);
        // Without a limit no key was seen, and the base stands for nothing.
        let limit = emitter.fb().ins().load(types::F32, access(), column, layout.limits as i32);
        let limit = emitter.fb().ins().fpromote(types::F64, limit);
        let low = emitter.v.float(f64::NEG_INFINITY);
        let unseen = emitter.v.fcmp(FloatCC::Equal, limit, low);
        let most = emitter.v.select_float(unseen, low, base);
        let sum = emitter.fb().ins().load(types::F32, access(), column, layout.sums as i32);
        let sum = emitter.fb().ins().fpromote(types::F64, sum);
        // With the reference of the key terms, which comes negated, scores are the true ones.
        let shift = tile.attention.key_term.map(|_| {
            let reference = emitter.fb().ins().load(types::F32, access(), column, layout.references as i32);
            let reference = emitter.fb().ins().fpromote(types::F64, reference);
            emitter.fb().ins().fneg(reference)
        });
        Row { most, sum, shift, limit }
    }

    /// The row with a term of the query alone, which changes no weight where it is finite. `-inf` hides the whole row; NaN and `inf` make
    /// NaN of it, where it sees a key.
    fn with_query_term(
        self,
        emitter: &mut ExprEmitter<'_, '_>,
        attention: &Attention,
        term: Option<TensorId>,
    ) -> Result<Row, CodegenError> {
        let Some(term) = term else { return Ok(self) };
        let term = emitter.load(term)?;
        let (zero, low) = (emitter.v.float(0.0), emitter.v.float(f64::NEG_INFINITY));
        let seen = if attention.masks.is_empty() {
            let keys = emitter.extent(attention.key);
            emitter.fb().ins().icmp_imm_s(IntCC::NotEqual, keys, 0)
        } else {
            emitter.v.fcmp(FloatCC::NotEqual, self.limit, low)
        };
        // Where nothing is seen there is no term, whatever it holds: the sink is all there is.
        let term = emitter.v.select_float(seen, term, zero);
        let hidden = emitter.v.fcmp(FloatCC::Equal, term, low);
        let term = emitter.v.select_float(hidden, zero, term);
        // 0, but for a term that is NaN or infinite.
        let spoilt = emitter.v.fsub(term, term);
        let sum = emitter.v.fadd(self.sum, spoilt);
        // 0, but for a sum that is NaN.
        let none = emitter.v.fmul(sum, zero);
        let sum = emitter.v.select_float(hidden, none, sum);
        let most = emitter.v.select_float(hidden, low, self.most);
        let shift = Some(add(emitter, self.shift, term));
        Ok(Row { most, sum, shift, limit: self.limit })
    }
}

/// Adds the weight of a sink to the sum of a row: gives the greatest score that both are measured from then, the sum, and what that was
/// multiplied with.
fn with_sink(
    emitter: &mut ExprEmitter<'_, '_>,
    sink: TensorId,
    (most, sum, shift): (Ssa, Ssa, Option<Ssa>),
    zero: Ssa,
) -> Result<[Ssa; 3], CodegenError> {
    let sink = emitter.load(sink)?;
    let sink = match shift {
        Some(shift) => emitter.v.fsub(sink, shift),
        None => sink,
    };
    let top = emitter.v.pseudo_max(sink, most);
    let low = emitter.v.float(f64::NEG_INFINITY);
    let empty = emitter.v.fcmp(FloatCC::Equal, top, low);
    let top = emitter.v.select_float(empty, zero, top);
    let difference = emitter.v.fsub(most, top);
    let numerator = emitter.v.exp2(difference);
    let difference = emitter.v.fsub(sink, top);
    let weight = emitter.v.exp2(difference);
    let scaled = emitter.v.fmul(sum, numerator);
    Ok([top, emitter.v.fadd(scaled, weight), numerator])
}

/// Replaces the sum of a query by the factor of its average, and stores its log-sum-exp. Double precision.
fn normalise(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, lane: Ssa) -> Result<(), CodegenError> {
    let (layout, attention) = (emitter.plan.scratch, tile.attention);
    let offset = emitter.fb().ins().imul_imm_s(lane, LANE_BYTES as i64);
    let column = emitter.fb().ins().iadd(tile.state, offset);
    let tiles = Row::of_tiles(emitter, tile, column);
    let Row { mut most, mut sum, shift, limit } = tiles.with_query_term(emitter, attention, attention.query_term)?;
    let zero = emitter.v.float(0.0);
    let one = emitter.v.float(1.0);
    let mut numerator = one;
    if let Some(sink) = attention.sink() {
        [most, sum, numerator] = with_sink(emitter, sink, (most, sum, shift), zero)?;
    }
    let none = emitter.v.fcmp(FloatCC::Equal, sum, zero);
    let quotient = emitter.fb().ins().fdiv(numerator, sum);
    let factor = emitter.v.select_float(none, zero, quotient);
    let factor = emitter.fb().ins().fdemote(types::F32, factor);
    emitter.fb().ins().store(access(), factor, column, layout.sums as i32);
    let Some(log_sum) = attention.log_sum() else { return Ok(()) };
    let (mut row, mut none) = (Row { most, sum, shift, limit }, none);
    if log_sum.query_term != attention.query_term {
        // Without a sink, then: where there is one, both are of the same score.
        row = tiles.with_query_term(emitter, attention, log_sum.query_term)?;
        none = emitter.v.fcmp(FloatCC::Equal, row.sum, zero);
    }
    let log = emitter.v.log2(row.sum);
    let mut value = emitter.v.fadd(row.most, log);
    if let Some(shift) = row.shift {
        value = emitter.v.fadd(value, shift);
    }
    let low = emitter.v.float(f64::NEG_INFINITY);
    let value = emitter.v.select_float(none, low, value);
    emitter.seed(log_sum.leaf, value);
    let value = emitter.emit(log_sum.value)?;
    let value = emitter.fb().ins().fdemote(types::F32, value);
    let address = emitter.address(log_sum.output, &[])?;
    let storage = emitter.plan.tensors[log_sum.output].storage;
    let Some(first) = first_of_shared(emitter, tile.attention, log_sum.output) else {
        stored::store(emitter.fb(), storage, value, address);
        return Ok(());
    };
    let store = |emitter: &mut ExprEmitter<'_, '_>| {
        stored::store(emitter.fb(), storage, value, address);
        Vec::new()
    };
    either(emitter, first, store, |_| Vec::new());
    Ok(())
}

/// The factors of averages, from a column on; none for plain sums.
pub(super) fn factor(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, ty: Type, column: Ssa) -> Option<Ssa> {
    let sums = emitter.plan.scratch.sums as i32;
    tile.of_softmax().then(|| emitter.fb().ins().load(ty, access(), column, sums))
}

/// An element of an average. Rows that a term of their query hides are 0, whatever the values hold.
pub(super) fn average(emitter: &mut ExprEmitter<'_, '_>, tile: Tile<'_>, sum: Ssa, factor: Option<Ssa>) -> Ssa {
    let Some(factor) = factor else { return sum };
    let average = emitter.fb().ins().fmul(sum, factor);
    if tile.attention.query_term.is_none() {
        return average;
    }
    let ty = emitter.fb().func.dfg.value_type(factor);
    let zero = emitter.fb().ins().f32const(0.0);
    let zero = if ty.is_vector() { emitter.fb().ins().splat(ty, zero) } else { zero };
    let hidden = emitter.fb().ins().fcmp(FloatCC::Equal, factor, zero);
    if ty.is_vector() {
        let hidden = emitter.fb().ins().bitcast(ty, lane_order(), hidden);
        emitter.fb().ins().bitselect(hidden, zero, average)
    } else {
        emitter.fb().ins().select(hidden, zero, average)
    }
}

/// Whether this point is the first of those that share an element of a tensor; none if no two do.
fn first_of_shared(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention, tensor: TensorId) -> Option<Ssa> {
    let plan = emitter.plan;
    let dims = &plan.tensors[tensor].dims;
    let mut first = None;
    for &axis in attention.outer.iter().filter(|axis| !dims.contains(axis)) {
        let Some(index) = emitter.index(axis) else { continue };
        let groups = |dim: &Axis| plan.graph.grouped(*dim).filter(|(finer, _)| *finer == axis);
        let index = match dims.iter().find_map(groups) {
            Some((_, ratio)) => emitter.fb().ins().urem_imm_u(index, i64::from(ratio)),
            None => index,
        };
        let here = emitter.fb().ins().icmp_imm_s(IntCC::Equal, index, 0);
        first = Some(match first {
            Some(first) => emitter.fb().ins().band(first, here),
            None => here,
        });
    }
    first
}
