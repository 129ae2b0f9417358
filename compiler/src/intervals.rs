//! Interval analysis of masks: whether all, none or some of the queries of a tile see the keys of a tile.
//!
//! A mask is evaluated over intervals instead of numbers. Its leaves are the tables that the tile kernel reads; for a range of keys or
//! queries a table is represented by its least and greatest element. Any mask a user writes is covered, data-dependent ones too: an op
//! whose interval is not known exactly gives a wider one, which at worst calls a tile partial that is not.

use rhumb_ir::{Binary, Compare, Elem, Op, Scalar, Unary, Value};

use crate::plan::{Attention, Plan, Source, TensorId, Term};

/// The numbers a value can take: from `low` to `high`, and NaN if `nan`. Bools are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Least number.
    pub low: f64,
    /// Greatest number.
    pub high: f64,
    /// Whether it can be NaN.
    pub nan: bool,
}

impl Interval {
    /// Any number at all.
    pub const ANY: Interval = Interval { low: f64::NEG_INFINITY, high: f64::INFINITY, nan: true };
    /// Either truth value.
    pub const UNKNOWN: Interval = Interval { low: 0.0, high: 1.0, nan: false };
    /// No number: what an empty range has.
    pub const EMPTY: Interval = Interval { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: false };

    /// One number.
    pub fn point(x: f64) -> Interval {
        if x.is_nan() { Interval { nan: true, ..Interval::EMPTY } } else { Interval { low: x, high: x, nan: false } }
    }

    /// All numbers of both.
    #[must_use]
    pub fn join(self, other: Interval) -> Interval {
        Interval { low: self.low.min(other.low), high: self.high.max(other.high), nan: self.nan || other.nan }
    }

    fn new(low: f64, high: f64, nan: bool) -> Interval {
        // An operation on infinities that has no value leaves its bounds undefined.
        if low.is_nan() || high.is_nan() { Interval::ANY } else { Interval { low, high, nan } }
    }

    fn truth(all: bool, none: bool) -> Interval {
        match (all, none) {
            (true, _) => Interval::point(1.0),
            (_, true) => Interval::point(0.0),
            _ => Interval::UNKNOWN,
        }
    }

    fn corners(self, other: Interval, op: impl Fn(f64, f64) -> f64) -> Interval {
        let corners = [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let nan = self.nan || other.nan;
        corners.into_iter().map(|(a, b)| op(a, b)).fold(Interval { nan, ..Interval::EMPTY }, |interval, x| {
            if x.is_nan() { Interval::ANY } else { interval.join(Interval::point(x)) }
        })
    }

    /// The interval of a 32-bit integer that may have wrapped.
    fn wrapped(self) -> Interval {
        let whole = Interval { low: f64::from(i32::MIN), high: f64::from(i32::MAX), nan: false };
        if self.low < whole.low || self.high > whole.high { whole } else { self }
    }
}

/// What part of a key tile a query tile sees.
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
    Constant(Interval),
    Unary(Unary, usize),
    Binary(Binary, Elem, usize, usize),
    Compare(Compare, usize, usize),
    Select(usize, usize, usize),
    Cast(Elem, Elem, usize),
    Any(Elem),
}

/// A plan's masks, ready to be evaluated over tiles.
#[derive(Clone, Debug)]
pub struct MaskProgram {
    steps: Vec<Step>,
    masks: Vec<(usize, bool)>,
}

impl MaskProgram {
    /// The program of an attention's masks.
    pub fn new(plan: &Plan, attention: &Attention) -> MaskProgram {
        let mut program = MaskProgram { steps: Vec::new(), masks: Vec::new() };
        let mut known: Vec<Option<usize>> = vec![None; plan.graph.nodes().len()];
        for &Term { value, negative } in &attention.masks {
            let step = program.add(plan, value, &mut known);
            program.masks.push((step, negative));
        }
        program
    }

    /// Whether there is nothing to evaluate: every tile is full.
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// The tables that the masks read.
    pub fn leaves(&self) -> impl Iterator<Item = TensorId> {
        self.steps.iter().filter_map(|step| match step {
            Step::Leaf(tensor) => Some(*tensor),
            _ => None,
        })
    }

    fn add(&mut self, plan: &Plan, value: Value, known: &mut [Option<usize>]) -> usize {
        if let Some(step) = known[value.index()] {
            return step;
        }
        let graph = &plan.graph;
        let elem = |value: Value| graph.ty(value).elem;
        let step = if let Some(&table) = plan.tables.get(&Source::Value(value)) {
            Step::Leaf(table)
        } else {
            match *graph.op(value) {
                Op::Const(Scalar::F32(x)) => Step::Constant(Interval::point(x)),
                Op::Const(Scalar::I32(x)) => Step::Constant(Interval::point(f64::from(x))),
                Op::Const(Scalar::Bool(x)) => Step::Constant(Interval::point(f64::from(u8::from(x)))),
                Op::Unary(op, x) => Step::Unary(op, self.add(plan, x, known)),
                Op::Binary(op, a, b) => Step::Binary(op, elem(a), self.add(plan, a, known), self.add(plan, b, known)),
                Op::Compare(op, a, b) => Step::Compare(op, self.add(plan, a, known), self.add(plan, b, known)),
                Op::Select { cond, on_true, on_false } => Step::Select(
                    self.add(plan, cond, known),
                    self.add(plan, on_true, known),
                    self.add(plan, on_false, known),
                ),
                Op::Cast(to, x) => Step::Cast(elem(x), to, self.add(plan, x, known)),
                _ => Step::Any(elem(value)),
            }
        };
        self.steps.push(step);
        known[value.index()] = Some(self.steps.len() - 1);
        self.steps.len() - 1
    }

