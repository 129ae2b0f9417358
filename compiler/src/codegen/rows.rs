//! Rows along an axis: by vectors where they are contiguous, pairs of a rotation together.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Op, Pairing, Value, Walk};

use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::{either, range_loop};
use crate::expr::Node;
use crate::plan::{Origin, Source, Storage, TensorId};
use crate::row_index::period;

pub(crate) use crate::machine::ROW_LANES;

/// Rows that vectors can be computed of.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    /// Whether the strides of this call allow it.
    dense: Ssa,
    /// Lanes of the vectors.
    lanes: usize,
}

/// What a row is computed of.
#[derive(Default)]
struct Reads {
    /// The tensors, each with the axis that it is read along.
    tensors: Vec<(TensorId, Axis)>,
    /// After how many elements lookups begin again.
    periods: Vec<u32>,
}

/// A rotation computed in place: its block of the axis, and its pairs.
struct RotaryBlock {
    rotate: Value,
    x: Value,
    angle: Value,
    pair: Axis,
    pairing: Pairing,
    start: u32,
    pairs: u32,
}

impl RotaryBlock {
    fn end(&self) -> u32 {
        self.start + 2 * self.pairs
    }
}

/// Emits code along a row: by vectors where `contiguous` says that the row allows it, by elements where it doesn't.
pub(crate) fn by_rows(
    emitter: &mut ExprEmitter<'_, '_>,
    axis: Axis,
    contiguous: Option<Wide>,
    mut body: impl FnMut(&mut ExprEmitter<'_, '_>) -> Result<(), CodegenError>,
) -> Result<(), CodegenError> {
    let Some(Wide { dense, lanes }) = contiguous else { return emitter.in_rows(axis, 1, body) };
    let mut results = [Ok(()), Ok(())];
    let [wide, narrow] = &mut results;
    let body = std::cell::RefCell::new(&mut body);
    let side = |emitter: &mut ExprEmitter<'_, '_>, lanes: usize, result: &mut Result<(), CodegenError>| {
        *result = emitter.in_rows(axis, lanes, |emitter| (body.borrow_mut())(emitter));
        Vec::new()
    };
    either(emitter, dense, |emitter| side(emitter, lanes, wide), |emitter| side(emitter, 1, narrow));
    let [wide, narrow] = results;
    wide.and(narrow)
}

/// Whether `root`, and the table or output it is stored to, can be computed by vectors along `axis`: a condition of this call's strides,
/// or none if never.
pub(crate) fn contiguous(
    emitter: &mut ExprEmitter<'_, '_>,
    root: Value,
    axis: Axis,
    target: Option<TensorId>,
) -> Option<Wide> {
    let plan = emitter.plan;
    let (extent, blocks) = (plan.graph.static_extent(axis)?, blocks(emitter, root, axis));
    let Reads { tensors, periods } = reads(emitter, root, axis)?;
    // Elements of fewer bits are stored one by one, which takes no longer for few lanes.
    let to_narrow = target.is_some_and(|target| plan.tensors[target].storage.is_narrow());
    let widest = if to_narrow { ROW_LANES } else { plan.machine.lanes };
    let fits = |lanes: usize| {
        let multiple = |n: u32| n.is_multiple_of(lanes as u32);
        // Neighbours change places by shuffles of four lanes.
        let of_lanes = |block: &RotaryBlock| block.pairing == Pairing::Half || lanes == ROW_LANES;
        multiple(extent)
            && periods.iter().all(|period| multiple(*period))
            && blocks.iter().all(|block| multiple(block.start) && multiple(block.pairs) && of_lanes(block))
    };
    let lanes = [widest, ROW_LANES].into_iter().find(|lanes| fits(*lanes))?;
    let dense = dense(emitter, target.map(|target| (target, axis)).into_iter().chain(tensors))?;
    Some(Wide { dense, lanes })
}

