//! The builder: value handles with operator overloading.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Rem, Sub};
use std::sync::Arc;

use crate::graph::{Graph, Node, Output};
use crate::infer::infer;
use crate::op::{Attrs, Base, Binary, Compare, Hook, Op, Pairing, Scalar, Site, SiteId, Unary, Value};
use crate::types::{Axis, AxisInfo, AxisSet, Elem, Extent, MAX_AXES, Type};
use crate::verify::{Problem, Verified, VerifyError};

/// Builds a [`Graph`].
///
/// Values are [`Expr`] handles that take part in arithmetic; a mistake is kept, the handle it made is poisoned so that it causes no
/// further reports, and [`GraphBuilder::finish`] tells all of them at once.
#[derive(Debug)]
pub struct GraphBuilder {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    graph: Graph,
    problems: Vec<Problem>,
    poisoned: Vec<bool>,
}

/// A value of a graph that is being built: a copyable handle.
///
/// Arithmetic operators broadcast by axis name. An `i32` operand next to an `f32` one is converted, and numbers may stand on either
/// side: `score + slope * (k_pos - q_pos)`, `1.0 - x`.
#[derive(Clone, Copy)]
pub struct Expr<'g> {
    builder: &'g GraphBuilder,
    value: Value,
}

impl fmt::Debug for Expr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.value.0)
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> GraphBuilder {
        let graph = Graph { name: name.to_owned(), ..Graph::default() };
        GraphBuilder { state: RefCell::new(State { graph, ..State::default() }) }
    }

    /// Declares an axis whose length each call's tensors tell.
    pub fn axis(&self, name: &str) -> Axis {
        self.declare(AxisInfo { name: name.to_owned(), extent: Extent::Dynamic, groups: None })
    }

    /// Declares an axis of a fixed length.
    pub fn axis_of(&self, name: &str, length: u32) -> Axis {
        self.declare(AxisInfo { name: name.to_owned(), extent: Extent::Static(length), groups: None })
    }

    /// Declares an axis of `length` groups of the axis `finer`, as key/value heads group query heads (GQA, MQA).
    pub fn groups(&self, name: &str, length: u32, finer: Axis) -> Axis {
        self.declare(AxisInfo { name: name.to_owned(), extent: Extent::Static(length), groups: Some(finer) })
    }

    /// Declares an axis from all that is known of it.
    pub fn declare(&self, info: AxisInfo) -> Axis {
        let mut state = self.state.borrow_mut();
        if state.graph.axes.len() == MAX_AXES {
            state.problems.push(Problem::TooManyAxes { name: info.name });
            return Axis(MAX_AXES as u8 - 1);
        }
        state.graph.axes.push(info);
        Axis((state.graph.axes.len() - 1) as u8)
    }

    /// A tensor bound at each call under `name`, with the dimensions `dims`, outermost first.
    pub fn input(&self, name: &str, elem: Elem, dims: impl IntoIterator<Item = Axis>) -> Expr<'_> {
        self.push(Op::Input { name: name.to_owned(), dims: dims.into_iter().collect(), elem })
    }

    /// A number of type `f32`.
    pub fn scalar(&self, x: f64) -> Expr<'_> {
        self.push(Op::Const(Scalar::F32(x)))
    }

    /// A number of type `i32`.
    pub fn int(&self, x: i32) -> Expr<'_> {
        self.push(Op::Const(Scalar::I32(x)))
    }

    /// A truth value.
    pub fn bool(&self, x: bool) -> Expr<'_> {
        self.push(Op::Const(Scalar::Bool(x)))
    }

    /// A constant tensor of type `f32` over static axes, row-major, kept in double precision.
    pub fn table(&self, dims: impl IntoIterator<Item = Axis>, data: impl Into<Arc<[f64]>>) -> Expr<'_> {
        self.push(Op::Table { dims: dims.into_iter().collect(), elem: Elem::F32, data: data.into() })
    }

    /// A constant tensor of type `i32` over static axes, row-major.
    pub fn int_table(&self, dims: impl IntoIterator<Item = Axis>, data: &[i32]) -> Expr<'_> {
        let data = data.iter().map(|x| f64::from(*x)).collect();
        self.push(Op::Table { dims: dims.into_iter().collect(), elem: Elem::I32, data })
    }

    /// The index along an axis, from 0.
    pub fn iota(&self, axis: Axis) -> Expr<'_> {
        self.push(Op::Iota(axis))
    }

    /// The length of an axis.
    pub fn size(&self, axis: Axis) -> Expr<'_> {
        self.push(Op::Size(axis))
    }

    /// Registers the attention around scheme ops.
    pub fn site(&self, site: Site) -> SiteId {
        let mut state = self.state.borrow_mut();
        state.graph.sites.push(site);
        SiteId((state.graph.sites.len() - 1) as u32)
    }

    /// A scheme op at the query, key or score hook.
    pub fn scheme<'g>(&'g self, name: &str, hook: Hook, x: Expr<'g>, site: SiteId, attrs: Attrs) -> Expr<'g> {
        self.push(Op::Scheme { scheme: name.to_owned(), hook, x: Some(x.value), site, attrs })
    }

    /// A scheme op at the mask hook.
    pub fn scheme_mask(&self, name: &str, site: SiteId, attrs: Attrs) -> Expr<'_> {
        self.push(Op::Scheme { scheme: name.to_owned(), hook: Hook::Mask, x: None, site, attrs })
    }

    /// Names a result of the graph; `dims` is the order of its dimensions.
    pub fn output(&self, name: &str, x: Expr<'_>, dims: impl IntoIterator<Item = Axis>) {
        let output = Output { name: name.to_owned(), value: x.value, dims: dims.into_iter().collect() };
        self.state.borrow_mut().graph.outputs.push(output);
    }

    /// Appends an op whose operands are values of this builder.
    pub fn push(&self, op: Op) -> Expr<'_> {
        let mut state = self.state.borrow_mut();
        let poisoned = op.operands().iter().any(|operand| state.poisoned.get(operand.index()) == Some(&true));
        let (op, ty, poisoned) = match infer(&state.graph, &op) {
            Ok(ty) => (op, ty, poisoned),
            Err(error) => {
                if !poisoned {
                    let position = state.graph.nodes.len();
                    let shown = crate::text::op_text(&state.graph, &op);
                    state.problems.push(Problem::Op { position, op: shown, error });
                }
                let nothing = Op::Const(Scalar::F32(f64::NAN));
                (nothing, Type { elem: Elem::F32, axes: AxisSet::EMPTY }, true)
            }
        };
        let value = Value(state.graph.nodes.len() as u32);
        state.graph.nodes.push(Node { op, ty, label: None });
        state.poisoned.push(poisoned);
        Expr { builder: self, value }
    }

    /// The handle of a value made earlier by this builder.
    ///
    /// A value that does not exist here gives a poisoned handle, reported by [`GraphBuilder::finish`].
    pub fn expr(&self, value: Value) -> Expr<'_> {
        if value.index() < self.state.borrow().graph.nodes.len() {
            return Expr { builder: self, value };
        }
        // An op with the bad operand makes the report.
        self.push(Op::Unary(Unary::Neg, value))
    }

    /// The type of a value of this builder; `None` if it does not exist here.
    pub fn ty(&self, value: Value) -> Option<Type> {
        self.state.borrow().graph.nodes.get(value.index()).map(|node| node.ty)
    }

    /// What is known of an axis of this builder; `None` if it does not exist here.
    pub fn axis_info(&self, axis: Axis) -> Option<AxisInfo> {
        self.state.borrow().graph.axes.get(axis.index()).cloned()
    }

    /// The axis of a name.
    pub fn axis_named(&self, name: &str) -> Option<Axis> {
        self.state.borrow().graph.axis_named(name)
    }

    /// Whether an earlier step went wrong; [`GraphBuilder::finish`] will say what.
    pub fn is_poisoned(&self, x: Expr<'_>) -> bool {
        self.state.borrow().poisoned.get(x.value.index()) == Some(&true)
    }

    /// Checks the graph and hands it out.
    ///
    /// # Errors
    /// [`VerifyError`] lists every mistake, each with its op and a hint.
    pub fn finish(self) -> Result<Verified, VerifyError> {
        let State { graph, problems, .. } = self.state.into_inner();
        if problems.is_empty() { graph.verify() } else { Err(VerifyError { graph: graph.name, problems }) }
    }

    fn elem(&self, x: Value) -> Elem {
        self.state.borrow().graph.ty(x).elem
    }
}

