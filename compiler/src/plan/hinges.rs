//! Sums of hinges of one number of each pair of a query and a key: what a small network of a distance adds to a score.
//!
//! A hinge `w max(a x + b, z)` bends at one `x`. Among the pairs of a key tile `x` varies little, and most hinges do not bend: each is
//! `w a x + w b` for all of them, or `w z`. So their sum is a line, which is one for the key tile, and the few hinges that bend within it.
//!
//! Which do is told by all pairs of a key tile, those among them that a mask hides: only where `x` and the masks read nothing that a call
//! gives, so that lengths alone tell which pairs these are.

use std::collections::BTreeMap;

use rhumb_ir::{Binary, Compare, Elem, Op, Scalar, Unary, Value, Verified};

use super::turned::reads_input;
use super::{Attention, Problem, Term};
use crate::abi::{HingeTile, HingeUnit};
use crate::expr::Node;
use crate::intervals::{Interval, ROUNDING};
use crate::machine::LANE_BYTES;

/// Fewer hinges cost less than the range of `x`.
const LEAST: usize = 8;
/// The length of an axis: there is no memory for more tokens.
const LONGEST: f64 = (1u64 << 28) as f64;
/// Numbers of a unit that bends within a key tile.
const NUMBERS: usize = 4;
/// Units of which one bends within a key tile.
const BENT: f64 = 16.0;
/// Instructions of such a unit for a vector of pairs, and of a sum beside `x` and these: the range of `x`, the line, what it is added to.
const OF_UNIT: f64 = 3.0;
const OF_SUM: f64 = 4.0;

/// The hinges of a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Hinges {
    /// What they bend at: finite, whatever the call.
    pub x: Value,
    /// What the score adds up beside them.
    pub rest: Vec<Term>,
    pub(crate) units: Vec<Unit>,
}

/// A part of the sum: `factor weight max(slope x + shift, other)`, of numbers that do not vary over queries or keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) slope: Number,
    pub(crate) shift: Number,
    pub(crate) other: Number,
    pub(crate) weight: Number,
    /// A factor of several parts, if they have one.
    pub(crate) factor: Option<Value>,
    /// Whether it is NaN where the other is, not what it is without that.
    pub(crate) strict: bool,
}

/// A number that is the same for all pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Is(f32),
    /// A value, or its negation.
    Of(Value, bool),
}

impl Number {
    fn neg(self) -> Number {
        match self {
            Number::Is(x) => Number::Is(-x),
            Number::Of(value, negative) => Number::Of(value, !negative),
        }
    }
}

impl Unit {
    /// `slope x + shift`.
    fn line(slope: Number, shift: Number) -> Unit {
        Unit {
            slope,
            shift,
            other: Number::Is(f32::NEG_INFINITY),
            weight: Number::Is(1.0),
            factor: None,
            strict: false,
        }
    }

    fn neg(self) -> Unit {
        Unit { weight: self.weight.neg(), ..self }
    }
}

impl Hinges {
    /// The hinges of a score, if there are enough; what is in `made` is not computed by pair.
    pub(super) fn of(problem: &Problem, made: &[Value]) -> Option<Hinges> {
        // Where heads are packed, scores read nothing of queries.
        let attention = problem.attention.as_ref().filter(|attention| attention.packed.is_none())?;
        let sum = Sum { problem, attention, graph: &problem.graph, made };
        let terms = sum.parts(&attention.terms);
        let parts: Vec<(Term, Vec<Term>, Option<Value>)> = terms.into_iter().map(|term| sum.of_factor(term)).collect();
        let mut counts = BTreeMap::new();
        for (x, _) in parts.iter().flat_map(|(_, parts, _)| parts).filter_map(|part| sum.hinge(part.value)) {
            *counts.entry(x).or_insert(0) += 1;
        }
        let (&x, &count) = counts.iter().max_by_key(|(_, count)| **count)?;
        let masks = attention.masks.iter().map(|mask| mask.value);
        let by_lengths = masks.chain([x]).all(|value| !reads_input(problem, value));
        if count < LEAST || !by_lengths || !range(&problem.graph, x).is_finite() {
            return None;
        }
        let mut hinges = Hinges { x, rest: Vec::new(), units: Vec::new() };
        for (term, parts, factor) in parts {
            let unit = |part: &Term| {
                let unit = sum.unit(part.value, x)?;
                Some(Unit { factor, ..if part.negative { unit.neg() } else { unit } })
            };
            match parts.iter().map(unit).collect::<Option<Vec<Unit>>>() {
                Some(units) => hinges.units.extend(units),
                None => hinges.rest.push(term),
            }
        }
        (hinges.units.len() >= LEAST).then_some(hinges)
    }

