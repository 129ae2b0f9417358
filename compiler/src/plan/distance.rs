//! What of a score depends on the distance of query and key alone: computed once for each distance of a key tile, not for each pair.
//!
//! A tile of 48 queries and 64 keys has 3,072 pairs and 111 distances. A bias by distance, such as a table's (T5) or a logarithm's, then
//! costs a pair one load. The distance must be one of indices: positions that a call gives are read pair by pair.
//!
//! Rows and columns of a grid, `index / width` and `index % width`, are no distances, but as long as neither query nor key begins another
//! row of the grid, their differences change with the distance alone. See [`super::runs`].

use rhumb_ir::{Binary, Elem, Op, Scalar, Unary, Value, Verified, Walk};

use super::unit_cost::{LOOKUP, instructions};
use super::{Attention, Problem};
use crate::expr::Node;

/// Instructions that a value must take for each pair to be computed by distance: a load and the code of another loop come in their place.
const WORTH: f64 = 6.0;

/// How a value depends on the indices of query and key.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dependence {
    /// Not at all.
    Free,
    /// On their difference alone: wherever they are, or as long as both stay within runs.
    Distance { anywhere: bool },
    /// It is a sum of multiples of both, and of what does not depend on them; an integer, which may be held as a real. Anywhere, or within
    /// runs.
    Affine { query: i64, key: i64, anywhere: bool },
    /// It is the same as long as both stay within runs: on which side of some number an index lies.
    Steady,
    /// In any other way.
    Any,
}

/// The values of a score that depend on distance alone and are worth it: none is part of another, nor of `others`.
pub(super) fn by_distance(problem: &Problem, others: &[Value]) -> Vec<Value> {
    let Some(search) = Search::new(problem) else { return Vec::new() };
    search.find(others, |search, value| {
        let of_distance = search.dependence(value).is_distance_anywhere();
        of_distance.then(|| search.cost(value) > WORTH)
    })
}

/// A search for values of a score by how they depend on the indices of query and key.
pub(super) struct Search<'a> {
    pub(super) problem: &'a Problem,
    pub(super) attention: &'a Attention,
    graph: &'a Verified,
    dependence: Vec<Dependence>,
}

impl<'a> Search<'a> {
    pub(super) fn new(problem: &'a Problem) -> Option<Search<'a>> {
        // Where heads are packed, scores read nothing of queries.
        let attention = problem.attention.as_ref().filter(|attention| attention.packed.is_none())?;
        let graph = &problem.graph;
        Some(Search { problem, attention, graph, dependence: dependences(graph, attention) })
    }

    pub(super) fn dependence(&self, value: Value) -> Dependence {
        self.dependence[value.index()]
    }

    /// Reals of the score that are computed for each pair and that `wanted` takes; what it refuses is searched no further, and what it has
    /// no answer for is. None is part of another, nor of `others`.
    pub(super) fn find(&self, others: &[Value], wanted: impl Fn(&Self, Value) -> Option<bool>) -> Vec<Value> {
        let mut found = Vec::new();
        let mut walk = Walk::of(self.attention.terms.iter().map(|term| term.value));
        for other in others {
            walk.pass(*other);
        }
        while let Some(value) = walk.next() {
            if !self.attention.is_per_pair(self.graph, value) {
                continue;
            }
            if self.graph.ty(value).elem == Elem::F32
                && let Some(is_wanted) = wanted(self, value)
            {
                found.extend(is_wanted.then_some(value));
                continue;
            }
            // A table over queries and keys is read, not computed.
            if Some(value) != self.attention.dot && self.problem.node(value, |_| true) != Node::Opaque {
                walk.enter(self.graph.op(value).operands());
            }
        }
        found.sort_unstable();
        found
    }

    /// Instructions of a value for each pair, and of all in it that is no constant of the tile.
    pub(super) fn cost(&self, value: Value) -> f64 {
        let per_pair = |value: &Value| self.attention.is_per_pair(self.graph, *value);
        let values = self.graph.below([value], |value| per_pair(&value)).filter(per_pair);
        values.map(|value| cost_of(&Node::of(self.graph, value, None, || None))).sum()
    }
}

/// Instructions of a node for each pair.
fn cost_of(node: &Node) -> f64 {
    match node {
        Node::Gather { .. } => LOOKUP,
        node => instructions(node),
    }
}

impl Dependence {
    /// Whether the value changes with the distance alone, as long as query and key stay within runs.
    pub(super) fn is_distance(self) -> bool {
        matches!(self, Dependence::Distance { .. } | Dependence::Steady)
            || matches!(self, Dependence::Affine { query, key, .. } if query == -key)
    }