/// Whether `root` can be computed by vectors of [`ROW_LANES`] from any index of an axis of any extent: a condition of this call's strides,
/// or none if never.
pub(crate) fn contiguous_anywhere(emitter: &mut ExprEmitter<'_, '_>, root: Value, axis: Axis) -> Option<Ssa> {
    let Reads { tensors, periods } = reads(emitter, root, axis)?;
    if !periods.is_empty() || !blocks(emitter, root, axis).is_empty() {
        return None;
    }
    dense(emitter, tensors)
}

/// Whether elements of tensors lie beside one another along an axis each: a condition of this call's strides, or none if never.
fn dense(emitter: &mut ExprEmitter<'_, '_>, tensors: impl IntoIterator<Item = (TensorId, Axis)>) -> Option<Ssa> {
    let plan = emitter.plan;
    let mut all = emitter.fb().ins().iconst(types::I8, 1);
    for (tensor, axis) in tensors {
        let spec = &plan.tensors[tensor];
        if spec.dims.iter().any(|dim| *dim != axis && plan.graph.axis(*dim).groups == Some(axis)) {
            return None;
        }
        let Some(dim) = spec.dims.iter().position(|dim| *dim == axis) else { continue };
        // Constants of double precision are rounded lane by lane.
        let constant = spec.storage == Storage::F64 && matches!(spec.origin, Origin::Constant(_));
        let by_lanes = matches!(spec.storage, Storage::F32 | Storage::I32 | Storage::Mask) || spec.storage.is_narrow();
        if !constant && !by_lanes {
            return None;
        }
        match spec.origin {
            Origin::Input(_) | Origin::Output(_) => {
                let stride = emitter.stride(tensor, dim);
                let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, stride, spec.storage.bytes() as i64);
                all = emitter.fb().ins().band(all, dense);
            }
            Origin::Constant(_) | Origin::Table | Origin::KeyTile if dim + 1 < spec.dims.len() => return None,
            Origin::Constant(_) | Origin::Table | Origin::KeyTile | Origin::Index => {}
        }
    }
    Some(all)
}

/// What an expression reads along a row; `None` where it has an op that does not go by rows.
fn reads(emitter: &ExprEmitter<'_, '_>, root: Value, axis: Axis) -> Option<Reads> {
    let plan = emitter.plan;
    let (mut reads, mut walk) = (Reads::default(), Walk::of([(root, axis)]));
    while let Some((value, along)) = walk.next() {
        match plan.node(value, |table| value != root && emitter.can_read(table)) {
            Node::Table(tensor) | Node::Input(tensor) => reads.tensors.push((tensor, along)),
            Node::Const(_) | Node::Size(_) => {}
            Node::Iota(of) if of != along && plan.graph.axis(of).groups != Some(along) => {}
            node @ (Node::Unary(..)
            | Node::Cast(..)
            | Node::Binary(..)
            | Node::MulAdd(_)
            | Node::Compare(..)
            | Node::Select(_)) => walk.enter(node.operands().into_iter().map(|operand| (operand, along))),
            Node::Rotate { x } if along == axis && turns_rows(emitter, value, axis) => walk.enter([(x, along)]),
            Node::Gather { table, axis: of, index } => {
                reads.periods.push(period(&plan.graph, (table, of, index), along)?);
                walk.enter([(table, of)]);
            }
            Node::Product | Node::Iota(_) | Node::Rotate { .. } | Node::Dot { .. } | Node::Opaque => return None,
        }
    }
    Some(reads)
}

/// The tensors that a row along an axis is computed of by vectors, each with the axis that it is read along, pairs of rotations among them.
pub(crate) fn read_rows(emitter: &ExprEmitter<'_, '_>, root: Value, axis: Axis) -> Vec<(TensorId, Axis)> {
    let plan = emitter.plan;
    let Some(Reads { tensors: mut rows, periods }) = reads(emitter, root, axis) else { return Vec::new() };
    // What is looked up may be read at an index of its own too.
    if !periods.is_empty() {
        return Vec::new();
    }
    for block in blocks(emitter, root, axis) {
        let parts = [Source::Cos(block.angle), Source::Sin(block.angle)];
        rows.extend(parts.iter().filter_map(|part| Some((emitter.table(part)?, block.pair))));
    }
    rows.retain(|(tensor, along)| {
        let spec = &plan.tensors[*tensor];
        let lies_in_lanes = matches!(spec.storage, Storage::F32 | Storage::I32) || spec.storage.is_narrow();
        spec.dims.contains(along) && lies_in_lanes
    });
    rows
}

