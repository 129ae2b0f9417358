//! Intervals of values: what rewriting knows about sign, finiteness and exactness, and what is known of the masks and scores of a whole
//! tile without computing its elements.

mod program;
#[cfg(test)]
mod tests;

use rhumb_ir::{Binary, Compare, Elem, ElemKind, Unary};

use crate::elementary::{Range, elementary};

pub use program::{MaskProgram, ScoreProgram, TileClass};

/// All values that something may take, of any element type; `true` is 1.
///
/// Bounds of `f32` values lie on the grid of `f32`, rounded outward: that keeps refinement along the cycles of an e-graph from creeping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// No value is below.
    pub lo: f64,
    /// No value is above.
    pub hi: f64,
    /// Whether it may be NaN.
    pub nan: bool,
}

const I32: Interval = Interval { lo: i32::MIN as f64, hi: i32::MAX as f64, nan: false };

/// The greatest relative error, in kernels, of functions of one operand and of sums of a few terms.
pub(crate) const ROUNDING: f64 = 4e-6;

/// Integers up to this magnitude are exact as `f32`.
const EXACT: f64 = 16_777_216.0;

impl Interval {
    /// Anything.
    pub const ANY: Interval = Interval { lo: f64::NEG_INFINITY, hi: f64::INFINITY, nan: true };

    /// All values of an element type.
    pub(crate) fn of(elem: Elem) -> Interval {
        match elem.kind() {
            ElemKind::Real => Interval::ANY,
            ElemKind::Whole => I32,
            ElemKind::Truth => Interval { lo: 0.0, hi: 1.0, nan: false },
        }
    }

    /// One number.
    pub fn point(x: f64) -> Interval {
        if x.is_nan() { Interval::ANY } else { Interval { lo: x, hi: x, nan: false } }
    }

    /// All numbers from `lo` to `hi`, without NaN.
    pub fn new(lo: f64, hi: f64) -> Interval {
        Interval { lo, hi, nan: false }
    }

    /// The smallest interval around numbers; that around none is of 0.
    pub fn around(numbers: impl IntoIterator<Item = f64>) -> Interval {
        let mut all = Interval { lo: f64::INFINITY, hi: f64::NEG_INFINITY, nan: false };
        for x in numbers {
            // NaN is neither less nor greater.
            all.lo = all.lo.min(x);
            all.hi = all.hi.max(x);
            all.nan |= x.is_nan();
        }
        if all.lo > all.hi { Interval { lo: 0.0, hi: 0.0, nan: all.nan } } else { all }
    }

    /// Whether every value is finite, in `f32` too.
    pub(crate) fn is_finite(self) -> bool {
        !self.nan && self.lo >= -f64::from(f32::MAX) && self.hi <= f64::from(f32::MAX)
    }

    /// Whether every value is exactly `x`.
    pub(crate) fn is_point(self, x: f64) -> bool {
        !self.nan && self.lo == x && self.hi == x
    }

    /// Whether every integer in it is exact as `f32`.
    pub(crate) fn is_exact_in_f32(self) -> bool {
        !self.nan && self.lo >= -EXACT && self.hi <= EXACT
    }

    /// Whether every value is an `i32`, so that the integer op that made it cannot have wrapped.
    pub(crate) fn fits_i32(self) -> bool {
        !self.nan && self.lo >= I32.lo && self.hi <= I32.hi
    }

    /// The intersection; ends that cross by rounding are both kept.
    pub(crate) fn meet(self, other: Interval) -> Interval {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        Interval { lo: lo.min(hi), hi: hi.max(lo), nan: self.nan && other.nan }
    }

