//! Map steps: tables, transformed rows and plain outputs, element by element.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Op, Pairing, Value};

use super::CodegenError;
use super::eval::Eval;
use super::loops::{counted_loop, range_loop};
use super::vocab::access;
use crate::plan::{MapStep, Source, Storage, TensorId};

/// A rotation computed in place: its block of the axis, and its pairs.
struct Block {
    rotate: Value,
    x: Value,
    angle: Value,
    pair: Axis,
    pairing: Pairing,
    start: u32,
    pairs: u32,
}

impl Block {
    fn end(&self) -> u32 {
        self.start + 2 * self.pairs
    }
}

/// Emits the body of a map step.
pub(crate) fn map_step(eval: &mut Eval<'_, '_>, index: usize, step: &MapStep) -> Result<(), CodegenError> {
    let plan = eval.plan;
    eval.run_as_step(index);
    let dims = plan.tensors[step.target].dims.clone();
    let outer: Vec<Axis> = dims.iter().copied().filter(|axis| Some(*axis) != step.inner).collect();
    let scratch = eval.scratch;
    let range = plan.scratch.range as i32;
    let start = eval.fb().ins().load(types::I64, access(), scratch, range);
    let end = eval.fb().ins().load(types::I64, access(), scratch, range + 8);
    let mut result = Ok(());
    range_loop(eval, start, end, 1, &[], |eval, flat, _| {
        let saved = eval.save();
        let mut rest = flat;
        for &axis in outer.iter().rev() {
            let extent = eval.extent(axis);
            let index = eval.fb().ins().urem(rest, extent);
            rest = eval.fb().ins().udiv(rest, extent);
            eval.set(axis, index);
        }
        result = match step.inner {
            None => element(eval, step),
            Some(inner) => rows(
                eval,
                step.root(),
                inner,
                &mut |eval, index, x| {
                    eval.set(inner, index);
                    store(eval, step, x)
                },
                &mut |eval| compute(eval, step),
            ),
        };
        eval.restore(saved);
        Vec::new()
    });
    result
}

impl MapStep {
    /// The value whose rotations are computed in place, if the step computes a value itself.
    fn root(&self) -> Option<Value> {
        match &self.source {
            Source::Value(value) => Some(*value),
            _ => None,
        }
    }
}

fn element(eval: &mut Eval<'_, '_>, step: &MapStep) -> Result<(), CodegenError> {
    let x = compute(eval, step)?;
    store(eval, step, x)
}

fn compute(eval: &mut Eval<'_, '_>, step: &MapStep) -> Result<Ssa, CodegenError> {
    match &step.source {
        Source::Value(value) => eval.emit(*value),
        Source::Sum(terms) => eval.sum(terms),
        Source::Cos(angle) | Source::Sin(angle) => {
            let angle = eval.emit(*angle)?;
            let (sin, cos) = eval.v.sin_cos(angle);
            if let Some(sines) = step.sines {
                store_to(eval, sines, sin)?;
            }
            Ok(cos)
        }
    }
}

/// Stores the element of a step's target at the current point.
fn store(eval: &mut Eval<'_, '_>, step: &MapStep, x: Ssa) -> Result<(), CodegenError> {
    store_to(eval, step.target, x)
}

fn store_to(eval: &mut Eval<'_, '_>, target: TensorId, x: Ssa) -> Result<(), CodegenError> {
    let address = eval.address(target, &[])?;
    let double = eval.v.shape.double;
    let storage = eval.plan.tensors[target].storage;
    let fb = eval.fb();
    let x = match storage {
        Storage::F32 if double => fb.ins().fdemote(types::F32, x),
        Storage::F64 if !double => fb.ins().fpromote(types::F64, x),
        Storage::Mask => {
            let wide = fb.ins().uextend(types::I32, x);
            fb.ins().ineg(wide)
        }
        _ => x,
    };
    fb.ins().store(access(), x, address, 0);
    Ok(())
}

