//! The operations that a graph asks for.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;

use rhumb::compiler::CompileError;
use rhumb::ir::{AxisSet, Bindings, Op, Scalar, Tensor, Value, interpret_value};
use rhumb::plugins::{Registry, lower};
use rhumb::prelude::*;

use super::CliError;
use super::dims::Lengths;
use super::tensor::list;
use super::tensors::Tensors;

/// What a call has to do, however it does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// Multiplications and additions of matrix products, as far as masks let them through.
    pub(super) operations: f64,
    /// The share of query-key pairs that the mask lets through.
    pub(super) visible: f64,
}

/// Masks of more elements are counted on some of their queries, evenly spread.
const MOST_COUNTED: usize = 1 << 22;

/// The operations of a call of `graph` on `tensors`.
pub(super) fn work(
    graph: &Verified,
    registry: &Registry,
    tensors: &Tensors,
    lengths: &Lengths,
) -> Result<Work, CliError> {
    let lowered = lower(graph, registry).map_err(CompileError::Lower)?;
    let masks = masks(&lowered);
    let visible = match masks.first() {
        Some(mask) => count(&lowered, mask, tensors, lengths)?,
        None => 1.0,
    };
    let normalised: BTreeSet<Axis> = softmaxes(&lowered).map(|(_, axis)| axis).collect();
    let mut operations = 0.0;
    for node in lowered.nodes() {
        let Op::Dot { a, b, axis: _ } = node.op else { continue };
        let axes = lowered.join(lowered.ty(a).axes, lowered.ty(b).axes);
        let pairs: f64 = axes.iter().map(|axis| lengths.of(axis) as f64).product();
        let share = if axes.iter().any(|axis| normalised.contains(&axis)) { visible } else { 1.0 };
        operations += 2.0 * pairs * share;
    }
    Ok(Work { operations, visible })
}

fn softmaxes(graph: &Verified) -> impl Iterator<Item = (Value, Axis)> {
    graph.nodes().iter().filter_map(|node| match node.op {
        Op::Softmax { x, axis, sink: _, base: _ } => Some((x, axis)),
        _ => None,
    })
}

/// The conditions that hide scores of each softmax.
fn masks(graph: &Verified) -> Vec<Vec<Value>> {
    let hidden = |value: Value| matches!(graph.op(value), Op::Const(Scalar::F32(x)) if *x == f64::NEG_INFINITY);
    softmaxes(graph)
        .map(|(mut score, _)| {
            let mut conditions = Vec::new();
            while let Op::Select { cond, on_true, on_false } = *graph.op(score)
                && hidden(on_false)
            {
                conditions.push(cond);
                score = on_true;
            }
            conditions
        })
        .collect()
}

/// The share of pairs for which all conditions hold, counted on at most [`MOST_COUNTED`] of them.
fn count(graph: &Verified, conditions: &[Value], tensors: &Tensors, lengths: &Lengths) -> Result<f64, CliError> {
    if conditions.is_empty() {
        return Ok(1.0);
    }
    let axes = conditions.iter().fold(AxisSet::EMPTY, |axes, condition| graph.join(axes, graph.ty(*condition).axes));
    let size: f64 = axes.iter().map(|axis| lengths.of(axis) as f64).product();
    let open = axes.iter().filter(|axis| graph.static_extent(*axis).is_none());
    let sample = open.max_by_key(|axis| lengths.of(*axis)).map(|axis| {
        let length = lengths.of(axis);
        let kept = (length as f64 * (MOST_COUNTED as f64 / size).min(1.0)) as usize;
        Sample { axis, length, kept: kept.clamp(length.min(1), length) }
    });
    let failed = |error: &dyn Error| CliError::Count { reason: error.to_string() };

    let mut mapped = Vec::new();
    let builder = graph.rebuild(|builder, value, op| {
        let expr = match (&op, &sample) {
            (Op::Iota(axis), Some(sample)) if *axis == sample.axis => {
                // The middle of each of `kept` equal stretches: floor((2 i + 1) length / (2 kept)).
                let double = builder.push(op) * 2 + 1;
                (double.cast(Elem::F32) * (sample.length as f64 / (2 * sample.kept.max(1)) as f64))
                    .floor()
                    .cast(Elem::I32)
            }
            (Op::Size(axis), Some(sample)) if *axis == sample.axis => {
                builder.int(i32::try_from(sample.length).unwrap_or(i32::MAX))
            }
            _ => builder.push(op),
        };
        if conditions.contains(&value) {
            mapped.push(expr.value());
        }
        Ok::<_, Infallible>(expr)
    });
    let Ok(builder) = builder;
    let all = mapped.into_iter().map(|value| builder.expr(value)).reduce(|a, b| a & b).map(Expr::value);
    let counted = builder.finish().map_err(|error| failed(&error))?;
    let Some(all) = all else { return Ok(1.0) };

    let mut bindings = Bindings::new();
    for port in tensors.input_ports() {
        let tensor = &tensors.inputs[&port.name];
        let along =
            sample.as_ref().and_then(|sample| Some((port.dims.iter().position(|axis| *axis == sample.axis)?, sample)));
        let shape = tensor.shape();
        let too_large = || CliError::TooLarge { what: "input", name: port.name.clone(), shape: shape.to_vec() };
        let all = list(shape.iter().product(), tensor.numbers()).ok_or_else(too_large)?;
        let (shape, data) = match along {
            Some((dim, sample)) => sample.select(dim, shape, &all).ok_or_else(too_large)?,
            None => (shape.to_vec(), all),
        };
        bindings.insert(port.name.clone(), Tensor { elem: port.elem, shape, data });
    }
    let seen = interpret_value(&counted, &bindings, all).map_err(|error| failed(&error))?.data;
    Ok(if seen.is_empty() { 0.0 } else { seen.iter().sum::<f64>() / seen.len() as f64 })
}

/// Some of the indices of an axis, evenly spread.
#[derive(Clone, Copy, Debug)]
struct Sample {
    axis: Axis,
    length: usize,
    kept: usize,
}

impl Sample {
    /// The part of a tensor at the indices kept of dimension `dim`, if memory holds it.
    fn select(&self, dim: usize, shape: &[usize], data: &[f64]) -> Option<(Vec<usize>, Vec<f64>)> {
        let inner: usize = shape[dim + 1..].iter().product();
        let indices = || (0..self.kept).map(|i| (2 * i + 1) * self.length / (2 * self.kept));
        let rows = data.chunks_exact((inner * self.length).max(1));
        let picked = rows.flat_map(|row| indices().flat_map(move |index| &row[index * inner..(index + 1) * inner]));
        let mut shape = shape.to_vec();
        shape[dim] = self.kept;
        let data = list(shape.iter().product(), picked.copied())?;
        Some((shape, data))
    }
}
