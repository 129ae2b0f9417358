//! What a form costs: the size of the iteration space each op runs in, times the op's [cost](crate::op_cost).

use std::fmt;

use egg::Id;
use rhumb_ir::{AxisSet, Base, Binary, Unary};

use super::extents::Extents;
use super::facts::{EGraph, behind_mask};
use super::kind::Kind;
use super::language::Node;
use crate::op_cost::Work;

/// An estimate of work. The unit is a quarter of an `f32` addition on one element.
///
/// What kernels have no place for comes first: of two forms, the one with less of it is the cheaper, whatever work it takes. Addition
/// saturates. Every op costs at least one unit, so an op is dearer than its operands; inputs and constants are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// Powers of `e`, products of queries and keys, and factors of what is masked: kernels take powers of 2, of one such product, and apply
    /// masks last. Tables of inputs of fewer bits in more.
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

    /// So many times this work.
    pub(crate) fn times(self, count: u64) -> Cost {
        let Cost { misfits, work } = self;
        Cost { misfits: misfits.saturating_mul(count), work: work.saturating_mul(u128::from(count)) }
    }

    /// Instructions on one element each.
    pub(crate) fn instructions(self) -> f64 {
        self.work as f64 / UNITS
    }

    /// Whether it has more of what kernels have no place for.
    pub(crate) fn has_more_misfits(self, than: Cost) -> bool {
        self.misfits > than.misfits
    }

    /// What is left of a sum without one of its parts.
    pub(crate) fn minus(self, part: Cost) -> Cost {
        let Cost { misfits, work } = part;
        Cost { misfits: self.misfits.saturating_sub(misfits), work: self.work.saturating_sub(work) }
    }

    /// Whether this is less than another cost by at least a part of that.
    pub(crate) fn saves(self, part: f64, other: Cost) -> bool {
        let enough = self.work as f64 <= (1.0 - part) * other.work as f64;
        self.misfits < other.misfits || self.misfits == other.misfits && enough && self.work < other.work
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

/// Units of an instruction.
const UNITS: f64 = 4.0;

/// Units of an operation on one element.
fn units(work: Work) -> u64 {
    (UNITS * work.instructions()) as u64
}

/// Cost of computing a node of a class once its children are there, where axes have these lengths.
pub(crate) fn node_cost(egraph: &EGraph, extents: &Extents, class: Id, node: &Node) -> Cost {
    let facts = &egraph.analysis;
    let axes = |id: Id| egraph[id].data.ty().map_or(AxisSet::EMPTY, |ty| ty.axes);
    let space = |axes: AxisSet| extents.space(axes);
    let result = || space(axes(class));
    match node {
        Node::Leaf(_) | Node::Const(_) | Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => Cost::ZERO,
        Node::Iota(_) | Node::Size(_) => Cost::of(1, 1),
        Node::Unary(op, _) => Cost::of(result(), units(Work::Unary(*op))),
        Node::Binary(op, [a, b]) => {
            // A product that a sum takes in becomes one instruction with it; a product of a sum, or of what a mask left of one, does not.
            let is_sum = |node: &Node| matches!(node, Node::Binary(Binary::Add | Binary::Sub, _) | Node::Select(_));
            let unfused = *op == Binary::Mul && [a, b].into_iter().any(|id| egraph[*id].nodes.iter().any(is_sum));
            // The unit on top prefers the canonical order of operands among equals.
            let disorder = u64::from(facts.rank(axes(*a)) < facts.rank(axes(*b)));
            let work = Cost::of(result(), units(Work::Binary(*op)) + u64::from(unfused)).plus(Cost::of(1, disorder));
            work.misfit(
                *op == Binary::Mul
                    && [a, b]
                        .into_iter()
                        .any(|id| egraph[*id].nodes.iter().any(|node| behind_mask(egraph, node).is_some())),
            )
        }
        Node::Compare(..) => Cost::of(result(), units(Work::Compare)),
        Node::Select(_) => Cost::of(result(), units(Work::Select)),
        Node::Cast(..) => Cost::of(result(), units(Work::Cast)),
        Node::Gather(_) => Cost::of(result(), units(Work::Lookup)),
        Node::Rotate([_, angle, ..]) => {
            Cost::of(result(), units(Work::Rotation)).plus(Cost::of(space(axes(*angle)), units(Work::Angle)))
        }
        // One fused multiply-add per element of the space summed over.
        Node::Dot([a, b, _]) => {
            let scores = facts.varies_over_keys(axes(class));
            Cost::of(space(facts.graph.join(axes(*a), axes(*b))), units(Work::MultiplyAdd)).misfit(scores)
        }
        // Beside the power the maximum, the sum and, for softmax, the product that normalises.
        Node::Softmax([x, _, _, base]) => {
            power(space(axes(*x)), &[Binary::Max, Binary::Add, Binary::Mul], egraph, *base)
        }
        Node::LogSumExp([x, _, _, base]) => power(space(axes(*x)), &[Binary::Max, Binary::Add], egraph, *base),
    }
}

/// Cost of so many elements of rows that are computed for a key tile: they are stored for what reads them.
pub(crate) fn staged(space: u64) -> Cost {
    Cost::of(space, units(Work::Staged))
}

/// Cost of so many elements of a table. One that repeats an input of fewer bits in more does not fit where that does.
pub(crate) fn kept(space: u64, repeats: bool) -> Cost {
    Cost::of(space, units(Work::Kept)).misfit(repeats)
}

/// Cost of a softmax or log-sum-exp: of its power, and of what it takes beside that.
fn power(space: u64, beside: &[Binary], egraph: &EGraph, base: Id) -> Cost {
    let beside: u64 = beside.iter().map(|op| units(Work::Binary(*op))).sum();
    match egraph[base].data.kind {
        Some(Kind::Base(Base::Two)) => Cost::of(space, beside + units(Work::Unary(Unary::Exp2))),
        _ => Cost::of(space, beside + units(Work::Unary(Unary::Exp))).misfit(true),
    }
}
