//! What an op costs on a vector, and how long axes are taken to be.

use rhumb_ir::{Axis, Graph};

use crate::elementary::{elementary, of_two};
use crate::expr::Node;

/// The length assumed of dynamic axes.
const LONG: f64 = 1024.0;
/// Vector instructions, and loads, that are begun in a cycle.
pub(super) const PORTS: f64 = 2.0;
/// Instructions to look an element up in every lane.
pub(super) const LOOKUP: f64 = 32.0;
/// The length of an axis, assumed where it is dynamic.
pub(super) fn length(graph: &Graph, axis: Axis) -> f64 {
    graph.static_extent(axis).map_or(LONG, |n| f64::from(n.max(1)))
}

/// Instructions of a node on a vector, slow ones counted by the time they take; of what is looked up, summed or rotated, those that there
/// are for any.
pub(super) fn instructions(node: &Node) -> f64 {
    match *node {
        Node::Unary(op, _) => elementary(op).instructions,
        Node::Binary(op, _) => of_two(op),
        Node::Product
        | Node::Table(_)
        | Node::Input(_)
        | Node::Const(_)
        | Node::Iota(_)
        | Node::Size(_)
        | Node::MulAdd(_)
        | Node::Compare(..)
        | Node::Select(_)
        | Node::Cast(..)
        | Node::Gather { .. }
        | Node::Rotate { .. }
        | Node::Dot { .. }
        | Node::Opaque => 1.0,
    }
}
