//! The e-class analysis: type, constant and interval of every class.
//!
//! Invariant: all forms of a class have one element type and vary over the same axes. Rules are applied only where their right-hand
//! side is well typed with the type of the class (see [`super::rule`]), so any form can stand for any other in any context.

use std::sync::Arc;

use egg::{Analysis, DidMerge, Id, Language};
use rhumb_ir::{Axis, AxisSet, Binary, Elem, Op, Type, Unary, Value, Verified};

use super::constants::fold;
use super::extents::{Extents, Regime};
use super::kind::Kind;
use super::language::{Node, Number};
use crate::intervals::Interval;
use crate::weighted::WeightedSum;

/// The e-graph of fusion.
pub(crate) type EGraph = egg::EGraph<Node, Facts>;

/// What is known of a class.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What it is; `None` for an ill-typed node, which only a faulty rule makes.
    pub(crate) kind: Option<Kind>,
    /// The one value it has everywhere.
    pub(crate) constant: Option<Number>,
    /// The values it may take.
    pub(crate) interval: Interval,
    /// Whether it is a term of a score, or a factor of one: nothing but sums, products and masks lies between it and a softmax.
    pub(crate) in_score: bool,
    /// Whether it is computed of a sum over keys.
    pub(crate) sums_keys: bool,
}

impl Fact {
    /// The type, of a value.
    pub(crate) fn ty(&self) -> Option<Type> {
        self.kind.and_then(Kind::ty)
    }
}

/// The axes of queries, and all axes of the factors that products multiply with rows of keys, where keys have these axes.
fn query_axes(graph: &Verified, keys: AxisSet) -> (AxisSet, AxisSet) {
    let of_keys = |axes: AxisSet| keys.iter().any(|key| graph.varies(axes, key));
    let (mut queries, mut pairs) = (AxisSet::EMPTY, AxisSet::EMPTY);
    for node in graph.nodes() {
        let Op::Dot { a, b, axis } = node.op else { continue };
        let [a, b] = [a, b].map(|operand| graph.ty(operand).axes);
        let (factor, rows) = if of_keys(a) { (b, a) } else { (a, b) };
        if keys.contains(axis) || of_keys(factor) || !of_keys(rows) {
            continue;
        }
        let factor = factor.without(axis);
        pairs = pairs.union(factor);
        queries = queries.union(factor.iter().filter(|axis| !graph.varies(rows, *axis)).collect());
    }
    (queries, pairs)
}

/// The analysis, with what it knows of the user's graph.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The user's graph: leaves refer to it, and it knows how axes join.
    pub(crate) graph: Arc<Verified>,
    /// Lengths of axes, estimated where dynamic, for calls of many queries.
    pub(crate) extents: Extents,
    /// The same for calls of few queries on keys, where it makes a difference.
    pub(crate) few: Option<Extents>,
    /// Axes of keys: along which some softmax or log-sum-exp of the graph runs, or some sum of values weighed by scores.
    pub(crate) keys: AxisSet,
    /// Axes of queries: those of what products multiply with rows of keys, along which these stay the same.
    pub(crate) queries: AxisSet,
    /// All axes of such a factor but those that are summed over: one query each.
    pub(crate) pairs: AxisSet,
    /// Rules add nothing to an e-graph of this many nodes.
    pub(crate) node_limit: usize,
    /// Set when two forms of a class differ in type: a faulty rule.
    pub(crate) conflict: Option<String>,
}

impl Facts {
    /// The analysis for a graph.
    pub(crate) fn new(graph: &Verified) -> Facts {
        let keys = |value: Value| match graph.op(value) {
            Op::Softmax { axis, .. } | Op::LogSumExp { axis, .. } => Some(*axis),
            _ => WeightedSum::of(graph, value).map(|sum| sum.key),
        };
        let keys: AxisSet = graph.values().filter_map(keys).collect();
        let [extents, few] = [Regime::ManyQueries, Regime::FewQueries].map(|regime| Extents::of(graph, regime));
        let few = Some(few).filter(|few| !keys.is_empty() && *few != extents);
        let (queries, pairs) = query_axes(graph, keys);
        let graph = Arc::new(graph.clone());
        Facts { graph, extents, few, keys, queries, pairs, node_limit: usize::MAX, conflict: None }
    }

    /// Whether a value over `axes` changes from key to key.
    pub(crate) fn varies_over_keys(&self, axes: AxisSet) -> bool {
        self.keys.iter().any(|axis| self.graph.varies(axes, axis))
    }

