//! What an op costs on a vector, and how long axes are taken to be.

use rhumb_ir::{Axis, Binary, Graph, Op};

use crate::elementary::elementary;

/// The length assumed of dynamic axes.
const LONG: f64 = 1024.0;
/// Vector instructions, and loads, that are begun in a cycle.
pub(super) const PORTS: f64 = 2.0;
/// The length of an axis, assumed where it is dynamic.
pub(super) fn length(graph: &Graph, axis: Axis) -> f64 {
    graph.static_extent(axis).map_or(LONG, |n| f64::from(n.max(1)))
}

/// Instructions of an op on a vector, slow ones counted by the time they take.
pub(super) fn instructions(op: &Op) -> f64 {
    match op {
        Op::Unary(op, _) => elementary(*op).instructions,
        Op::Binary(op, ..) => match op {
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Min | Binary::Max | Binary::And | Binary::Or => 1.0,
            Binary::Div => 10.0,
            Binary::Mod => 15.0,
            Binary::Pow => 40.0,
        },
        _ => 1.0,
    }
}