/// Emits a loop along `axis` that hands every element of the expression rooted at `root` to `sink`, pairs of a rotation together.
pub(crate) fn rows<'a, 'f>(
    eval: &mut Eval<'a, 'f>,
    root: Option<Value>,
    axis: Axis,
    sink: &mut dyn FnMut(&mut Eval<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut Eval<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let mut blocks = match root {
        Some(root) => blocks(eval, root, axis),
        None => Vec::new(),
    };
    blocks.sort_by_key(|block| (block.start, block.pairs));
    let extent = eval.extent(axis);
    let mut from = 0u32;
    for block in &blocks {
        if block.pairs == 0 {
            continue;
        }
        if from < block.start {
            let (start, end) = (iconst(eval, from), iconst(eval, block.start));
            plain(eval, axis, start, end, sink, compute)?;
        }
        rotated(eval, axis, block, sink, compute)?;
        from = block.end();
    }
    let whole = eval.plan.graph.static_extent(axis);
    if whole.is_none_or(|whole| from < whole) {
        let start = iconst(eval, from);
        plain(eval, axis, start, extent, sink, compute)?;
    }
    Ok(())
}

fn iconst(eval: &mut Eval<'_, '_>, x: u32) -> Ssa {
    eval.fb().ins().iconst(types::I64, i64::from(x))
}

/// The rotations along `axis` that `root` computes in place.
fn blocks(eval: &Eval<'_, '_>, root: Value, axis: Axis) -> Vec<Block> {
    let (plan, mut found) = (eval.plan, Vec::new());
    let mut seen = vec![false; root.index() + 1];
    let mut stack = vec![root];
    while let Some(value) = stack.pop() {
        if std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        if value != root && eval.table(&Source::Value(value)).is_some() {
            continue;
        }
        match *plan.graph.op(value) {
            Op::Rotate { x, angle, dim, pair, pairing, start } => {
                if dim == axis {
                    let pairs = plan.graph.static_extent(pair).unwrap_or(0);
                    found.push(Block { rotate: value, x, angle, pair, pairing, start, pairs });
                }
                stack.push(x);
            }
            Op::Dot { .. } | Op::Gather { .. } => {}
            ref op => stack.extend(op.operands()),
        }
    }
    found
}

fn plain<'a, 'f>(
    eval: &mut Eval<'a, 'f>,
    axis: Axis,
    start: Ssa,
    end: Ssa,
    sink: &mut dyn FnMut(&mut Eval<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut Eval<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let saved = eval.save();
    let mut result = Ok(());
    range_loop(eval, start, end, 1, &[], |eval, index, _| {
        eval.set(axis, index);
        eval.forget(axis);
        result = compute(eval).and_then(|x| sink(eval, index, x));
        Vec::new()
    });
    eval.restore(saved);
    result
}

fn rotated<'a, 'f>(
    eval: &mut Eval<'a, 'f>,
    axis: Axis,
    block: &Block,
    sink: &mut dyn FnMut(&mut Eval<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut Eval<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let saved = eval.save();
    let mut result = Ok(());
    let pairs = iconst(eval, block.pairs);
    counted_loop(eval, pairs, &[], |eval, pair, _| {
        result = one_pair(eval, axis, block, pair, sink, compute);
        Vec::new()
    });
    eval.restore(saved);
    result
}

fn one_pair<'a, 'f>(
    eval: &mut Eval<'a, 'f>,
    axis: Axis,
    block: &Block,
    pair: Ssa,
    sink: &mut dyn FnMut(&mut Eval<'a, 'f>, Ssa, Ssa) -> Result<(), CodegenError>,
    compute: &mut dyn FnMut(&mut Eval<'a, 'f>) -> Result<Ssa, CodegenError>,
) -> Result<(), CodegenError> {
    let (first, second) = match block.pairing {
        Pairing::Half => {
            let first = eval.fb().ins().iadd_imm_s(pair, i64::from(block.start));
            (first, eval.fb().ins().iadd_imm_s(first, i64::from(block.pairs)))
        }
        Pairing::Interleaved => {
            let twice = eval.fb().ins().ishl_imm_u(pair, 1);
            let first = eval.fb().ins().iadd_imm_s(twice, i64::from(block.start));
            (first, eval.fb().ins().iadd_imm_s(first, 1))
        }
    };
    let at = |eval: &mut Eval<'a, 'f>, index: Ssa| {
        eval.set(axis, index);
        eval.forget(axis);
        eval.emit(block.x)
    };
    let (a, b) = (at(eval, first)?, at(eval, second)?);
    eval.forget(axis);
    eval.set(block.pair, pair);
    let (cos, sin) = (angle_part(eval, block, true)?, angle_part(eval, block, false)?);
    let (a_cos, b_cos) = (eval.v.fmul(a, cos), eval.v.fmul(b, cos));
    let minus_b = eval.fb().ins().fneg(b);
    let rotated_a = eval.v.fma(minus_b, sin, a_cos);
    let rotated_b = eval.v.fma(a, sin, b_cos);
    for (index, x) in [(first, rotated_a), (second, rotated_b)] {
        eval.set(axis, index);
        eval.forget(axis);
        eval.seed(block.rotate, x);
        let x = compute(eval)?;
        sink(eval, index, x)?;
    }
    Ok(())
}

fn angle_part(eval: &mut Eval<'_, '_>, block: &Block, cos: bool) -> Result<Ssa, CodegenError> {
    let source = if cos { Source::Cos(block.angle) } else { Source::Sin(block.angle) };
    match eval.table(&source) {
        Some(table) => eval.load(table),
        None => {
            let op = eval.plan.graph.line(block.rotate);
            Err(CodegenError::Unsupported { op, reason: "its angles have no table" })
        }
    }
}

/// `a < b ? a : b`, signed.
pub(crate) fn least(eval: &mut Eval<'_, '_>, a: Ssa, b: Ssa) -> Ssa {
    let less = eval.fb().ins().icmp(IntCC::SignedLessThan, a, b);
    eval.fb().ins().select(less, a, b)
}