    /// Place in the canonical order of sums and products: what varies over keys leads, then what runs in the larger space.
    pub(crate) fn rank(&self, axes: AxisSet) -> (bool, u64) {
        (self.varies_over_keys(axes), self.extents.space(axes))
    }

    /// The kind of a node's result, from the kinds of its children; `None` if it is ill typed.
    ///
    /// The rules are those of [`rhumb_ir::infer`], which needs operands that stand in a graph.
    pub(crate) fn kind(&self, node: &Node, child: impl Fn(Id) -> Option<Kind>) -> Option<Kind> {
        let of = Children { facts: self, child };
        match node {
            Node::Leaf(index) => self.graph.nodes().get(*index as usize).map(|node| Kind::Value(node.ty)),
            Node::Const(number) => value(number.scalar().elem(), AxisSet::EMPTY),
            Node::Axis(axis) => Some(Kind::Axis(*axis)),
            Node::Block(pairing, start) => Some(Kind::Block(*pairing, *start)),
            Node::Base(base) => Some(Kind::Base(*base)),
            Node::NoSink => Some(Kind::NoSink),
            Node::Iota([along]) => value(Elem::I32, AxisSet::EMPTY.with(of.axis(*along)?)),
            Node::Size([along]) => of.axis(*along).and_then(|_| value(Elem::I32, AxisSet::EMPTY)),
            Node::Rotate(operands) => of.rotate(*operands),
            Node::Dot(operands) => of.dot(*operands),
            Node::Softmax(operands) => of.normalised(*operands).and_then(|(axes, _)| value(Elem::F32, axes)),
            Node::LogSumExp(operands) => {
                of.normalised(*operands).and_then(|(axes, along)| value(Elem::F32, axes.without(along)))
            }
            Node::Select([cond, on_true, on_false]) => {
                let (cond, result) = (of.ty(*cond)?, of.same(*on_true, *on_false)?);
                if cond.elem == Elem::Bool { value(result.elem, of.join(cond.axes, result.axes)) } else { None }
            }
            Node::Gather([table, along, index]) => {
                let (table, along, index) = (of.ty(*table)?, of.axis(*along)?, of.ty(*index)?);
                if index.elem == Elem::I32 && table.axes.contains(along) {
                    value(table.elem, of.join(table.axes.without(along), index.axes))
                } else {
                    None
                }
            }
            Node::Unary(op, [x]) => of.unary(*op, *x),
            Node::Binary(op, [a, b]) => {
                let ty = of.same(*a, *b)?;
                let fits = match op {
                    Binary::And | Binary::Or => ty.elem == Elem::Bool,
                    Binary::Pow => ty.elem == Elem::F32,
                    _ => ty.elem != Elem::Bool,
                };
                fits.then_some(Kind::Value(ty))
            }
            Node::Compare(_, [a, b]) => {
                let ty = of.same(*a, *b)?;
                if ty.elem == Elem::Bool { None } else { value(Elem::Bool, ty.axes) }
            }
            Node::Cast(elem, [x]) => {
                let x = of.ty(*x)?;
                if *elem == Elem::Bool && x.elem != Elem::Bool { None } else { value(*elem, x.axes) }
            }
        }
    }

    /// Whether a node is a sum over keys, or computed of one.
    fn sums_keys(egraph: &EGraph, node: &Node) -> bool {
        let own = match node {
            Node::Dot([_, _, along]) => {
                matches!(egraph[*along].data.kind, Some(Kind::Axis(axis)) if egraph.analysis.keys.contains(axis))
            }
            _ => false,
        };
        own || node.children().iter().any(|child| egraph[*child].data.sums_keys)
    }