impl<'g> Expr<'g> {
    /// The value behind the handle, for op attributes.
    pub fn value(self) -> Value {
        self.value
    }

    /// The builder the value belongs to.
    pub fn builder(self) -> &'g GraphBuilder {
        self.builder
    }

    /// The value's type.
    pub fn ty(self) -> Type {
        self.builder.state.borrow().graph.ty(self.value)
    }

    /// Labels the value for readers of the text form.
    #[must_use]
    pub fn label(self, label: &str) -> Expr<'g> {
        self.builder.state.borrow_mut().graph.nodes[self.value.index()].label = Some(label.to_owned());
        self
    }

    fn unary(self, op: Unary) -> Expr<'g> {
        let x = if matches!(op, Unary::Neg | Unary::Abs | Unary::Not) { self } else { self.real() };
        self.builder.push(Op::Unary(op, x.value))
    }

    /// The value as `f32` if it is an `i32`; otherwise itself.
    fn real(self) -> Expr<'g> {
        if self.builder.elem(self.value) == Elem::I32 { self.cast(Elem::F32) } else { self }
    }

    /// Both operands in one element type: `i32` beside `f32` is converted.
    fn promote(self, other: Expr<'g>) -> (Expr<'g>, Expr<'g>) {
        match (self.builder.elem(self.value), self.builder.elem(other.value)) {
            (Elem::I32, Elem::F32) => (self.cast(Elem::F32), other),
            (Elem::F32, Elem::I32) => (self, other.cast(Elem::F32)),
            _ => (self, other),
        }
    }

    fn binary(self, op: Binary, other: impl Operand<'g>) -> Expr<'g> {
        let (a, b) = self.promote(other.expr(self));
        self.builder.push(Op::Binary(op, a.value, b.value))
    }

    fn compare(self, op: Compare, other: impl Operand<'g>) -> Expr<'g> {
        let (a, b) = self.promote(other.expr(self));
        self.builder.push(Op::Compare(op, a.value, b.value))
    }

    /// `|x|`.
    #[must_use]
    pub fn abs(self) -> Expr<'g> {
        self.unary(Unary::Abs)
    }

    /// Largest integer not above.
    #[must_use]
    pub fn floor(self) -> Expr<'g> {
        self.unary(Unary::Floor)
    }

    /// Smallest integer not below.
    #[must_use]
    pub fn ceil(self) -> Expr<'g> {
        self.unary(Unary::Ceil)
    }

    /// Square root.
    #[must_use]
    pub fn sqrt(self) -> Expr<'g> {
        self.unary(Unary::Sqrt)
    }

    /// `e^x`.
    #[must_use]
    pub fn exp(self) -> Expr<'g> {
        self.unary(Unary::Exp)
    }

    /// `2^x`.
    #[must_use]
    pub fn exp2(self) -> Expr<'g> {
        self.unary(Unary::Exp2)
    }

    /// Natural logarithm.
    #[must_use]
    pub fn log(self) -> Expr<'g> {
        self.unary(Unary::Log)
    }

    /// Logarithm to base 2.
    #[must_use]
    pub fn log2(self) -> Expr<'g> {
        self.unary(Unary::Log2)
    }

    /// Sine, of radians.
    #[must_use]
    pub fn sin(self) -> Expr<'g> {
        self.unary(Unary::Sin)
    }

    /// Cosine, of radians.
    #[must_use]
    pub fn cos(self) -> Expr<'g> {
        self.unary(Unary::Cos)
    }

    /// Hyperbolic tangent.
    #[must_use]
    pub fn tanh(self) -> Expr<'g> {
        self.unary(Unary::Tanh)
    }

    /// `1 / (1 + e^-x)`.
    #[must_use]
    pub fn sigmoid(self) -> Expr<'g> {
        self.unary(Unary::Sigmoid)
    }

    /// The lesser of two.
    #[must_use]
    pub fn min(self, other: impl Operand<'g>) -> Expr<'g> {
        self.binary(Binary::Min, other)
    }

    /// The greater of two.
    #[must_use]
    pub fn max(self, other: impl Operand<'g>) -> Expr<'g> {
        self.binary(Binary::Max, other)
    }

    /// `self^exponent`.
    #[must_use]
    pub fn pow(self, exponent: impl Operand<'g>) -> Expr<'g> {
        let exponent = exponent.expr(self).real();
        self.real().binary(Binary::Pow, exponent)
    }

    /// Whether equal.
    #[must_use]
    pub fn eq(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Eq, other)
    }

    /// Whether different.
    #[must_use]
    pub fn ne(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Ne, other)
    }

    /// Whether less.
    #[must_use]
    pub fn lt(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Lt, other)
    }

    /// Whether less or equal.
    #[must_use]
    pub fn le(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Le, other)
    }

    /// Whether greater.
    #[must_use]
    pub fn gt(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Gt, other)
    }

    /// Whether greater or equal.
    #[must_use]
    pub fn ge(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Ge, other)
    }

    /// `on_true` where this (a `bool`) holds, else `on_false`.
    #[must_use]
    pub fn select(self, on_true: impl Operand<'g>, on_false: impl Operand<'g>) -> Expr<'g> {
        let on_true = on_true.expr_as(self.builder, Elem::F32);
        let (on_true, on_false) = on_true.promote(on_false.expr(on_true));
        self.builder.push(Op::Select { cond: self.value, on_true: on_true.value, on_false: on_false.value })
    }

    /// The value in another element type.
    #[must_use]
    pub fn cast(self, elem: Elem) -> Expr<'g> {
        self.builder.push(Op::Cast(elem, self.value))
    }

    /// This table indexed along `axis`; indices outside take the nearest element.
    #[must_use]
    pub fn gather(self, axis: Axis, index: Expr<'g>) -> Expr<'g> {
        self.builder.push(Op::Gather { table: self.value, axis, index: index.value })
    }

    /// Rotates pairs along `dim` by `angle`, whose axis `pair` counts the pairs; the rotary block starts at element `start`.
    #[must_use]
    pub fn rotate(self, angle: Expr<'g>, dim: Axis, pair: Axis, pairing: Pairing, start: u32) -> Expr<'g> {
        self.builder.push(Op::Rotate { x: self.value, angle: angle.value, dim, pair, pairing, start })
    }

    /// Sum over `axis` of the product with `other`.
    #[must_use]
    pub fn dot(self, other: Expr<'g>, axis: Axis) -> Expr<'g> {
        self.builder.push(Op::Dot { a: self.value, b: other.value, axis })
    }

    /// Softmax along `axis`.
    #[must_use]
    pub fn softmax(self, axis: Axis) -> Expr<'g> {
        self.builder.push(Op::Softmax { x: self.value, axis, sink: None, base: Base::E })
    }

    /// Softmax along `axis` with an extra score that takes part in the sum alone (an attention sink).
    #[must_use]
    pub fn softmax_with_sink(self, axis: Axis, sink: Expr<'g>) -> Expr<'g> {
        self.builder.push(Op::Softmax { x: self.value, axis, sink: Some(sink.value), base: Base::E })
    }

    /// `log(sum(exp(x)))` along `axis`, with an optional sink.
    #[must_use]
    pub fn log_sum_exp(self, axis: Axis, sink: Option<Expr<'g>>) -> Expr<'g> {
        let sink = sink.map(|sink| sink.value);
        self.builder.push(Op::LogSumExp { x: self.value, axis, sink, base: Base::E })
    }

    /// This score where `mask` holds, `-inf` elsewhere.
    #[must_use]
    pub fn mask(self, mask: Expr<'g>) -> Expr<'g> {
        mask.select(self, f64::NEG_INFINITY)
    }
}

/// What can stand beside an [`Expr`] in arithmetic: another one, or a number.
pub trait Operand<'g>: Copy {
    /// The operand as a value of the builder of `beside`; a number takes the element type of `beside` where it can.
    fn expr(self, beside: Expr<'g>) -> Expr<'g> {
        let elem = beside.builder.elem(beside.value);
        self.expr_as(beside.builder, elem)
    }

    /// The operand as a value of `builder`; a number becomes `elem` where it can.
    fn expr_as(self, builder: &'g GraphBuilder, elem: Elem) -> Expr<'g>;
}

impl<'g> Operand<'g> for Expr<'g> {
    fn expr_as(self, _: &'g GraphBuilder, _: Elem) -> Expr<'g> {
        self
    }
}

impl<'g> Operand<'g> for f64 {
    fn expr_as(self, builder: &'g GraphBuilder, _: Elem) -> Expr<'g> {
        builder.scalar(self)
    }
}

impl<'g> Operand<'g> for i32 {
    fn expr_as(self, builder: &'g GraphBuilder, elem: Elem) -> Expr<'g> {
        if elem == Elem::F32 { builder.scalar(f64::from(self)) } else { builder.int(self) }
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<'g, T: Operand<'g>> $trait<T> for Expr<'g> {
            type Output = Expr<'g>;
            fn $method(self, other: T) -> Expr<'g> {
                self.binary(Binary::$op, other)
            }
        }
        impl<'g> $trait<Expr<'g>> for f64 {
            type Output = Expr<'g>;
            fn $method(self, other: Expr<'g>) -> Expr<'g> {
                self.expr(other).binary(Binary::$op, other)
            }
        }
        impl<'g> $trait<Expr<'g>> for i32 {
            type Output = Expr<'g>;
            fn $method(self, other: Expr<'g>) -> Expr<'g> {
                self.expr(other).binary(Binary::$op, other)
            }
        }
    )*};
}

operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Mod);

impl<'g> BitAnd for Expr<'g> {
    type Output = Expr<'g>;
    fn bitand(self, other: Expr<'g>) -> Expr<'g> {
        self.binary(Binary::And, other)
    }
}

impl<'g> BitOr for Expr<'g> {
    type Output = Expr<'g>;
    fn bitor(self, other: Expr<'g>) -> Expr<'g> {
        self.binary(Binary::Or, other)
    }
}

impl<'g> Neg for Expr<'g> {
    type Output = Expr<'g>;
    fn neg(self) -> Expr<'g> {
        self.unary(Unary::Neg)
    }
}

impl<'g> Not for Expr<'g> {
    type Output = Expr<'g>;
    fn not(self) -> Expr<'g> {
        self.unary(Unary::Not)
    }
}