/// Whether a rotation turns rows along `axis`, by rows of its angles' tables, which are made of pairs.
fn turns_rows(emitter: &ExprEmitter<'_, '_>, value: Value, axis: Axis) -> bool {
    let plan = emitter.plan;
    let Op::Rotate { angle, dim, pair, .. } = *plan.graph.op(value) else { return false };
    let by_pairs =
        |source: &Source| emitter.table(source).is_some_and(|table| plan.tensors[table].dims.last() == Some(&pair));
    dim == axis && [Source::Cos(angle), Source::Sin(angle)].iter().all(by_pairs)
}

/// Emits a loop along `axis` that hands the expression rooted at `root` to `sink`, as many elements at a time as the shape has lanes,
/// pairs of a rotation together.
pub(crate) fn rows<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    root: Option<Value>,
    axis: Axis,
    sink: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let mut blocks = match root {
        Some(root) => blocks(emitter, root, axis),
        None => Vec::new(),
    };
    blocks.sort_by_key(|block| (block.start, block.pairs));
    let extent = emitter.extent(axis);
    let mut from = 0u32;
    for block in &blocks {
        if block.pairs == 0 {
            continue;
        }
        if from < block.start {
            let (start, end) = (iconst(emitter, from), iconst(emitter, block.start));
            plain(emitter, axis, start, end, sink, compute)?;
        }
        rotated(emitter, axis, block, sink, compute)?;
        from = block.end();
    }
    let whole = emitter.plan.graph.static_extent(axis);
    if whole.is_none_or(|whole| from < whole) {
        let start = iconst(emitter, from);
        plain(emitter, axis, start, extent, sink, compute)?;
    }
    Ok(())
}

pub(crate) fn iconst(emitter: &mut ExprEmitter<'_, '_>, x: u32) -> Ssa {
    emitter.fb().ins().iconst(types::I64, i64::from(x))
}

/// The rotations along `axis` that `root` computes in place.
fn blocks(emitter: &ExprEmitter<'_, '_>, root: Value, axis: Axis) -> Vec<RotaryBlock> {
    let (plan, mut found, mut walk) = (emitter.plan, Vec::new(), Walk::of([root]));
    while let Some(value) = walk.next() {
        if value != root && emitter.table(&Source::Value(value)).is_some() {
            continue;
        }
        match *plan.graph.op(value) {
            Op::Rotate { x, angle, dim, pair, pairing, start } => {
                if dim == axis {
                    let pairs = plan.graph.static_extent(pair).unwrap_or(0);
                    found.push(RotaryBlock { rotate: value, x, angle, pair, pairing, start, pairs });
                }
                walk.enter([x]);
            }
            Op::Dot { .. } | Op::Gather { .. } => {}
            ref op => walk.enter(op.operands()),
        }
    }
    found
}

pub(crate) fn plain<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    axis: Axis,
    start: Ssa,
    end: Ssa,
    sink: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let saved = emitter.save();
    let mut result = Ok(());
    let lanes = emitter.v.shape.lanes as i64;
    range_loop(emitter, start, end, lanes, &[], |emitter, index, _| {
        emitter.set(axis, index);
        emitter.forget(axis);
        result = compute(emitter).and_then(|x| sink(emitter, index, x));
        Vec::new()
    });
    emitter.restore(saved);
    result
}

fn rotated<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    axis: Axis,
    block: &RotaryBlock,
    sink: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let saved = emitter.save();
    let mut result = Ok(());
    let (start, pairs) = (iconst(emitter, 0), iconst(emitter, block.pairs));
    let lanes = emitter.v.shape.lanes as i64;
    range_loop(emitter, start, pairs, lanes, &[], |emitter, pair, _| {
        result = one_pair(emitter, axis, block, pair, sink, compute);
        Vec::new()
    });
    emitter.restore(saved);
    result
}

