//! Evaluates one node over its axes.

use std::borrow::Cow;

use crate::graph::Graph;
use crate::op::{Base, Op, Pairing, Value};
use crate::types::Axis;

use super::bind::Lengths;
use super::error::{InterpError, MAX_ELEMENTS};
use super::layout::{Layout, for_each_row};
use super::memory::{NoRoom, filled, room};
use super::scalar;
use super::tensor::Bindings;

/// A computed value.
pub(super) struct Array<'a> {
    pub(super) layout: Layout,
    pub(super) data: Cow<'a, [f64]>,
}

/// What the evaluation of a node can see.
pub(super) struct Eval<'e, 'a> {
    pub(super) graph: &'a Graph,
    pub(super) lengths: &'e Lengths,
    pub(super) bindings: &'a Bindings,
    pub(super) arrays: &'e [Option<Array<'a>>],
}

/// Where a result goes.
struct Target {
    axes: Vec<Axis>,
    layout: Layout,
    count: usize,
}

impl<'a> Eval<'_, 'a> {
    pub(super) fn node(&self, value: Value) -> Result<Array<'a>, InterpError> {
        let out = self.result(value)?;
        let data = match self.graph.op(value) {
            Op::Input { name, dims, elem: _ } => {
                let data = self.bindings.get(name).map_or(&[][..], |tensor| &tensor.data);
                return Ok(self.given(dims, data));
            }
            Op::Table { dims, elem: _, data } => return Ok(self.given(dims, data)),
            Op::Scheme { scheme: _, hook: _, x: _, site: _, attrs: _, instance: _ } => {
                return Err(InterpError::Scheme { line: self.graph.line(value) });
            }
            Op::Size(axis) => Ok(vec![self.lengths.get(self.graph, *axis)? as f64]),
            op => self.computed(&out, op, value),
        };
        let data = data.map_err(|error| error.for_value(self.graph, value))?;
        Ok(Array { layout: out.layout, data: Cow::Owned(data) })
    }

    /// The elements of a value that is computed of others.
    fn computed(&self, out: &Target, op: &Op, value: Value) -> Result<Vec<f64>, NoRoom> {
        let elem = self.graph.ty(value).elem;
        match op {
            Op::Const(scalar) => Ok(vec![scalar.as_f64()]),
            Op::Iota(_) => {
                let mut data = room(out.count)?;
                data.extend((0..out.count).map(|i| i as f64));
                Ok(data)
            }
            Op::Unary(op, x) => self.map(out, *x, scalar::unary(*op, elem)),
            Op::Cast(to, x) => self.map(out, *x, scalar::cast(self.graph.ty(*x).elem, *to)),
            Op::Binary(op, a, b) => self.zip(out, *a, *b, scalar::binary(*op, elem)),
            Op::Compare(op, a, b) => self.zip(out, *a, *b, op.real()),
            Op::Select { cond, on_true, on_false } => self.select(out, *cond, *on_true, *on_false),
            Op::Gather { table, axis, index } => self.gather(out, *table, *axis, *index),
            Op::Rotate { x, angle, dim, pair, pairing, start } => {
                self.rotate(out, (*x, *dim), (*angle, *pair), *pairing, *start)
            }
            Op::Dot { a, b, axis } => self.dot(out, *a, *b, *axis),
            Op::Softmax { x, axis, sink, base } => self.softmax(out, *x, *axis, *sink, *base),
            Op::LogSumExp { x, axis, sink, base } => self.log_sum_exp(out, *x, *axis, *sink, *base),
            // Not computed: see `Eval::node`.
            Op::Input { .. } | Op::Table { .. } | Op::Size(_) | Op::Scheme { .. } => Ok(Vec::new()),
        }
    }

    /// Checks the size of a value and lays it out, axes in the order of declaration.
    fn result(&self, value: Value) -> Result<Target, InterpError> {
        let axes: Vec<Axis> = self.graph.ty(value).axes.iter().collect();
        let shape = self.lengths.shape(self.graph, &axes)?;
        let count = if shape.contains(&0) {
            Some(0)
        } else {
            shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length))
        };
        match count {
            Some(count) if count <= MAX_ELEMENTS => {
                Ok(Target { layout: Layout::contiguous(self.lengths, &axes), axes, count })
            }
            _ => Err(InterpError::TooLarge { line: self.graph.line(value), shape }),
        }
    }

    fn given(&self, dims: &[Axis], data: &'a [f64]) -> Array<'a> {
        Array { layout: Layout::contiguous(self.lengths, dims), data: Cow::Borrowed(data) }
    }

    /// An operand: it stands earlier and has a use left, so it is there.
    fn array(&self, value: Value) -> &Array<'a> {
        self.arrays[value.index()].as_ref().expect("operands are computed before the ops that use them")
    }

    fn map(&self, out: &Target, x: Value, f: fn(f64) -> f64) -> Result<Vec<f64>, NoRoom> {
        let x = self.array(x);
        let mut data = room(out.count)?;
        for_each_row(self.graph, self.lengths, &out.axes, [&x.layout], |[base], [inner]| {
            data.extend(inner.iter().map(|i| f(x.data[base + i])));
        })?;
        Ok(data)
    }

    fn zip(&self, out: &Target, a: Value, b: Value, f: fn(f64, f64) -> f64) -> Result<Vec<f64>, NoRoom> {
        let (a, b) = (self.array(a), self.array(b));
        let mut data = room(out.count)?;
        for_each_row(self.graph, self.lengths, &out.axes, [&a.layout, &b.layout], |[base_a, base_b], [in_a, in_b]| {
            data.extend(in_a.iter().zip(in_b).map(|(i, j)| f(a.data[base_a + i], b.data[base_b + j])));
        })?;
        Ok(data)
    }

    fn select(&self, out: &Target, cond: Value, on_true: Value, on_false: Value) -> Result<Vec<f64>, NoRoom> {
        let (cond, a, b) = (self.array(cond), self.array(on_true), self.array(on_false));
        let layouts = [&cond.layout, &a.layout, &b.layout];
        let mut data = room(out.count)?;
        for_each_row(self.graph, self.lengths, &out.axes, layouts, |base, inner| {
            data.extend((0..inner[0].len()).map(|i| {
                let taken = cond.data[base[0] + inner[0][i]] != 0.0;
                if taken { a.data[base[1] + inner[1][i]] } else { b.data[base[2] + inner[2][i]] }
            }));
        })?;
        Ok(data)
    }

    fn gather(&self, out: &Target, table: Value, axis: Axis, index: Value) -> Result<Vec<f64>, NoRoom> {
        let (table, index) = (self.array(table), self.array(index));
        let (stride, length) = (table.layout.stride(axis), self.lengths.of(axis));
        // The axis is indexed by the index alone, even where the index varies over that axis too.
        let rest = table.layout.without(axis);
        let mut data = room(out.count)?;
        for_each_row(
            self.graph,
            self.lengths,
            &out.axes,
            [&rest, &index.layout],
            |[base, base_i], [inner, inner_i]| {
                data.extend(inner.iter().zip(inner_i).map(|(offset, i)| {
                    if length == 0 {
                        return 0.0;
                    }
                    let at = index.data[base_i + i].clamp(0.0, (length - 1) as f64) as usize;
                    table.data[base + offset + at * stride]
                }));
            },
        )?;
        Ok(data)
    }

    fn rotate(
        &self,
        out: &Target,
        (x, dim): (Value, Axis),
        (angle, pair): (Value, Axis),
        pairing: Pairing,
        start: u32,
    ) -> Result<Vec<f64>, NoRoom> {
        let (x, angle) = (self.array(x), self.array(angle));
        let (strides, pair_stride) = ([&x.layout, &out.layout].map(|l| l.stride(dim)), angle.layout.stride(pair));
        let (elements, pairs) = (self.lengths.of(dim), self.lengths.of(pair) as u32);
        let layouts = [&x.layout.without(dim), &angle.layout.without(pair), &out.layout.without(dim)];
        let axes: Vec<Axis> = out.axes.iter().copied().filter(|axis| *axis != dim).collect();
        let mut data = filled(out.count, 0.0)?;
        for_each_row(self.graph, self.lengths, &axes, layouts, |base, inner| {
            for (i, first) in inner[0].iter().enumerate() {
                let (from, by, to) = (base[0] + first, base[1] + inner[1][i], base[2] + inner[2][i]);
                let read = |j: usize| x.data[from + j * strides[0]];
                for j in 0..elements {
                    data[to + j * strides[1]] = read(j);
                }
                for j in 0..pairs {
                    let (sin, cos) = angle.data[by + j as usize * pair_stride].sin_cos();
                    let (first, second) = pairing.elements(start, pairs, j);
                    let (first, second) = (first as usize, second as usize);
                    let (a, b) = (read(first), read(second));
                    data[to + first * strides[1]] = a * cos - b * sin;
                    data[to + second * strides[1]] = b * cos + a * sin;
                }
            }
        })?;
        Ok(data)
    }

    fn dot(&self, out: &Target, a: Value, b: Value, axis: Axis) -> Result<Vec<f64>, NoRoom> {
        let (a, b) = (self.array(a), self.array(b));
        let (stride_a, stride_b, terms) = (a.layout.stride(axis), b.layout.stride(axis), self.lengths.of(axis));
        let layouts = [&a.layout.without(axis), &b.layout.without(axis)];
        let mut data = room(out.count)?;
        for_each_row(self.graph, self.lengths, &out.axes, layouts, |[base_a, base_b], [in_a, in_b]| {
            let first = data.len();
            let offsets = || in_a.iter().zip(in_b).map(|(i, j)| (base_a + i, base_b + j));
            if terms > 0 && stride_a == 1 && stride_b == 1 {
                data.extend(offsets().map(|(i, j)| {
                    let (a, b) = (&a.data[i..i + terms], &b.data[j..j + terms]);
                    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + x * y)
                }));
            } else {
                // The same sums in the same order, a term of all of them at a time: neighbours in memory are read together.
                data.resize(first + in_a.len(), 0.0);
                for t in 0..terms {
                    for (sum, (i, j)) in data[first..].iter_mut().zip(offsets()) {
                        *sum += a.data[i + t * stride_a] * b.data[j + t * stride_b];
                    }
                }
            }
            // A factor of 0 leaves its term out even where the other is infinite or NaN: such a sum came out as NaN.
            for (sum, (i, j)) in data[first..].iter_mut().zip(offsets()) {
                if sum.is_nan() {
                    let term = |t: usize| (a.data[i + t * stride_a], b.data[j + t * stride_b]);
                    *sum = (0..terms).map(term).filter(|(x, y)| *x != 0.0 && *y != 0.0).map(|(x, y)| x * y).sum();
                }
            }
        })?;
        Ok(data)
    }

    fn softmax(&self, out: &Target, x: Value, axis: Axis, sink: Option<Value>, base: Base) -> Result<Vec<f64>, NoRoom> {
        let stride = out.layout.stride(axis);
        let mut data = filled(out.count, 0.0)?;
        let power = scalar::power(base);
        self.normalise(out, x, axis, sink, |to, row, sink| {
            let Some(top) = top(row, sink) else { return };
            let sum = row.iter().chain(sink).map(|x| power(x - top)).sum::<f64>();
            for (i, x) in row.iter().enumerate() {
                data[to + i * stride] = power(x - top) / sum;
            }
        })?;
        Ok(data)
    }

    fn log_sum_exp(
        &self,
        out: &Target,
        x: Value,
        axis: Axis,
        sink: Option<Value>,
        base: Base,
    ) -> Result<Vec<f64>, NoRoom> {
        let (power, logarithm) = (scalar::power(base), scalar::logarithm(base));
        let mut data = filled(out.count, f64::NEG_INFINITY)?;
        self.normalise(out, x, axis, sink, |to, row, sink| {
            let Some(top) = top(row, sink) else { return };
            data[to] = top + logarithm(row.iter().chain(sink).map(|x| power(x - top)).sum::<f64>());
        })?;
        Ok(data)
    }

    /// Calls `each` with the place of the result at index 0 of `axis`, the scores along `axis`, and the sink.
    fn normalise(
        &self,
        out: &Target,
        x: Value,
        axis: Axis,
        sink: Option<Value>,
        mut each: impl FnMut(usize, &[f64], Option<&f64>),
    ) -> Result<(), NoRoom> {
        let (x, sink) = (self.array(x), sink.map(|sink| self.array(sink)));
        let nothing = Layout::contiguous(self.lengths, &[]);
        let sink_layout = sink.map_or(&nothing, |sink| &sink.layout);
        let axes: Vec<Axis> = out.axes.iter().copied().filter(|a| *a != axis).collect();
        let (stride, length) = (x.layout.stride(axis), self.lengths.of(axis));
        let mut row = filled(length, 0.0)?;
        let layouts = [&x.layout.without(axis), sink_layout, &out.layout.without(axis)];
        for_each_row(self.graph, self.lengths, &axes, layouts, |base, inner| {
            for (i, first) in inner[0].iter().enumerate() {
                let (from, sunk, to) = (base[0] + first, base[1] + inner[1][i], base[2] + inner[2][i]);
                for (j, score) in row.iter_mut().enumerate() {
                    *score = x.data[from + j * stride];
                }
                each(to, &row, sink.map(|sink| &sink.data[sunk]));
            }
        })
    }
}

/// The greatest score, NaN if one is; `None` where there is none or all are `-inf`, so that nothing takes part in the sum.
fn top(row: &[f64], sink: Option<&f64>) -> Option<f64> {
    let mut top = f64::NEG_INFINITY;
    for &x in row.iter().chain(sink) {
        if x.is_nan() {
            return Some(x);
        }
        top = top.max(x);
    }
    (top != f64::NEG_INFINITY).then_some(top)
}