    fn interval(egraph: &EGraph, node: &Node, elem: Elem) -> Interval {
        let graph = &egraph.analysis.graph;
        let of = |id: &Id| egraph[*id].data.interval;
        let extent = |id: &Id| match egraph[*id].data.kind {
            Some(Kind::Axis(axis)) => graph.static_extent(axis).map(f64::from),
            _ => None,
        };
        match node {
            Node::Const(number) => Interval::point(number.scalar().as_f64()),
            Node::Leaf(index) => match graph.nodes().get(*index as usize).map(|node| &node.op) {
                Some(Op::Table { data, .. }) => Interval::around(data.iter().copied()).rounded(elem),
                _ => Interval::of(elem),
            },
            Node::Iota([axis]) => {
                let last = extent(axis).map_or(f64::from(i32::MAX - 1), |n| n - 1.0);
                Interval::new(0.0, last.max(0.0))
            }
            Node::Size([axis]) => {
                extent(axis).map_or(Interval::new(0.0, f64::from(i32::MAX)), |n| Interval::new(n, n)).rounded(elem)
            }
            Node::Unary(op, [x]) => of(x).unary(*op, elem),
            Node::Binary(Binary::Sub, [a, b]) if egraph.find(*a) == egraph.find(*b) && of(a).is_finite() => {
                Interval::new(0.0, 0.0)
            }
            Node::Binary(op, [a, b]) => of(a).binary(*op, of(b), elem),
            Node::Compare(op, [a, b]) => of(a).compare(*op, of(b)),
            Node::Select([_, on_true, on_false]) => of(on_true).hull(of(on_false)),
            Node::Cast(_, [x]) => of(x).cast(elem),
            // An empty axis gives 0.
            Node::Gather([table, _, _]) => of(table).hull(Interval::new(0.0, 0.0)),
            Node::Rotate([x, angle, ..]) => {
                let x = of(x);
                let bound = x.lo.abs().max(x.hi.abs()) * std::f64::consts::SQRT_2 * (1.0 + 1e-6);
                let nan = x.nan || !x.is_finite() || !of(angle).is_finite();
                Interval { lo: -bound, hi: bound, nan }.rounded(elem)
            }
            Node::Softmax([x, ..]) => Interval { lo: 0.0, hi: 1.0, nan: of(x).nan || of(x).hi == f64::INFINITY },
            Node::Dot(_) | Node::LogSumExp(_) => Interval::ANY,
            Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => Interval::ANY,
        }
    }
}

fn value(elem: Elem, axes: AxisSet) -> Option<Kind> {
    Some(Kind::Value(Type { elem, axes }))
}

/// The kinds of a node's children.
struct Children<'f, F> {
    facts: &'f Facts,
    child: F,
}

impl<F: Fn(Id) -> Option<Kind>> Children<'_, F> {
    fn ty(&self, id: Id) -> Option<Type> {
        (self.child)(id)?.ty()
    }

    fn axis(&self, id: Id) -> Option<Axis> {
        (self.child)(id)?.axis()
    }

    fn join(&self, a: AxisSet, b: AxisSet) -> AxisSet {
        self.facts.graph.join(a, b)
    }

    /// The type of two operands of one element type.
    fn same(&self, a: Id, b: Id) -> Option<Type> {
        let (a, b) = (self.ty(a)?, self.ty(b)?);
        (a.elem == b.elem).then(|| Type { elem: a.elem, axes: self.join(a.axes, b.axes) })
    }

    fn unary(&self, op: Unary, x: Id) -> Option<Kind> {
        let x = self.ty(x)?;
        let fits = match op {
            Unary::Not => x.elem == Elem::Bool,
            Unary::Neg | Unary::Abs => x.elem != Elem::Bool,
            _ => x.elem == Elem::F32,
        };
        fits.then_some(Kind::Value(x))
    }

    fn rotate(&self, [x, angle, dim, pair, block]: [Id; 5]) -> Option<Kind> {
        let (x, angle, dim, pair) = (self.ty(x)?, self.ty(angle)?, self.axis(dim)?, self.axis(pair)?);
        let Kind::Block(_, start) = (self.child)(block)? else { return None };
        let graph = &self.facts.graph;
        let (extent, pairs) = (graph.static_extent(dim)?, graph.static_extent(pair)?);
        let fits = u64::from(start) + 2 * u64::from(pairs) <= u64::from(extent);
        let typed = x.elem == Elem::F32
            && angle.elem == Elem::F32
            && x.axes.contains(dim)
            && !x.axes.contains(pair)
            && angle.axes.contains(pair)
            && !angle.axes.contains(dim);
        if fits && typed { value(Elem::F32, self.join(x.axes, angle.axes.without(pair))) } else { None }
    }

    fn dot(&self, [a, b, along]: [Id; 3]) -> Option<Kind> {
        let (a, b, along) = (self.ty(a)?, self.ty(b)?, self.axis(along)?);
        let typed = a.elem == Elem::F32 && b.elem == Elem::F32;
        if typed && a.axes.contains(along) && b.axes.contains(along) {
            value(Elem::F32, self.join(a.axes.without(along), b.axes.without(along)))
        } else {
            None
        }
    }

    /// The axes of a softmax, and the one that it runs along.
    fn normalised(&self, [x, along, sink, base]: [Id; 4]) -> Option<(AxisSet, Axis)> {
        let (x, along) = (self.ty(x)?, self.axis(along)?);
        let Kind::Base(_) = (self.child)(base)? else { return None };
        let sink = match (self.child)(sink)? {
            Kind::NoSink => AxisSet::EMPTY,
            Kind::Value(Type { elem: Elem::F32, axes }) if !axes.contains(along) => axes,
            _ => return None,
        };
        let typed = x.elem == Elem::F32 && x.axes.contains(along);
        typed.then(|| (self.join(x.axes, sink), along))
    }
}

