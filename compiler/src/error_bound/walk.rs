//! Walks the graph as the plan computes it, each value with what it is off by.

use std::collections::BTreeMap;
use std::rc::Rc;

use rhumb_ir::{Axis, Binary, Elem, ElemKind, Op, Pairing, Tensor, Unary, Value};

use super::approx::{Approx, Precision, compare, int_binary, int_unary, logical};
use super::array::{Array, Space};
use super::error::BoundError;
use super::order::Order;
use super::units::{FIXED, SUBNORMAL, TINY_SUM};
use crate::expr::Node;
use crate::plan::{Origin, Plan, Product, Scaled, Source, Storage, TensorId, Term};

/// Values that are given where an expression is walked.
pub(super) type Seeds = BTreeMap<Value, Rc<Array>>;

/// The tensors of a plan, as far as they are made.
pub(super) struct Walk<'a> {
    pub(super) plan: &'a Plan,
    pub(super) space: Space<'a>,
    tensors: Vec<Option<Rc<Array>>>,
}

/// Operands of one op, all there.
type Arrays<'a> = &'a [Option<Rc<Array>>];

impl<'a> Walk<'a> {
    /// The walk of a call: inputs and constants are there, then the tables are made in their order.
    pub(super) fn new(
        plan: &'a Plan,
        space: Space<'a>,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Walk<'a>, BoundError> {
        let mut walk = Walk { plan, space, tensors: vec![None; plan.tensors.len()] };
        for (id, tensor) in plan.tensors.iter().enumerate() {
            let data: &[f64] = match tensor.origin {
                Origin::Input(_) => &bound_input(space, tensor, inputs)?.data,
                Origin::Constant(value) => match plan.graph.op(value) {
                    Op::Table { data, .. } => data,
                    _ => continue,
                },
                _ => continue,
            };
            let data = data.iter().map(|x| Approx::exact(*x)).collect();
            walk.tensors[id] = Some(Rc::new(space.over(&tensor.dims, data)));
        }
        walk.make(false)?;
        Ok(walk)
    }

    /// Makes the tables in their order: those before the attention, or those after it.
    pub(super) fn make(&mut self, after: bool) -> Result<(), BoundError> {
        let (plan, walk) = (self.plan, self);
        for step in plan.made().filter(|step| step.after == after) {
            let precision = if step.double { Precision::Double } else { Precision::Single };
            let made = match &step.source {
                Source::Squares { .. } => continue,
                Source::Value(value) => walk.value(*value, precision, &Seeds::new())?,
                Source::Sum(terms) => walk.sum(terms, precision, &Seeds::new())?,
                Source::Cos(angle) | Source::Sin(angle) => {
                    let angle = walk.value(*angle, precision, &Seeds::new())?;
                    if let Some(sines) = step.second {
                        walk.store(sines, &walk.map(&angle, |x| precision.unary(Unary::Sin, x)));
                    }
                    Rc::new(walk.map(&angle, |x| precision.unary(Unary::Cos, x)))
                }
            };
            match &step.source {
                // Kept in two parts, which together have the digits of double precision.
                Source::Sum(_) if step.second.is_some() => walk.tensors[step.target] = Some(made),
                _ => walk.store(step.target, &made),
            }
        }
        Ok(())
    }

    /// Keeps what the attention gives, as it is stored.
    pub(super) fn keep(&mut self, id: usize, array: Array) {
        self.tensors[id] = Some(Rc::new(array));
    }

    /// The tensor, made before.
    pub(super) fn tensor(&self, id: usize) -> Result<Rc<Array>, BoundError> {
        let unmade = || BoundError::Unsupported { op: self.plan.tensors[id].name.clone() };
        self.tensors[id].clone().ok_or_else(unmade)
    }

    /// Rounds to what the tensor's storage holds.
    pub(super) fn store(&mut self, id: usize, array: &Array) {
        let array = match self.plan.tensors[id].storage {
            // Those of fewer bits are rounded once more, which belongs to outputs.
            Storage::Of(elem) if elem.kind() == ElemKind::Real => self.map(array, |x| Precision::Single.read(x)),
            Storage::Of(_) | Storage::F64 | Storage::Mask => array.clone(),
        };
        self.tensors[id] = Some(Rc::new(array));
    }

    fn map(&self, array: &Array, f: impl Fn(Approx) -> Approx) -> Array {
        let mut mapped = array.clone();
        mapped.data.iter_mut().for_each(|x| *x = f(*x));
        mapped
    }

    /// The table of a value, where it is made.
    fn table(&self, value: Value) -> Option<Rc<Array>> {
        self.plan.table_of.get(&Source::Value(value)).and_then(|id| self.tensors[*id].clone())
    }

    fn axes(&self, value: Value) -> Vec<Axis> {
        self.plan.graph.ty(value).axes.iter().collect()
    }

    pub(super) fn too_large(&self, value: Value) -> BoundError {
        let shape = self.space.shape(&self.axes(value));
        BoundError::TooLarge { line: self.plan.graph.line(value), shape }
    }

    /// A sum of terms in order, each added to those before.
    pub(super) fn sum(&self, terms: &[Term], precision: Precision, seeds: &Seeds) -> Result<Rc<Array>, BoundError> {
        let graph = &self.plan.graph;
        let mut sum: Option<(Rc<Array>, rhumb_ir::AxisSet)> = None;
        for term in terms {
            let axes = graph.ty(term.value).axes;
            let mut x = self.value(term.value, precision, seeds)?;
            if term.negative {
                x = Rc::new(self.map(&x, Approx::neg));
            }
            sum = Some(match sum {
                None => (x, axes),
                Some((before, over)) => {
                    let over = graph.join(over, axes);
                    let dims: Vec<Axis> = over.iter().collect();
                    let both = self.zip(&dims, [&before, &x], |[a, b]| precision.add(a, b));
                    (Rc::new(both.ok_or_else(|| self.too_large(term.value))?), over)
                }
            });
        }
        Ok(match sum {
            Some((sum, _)) => sum,
            None => Rc::new(self.space.over(&[], vec![Approx::exact(0.0)])),
        })
    }

    /// The sum of products of queries and keys, each summed up in its order.
    pub(super) fn products(&self, products: &[Product], orders: &[Order]) -> Result<Rc<Array>, BoundError> {
        let graph = &self.plan.graph;
        let (mut sum, mut axes) = (None, rhumb_ir::AxisSet::EMPTY);
        for (product, order) in products.iter().zip(orders) {
            let too_large = || self.too_large(product.dot);
            let mut queries = self.value(product.query, Precision::Single, &Seeds::new())?;
            if order.is_of_integers() {
                queries = self.fixed(&queries, product);
            }
            let keys = self.keys(product)?;
            let order = (Precision::Single, *order);
            let mut dot = self.dot(product.dot, (&queries, &keys), product.dim, order).ok_or_else(too_large)?;
            self.overflow(product, (&queries, order), &mut dot)?;
            if let Some(factor) = self.plan.bf16_pairs.outside() {
                let factor = Precision::Single.read(Approx::exact(factor));
                dot.data.iter_mut().for_each(|element| *element = Precision::Single.mul(*element, factor));
            }
            if order.1.is_of_integers() {
                dot.data.iter_mut().for_each(|x| *x = Precision::Single.rounded(x.x, x.e));
            }
            if self.plan.is_by_distance(product) {
                // Computed of another query and key as far apart, whose errors may be greater.
                let most = dot.data.iter().map(|element| element.e).fold(0.0, f64::max);
                dot.data.iter_mut().for_each(|element| element.e = most);
            }
            axes = graph.join(axes, graph.ty(product.dot).axes);
            sum = Some(match sum {
                None => dot,
                Some(before) => {
                    let dims: Vec<Axis> = axes.iter().collect();
                    let both = self.zip(&dims, [&before, &dot], |[a, b]| Precision::Single.add(a, b));
                    both.ok_or_else(too_large)?
                }
            });
        }
        Ok(Rc::new(sum.unwrap_or_else(|| self.space.over(&[], vec![Approx::exact(0.0)]))))
    }

    /// Rows of keys. Nothing is known of products with a scale that is infinite: it meets their sum, not each element.
    fn keys(&self, product: &Product) -> Result<Rc<Array>, BoundError> {
        let keys = self.rows(product.key, product.scaled)?;
        let Some(Scaled { rows, scale: Some(scale), .. }) = product.scaled else { return Ok(keys) };
        let scales = self.value(scale, Precision::Single, &Seeds::new())?;
        if !scales.data.iter().any(|scale| scale.x.is_infinite()) {
            return Ok(keys);
        }
        let known = |[x, scale]: [Approx; 2]| if scale.x.is_infinite() { Approx::UNKNOWN } else { x };
        let known = self.zip(&self.axes(rows), [&keys, &scales], known);
        Ok(Rc::new(known.ok_or_else(|| self.too_large(rows))?))
    }

    /// Leaves nothing known of products whose sums are too large before they meet a scale.
    fn overflow(
        &self,
        product: &Product,
        (queries, order): (&Array, (Precision, Order)),
        dot: &mut Array,
    ) -> Result<(), BoundError> {
        let Some(Scaled { rows, scale: Some(scale), .. }) = product.scaled else { return Ok(()) };
        let Op::Binary(Binary::Mul, a, b) = *self.plan.graph.op(rows) else { return Ok(()) };
        let keys = self.value(if a == scale { b } else { a }, Precision::Single, &Seeds::new())?;
        let most = |array: &Array| array.data.iter().map(|x| x.most()).fold(0.0, f64::max);
        if most(queries) * most(&keys) * f64::from(product.length) <= f64::from(f32::MAX) {
            return Ok(());
        }
        let sums = self.dot(product.dot, (queries, &keys), product.dim, order);
        let sums = sums.ok_or_else(|| self.too_large(product.dot))?;
        let too_large = dot.data.iter_mut().zip(&sums.data).filter(|(x, sum)| !sum.is_finite() && !x.x.is_nan());
        too_large.for_each(|(x, _)| *x = Approx::UNKNOWN);
        Ok(())
    }

    /// Queries that are rounded to integers, relative to the greatest of each. Those that are not are off by less.
    fn fixed(&self, queries: &Array, product: &Product) -> Rc<Array> {
        let (mut rounded, dims) = (queries.clone(), self.axes(product.query));
        let rows: Vec<Axis> = dims.into_iter().filter(|axis| *axis != product.dim).collect();
        let (stride, length) = (queries.stride(product.dim), self.space.length(product.dim));
        self.space.rows(&rows, &[&queries.without(product.dim)], |base, inner| {
            for first in inner[0].iter().map(|first| base[0] + first) {
                let row = || (0..length).map(|n| first + n * stride);
                let most = row().map(|n| queries.data[n].most()).fold(0.0, f64::max);
                if most.is_finite() {
                    row().for_each(|n| rounded.data[n].e += FIXED * most);
                }
            }
        });
        Rc::new(rounded)
    }

    /// Rows of keys or values. Where a scale is moved out of a product, that rounds no more than it does in each element.
    pub(super) fn rows(&self, tensor: TensorId, scaled: Option<Scaled>) -> Result<Rc<Array>, BoundError> {
        match scaled {
            Some(scaled) => self.value(scaled.rows, Precision::Single, &Seeds::new()),
            None => self.tensor(tensor),
        }
    }

    /// The value over its axes, as code of this precision computes it from the tables that are made.
    pub(super) fn value(&self, root: Value, precision: Precision, seeds: &Seeds) -> Result<Rc<Array>, BoundError> {
        let graph = &self.plan.graph;
        let given = |value: Value| seeds.get(&value).cloned().or_else(|| self.table(value));
        // The number of uses of each value; leaves have no operands.
        let mut uses = vec![0usize; root.index() + 1];
        let mut operands: Vec<Vec<Value>> = vec![Vec::new(); root.index() + 1];
        uses[root.index()] = 1;
        for value in graph.values().take(root.index() + 1).collect::<Vec<_>>().into_iter().rev() {
            if uses[value.index()] == 0 || given(value).is_some() {
                continue;
            }
            let of = self.cut(value).operands();
            of.iter().for_each(|operand| uses[operand.index()] += 1);
            operands[value.index()] = of;
        }
        let mut arrays: Vec<Option<Rc<Array>>> = vec![None; root.index() + 1];
        for value in graph.values().take(root.index() + 1) {
            if uses[value.index()] == 0 {
                continue;
            }
            arrays[value.index()] = Some(match given(value) {
                Some(array) => self.read(value, array, precision),
                None => self.node(value, precision, &arrays)?,
            });
            for operand in &operands[value.index()] {
                uses[operand.index()] -= 1;
                if uses[operand.index()] == 0 {
                    arrays[operand.index()] = None;
                }
            }
        }
        arrays[root.index()].clone().ok_or_else(|| self.too_large(root))
    }

    /// A table as code of this precision reads it.
    fn read(&self, value: Value, array: Rc<Array>, precision: Precision) -> Rc<Array> {
        let wide = self
            .plan
            .table_of
            .get(&Source::Value(value))
            .is_some_and(|id| self.plan.tensors[*id].storage == Storage::F64);
        if wide && precision == Precision::Single { Rc::new(self.map(&array, |x| precision.read(x))) } else { array }
    }

    /// The node of a value that has no table yet.
    fn cut(&self, value: Value) -> Node {
        self.plan.node(value, |_| false)
    }

    fn node(&self, value: Value, precision: Precision, arrays: Arrays<'_>) -> Result<Rc<Array>, BoundError> {
        let graph = &self.plan.graph;
        let elem = graph.ty(value).elem;
        let of = |operand: Value| arrays[operand.index()].as_deref().ok_or_else(|| self.too_large(operand));
        let dims = self.axes(value);
        let made = match self.cut(value) {
            Node::Table(tensor) | Node::Input(tensor) => return self.tensor(tensor),
            Node::Const(scalar) => {
                let x = Approx::exact(scalar.as_f64());
                let x = if elem == Elem::F32 { precision.read(x) } else { x };
                Some(self.space.over(&[], vec![x]))
            }
            Node::Iota(axis) => {
                let mut array = self.space.filled(&dims, Approx::exact(0.0));
                let of_axis = array.iter_mut().flat_map(|array| &mut array.data);
                of_axis.enumerate().for_each(|(i, x)| x.x = i as f64);
                debug_assert_eq!(dims, [axis]);
                array
            }
            Node::Size(axis) => Some(self.space.over(&[], vec![Approx::exact(self.space.length(axis) as f64)])),
            Node::Unary(op, x) => Some(match graph.ty(x).elem.kind() {
                ElemKind::Whole => self.map(of(x)?, |x| int_unary(op, x)),
                ElemKind::Truth => self.map(of(x)?, Approx::not),
                ElemKind::Real => self.map(of(x)?, |x| precision.unary(op, x)),
            }),
            Node::Cast(to, x) => {
                let from = graph.ty(x).elem;
                Some(self.map(of(x)?, |x| precision.cast(from, to, x)))
            }
            Node::Binary(op, [a, b]) => {
                let from = graph.ty(a).elem.kind();
                self.zip(&dims, [of(a)?, of(b)?], |[a, b]| match from {
                    ElemKind::Whole => int_binary(op, a, b),
                    ElemKind::Truth => logical(op, a, b),
                    ElemKind::Real => precision.binary(op, a, b),
                })
            }
            Node::Compare(op, [a, b]) => self.zip(&dims, [of(a)?, of(b)?], |[a, b]| compare(op, a, b)),
            Node::Select([cond, on_true, on_false]) => {
                self.zip(&dims, [of(cond)?, of(on_true)?, of(on_false)?], |[c, a, b]| c.select(a, b))
            }
            Node::Gather { table, axis, index } => self.gather(&dims, of(table)?, axis, of(index)?),
            Node::Rotate { x } => self.rotate(value, of(x)?, precision)?,
            Node::Dot { a, b, axis } => self.dot(value, (of(a)?, of(b)?), axis, (precision, Order::PLAIN)),
            // Products come as seeds, and sums apart from them.
            Node::Product | Node::MulAdd(_) | Node::Opaque => return Err(self.unsupported(value)),
        };
        made.map(Rc::new).ok_or_else(|| self.too_large(value))
    }

    fn unsupported(&self, value: Value) -> BoundError {
        BoundError::Unsupported { op: self.plan.graph.line(value) }
    }

    /// What `f` makes of the elements of some arrays, over these axes.
    pub(super) fn zip<const N: usize>(
        &self,
        dims: &[Axis],
        operands: [&Array; N],
        f: impl Fn([Approx; N]) -> Approx,
    ) -> Option<Array> {
        let mut out = self.space.filled(dims, Approx::UNKNOWN)?;
        if operands.iter().any(|operand| operand.data.is_empty()) {
            return Some(out);
        }
        let mut at = 0;
        self.space.rows(dims, &operands, |base, inner| {
            #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
            for i in 0..inner[0].len() {
                out.data[at] = f(std::array::from_fn(|n| operands[n].data[base[n] + inner[n][i]]));
                at += 1;
            }
        });
        Some(out)
    }

    fn gather(&self, dims: &[Axis], table: &Array, axis: Axis, index: &Array) -> Option<Array> {
        let (stride, length) = (table.stride(axis), self.space.length(axis));
        let rest = table.without(axis);
        let mut out = self.space.filled(dims, Approx::exact(0.0))?;
        if length == 0 {
            return Some(out);
        }
        let clamp = |x: f64| x.clamp(0.0, (length - 1) as f64) as usize;
        let mut at = 0;
        self.space.rows(dims, &[&rest, index], |base, inner| {
            for (offset, i) in inner[0].iter().zip(&inner[1]) {
                let i = index.data[base[1] + i];
                let element = |n: usize| table.data[base[0] + offset + n * stride];
                let near = element(clamp(i.x));
                let others = clamp(i.x - i.e)..=clamp(i.x + i.e);
                out.data[at] = if i.is_exact() {
                    near
                } else {
                    others.fold(near, |all, n| Approx { x: 1.0, e: 1.0 }.select(all, element(n)))
                };
                at += 1;
            }
        });
        Some(out)
    }

    /// Two products and their sum or difference for each element of the rotary block; the others pass.
    fn rotate(&self, value: Value, x: &Array, precision: Precision) -> Result<Option<Array>, BoundError> {
        let Op::Rotate { angle, dim, pair, pairing, start, .. } = *self.plan.graph.op(value) else { return Ok(None) };
        let part = |source| {
            let id = self.plan.table_of.get(&source).ok_or_else(|| self.unsupported(value))?;
            self.tensor(*id)
        };
        let (cos, sin) = (part(Source::Cos(angle))?, part(Source::Sin(angle))?);
        let dims = self.axes(value);
        let Some(mut out) = self.space.filled(&dims, Approx::exact(0.0)) else { return Ok(None) };
        let strides = [x.stride(dim), cos.stride(pair), sin.stride(pair), out.stride(dim)];
        let (elements, pairs) = (self.space.length(dim), self.space.length(pair));
        let slices = [&x.without(dim), &cos.without(pair), &sin.without(pair), &out.without(dim)];
        let all: Vec<Axis> = dims.into_iter().filter(|axis| *axis != dim).collect();
        let start = start as usize;
        self.space.rows(&all, &slices, |base, inner| {
            #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
            for i in 0..inner[0].len() {
                let at: [usize; 4] = std::array::from_fn(|n| base[n] + inner[n][i]);
                let read = |n: usize| x.data[at[0] + n * strides[0]];
                for n in 0..elements {
                    out.data[at[3] + n * strides[3]] = read(n);
                }
                for j in 0..pairs {
                    let (first, second) = match pairing {
                        Pairing::Half => (start + j, start + j + pairs),
                        Pairing::Interleaved => (start + 2 * j, start + 2 * j + 1),
                    };
                    let (c, s) = (cos.data[at[1] + j * strides[1]], sin.data[at[2] + j * strides[2]]);
                    let (a, b) = (read(first), read(second));
                    let turned = |a, b| precision.add(precision.mul(a, c), precision.mul(b, s));
                    out.data[at[3] + first * strides[3]] = turned(a, b.neg());
                    out.data[at[3] + second * strides[3]] = turned(b, a);
                }
            }
        });
        Ok(Some(out))
    }

    /// A sum of products, in the order that `sum` tells.
    pub(super) fn dot(
        &self,
        value: Value,
        (a, b): (&Array, &Array),
        axis: Axis,
        (precision, order): (Precision, Order),
    ) -> Option<Array> {
        let dims = self.axes(value);
        let mut out = self.space.filled(&dims, Approx::exact(0.0))?;
        let (length, strides) = (self.space.length(axis), [a.stride(axis), b.stride(axis)]);
        let (stretches, exact) = (order.stretches(length), order.is_of_integers());
        let (tiny, pairs) = if order.is_by_pairs() { (2.0 * SUBNORMAL, true) } else { (TINY_SUM, false) };
        let read = |x: Approx| if pairs && x.x.abs() < SUBNORMAL { Approx { e: x.e + x.x.abs(), ..x } } else { x };
        let mut at = 0;
        self.space.rows(&dims, &[&a.without(axis), &b.without(axis)], |base, inner| {
            for (i, j) in inner[0].iter().zip(&inner[1]) {
                let factors = |t: usize| {
                    let (a, b) = (a.data[base[0] + i + t * strides[0]], b.data[base[1] + j + t * strides[1]]);
                    (read(a), read(b))
                };
                out.data[at] = precision.sum((&stretches, exact), tiny, factors);
                at += 1;
            }
        });
        Some(out)
    }
}

/// The tensor bound to an input, once it is found to fit.
fn bound_input<'t>(
    space: Space<'_>,
    tensor: &crate::plan::Tensor,
    inputs: &'t BTreeMap<String, Tensor>,
) -> Result<&'t Tensor, BoundError> {
    let expected = space.shape(&tensor.dims);
    let wrong = |found| BoundError::Input { name: tensor.name.clone(), expected: expected.clone(), found };
    let found = inputs.get(&tensor.name).ok_or_else(|| wrong(None))?;
    match space.count(&tensor.dims) {
        Some(count) if found.shape == expected && found.data.len() == count => Ok(found),
        _ => Err(wrong(Some(found.shape.clone()))),
    }
}