fn one_pair<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    axis: Axis,
    block: &RotaryBlock,
    pair: Ssa,
    sink: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut ExprEmitter<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let lanes = emitter.v.shape.lanes as i64;
    let (first, second) = match block.pairing {
        Pairing::Half => {
            let first = emitter.fb().ins().iadd_imm_s(pair, i64::from(block.start));
            (first, emitter.fb().ins().iadd_imm_s(first, i64::from(block.pairs)))
        }
        Pairing::Interleaved => {
            let twice = emitter.fb().ins().ishl_imm_u(pair, 1);
            let first = emitter.fb().ins().iadd_imm_s(twice, i64::from(block.start));
            (first, emitter.fb().ins().iadd_imm_s(first, lanes))
        }
    };
    // Vectors of neighbours hold both halves of their pairs.
    let mixed = block.pairing == Pairing::Interleaved && lanes > 1;
    let at = |emitter: &mut ExprEmitter<'a, 'f>, index: Ssa| {
        emitter.set(axis, index);
        emitter.forget(axis);
        emitter.emit(block.x)
    };
    let mut a = at(emitter, first)?;
    let mut b = if repeats(emitter, axis, block) { a } else { at(emitter, second)? };
    if mixed {
        (a, b) = (emitter.v.shuffle(a, b, [0, 2, 4, 6]), emitter.v.shuffle(a, b, [1, 3, 5, 7]));
    }
    emitter.forget(axis);
    emitter.set(block.pair, pair);
    let (cos, sin) = emitter.along(block.pair, |emitter| {
        Ok::<_, CodegenError>((angle_part(emitter, block, true)?, angle_part(emitter, block, false)?))
    })?;
    let (a_cos, b_cos) = (emitter.v.fmul(a, cos), emitter.v.fmul(b, cos));
    let minus_b = emitter.fb().ins().fneg(b);
    let mut rotated_a = emitter.v.fma(minus_b, sin, a_cos);
    let mut rotated_b = emitter.v.fma(a, sin, b_cos);
    if mixed {
        (rotated_a, rotated_b) = (
            emitter.v.shuffle(rotated_a, rotated_b, [0, 4, 1, 5]),
            emitter.v.shuffle(rotated_a, rotated_b, [2, 6, 3, 7]),
        );
    }
    for (index, x) in [(first, rotated_a), (second, rotated_b)] {
        emitter.set(axis, index);
        emitter.forget(axis);
        emitter.seed(block.rotate, x);
        let x = compute(emitter)?;
        sink(emitter, index, x)?;
    }
    Ok(())
}

/// Whether the second half of a block holds the elements of the first half again.
fn repeats(emitter: &ExprEmitter<'_, '_>, axis: Axis, block: &RotaryBlock) -> bool {
    let (plan, mut walk) = (emitter.plan, Walk::of([block.x]));
    while let Some(value) = walk.next() {
        if !plan.graph.varies(plan.graph.ty(value).axes, axis) {
            continue;
        }
        match plan.node(value, |table| emitter.can_read(table)) {
            node @ (Node::Unary(..)
            | Node::Cast(..)
            | Node::Binary(..)
            | Node::MulAdd(_)
            | Node::Compare(..)
            | Node::Select(_)) => walk.enter(node.operands()),
            Node::Gather { table, axis: of, index }
                if period(&plan.graph, (table, of, index), axis)
                    .is_some_and(|period| block.pairs.is_multiple_of(period)) => {}
            _ => return false,
        }
    }
    block.pairing == Pairing::Half
}

fn angle_part(emitter: &mut ExprEmitter<'_, '_>, block: &RotaryBlock, cos: bool) -> Result<Ssa, CodegenError> {
    let source = if cos { Source::Cos(block.angle) } else { Source::Sin(block.angle) };
    match emitter.table(&source) {
        Some(table) => emitter.load(table),
        None => {
            let op = emitter.plan.graph.line(block.rotate);
            Err(CodegenError::Unsupported { op, reason: "its angles have no table" })
        }
    }
}
