//! What a node costs on a vector, loads included, and how long axes are taken to be.

use rhumb_ir::{Axis, Graph};

use crate::expr::Node;
use crate::machine::MOST_LANES;
use crate::op_cost::{self, Work};

/// The length assumed of dynamic axes.
const LONG: f64 = 1024.0;
/// Vector instructions, and loads, that are begun in a cycle.
pub(super) const PORTS: f64 = 2.0;
/// Instructions to load an element, or a vector of them.
pub(super) const LOAD: f64 = 1.0;
/// Instructions to look an element up in every lane of the widest vectors.
pub(super) const LOOKUP: f64 = MOST_LANES as f64 * op_cost::LOOKUP;

/// The length of an axis, assumed where it is dynamic.
pub(super) fn length(graph: &Graph, axis: Axis) -> f64 {
    graph.static_extent(axis).map_or(LONG, |n| f64::from(n.max(1)))
}

/// Instructions of a node on a vector; of what is looked up, summed or rotated, those that there are for any.
pub(super) fn instructions(node: &Node) -> f64 {
    match *node {
        Node::Unary(op, _) => Work::Unary(op).instructions(),
        Node::Binary(op, _) => Work::Binary(op).instructions(),
        Node::MulAdd(_) => Work::MultiplyAdd.instructions(),
        Node::Compare(..) => Work::Compare.instructions(),
        Node::Select(_) => Work::Select.instructions(),
        Node::Cast(..) => Work::Cast.instructions(),
        // A load.
        Node::Product
        | Node::Table(_)
        | Node::Input(_)
        | Node::Const(_)
        | Node::Iota(_)
        | Node::Size(_)
        | Node::Gather { .. }
        | Node::Rotate { .. }
        | Node::Dot { .. }
        | Node::Opaque => LOAD,
    }
}