    /// How many there are, lines among them.
    pub fn count(&self) -> usize {
        self.units.len()
    }

    /// Instructions for each pair, beside those of `x`, which is computed twice.
    pub(super) fn instructions(&self) -> f64 {
        OF_SUM + OF_UNIT * self.units.len() as f64 / BENT
    }

    /// Bytes of scratch memory: what a key tile has, each unit, and those that bend within a key tile.
    pub(super) fn bytes(&self) -> usize {
        let of_unit = size_of::<HingeUnit>() + NUMBERS * LANE_BYTES;
        size_of::<HingeTile>() + self.units.len() * of_unit
    }
}

/// The sum that a score is.
struct Sum<'a> {
    problem: &'a Problem,
    attention: &'a Attention,
    graph: &'a Verified,
    made: &'a [Value],
}

impl Sum<'_> {
    /// What terms add up, sums within them taken apart; in order.
    fn parts(&self, terms: &[Term]) -> Vec<Term> {
        let mut parts = Vec::new();
        let mut stack: Vec<Term> = terms.iter().rev().copied().collect();
        while let Some(Term { value, negative }) = stack.pop() {
            let term = |value, inverts| Term { value, negative: negative != inverts };
            match self.node(value) {
                Node::Binary(Binary::Add, [a, b]) => stack.extend([term(b, false), term(a, false)]),
                Node::Binary(Binary::Sub, [a, b]) => stack.extend([term(b, true), term(a, false)]),
                Node::Unary(Unary::Neg, x) => stack.push(term(x, true)),
                _ => parts.push(Term { value, negative }),
            }
        }
        parts
    }

    /// A term with what it adds up, and the factor of all that.
    fn of_factor(&self, term: Term) -> (Term, Vec<Term>, Option<Value>) {
        if let Node::Binary(Binary::Mul, factors) = self.node(term.value)
            && let Some((factor, value)) = self.free_of(factors)
        {
            let parts = self.parts(&[Term { value, ..term }]);
            if parts.len() > 1 {
                return (term, parts, Some(factor));
            }
        }
        (term, vec![term], None)
    }

    /// The node of a real that is computed by pair; products of queries and keys have none.
    fn node(&self, value: Value) -> Node {
        if Some(value) == self.attention.dot || self.made.contains(&value) || self.graph.ty(value).elem != Elem::F32 {
            return Node::Opaque;
        }
        self.problem.node(value, |_| true)
    }

    /// Whether a value is the same for all pairs.
    fn is_free(&self, value: Value) -> bool {
        let axes = self.graph.ty(value).axes;
        !self.graph.varies(axes, self.attention.query) && !self.graph.varies(axes, self.attention.key)
    }

    /// The one that is the same for all pairs, and the other.
    fn free_of(&self, [a, b]: [Value; 2]) -> Option<(Value, Value)> {
        match (self.is_free(a), self.is_free(b)) {
            (true, false) => Some((a, b)),
            (false, true) => Some((b, a)),
            _ => None,
        }
    }

    /// A part of the sum that is made of `x` and of numbers.
    fn unit(&self, value: Value, x: Value) -> Option<Unit> {
        if self.is_free(value) {
            return Some(Unit::line(Number::Is(0.0), Number::Of(value, false)));
        }
        match self.hinge(value) {
            Some((of, unit)) => (of == x).then_some(unit),
            None if value == x => Some(Unit::line(Number::Is(1.0), Number::Is(0.0))),
            None => {
                let (of, slope, shift) = self.line(value);
                (of == x).then_some(Unit::line(slope, shift))
            }
        }
    }

    /// What a hinge bends at, and the hinge.
    fn hinge(&self, value: Value) -> Option<(Value, Unit)> {
        let (weight, hinge) = match self.node(value) {
            Node::Binary(Binary::Mul, factors) => {
                let (weight, hinge) = self.free_of(factors)?;
                (Number::Of(weight, false), hinge)
            }
            _ => (Number::Is(1.0), value),
        };
        let (other, of_x, is_greatest, strict) = self.extreme(hinge)?;
        let (x, slope, shift) = self.line(of_x);
        let (other, line) = (Number::Of(other, false), Unit::line(slope, shift));
        let unit = match is_greatest {
            true => Unit { other, weight, strict, ..line },
            // The negation of the greatest of both negated.
            false => Unit {
                slope: slope.neg(),
                shift: shift.neg(),
                other: other.neg(),
                weight: weight.neg(),
                strict,
                ..line
            },
        };
        Some((x, unit))
    }

    /// The number and the value that the greater, or the lesser, is taken of: whether it is the greater, and whether it is NaN where the
    /// number is. Where the value is, it is too.
    fn extreme(&self, value: Value) -> Option<(Value, Value, bool, bool)> {
        match self.node(value) {
            Node::Binary(op @ (Binary::Max | Binary::Min), operands) => {
                let (other, of_x) = self.free_of(operands)?;
                Some((other, of_x, op == Binary::Max, true))
            }
            Node::Select([cond, on_true, on_false]) => {
                let Node::Compare(op, [a, b]) = self.problem.node(cond, |_| true) else { return None };
                let (other, of_x) = self.free_of([on_true, on_false])?;
                // A comparison with NaN gives what stands second.
                let greater = match op {
                    Compare::Gt | Compare::Ge => [a, b],
                    Compare::Lt | Compare::Le => [b, a],
                    Compare::Eq | Compare::Ne => return None,
                };
                let is_greatest = match (greater == [other, of_x], greater == [of_x, other]) {
                    (true, false) => true,
                    (false, true) => false,
                    _ => return None,
                };
                (on_true == other).then_some((other, of_x, is_greatest, false))
            }
            _ => None,
        }
    }

    /// A value as another times a number and a number more.
    fn line(&self, value: Value) -> (Value, Number, Number) {
        let (mut x, mut slope, mut shift) = (value, Number::Is(1.0), Number::Is(0.0));
        if let Node::Binary(op @ (Binary::Add | Binary::Sub), [a, b]) = self.node(x)
            && let Some((number, rest)) = self.free_of([a, b])
        {
            let inverts = op == Binary::Sub;
            shift = Number::Of(number, inverts && number == b);
            slope = if inverts && number == a { slope.neg() } else { slope };
            x = rest;
        }
        if let Node::Binary(Binary::Mul, factors) = self.node(x)
            && let Some((number, rest)) = self.free_of(factors)
        {
            slope = Number::Of(number, slope == Number::Is(-1.0));
            x = rest;
        }
        (x, slope, shift)
    }
}

