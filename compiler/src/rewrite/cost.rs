//! What a form costs: the size of the iteration space each op runs in, times the op's unit cost.

use std::fmt;

use egg::Id;
use rhumb_ir::{AxisSet, Base, Binary, Unary};

use super::facts::{EGraph, behind_mask};
use super::kind::Kind;
use super::language::Node;
use crate::elementary::{elementary, of_two};

/// An estimate of work. The unit is a quarter of an `f32` addition on one element.
///
/// What kernels have no place for comes first: of two forms, the one with less of it is the cheaper, whatever work it takes. Addition
/// saturates. Every op costs at least one unit, so an op is dearer than its operands; inputs and constants are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// Powers of `e`, products of queries and keys, and factors of what is masked: kernels take powers of 2, of one such product, and apply
    /// masks last.
    misfits: u64,
    work: u128,
}

impl Cost {
    /// No work.
    pub const ZERO: Cost = Cost { misfits: 0, work: 0 };

    /// The sum, at most the greatest that there is.
    #[must_use]
    pub fn plus(self, other: Cost) -> Cost {
        let Cost { misfits, work } = other;
        Cost { misfits: self.misfits.saturating_add(misfits), work: self.work.saturating_add(work) }
    }

    /// What is left of a sum without one of its parts.
    pub(crate) fn minus(self, part: Cost) -> Cost {
        let Cost { misfits, work } = part;
        Cost { misfits: self.misfits.saturating_sub(misfits), work: self.work.saturating_sub(work) }
    }

    fn of(space: u64, unit: u64) -> Cost {
        Cost { misfits: 0, work: u128::from(space) * u128::from(unit) }
    }

    fn misfit(self, is_one: bool) -> Cost {
        Cost { misfits: self.misfits + u64::from(is_one), ..self }
    }
}

/// The work.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work.fmt(f)
    }
}

/// Cost of one element of a unary op.
fn unary_unit(op: Unary) -> u64 {
    match op {
        // Beside an addition these are next to nothing.
        Unary::Not => 1,
        Unary::Neg | Unary::Abs => 2,
        op => (4.0 * elementary(op).instructions) as u64,
    }
}

/// Cost of one element of a binary op.
fn binary_unit(op: Binary) -> u64 {
    match op {
        // Beside an addition these are next to nothing.
        Binary::And | Binary::Or => 1,
        op => (4.0 * of_two(op)) as u64,
    }
}

/// Cost of computing a node of a class once its children are there.
pub(crate) fn node_cost(egraph: &EGraph, class: Id, node: &Node) -> Cost {
    let facts = &egraph.analysis;
    let axes = |id: Id| egraph[id].data.ty().map_or(AxisSet::EMPTY, |ty| ty.axes);
    let space = |axes: AxisSet| facts.extents.space(axes);
    let result = || space(axes(class));
    match node {
        Node::Leaf(_) | Node::Const(_) | Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => Cost::ZERO,
        Node::Iota(_) | Node::Size(_) => Cost::of(1, 1),
        Node::Unary(op, _) => Cost::of(result(), unary_unit(*op)),
        Node::Binary(op, [a, b]) => {
            // A product that a sum takes in becomes one instruction with it; a product of a sum, or of what a mask left of one, does not.
            let is_sum = |node: &Node| matches!(node, Node::Binary(Binary::Add | Binary::Sub, _) | Node::Select(_));
            let unfused = *op == Binary::Mul && [a, b].into_iter().any(|id| egraph[*id].nodes.iter().any(is_sum));
            // The unit on top prefers the canonical order of operands among equals.
            let disorder = u64::from(facts.rank(axes(*a)) < facts.rank(axes(*b)));
            let work = Cost::of(result(), binary_unit(*op) + u64::from(unfused)).plus(Cost::of(1, disorder));
            work.misfit(
                *op == Binary::Mul
                    && [a, b]
                        .into_iter()
                        .any(|id| egraph[*id].nodes.iter().any(|node| behind_mask(egraph, node).is_some())),
            )
        }
        Node::Compare(..) | Node::Select(_) => Cost::of(result(), 2),
        Node::Cast(..) => Cost::of(result(), 3),
        Node::Gather(_) => Cost::of(result(), 8),
        // A sine and a cosine per angle, four products and two sums per pair.
        Node::Rotate([_, angle, ..]) => {
            Cost::of(result(), 12).plus(Cost::of(space(axes(*angle)), 2 * unary_unit(Unary::Sin)))
        }
        // One fused multiply-add per element of the space summed over.
        Node::Dot([a, b, _]) => {
            let scores = facts.varies_over_keys(axes(class));
            Cost::of(space(facts.graph.join(axes(*a), axes(*b))), 4).misfit(scores)
        }
        // Maximum, exponential, sum and, for softmax, the product that normalises.
        Node::Softmax([x, _, _, base]) => power(space(axes(*x)), 12, egraph, *base),
        Node::LogSumExp([x, _, _, base]) => power(space(axes(*x)), 8, egraph, *base),
    }
}

/// Cost of a softmax or log-sum-exp: of its power, and of what it takes beside that.
fn power(space: u64, beside: u64, egraph: &EGraph, base: Id) -> Cost {
    match egraph[base].data.kind {
        Some(Kind::Base(Base::Two)) => Cost::of(space, beside + unary_unit(Unary::Exp2)),
        _ => Cost::of(space, beside + unary_unit(Unary::Exp)).misfit(true),
    }
}