    /// As [`Dependence::is_distance`], wherever they are.
    pub(super) fn is_distance_anywhere(self) -> bool {
        match self {
            Dependence::Distance { anywhere } => anywhere,
            Dependence::Affine { query, anywhere, .. } => anywhere && query != 0 && self.is_distance(),
            Dependence::Free | Dependence::Steady | Dependence::Any => false,
        }
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
    let affine = match graph.ty(value).elem {
        Elem::I32 => affine(graph, attention, op, of),
        Elem::F32 => real_affine(op, of),
        _ => None,
    };
    if let Some(affine) = affine {
        return affine;
    }
    if side(graph, op, of).is_some() {
        return Dependence::Steady;
    }
    let by_elements = |operands: &[Value]| {
        let fits = |value: &Value| of(*value) == Dependence::Free || of(*value).is_distance();
        let anywhere = |value: &Value| of(*value) == Dependence::Free || of(*value).is_distance_anywhere();
        let is_steady = |value: &Value| matches!(of(*value), Dependence::Free | Dependence::Steady);
        match operands.iter().all(fits) {
            true if operands.iter().all(is_steady) => Dependence::Steady,
            true => Dependence::Distance { anywhere: operands.iter().all(anywhere) },
            false => Dependence::Any,
        }
    };
    match *op {
        Op::Unary(_, x) | Op::Cast(_, x) => by_elements(&[x]),
        Op::Binary(_, a, b) | Op::Compare(_, a, b) => by_elements(&[a, b]),
        Op::Select { cond, on_true, on_false } => by_elements(&[cond, on_true, on_false]),
        Op::Gather { table, axis: _, index } if of(table) == Dependence::Free => by_elements(&[index]),
        _ => Dependence::Any,
    }
}

/// The index and the number that an op compares: an index of queries or of keys, to which a constant may be added.
pub(super) fn side(graph: &Verified, op: &Op, of: impl Fn(Value) -> Dependence) -> Option<(Value, i32)> {
    let Op::Compare(_, a, b) = *op else { return None };
    let is_index = |value: Value| match of(value) {
        Dependence::Affine { query, key, anywhere } => anywhere && matches!((query, key), (1, 0) | (0, 1)),
        _ => false,
    };
    let number = |value: Value| match *graph.op(value) {
        Op::Const(Scalar::I32(x)) => Some(x),
        _ => None,
    };
    let (index, other) = if is_index(a) { (a, b) } else { (b, a) };
    is_index(index).then(|| number(other).map(|number| (index, number)))?
}

/// An integer that is a sum of multiples of both indices.
fn affine(graph: &Verified, attention: &Attention, op: &Op, of: impl Fn(Value) -> Dependence) -> Option<Dependence> {
    let parts = |value: Value| match of(value) {
        Dependence::Free => Some((0, 0, true)),
        Dependence::Affine { query, key, anywhere } => Some((query, key, anywhere)),
        Dependence::Distance { .. } | Dependence::Steady | Dependence::Any => None,
    };
    let constant = |value: Value| match *graph.op(value) {
        Op::Const(Scalar::I32(x)) => Some(i64::from(x)),
        _ => None,
    };
    let (query, key, anywhere) = match *op {
        Op::Iota(axis) if axis == attention.query => (1, 0, true),
        Op::Iota(axis) if axis == attention.key => (0, 1, true),
        Op::Unary(Unary::Neg, x) => parts(x).map(|(query, key, anywhere)| (-query, -key, anywhere))?,
        Op::Binary(Binary::Add, a, b) => {
            let ((q, k, in_a), (q2, k2, in_b)) = (parts(a)?, parts(b)?);
            (q.checked_add(q2)?, k.checked_add(k2)?, in_a && in_b)
        }
        Op::Binary(Binary::Sub, a, b) => {
            let ((q, k, in_a), (q2, k2, in_b)) = (parts(a)?, parts(b)?);
            (q.checked_sub(q2)?, k.checked_sub(k2)?, in_a && in_b)
        }
        Op::Binary(Binary::Mul, a, b) => {
            let (x, factor) = if let Some(factor) = constant(b) { (a, factor) } else { (b, constant(a)?) };
            let (query, key, anywhere) = parts(x)?;
            (query.checked_mul(factor)?, key.checked_mul(factor)?, anywhere)
        }
        // Within a run the quotient is the same, and the remainder follows the index.
        Op::Binary(division @ (Binary::Div | Binary::Mod), a, b) if constant(b)? > 0 => match parts(a)? {
            (0, 0, _) => (0, 0, false),
            (query, key, true) if (query, key) == (1, 0) || (query, key) == (0, 1) => match division {
                Binary::Mod => (query, key, false),
                _ => (0, 0, false),
            },
            _ => return None,
        },
        _ => return None,
    };
    Some(Dependence::Affine { query, key, anywhere })
}

/// A real that holds such an integer. Reals hold those below `2^24`, which are more tokens than there is memory for.
fn real_affine(op: &Op, of: impl Fn(Value) -> Dependence) -> Option<Dependence> {
    let parts = |value: Value| match of(value) {
        Dependence::Affine { query, key, .. } => Some((query, key)),
        _ => None,
    };
    let (query, key) = match *op {
        Op::Cast(Elem::F32, x) if !of(x).is_distance_anywhere() => parts(x)?,
        Op::Unary(Unary::Neg, x) => parts(x).map(|(query, key)| (-query, -key))?,
        Op::Binary(Binary::Add, a, b) => {
            let ((q, k), (q2, k2)) = (parts(a)?, parts(b)?);
            (q.checked_add(q2)?, k.checked_add(k2)?)
        }
        Op::Binary(Binary::Sub, a, b) => {
            let ((q, k), (q2, k2)) = (parts(a)?, parts(b)?);
            (q.checked_sub(q2)?, k.checked_sub(k2)?)
        }
        _ => return None,
    };
    Some(Dependence::Affine { query, key, anywhere: false })
}