/// What a value can be that reads nothing that a call gives.
fn range(graph: &Verified, x: Value) -> Interval {
    let mut known: BTreeMap<Value, Interval> = BTreeMap::new();
    for value in graph.below_in_order([x], |_| true) {
        let elem = graph.ty(value).elem;
        let of = |value: &Value| known.get(value).copied().unwrap_or(Interval::ANY);
        let interval = match graph.op(value) {
            Op::Iota(_) | Op::Size(_) => Interval::new(0.0, LONGEST),
            Op::Const(Scalar::F32(x)) => Interval::point(*x).rounded(elem),
            Op::Const(Scalar::I32(x)) => Interval::point(f64::from(*x)),
            Op::Unary(op @ (Unary::Neg | Unary::Abs), x) => of(x).unary(*op, elem),
            Op::Unary(op, x) => of(x).unary(*op, elem).widened(ROUNDING),
            Op::Binary(op, a, b) => of(a).binary(*op, of(b), elem),
            Op::Compare(op, a, b) => of(a).compare(*op, of(b)),
            Op::Select { on_true, on_false, .. } => of(on_true).hull(of(on_false)),
            Op::Cast(to, x) => of(x).cast(*to),
            _ => Interval::of(elem),
        };
        known.insert(value, interval);
    }
    known.get(&x).copied().unwrap_or(Interval::ANY)
}
