//! The builder, and the handles of values that it gives out. They name one another, and so stand together; arithmetic on handles is in
//! `expr`.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::fault::Fault;
use crate::graph::{Graph, Node, Output};
use crate::infer::infer;
use crate::instance::Instance;
use crate::length::Length;
use crate::op::{Attrs, Hook, Op, Scalar, Site, SiteId, Value};
use crate::place::Place;
use crate::text::print::op_text;
use crate::types::{Axis, AxisInfo, AxisSet, Elem, Extent, MAX_AXES, Type};
use crate::unary::Unary;
use crate::verify::{Problem, Verified, VerifyError, check};

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
    /// Ranges of values, and what wrote them; the innermost of those that overlap comes first.
    written: Vec<(Range<usize>, String)>,
    /// Which values came of a mistake that was reported.
    poisoned: Vec<bool>,
    /// Handles of axes no longer tell axes apart, so that further reports would be of no use.
    too_many_axes: bool,
}

/// A value of a graph that is being built: a copyable handle.
///
/// Arithmetic operators broadcast by axis name. An `i32` operand next to an `f32` one is converted, and numbers may stand on either
/// side: `score + slope * (k_pos - q_pos)`, `1.0 - x`.
#[derive(Clone, Copy)]
pub struct Expr<'g> {
    pub(crate) builder: &'g GraphBuilder,
    pub(crate) value: Value,
}

impl fmt::Debug for Expr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.value.0)
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
        self.builder.type_of(self.value)
    }

    /// Labels the value for readers of the text form.
    #[must_use]
    pub fn label(self, label: &str) -> Expr<'g> {
        self.builder.set_label(self.value, label);
        self
    }

    /// Gives the scheme op that makes the value the scheme it was made from, which lowering applies; other ops take none.
    #[must_use]
    pub fn instance(self, instance: Instance) -> Expr<'g> {
        self.builder.set_instance(self.value, instance);
        self
    }
}

/// What stands in the place of an op with a mistake.
const NOTHING: Op = Op::Const(Scalar::F32(f64::NAN));