    /// Classifies a tile; `leaf` gives the interval of a table over it, and `memory` is kept between calls.
    pub fn classify(&self, memory: &mut Vec<Interval>, mut leaf: impl FnMut(TensorId) -> Interval) -> TileClass {
        memory.clear();
        for step in &self.steps {
            let interval = match *step {
                Step::Leaf(tensor) => leaf(tensor),
                Step::Constant(interval) => interval,
                Step::Any(Elem::Bool) => Interval::UNKNOWN,
                Step::Any(_) => Interval::ANY,
                Step::Unary(op, x) => unary(op, memory[x]),
                Step::Binary(op, elem, a, b) => {
                    let interval = binary(op, elem, memory[a], memory[b]);
                    if elem == Elem::I32 { interval.wrapped() } else { interval }
                }
                Step::Compare(op, a, b) => compare(op, memory[a], memory[b]),
                Step::Select(cond, a, b) => match (memory[cond].low, memory[cond].high) {
                    (1.0, _) => memory[a],
                    (_, 0.0) => memory[b],
                    _ => memory[a].join(memory[b]),
                },
                Step::Cast(from, to, x) => cast(from, to, memory[x]),
            };
            memory.push(interval);
        }
        let mut class = TileClass::Full;
        for &(step, negative) in &self.masks {
            let interval = memory[step];
            let (always, never) = (interval.low >= 1.0, interval.high <= 0.0);
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

fn unary(op: Unary, x: Interval) -> Interval {
    let monotonic = |f: fn(f64) -> f64| Interval::new(f(x.low), f(x.high), x.nan);
    match op {
        Unary::Not => Interval { low: 1.0 - x.high, high: 1.0 - x.low, nan: false },
        Unary::Neg => Interval { low: -x.high, high: -x.low, nan: x.nan },
        Unary::Abs => {
            let high = x.low.abs().max(x.high.abs());
            let low = if x.low <= 0.0 && x.high >= 0.0 { 0.0 } else { x.low.abs().min(x.high.abs()) };
            Interval { low, high, nan: x.nan }
        }
        Unary::Floor => monotonic(f64::floor),
        Unary::Ceil => monotonic(f64::ceil),
        // Kernels round these differently from the standard library: no exact interval is claimed.
        _ => Interval::ANY,
    }
}

fn binary(op: Binary, elem: Elem, a: Interval, b: Interval) -> Interval {
    let nan = a.nan || b.nan;
    match op {
        Binary::And => Interval { low: a.low.min(b.low), high: a.high.min(b.high), nan: false },
        Binary::Or => Interval { low: a.low.max(b.low), high: a.high.max(b.high), nan: false },
        // Kernels compute with f32, which rounds outwards of these f64 bounds unless the numbers are whole and small.
        _ if elem == Elem::F32 && !(exact(a) && exact(b)) => Interval::ANY,
        Binary::Add => Interval::new(a.low + b.low, a.high + b.high, nan),
        Binary::Sub => Interval::new(a.low - b.high, a.high - b.low, nan),
        Binary::Mul => a.corners(b, |a, b| a * b),
        Binary::Min => Interval { low: a.low.min(b.low), high: a.high.min(b.high), nan },
        Binary::Max => Interval { low: a.low.max(b.low), high: a.high.max(b.high), nan },
        Binary::Div if elem == Elem::I32 && (b.low > 0.0 || b.high < 0.0) => a.corners(b, |a, b| (a / b).floor()),
        Binary::Mod if elem == Elem::I32 && b.low > 0.0 => {
            if b.low == b.high && (a.low / b.low).floor() == (a.high / b.low).floor() {
                let base = b.low * (a.low / b.low).floor();
                Interval { low: a.low - base, high: a.high - base, nan: false }
            } else {
                Interval { low: 0.0, high: b.high - 1.0, nan: false }
            }
        }
        Binary::Div | Binary::Mod | Binary::Pow => Interval::ANY,
    }
}

/// Whether sums and products of such numbers are exact in `f32`: whole, and below 2^12.
fn exact(x: Interval) -> bool {
    let limit = 4096.0;
    x.low >= -limit && x.high <= limit && x.low == x.high && x.low.fract() == 0.0
}

fn compare(op: Compare, a: Interval, b: Interval) -> Interval {
    let nan = a.nan || b.nan;
    let (less, less_equal) = (a.high < b.low, a.high <= b.low);
    let (greater, greater_equal) = (a.low > b.high, a.low >= b.high);
    let equal = a.low == a.high && b.low == b.high && a.low == b.low;
    let (always, never) = match op {
        Compare::Lt => (less, greater_equal),
        Compare::Le => (less_equal, greater),
        Compare::Gt => (greater, less_equal),
        Compare::Ge => (greater_equal, less),
        Compare::Eq => (equal, less || greater),
        Compare::Ne => return Interval::truth((less || greater) && !nan, equal && !nan),
    };
    // A comparison with NaN is false.
    Interval::truth(always && !nan, never)
}

fn cast(from: Elem, to: Elem, x: Interval) -> Interval {
    match (from, to) {
        (Elem::F32, Elem::I32) => {
            let (low, high) = (f64::from(i32::MIN), f64::from(i32::MAX));
            let mut result =
                Interval { low: x.low.trunc().clamp(low, high), high: x.high.trunc().clamp(low, high), nan: false };
            if x.nan {
                result = result.join(Interval::point(0.0));
            }
            result
        }
        // Whole numbers past 2^24 are rounded to f32.
        (Elem::I32, Elem::F32) => Interval { low: f64::from(x.low as f32), high: f64::from(x.high as f32), nan: false },
        _ => x,
    }
}
