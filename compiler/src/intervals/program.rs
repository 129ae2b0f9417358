//! Bounds of a tile before it is computed: the class of its mask, and the interval of its scores.
//!
//! A mask or a score is evaluated over intervals instead of numbers. Its leaves are the tables that the tile kernel reads; for a range of
//! keys or queries a table is represented by its least and greatest element. Any mask or score a user writes is covered, data-dependent
//! ones too: an op whose interval is not known exactly gives a wider one, which at worst computes what could have been left out.

use std::convert::Infallible;

use rhumb_ir::{Binary, Compare, Elem, Scalar, Unary, Value};

use super::{Interval, ROUNDING};
use crate::expr::{Domain, Node, walk};
use crate::plan::{Attention, KeyTerm, Plan, TensorId, Term};

/// Sines and cosines of angles up to this magnitude are as exact as those of the standard library, but for rounding.
const ANGLES: f64 = 1e4;

/// The part of a key tile that a query tile sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileClass {
    /// Nothing.
    Skip,
    /// Everything: no mask code.
    Full,
    /// Some of it, or not known.
    Partial,
}

#[derive(Clone, Debug)]
enum Step {
    Leaf(TensorId),
    /// The product of queries and keys.
    Product,
    Constant(Interval),
    Unary(Unary, Elem, usize),
    Binary(Binary, Elem, usize, usize),
    Compare(Compare, usize, usize),
    Select(usize, usize, usize),
    Cast(Elem, usize),
    Any(Elem),
}

/// Expressions, ready to be evaluated over tiles.
#[derive(Clone, Debug, Default)]
struct Program {
    steps: Vec<Step>,
    /// Where the results are, and whether each is negated.
    results: Vec<(usize, bool)>,
}

/// A program while it is written.
struct Writer<'p> {
    plan: &'p Plan,
    /// The product of queries and keys.
    dot: Option<Value>,
    steps: Vec<Step>,
    /// The step of each value that has one.
    known: Vec<Option<usize>>,
}

impl Writer<'_> {
    fn step(&self, value: Value) -> usize {
        self.known[value.index()].unwrap_or(0)
    }
}

impl Domain for Writer<'_> {
    type Error = Infallible;

    fn is_known(&self, value: Value) -> bool {
        self.known[value.index()].is_some()
    }

    fn node(&self, value: Value) -> Node {
        if Some(value) == self.dot { Node::Product } else { self.plan.node(value, |_| true) }
    }

    fn operands(&self, node: &Node) -> Vec<Value> {
        match node {
            // Nothing is told of these.
            Node::Gather { .. } | Node::Rotate { .. } | Node::Dot { .. } => Vec::new(),
            node => node.operands(),
        }
    }

    fn make(&mut self, value: Value, node: Node) -> Result<(), Infallible> {
        let elem = self.plan.graph.ty(value).elem;
        let of = |x: Value| self.step(x);
        let step = match node {
            Node::Product => Step::Product,
            Node::Table(table) => Step::Leaf(table),
            Node::Const(Scalar::F32(x)) => Step::Constant(Interval::point(x)),
            Node::Const(Scalar::I32(x)) => Step::Constant(Interval::point(f64::from(x))),
            Node::Const(Scalar::Bool(x)) => Step::Constant(Interval::point(f64::from(u8::from(x)))),
            Node::Unary(op, x) => Step::Unary(op, elem, of(x)),
            Node::Binary(op, [a, b]) => Step::Binary(op, elem, of(a), of(b)),
            Node::Compare(op, [a, b]) => Step::Compare(op, of(a), of(b)),
            Node::Select([cond, on_true, on_false]) => Step::Select(of(cond), of(on_true), of(on_false)),
            Node::Cast(to, x) => Step::Cast(to, of(x)),
            Node::Input(_)
            | Node::Iota(_)
            | Node::Size(_)
            | Node::MulAdd(_)
            | Node::Gather { .. }
            | Node::Rotate { .. }
            | Node::Dot { .. }
            | Node::Opaque => Step::Any(elem),
        };
        self.steps.push(step);
        self.known[value.index()] = Some(self.steps.len() - 1);
        Ok(())
    }
}

impl Program {
    fn new(plan: &Plan, attention: &Attention, terms: &[Term]) -> Program {
        let known = vec![None; plan.graph.nodes().len()];
        let mut writer = Writer { plan, dot: attention.dot, steps: Vec::new(), known };
        let mut results = Vec::new();
        for &Term { value, negative } in terms {
            let Ok(()) = walk(&mut writer, value);
            results.push((writer.step(value), negative));
        }
        Program { steps: writer.steps, results }
    }