impl State {
    fn append(&mut self, op: Op, ty: Type, poisoned: bool) -> Value {
        let value = Value(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { op, ty, label: None });
        self.poisoned.push(poisoned);
        value
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> GraphBuilder {
        let graph = Graph { name: name.to_owned(), ..Graph::default() };
        GraphBuilder { state: RefCell::new(State { graph, ..State::default() }) }
    }

    /// An empty graph with the name and the axes of another: handles of axes are good in both.
    pub fn like(graph: &Graph) -> GraphBuilder {
        let graph = Graph { name: graph.name.clone(), axes: graph.axes.clone(), ..Graph::default() };
        GraphBuilder { state: RefCell::new(State { graph, ..State::default() }) }
    }

    /// Declares an axis whose length each call's tensors tell.
    pub fn axis(&self, name: &str) -> Axis {
        self.declare(AxisInfo { name: name.to_owned(), extent: Extent::Dynamic, groups: None })
    }

    /// Declares an axis of a fixed length.
    pub fn axis_of(&self, name: &str, length: impl Length) -> Axis {
        self.fixed(name, length.length(), None)
    }

    /// Declares an axis of `length` groups of the axis `finer`, as key/value heads group query heads (GQA, MQA).
    pub fn groups(&self, name: &str, length: impl Length, finer: Axis) -> Axis {
        self.fixed(name, length.length(), Some(finer))
    }

    fn fixed(&self, name: &str, length: i128, groups: Option<Axis>) -> Axis {
        let name = name.to_owned();
        let Ok(fixed) = u32::try_from(length) else {
            let mut state = self.state.borrow_mut();
            let (place, line) = (Place::Axis(state.graph.axes.len()), format!("axis {name} = {length}"));
            let fault = Fault::AxisLength { name: name.clone(), length };
            state.problems.push(Problem { place, by: None, line, fault });
            drop(state);
            // Stands in for it: the graph is refused.
            return self.declare(AxisInfo { name, extent: Extent::Static(1), groups: None });
        };
        self.declare(AxisInfo { name, extent: Extent::Static(fixed), groups })
    }

    /// Declares an axis from all that is known of it.
    pub fn declare(&self, info: AxisInfo) -> Axis {
        let mut state = self.state.borrow_mut();
        if state.graph.axes.len() == MAX_AXES {
            let line = format!("axis {}", info.name);
            let fault = Fault::TooManyAxes { name: info.name };
            state.problems.push(Problem { place: Place::Axis(MAX_AXES), by: None, line, fault });
            state.too_many_axes = true;
            return Axis(MAX_AXES as u8 - 1);
        }
        state.graph.axes.push(info);
        Axis((state.graph.axes.len() - 1) as u8)
    }

    /// A tensor bound at each call under `name`, with the dimensions `dims`, outermost first. One of `f16`, `bf16` or
    /// `f8e4m3` is a value of `f32`, one of `i8` a value of `i32`.
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

    /// What `write` makes; errors about ops that it writes name it by `who`, such as the closure that a caller gave.
    pub fn written_by<T>(&self, who: impl Into<String>, write: impl FnOnce() -> T) -> T {
        let first = self.len();
        let made = write();
        let written = first..self.len();
        self.state.borrow_mut().written.push((written, who.into()));
        made
    }

    /// Registers the attention around scheme ops.
    pub fn site(&self, site: Site) -> SiteId {
        let mut state = self.state.borrow_mut();
        state.graph.sites.push(site);
        SiteId((state.graph.sites.len() - 1) as u32)
    }

    /// A site registered earlier; `None` if it does not exist here.
    pub fn site_info(&self, site: SiteId) -> Option<Site> {
        self.state.borrow().graph.sites.get(site.index()).copied()
    }

    /// A scheme op at the query, key or score hook; [`Expr::instance`] gives it the scheme itself.
    pub fn scheme<'g>(&'g self, name: &str, hook: Hook, x: Expr<'g>, site: SiteId, attrs: Attrs) -> Expr<'g> {
        let x = Some(self.local(x).value);
        self.push(Op::Scheme { scheme: name.to_owned(), hook, x, site, attrs, instance: None })
    }

    /// A scheme op at the mask hook; [`Expr::instance`] gives it the scheme itself.
    pub fn scheme_mask(&self, name: &str, site: SiteId, attrs: Attrs) -> Expr<'_> {
        self.push(Op::Scheme { scheme: name.to_owned(), hook: Hook::Mask, x: None, site, attrs, instance: None })
    }