    /// The hull.
    #[must_use]
    pub fn hull(self, other: Interval) -> Interval {
        Interval { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), nan: self.nan || other.nan }
    }

    /// The result of an op on real numbers, as values of `elem`.
    pub(crate) fn rounded(self, elem: Elem) -> Interval {
        match elem.kind() {
            ElemKind::Real => Interval { lo: down(self.lo), hi: up(self.hi), nan: self.nan },
            ElemKind::Whole if self.fits_i32() => self,
            ElemKind::Whole => I32,
            ElemKind::Truth => self.meet(Interval::of(Elem::Bool)),
        }
    }

    /// The sum, before rounding or wrapping.
    pub(crate) fn add(self, other: Interval) -> Interval {
        from_bounds([self.lo + other.lo, self.hi + other.hi], self.nan || other.nan || clash(self, other.neg()))
    }

    /// The negation.
    pub(crate) fn neg(self) -> Interval {
        Interval { lo: -self.hi, hi: -self.lo, nan: self.nan }
    }

    /// The product, before rounding or wrapping.
    pub(crate) fn mul(self, other: Interval) -> Interval {
        let zero = |a: Interval, b: Interval| a.lo <= 0.0 && a.hi >= 0.0 && (b.lo.is_infinite() || b.hi.is_infinite());
        let nan = self.nan || other.nan || zero(self, other) || zero(other, self);
        // 0 * inf counts as 0 for the bounds; the NaN it makes is told by the flag.
        let times = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let ends =
            [times(self.lo, other.lo), times(self.lo, other.hi), times(self.hi, other.lo), times(self.hi, other.hi)];
        Interval { nan, ..Interval::around(ends) }
    }

    /// The product with itself, before rounding or wrapping.
    pub(crate) fn square(self) -> Interval {
        let (from, to) = (self.lo * self.lo, self.hi * self.hi);
        let least = if self.lo <= 0.0 && self.hi >= 0.0 { 0.0 } else { from.min(to) };
        Interval { lo: least, hi: from.max(to), nan: self.nan }
    }

    /// Room for what functions that are not rounded correctly may be off by, relative to their values.
    pub(crate) fn widened(self, relative: f64) -> Interval {
        let room = |x: f64| if x.is_finite() { x.abs() * relative + 1e-6 } else { 0.0 };
        Interval { lo: self.lo - room(self.lo), hi: self.hi + room(self.hi), nan: self.nan }
    }

    /// Around what an op that is monotone in either operand makes of the ends.
    fn corners(self, other: Interval, op: impl Fn(f64, f64) -> f64) -> Interval {
        let ends = [op(self.lo, other.lo), op(self.lo, other.hi), op(self.hi, other.lo), op(self.hi, other.hi)];
        if ends.iter().any(|x| x.is_nan()) { Interval::ANY } else { Interval::around(ends) }
    }

    /// The result of an elementwise op of one operand.
    pub(crate) fn unary(self, op: Unary, elem: Elem) -> Interval {
        let Interval { lo, hi, nan } = self;
        let magnitude = lo.abs().max(hi.abs());
        let result = match op {
            Unary::Neg => self.neg(),
            Unary::Abs => {
                let least = if lo <= 0.0 && hi >= 0.0 { 0.0 } else { lo.abs().min(hi.abs()) };
                Interval { lo: least, hi: magnitude, nan }
            }
            Unary::Not => Interval { lo: 1.0 - hi, hi: 1.0 - lo, nan },
            op => match elementary(op).range {
                Range::Rising => Interval { lo: op.real()(lo), hi: op.real()(hi), nan },
                Range::RisingFrom0 => {
                    Interval { lo: op.real()(lo.max(0.0)), hi: op.real()(hi.max(0.0)), nan: nan || lo < 0.0 }
                }
                Range::FallingWithin1 => {
                    let [least, most] = [hi, lo].map(|end| op.real()(end.clamp(-1.0, 1.0)));
                    Interval { lo: least, hi: most, nan: nan || lo < -1.0 || hi > 1.0 }
                }
                // At infinity a function without a limit is NaN.
                Range::Within(least, most) => {
                    Interval { lo: least, hi: most, nan: nan || magnitude.is_infinite() && !elementary(op).has_limits }
                }
                Range::Arithmetic => Interval::of(elem),
            },
        };
        result.rounded(elem)
    }

    /// The result of an elementwise op of two operands.
    pub(crate) fn binary(self, op: Binary, other: Interval, elem: Elem) -> Interval {
        let nan = self.nan || other.nan;
        let result = match op {
            Binary::Add => self.add(other),
            Binary::Sub => self.add(other.neg()),
            Binary::Mul => self.mul(other),
            Binary::Div if elem == Elem::F32 && (other.lo > 0.0 || other.hi < 0.0) => {
                // Away from 0 the reciprocal is monotone; infinity over infinity is flagged by the product 0 * inf.
                self.mul(Interval { lo: 1.0 / other.hi, hi: 1.0 / other.lo, nan: other.nan })
            }
            Binary::Min | Binary::And => Interval { lo: self.lo.min(other.lo), hi: self.hi.min(other.hi), nan },
            Binary::Max | Binary::Or => Interval { lo: self.lo.max(other.lo), hi: self.hi.max(other.hi), nan },
            Binary::Div if elem == Elem::I32 && (other.lo > 0.0 || other.hi < 0.0) => {
                self.corners(other, |a, b| (a / b).floor())
            }
            Binary::Mod if elem == Elem::I32 && other.lo > 0.0 => {
                let turns = |x: f64| (x / other.lo).floor();
                if other.lo == other.hi && turns(self.lo) == turns(self.hi) {
                    let whole = turns(self.lo) * other.lo;
                    Interval { lo: self.lo - whole, hi: self.hi - whole, nan }
                } else {
                    Interval { lo: 0.0, hi: other.hi - 1.0, nan }
                }
            }
            // Monotone in either operand; 0 to a negative power is left out. Errors of the logarithm are multiplied by the exponent.
            Binary::Pow if (self.lo > 0.0 || (self.lo == 0.0 && other.lo >= 0.0)) && other.is_finite() => {
                let most = other.lo.abs().max(other.hi.abs());
                Interval { nan, ..self.corners(other, f64::powf) }.widened(4e-5 + 2e-7 * most)
            }
            Binary::Div | Binary::Mod | Binary::Pow => Interval::of(elem),
        };
        result.rounded(elem)
    }
}