    fn leaves(&self) -> impl Iterator<Item = TensorId> {
        self.steps.iter().filter_map(|step| match step {
            Step::Leaf(tensor) => Some(*tensor),
            _ => None,
        })
    }

    /// Fills `memory` with what every step can give.
    fn run(&self, memory: &mut Vec<Interval>, product: Interval, mut leaf: impl FnMut(TensorId) -> Interval) {
        memory.clear();
        for step in &self.steps {
            let interval = match *step {
                Step::Leaf(tensor) => leaf(tensor),
                Step::Product => product,
                Step::Constant(interval) => interval,
                Step::Any(elem) => Interval::of(elem),
                Step::Unary(op, elem, x) => {
                    let (x, interval) = (memory[x], memory[x].unary(op, elem));
                    match op {
                        Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Not => interval,
                        // Kernels reduce larger angles less exactly.
                        Unary::Sin | Unary::Cos if x.lo < -ANGLES || x.hi > ANGLES => Interval::of(elem),
                        _ => interval.widened(ROUNDING),
                    }
                }
                Step::Binary(Binary::Mul, elem, a, b) if a == b => memory[a].square().rounded(elem),
                Step::Binary(op, elem, a, b) => memory[a].binary(op, memory[b], elem),
                Step::Compare(op, a, b) => memory[a].compare(op, memory[b]),
                Step::Select(cond, a, b) => match (memory[cond].lo, memory[cond].hi) {
                    (1.0, _) => memory[a],
                    (_, 0.0) => memory[b],
                    _ => memory[a].hull(memory[b]),
                },
                Step::Cast(to, x) => memory[x].cast(to),
            };
            memory.push(interval);
        }
    }
}

/// A plan's masks, ready to be evaluated over tiles.
#[derive(Clone, Debug)]
pub struct MaskProgram(Program);

impl MaskProgram {
    /// The program of an attention's masks.
    pub fn new(plan: &Plan, attention: &Attention) -> MaskProgram {
        MaskProgram(Program::new(plan, attention, &attention.masks))
    }

    /// Whether there is nothing to evaluate: every tile is full.
    pub fn is_empty(&self) -> bool {
        self.0.results.is_empty()
    }

    /// The tables that the masks read.
    pub fn leaves(&self) -> impl Iterator<Item = TensorId> {
        self.0.leaves()
    }

    /// Classifies a tile; `leaf` gives the interval of a table over it, and `memory` is kept between calls.
    pub fn classify(&self, memory: &mut Vec<Interval>, leaf: impl FnMut(TensorId) -> Interval) -> TileClass {
        self.0.run(memory, Interval::ANY, leaf);
        let mut class = TileClass::Full;
        for &(step, negative) in &self.0.results {
            let interval = memory[step];
            let (always, never) = (interval.lo >= 1.0, interval.hi <= 0.0);
            let (always, never) = if negative { (never, always) } else { (always, never) };
            if never {
                return TileClass::Skip;
            }
            if !always {
                class = TileClass::Partial;
            }
        }
        class
    }
}

/// A plan's score, ready to be evaluated over tiles: in powers of two, and without what is the same for all keys of a query.
#[derive(Clone, Debug)]
pub struct ScoreProgram {
    terms: Program,
    key_term: Option<KeyTerm>,
}

impl ScoreProgram {
    /// The program of an attention's score.
    pub fn new(plan: &Plan, attention: &Attention) -> ScoreProgram {
        ScoreProgram { terms: Program::new(plan, attention, &attention.terms), key_term: attention.key_term }
    }

    /// The tables that the score reads.
    pub fn leaves(&self) -> impl Iterator<Item = TensorId> {
        self.terms.leaves().chain(self.key_term.map(|term| term.high))
    }

    /// What scores of a tile can be, where the products of its queries and keys are within `product`; `leaf` gives the interval of a table
    /// over it, and `memory` is kept between calls. And how far rounding errors of terms that cancel may go beyond.
    pub fn bounds(
        &self,
        memory: &mut Vec<Interval>,
        product: Interval,
        mut leaf: impl FnMut(TensorId) -> Interval,
    ) -> (Interval, f64) {
        self.terms.run(memory, product, &mut leaf);
        let mut score = Interval::point(0.0);
        // Terms that cancel leave the rounding errors of their own sizes.
        let mut room = 0.0;
        let mut add = |term: Interval| {
            score = score.add(term);
            room += term.lo.abs().max(term.hi.abs()) * ROUNDING;
        };
        for &(step, negative) in &self.terms.results {
            add(if negative { memory[step].neg() } else { memory[step] });
        }
        if let Some(term) = self.key_term {
            // The low parts are within a rounding of the high ones.
            add(leaf(term.high).widened(f64::from(f32::EPSILON)));
        }
        (score.widened(ROUNDING), room)
    }
}