    /// Names a result of the graph; `dims` is the order of its dimensions.
    pub fn output<'g>(&'g self, name: &str, x: Expr<'g>, dims: impl IntoIterator<Item = Axis>) {
        self.output_as(name, x.ty().elem, x, dims);
    }

    /// Names a result of the graph that is stored as `elem`: its own type, or one that it is rounded to.
    ///
    /// ```
    /// use rhumb_ir::{Elem, GraphBuilder};
    ///
    /// let b = GraphBuilder::new("squares");
    /// let n = b.axis("n");
    /// let x = b.input("x", Elem::Bf16, [n]);
    /// assert_eq!(x.ty().elem, Elem::F32);
    /// b.output_as("y", Elem::Bf16, x * x, [n]);
    /// assert!(b.finish()?.to_string().ends_with("output \"y\" = %1 : bf16[n]\n"));
    /// # Ok::<(), rhumb_ir::VerifyError>(())
    /// ```
    pub fn output_as<'g>(&'g self, name: &str, elem: Elem, x: Expr<'g>, dims: impl IntoIterator<Item = Axis>) {
        let value = self.local(x).value;
        let output = Output { name: name.to_owned(), value, dims: dims.into_iter().collect(), elem };
        self.state.borrow_mut().graph.outputs.push(output);
    }

    /// Appends an op whose operands are values of this builder.
    pub fn push(&self, op: Op) -> Expr<'_> {
        let mut state = self.state.borrow_mut();
        let mut poisoned = op.operands().iter().any(|operand| state.poisoned.get(operand.index()) == Some(&true));
        if let Op::Scheme { site, .. } = &op
            && let Some(site) = state.graph.sites.get(site.index())
        {
            poisoned |= site.values().iter().any(|(_, value)| state.poisoned.get(value.index()) == Some(&true));
        }
        let (op, ty, poisoned) = match infer(&state.graph, &op) {
            Ok(ty) => (op, ty, poisoned),
            Err(error) => {
                if !poisoned {
                    let place = Place::Op(state.graph.nodes.len());
                    let line = op_text(&state.graph, &op);
                    state.problems.push(Problem { place, by: None, line, fault: Fault::Op(error) });
                }
                (NOTHING, Type { elem: Elem::F32, axes: AxisSet::EMPTY }, true)
            }
        };
        let value = state.append(op, ty, poisoned);
        Expr { builder: self, value }
    }

    /// The value, if it is one of this builder; otherwise a poisoned one, and a report.
    pub(crate) fn local<'g>(&'g self, x: Expr<'g>) -> Expr<'g> {
        if std::ptr::eq(self, x.builder) {
            return x;
        }
        let graph = x.builder.state.borrow().graph.name.clone();
        let mut state = self.state.borrow_mut();
        let (place, line) = (Place::Op(state.graph.nodes.len()), String::new());
        let fault = Fault::ForeignValue { index: x.value.index(), graph };
        state.problems.push(Problem { place, by: None, line, fault });
        let value = state.append(NOTHING, Type { elem: Elem::F32, axes: AxisSet::EMPTY }, true);
        Expr { builder: self, value }
    }

    /// Number of values made.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().graph.nodes.len()
    }

    /// The values made earlier, in order.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        self.state.borrow().graph.values()
    }

    /// The operands of the op that makes a value of this builder; none if it does not exist here.
    pub fn operands(&self, value: Value) -> Vec<Value> {
        self.state.borrow().graph.nodes.get(value.index()).map_or_else(Vec::new, |node| node.op.operands())
    }

    pub(crate) fn is_labelled(&self, x: Expr<'_>) -> bool {
        self.state.borrow().graph.nodes.get(x.value.index()).is_some_and(|node| node.label.is_some())
    }

    pub(crate) fn drop_unused_sites(&self) {
        self.state.borrow_mut().graph.drop_unused_sites();
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
        x.builder.state.borrow().poisoned.get(x.value.index()) == Some(&true)
    }

    /// Checks the graph and hands it out.
    ///
    /// # Errors
    /// [`VerifyError`] lists every mistake, each with its op and a hint.
    pub fn finish(self) -> Result<Verified, VerifyError> {
        let State { graph, mut problems, written, poisoned, too_many_axes } = self.state.into_inner();
        if too_many_axes {
            problems.retain(|problem| matches!(problem.fault, Fault::TooManyAxes { .. }));
        } else {
            problems.extend(check(&graph, &poisoned));
            problems.sort_by_key(|problem| problem.place);
        }
        if problems.is_empty() {
            return Ok(Verified::checked(graph));
        }
        for problem in &mut problems {
            if let Place::Op(index) = problem.place {
                problem.by = written.iter().find(|(ops, _)| ops.contains(&index)).map(|(_, who)| who.clone());
            }
        }
        Err(VerifyError { graph: graph.name, problems })
    }

    /// The type of a value that was made here.
    pub(crate) fn type_of(&self, x: Value) -> Type {
        self.state.borrow().graph.ty(x)
    }

    pub(crate) fn set_instance(&self, x: Value, given: Instance) {
        // Anything else stands for an op that was refused.
        if let Op::Scheme { instance, .. } = &mut self.state.borrow_mut().graph.nodes[x.index()].op {
            *instance = Some(given);
        }
    }

    pub(crate) fn set_label(&self, x: Value, label: &str) {
        self.state.borrow_mut().graph.nodes[x.index()].label = Some(label.to_owned());
    }
}