impl Analysis<Node> for Facts {
    type Data = Fact;

    fn make(egraph: &mut EGraph, node: &Node, _: Id) -> Fact {
        let kind = egraph.analysis.kind(node, |id| egraph[id].data.kind);
        let Some(Kind::Value(ty)) = kind else {
            return Fact { kind, constant: None, interval: Interval::ANY, in_score: false, sums_keys: false };
        };
        let constant = fold(&egraph.analysis.graph, node, |id| egraph[id].data.constant, |id| egraph[id].data.kind);
        let interval = match constant {
            Some(number) => Interval::point(number.scalar().as_f64()),
            None => Facts::interval(egraph, node, ty.elem),
        };
        let sums_keys = Facts::sums_keys(egraph, node);
        Fact { kind, constant, interval, in_score: false, sums_keys }
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        if a.kind != b.kind && self.conflict.is_none() {
            self.conflict = Some(format!("{:?} and {:?}", a.kind, b.kind));
        }
        let constant = match (a.constant, b.constant) {
            // Two ways to fold one real number may round differently; the lesser is kept, whatever the order of merging.
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        };
        let interval = a.interval.meet(b.interval);
        let sums_keys = a.sums_keys || b.sums_keys;
        let did = DidMerge(
            constant != a.constant || interval != a.interval || sums_keys != a.sums_keys,
            constant != b.constant || interval != b.interval || sums_keys != b.sums_keys || a.kind != b.kind,
        );
        a.constant = constant;
        a.interval = interval;
        a.sums_keys = sums_keys;
        // No parent depends on it.
        a.in_score |= b.in_score;
        did
    }

    /// Drops all other forms of a class that has a constant form, and tells operands that they are in a score.
    ///
    /// Else sums would be taken apart along the forms of their constants, `x + 1 = x + (2 + -1) = (x + 2) + -1`, and never come to rest.
    fn modify(egraph: &mut EGraph, id: Id) {
        spread(egraph, id);
        let nodes = &mut egraph[id].nodes;
        if nodes.len() > 1 && nodes.iter().any(|node| matches!(node, Node::Const(_))) {
            nodes.retain(|node| matches!(node, Node::Const(_)));
        }
    }
}

/// What a mask lets through, of a choice between that and `-inf`.
pub(crate) fn behind_mask(egraph: &EGraph, node: &Node) -> Option<Id> {
    let Node::Select([_, on_true, on_false]) = node else { return None };
    let hides = |id: &Id| egraph[*id].data.interval.is_point(f64::NEG_INFINITY);
    match (hides(on_true), hides(on_false)) {
        (false, true) => Some(*on_true),
        (true, false) => Some(*on_false),
        _ => None,
    }
}

/// Marks what is in a score by way of a class.
fn spread(egraph: &mut EGraph, id: Id) {
    let mut stack = vec![id];
    while let Some(id) = stack.pop() {
        let class = &egraph[id];
        let mut parts: Vec<Id> = Vec::new();
        for node in &class.nodes {
            match node {
                Node::Softmax([x, ..]) | Node::LogSumExp([x, ..]) => parts.push(*x),
                _ if !class.data.in_score => {}
                Node::Binary(Binary::Add | Binary::Sub | Binary::Mul, [a, b]) => parts.extend([*a, *b]),
                Node::Binary(Binary::Div, [x, _]) | Node::Unary(Unary::Neg, [x]) => parts.push(*x),
                node => parts.extend(behind_mask(egraph, node)),
            }
        }
        for part in parts {
            if !std::mem::replace(&mut egraph[part].data.in_score, true) {
                stack.push(part);
            }
        }
    }
}
