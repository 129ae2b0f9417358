//! What of a score depends on the distance of query and key alone: computed once for each distance of a key tile, not for each pair.
//!
//! A tile of 48 queries and 64 keys has 3,072 pairs and 111 distances. A bias by distance, such as a table's (T5) or a logarithm's, then
//! costs a pair one load. The distance must be one of indices: positions that a call gives are read pair by pair.

use rhumb_ir::{Binary, Elem, Op, Scalar, Unary, Value, Verified};

use super::cost::LOOKUP;
use super::unit_cost::instructions;
use super::{Attention, Problem};
use crate::expr::Node;

/// Instructions that a value must take for each pair to be computed by distance: a load and the code of another loop come in their place.
const WORTH: f64 = 6.0;

/// How a value depends on the indices of query and key.
#[derive(Clone, Copy, PartialEq)]
enum Dependence {
    /// Not at all.
    Free,
    /// On their difference alone.
    Distance,
    /// It is a sum of multiples of both, and of what does not depend on them; an integer.
    Affine { query: i64, key: i64 },
    /// In any other way.
    Any,
}

/// The values of a score that depend on distance alone and are worth it: none is part of another.
pub(super) fn by_distance(problem: &Problem) -> Vec<Value> {
    // Where heads are packed, scores read nothing of queries.
    let Some(attention) = problem.attention.as_ref().filter(|attention| attention.packed.is_none()) else {
        return Vec::new();
    };
    let search = Search { graph: &problem.graph, attention, dependence: dependences(&problem.graph, attention) };
    let mut found = Vec::new();
    let mut seen = vec![false; problem.graph.nodes().len()];
    let mut stack: Vec<Value> = attention.terms.iter().rev().map(|term| term.value).collect();
    while let Some(value) = stack.pop() {
        if std::mem::replace(&mut seen[value.index()], true) || !attention.is_per_pair(&problem.graph, value) {
            continue;
        }
        if search.is_distance(value) && problem.graph.ty(value).elem == Elem::F32 {
            if search.cost(value) > WORTH {
                found.push(value);
            }
            continue;
        }
        // A table over queries and keys is read, not computed.
        if Some(value) != attention.dot && problem.node(value, |_| true) != Node::Opaque {
            stack.extend(problem.graph.op(value).operands());
        }
    }
    found.sort_unstable();
    found
}

struct Search<'a> {
    graph: &'a Verified,
    attention: &'a Attention,
    dependence: Vec<Dependence>,
}

impl Search<'_> {
    fn is_distance(&self, value: Value) -> bool {
        is_distance(self.dependence[value.index()])
    }

    /// Instructions of a value for each pair, and of all in it that is no constant of the tile.
    fn cost(&self, value: Value) -> f64 {
        let mut seen = vec![false; self.dependence.len()];
        let (mut stack, mut cost) = (vec![value], 0.0);
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut seen[value.index()], true) || !self.attention.is_per_pair(self.graph, value) {
                continue;
            }
            cost += match Node::of(self.graph, value, None, || None) {
                Node::Gather { .. } => LOOKUP,
                node => instructions(&node),
            };
            stack.extend(self.graph.op(value).operands());
        }
        cost
    }
}

fn is_distance(dependence: Dependence) -> bool {
    match dependence {
        Dependence::Distance => true,
        Dependence::Affine { query, key } => query == -key && query != 0,
        Dependence::Free | Dependence::Any => false,
    }
}

/// How each value depends on the indices of query and key.
fn dependences(graph: &Verified, attention: &Attention) -> Vec<Dependence> {
    let mut found = Vec::with_capacity(graph.nodes().len());
    for value in graph.values() {
        let axes = graph.ty(value).axes;
        let is_free = !graph.varies(axes, attention.query) && !graph.varies(axes, attention.key);
        found.push(if is_free { Dependence::Free } else { dependence(graph, attention, value, &found) });
    }
    found
}

/// How a value depends on indices, from how its operands do.
fn dependence(graph: &Verified, attention: &Attention, value: Value, found: &[Dependence]) -> Dependence {
    let of = |value: Value| found[value.index()];
    let op = graph.op(value);
    if graph.ty(value).elem == Elem::I32
        && let Some(affine) = affine(graph, attention, op, of)
    {
        return affine;
    }
    let by_elements = |operands: &[Value]| {
        let fits = |value: &Value| of(*value) == Dependence::Free || is_distance(of(*value));
        if operands.iter().all(fits) { Dependence::Distance } else { Dependence::Any }
    };
    match *op {
        Op::Unary(_, x) | Op::Cast(_, x) => by_elements(&[x]),
        Op::Binary(_, a, b) | Op::Compare(_, a, b) => by_elements(&[a, b]),
        Op::Select { cond, on_true, on_false } => by_elements(&[cond, on_true, on_false]),
        Op::Gather { table, axis: _, index } if of(table) == Dependence::Free => by_elements(&[index]),
        _ => Dependence::Any,
    }
}

/// An integer that is a sum of multiples of both indices.
fn affine(graph: &Verified, attention: &Attention, op: &Op, of: impl Fn(Value) -> Dependence) -> Option<Dependence> {
    let parts = |value: Value| match of(value) {
        Dependence::Free => Some((0, 0)),
        Dependence::Affine { query, key } => Some((query, key)),
        Dependence::Distance | Dependence::Any => None,
    };
    let constant = |value: Value| match *graph.op(value) {
        Op::Const(Scalar::I32(x)) => Some(i64::from(x)),
        _ => None,
    };
    let (query, key) = match *op {
        Op::Iota(axis) if axis == attention.query => (1, 0),
        Op::Iota(axis) if axis == attention.key => (0, 1),
        Op::Unary(Unary::Neg, x) => parts(x).map(|(query, key)| (-query, -key))?,
        Op::Binary(Binary::Add, a, b) => {
            let ((q, k), (q2, k2)) = (parts(a)?, parts(b)?);
            (q.checked_add(q2)?, k.checked_add(k2)?)
        }
        Op::Binary(Binary::Sub, a, b) => {
            let ((q, k), (q2, k2)) = (parts(a)?, parts(b)?);
            (q.checked_sub(q2)?, k.checked_sub(k2)?)
        }
        Op::Binary(Binary::Mul, a, b) => {
            let (x, factor) = if let Some(factor) = constant(b) { (a, factor) } else { (b, constant(a)?) };
            let (query, key) = parts(x)?;
            (query.checked_mul(factor)?, key.checked_mul(factor)?)
        }
        _ => return None,
    };
    Some(Dependence::Affine { query, key })
}