impl Interval {
    /// The possible results of a comparison.
    pub(crate) fn compare(self, op: Compare, other: Interval) -> Interval {
        let (a, b, nan) = (self, other, self.nan || other.nan);
        let (always, never) = match op {
            Compare::Lt => (a.hi < b.lo, a.lo >= b.hi),
            Compare::Le => (a.hi <= b.lo, a.lo > b.hi),
            Compare::Gt => (a.lo > b.hi, a.hi <= b.lo),
            Compare::Ge => (a.lo >= b.hi, a.hi < b.lo),
            Compare::Eq => (a.lo == a.hi && b.lo == b.hi && a.lo == b.lo, a.hi < b.lo || a.lo > b.hi),
            Compare::Ne => (a.hi < b.lo || a.lo > b.hi, a.lo == a.hi && b.lo == b.hi && a.lo == b.lo),
        };
        // Against NaN all comparisons are false, but `ne`.
        let (always, never) = if op == Compare::Ne { (always, never && !nan) } else { (always && !nan, never) };
        Interval::new(if always { 1.0 } else { 0.0 }, if never { 0.0 } else { 1.0 })
    }

    /// The values cast to another element type.
    pub(crate) fn cast(self, to: Elem) -> Interval {
        if to != Elem::I32 {
            return self.rounded(to);
        }
        let clamp = |bound: f64| bound.trunc().clamp(I32.lo, I32.hi);
        let whole = Interval::new(clamp(self.lo), clamp(self.hi));
        if self.nan { whole.hull(Interval::new(0.0, 0.0)) } else { whole }
    }
}

/// Whether `a - b` may be the difference of equal infinities.
fn clash(a: Interval, b: Interval) -> bool {
    (a.lo == f64::NEG_INFINITY && b.lo == f64::NEG_INFINITY) || (a.hi == f64::INFINITY && b.hi == f64::INFINITY)
}

fn from_bounds([lo, hi]: [f64; 2], nan: bool) -> Interval {
    let lo = if lo.is_nan() { f64::NEG_INFINITY } else { lo };
    let hi = if hi.is_nan() { f64::INFINITY } else { hi };
    Interval { lo, hi, nan }
}

/// The nearest `f32` not above.
fn down(x: f64) -> f64 {
    let near = x as f32;
    f64::from(if f64::from(near) > x { near.next_down() } else { near })
}

/// The nearest `f32` not below.
fn up(x: f64) -> f64 {
    -down(-x)
}
