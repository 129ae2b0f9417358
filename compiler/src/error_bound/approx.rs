//! Numbers with what single or double precision makes of them: one elementwise op at a time.

use rhumb_ir::{Binary, Compare, Elem, Unary};

use super::units::{ROOM, U};
use crate::elementary::{FLUSHED, elementary};

/// A value, and what the kernel's may be off from it. Truth values are 0 and 1, off by 1 where the kernel may decide otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Approx {
    pub(super) x: f64,
    /// 0 for what is exact, NaN and infinities included; infinite for what nothing is known of.
    pub(super) e: f64,
}

/// In which precision code computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Single,
    Double,
}

/// Half of the least number above 0: what is lost where a result is subnormal.
const TINY: f64 = f64::from_bits((1023 - 150) << 52);
/// Numbers that are too low for single precision are below this.
const LOWEST: f64 = -3e38;
/// The greatest number that leaves them too low to have weight when it is added.
const SMALL: f64 = 1e30;
/// All `i32` are closer than this.
const ANY_INT: f64 = 4_294_967_296.0;

impl Approx {
    pub(super) const UNKNOWN: Approx = Approx { x: f64::NAN, e: f64::INFINITY };
    /// Below what single precision holds: `-inf` in a kernel, some number below [`LOWEST`] in the reference.
    const LOW: Approx = Approx { x: f64::NEG_INFINITY, e: f64::INFINITY };

    pub(super) const fn exact(x: f64) -> Approx {
        Approx { x, e: 0.0 }
    }

    pub(super) fn is_low(self) -> bool {
        self.x == f64::NEG_INFINITY && self.e == f64::INFINITY
    }

    /// Whether the value is what it is for certain: the same number, infinity or NaN in the kernel.
    pub(super) fn is_exact(self) -> bool {
        self.e == 0.0
    }

    pub(super) fn is_finite(self) -> bool {
        self.x.is_finite() && self.e.is_finite()
    }

    /// The greatest magnitude.
    pub(super) fn most(self) -> f64 {
        self.x.abs() + self.e
    }

    pub(super) fn neg(self) -> Approx {
        if self.is_low() { Approx::UNKNOWN } else { Approx { x: -self.x, e: self.e } }
    }

    /// The same truth value inverted.
    pub(super) fn not(self) -> Approx {
        Approx { x: 1.0 - self.x, e: self.e }
    }

    /// `a` where this truth value holds, else `b`.
    pub(super) fn select(self, a: Approx, b: Approx) -> Approx {
        let (taken, other) = if self.x == 0.0 { (b, a) } else { (a, b) };
        if self.is_exact() || taken == other {
            return taken;
        }
        if !taken.is_finite() || !other.is_finite() {
            return Approx::UNKNOWN;
        }
        Approx { x: taken.x, e: taken.e.max((taken.x - other.x).abs() + other.e) }
    }

    fn low(self) -> f64 {
        self.x - self.e
    }

    fn high(self) -> f64 {
        self.x + self.e
    }
}

/// The result of a function of operands of which some are infinite or NaN: known if it is the same for all values of the others.
fn at_ends(a: Approx, b: Approx, f: impl Fn(f64, f64) -> f64) -> Approx {
    if !a.e.is_finite() || !b.e.is_finite() {
        return Approx::UNKNOWN;
    }
    let ends = [f(a.low(), b.low()), f(a.low(), b.high()), f(a.high(), b.low()), f(a.high(), b.high())];
    let x = ends[0];
    match ends.iter().all(|end| *end == x || (end.is_nan() && x.is_nan())) {
        true if x.is_finite() => Approx { x, e: 8.0 * U * x.abs() },
        true => Approx::exact(x),
        false => Approx::UNKNOWN,
    }
}

impl Precision {
    /// Rounds the result of an exact operation, which has the error `e` of its operands.
    pub(super) fn rounded(self, x: f64, e: f64) -> Approx {
        if e == 0.0 && f64::from(x as f32) == x {
            return Approx { x, e };
        }
        match self {
            Precision::Single => self.within(x, e + U * (x.abs() + e) + TINY),
            Precision::Double => self.within(x, e),
        }
    }

    /// A number that is off by at most `e`; what single precision does not hold is not known.
    fn within(self, x: f64, e: f64) -> Approx {
        let e = e + ROOM * (x.abs() + e);
        if self == Precision::Double || x.abs() + e <= f64::from(f32::MAX) {
            return if x.is_finite() && e.is_finite() { Approx { x, e } } else { Approx::UNKNOWN };
        }
        if x + e < LOWEST { Approx::LOW } else { Approx::UNKNOWN }
    }

    /// A number as code of this precision reads it.
    pub(super) fn read(self, a: Approx) -> Approx {
        if self == Precision::Single && a.is_finite() { self.rounded(a.x, a.e) } else { a }
    }

    pub(super) fn add(self, a: Approx, b: Approx) -> Approx {
        if a.is_low() || b.is_low() {
            let other = if a.is_low() { b } else { a };
            let stays = other.is_low() || other == Approx::exact(f64::NEG_INFINITY) || other.most() <= SMALL;
            return if stays { Approx::LOW } else { Approx::UNKNOWN };
        }
        if !a.is_finite() || !b.is_finite() {
            return at_ends(a, b, |a, b| a + b);
        }
        self.rounded(a.x + b.x, a.e + b.e)
    }

    pub(super) fn mul(self, a: Approx, b: Approx) -> Approx {
        if a.is_low() || b.is_low() {
            let other = if a.is_low() { b } else { a };
            return if other.is_finite() && other.low() >= 1.0 { Approx::LOW } else { Approx::UNKNOWN };
        }
        if !a.is_finite() || !b.is_finite() {
            return at_ends(a, b, |a, b| a * b);
        }
        self.rounded(a.x * b.x, a.x.abs() * b.e + b.x.abs() * a.e + a.e * b.e)
    }

    fn div(self, a: Approx, b: Approx) -> Approx {
        if !a.is_finite() || !b.is_finite() || b.x.abs() <= b.e {
            return if b.is_exact() || !b.x.is_finite() { at_ends(a, b, |a, b| a / b) } else { Approx::UNKNOWN };
        }
        let quotient = a.x / b.x;
        self.rounded(quotient, (a.e + quotient.abs() * b.e) / (b.x.abs() - b.e))
    }

    /// `a - b floor(a / b)`.
    fn modulo(self, a: Approx, b: Approx) -> Approx {
        if !a.is_finite() || !b.is_finite() {
            return at_ends(a, b, |a, b| a - b * (a / b).floor());
        }
        let quotient = self.div(a, b);
        if !quotient.is_finite() {
            return quotient;
        }
        let turns = quotient.x.floor();
        let rest = self.add(a, self.mul(b, Approx::exact(turns)).neg());
        let certain = quotient.low().floor() == turns && quotient.high().floor() == turns;
        // Otherwise a turn more or fewer.
        let jump = (quotient.high().floor() - turns).max(turns - quotient.low().floor());
        if certain || !rest.is_finite() {
            rest
        } else {
            Approx { e: rest.e + jump * b.most() * (1.0 + 2.0 * U), ..rest }
        }
    }

    /// `exp2(b log2(a))`.
    fn pow(self, a: Approx, b: Approx) -> Approx {
        if b == Approx::exact(0.0) {
            return Approx::exact(1.0);
        }
        if a == Approx::exact(0.0) && b.is_finite() && b.low() > 0.0 {
            return Approx::exact(0.0);
        }
        let power = self.mul(b, self.unary(Unary::Log2, a));
        self.unary(Unary::Exp2, power)
    }

    /// The result of an op of one operand on real numbers.
    pub(super) fn unary(self, op: Unary, a: Approx) -> Approx {
        match op {
            Unary::Neg => return a.neg(),
            Unary::Abs if !a.is_low() => return Approx { x: a.x.abs(), e: a.e },
            Unary::Not => return a.not(),
            Unary::Exp | Unary::Exp2 | Unary::Sigmoid if a.is_low() => return Approx { x: 0.0, e: FLUSHED },
            _ => {}
        }
        let (f, of) = (op.real(), elementary(op));
        if !a.is_finite() {
            return at_ends(a, Approx::exact(0.0), |a, _| f(a));
        }
        let r = f(a.x);
        let own = match self {
            Precision::Single => (of.single)(a.most(), r),
            Precision::Double => (of.double)(a.most(), r),
        };
        match op {
            Unary::Floor | Unary::Ceil | Unary::Round => Approx { x: r, e: (f(a.high()) - r).max(r - f(a.low())) },
            Unary::Sqrt if a.low() < 0.0 || a.x == 0.0 && !a.is_exact() => at_ends(a, Approx::exact(0.0), |a, _| f(a)),
            Unary::Sqrt if a.is_exact() => self.rounded(r, 0.0),
            Unary::Acos if a.low() > 1.0 || a.high() < -1.0 => Approx::exact(f64::NAN),
            Unary::Acos if a.high() > 1.0 || a.low() < -1.0 => Approx::UNKNOWN,
            Unary::Log | Unary::Log2 if a.low() <= 0.0 => at_ends(a, Approx::exact(0.0), |a, _| f(a)),
            Unary::Neg | Unary::Abs | Unary::Not => Approx { x: r, e: a.e },
            _ => self.within(r, (of.moved)(a.x, a.e, r) + own),
        }
    }

    /// The result of an op of two operands on real numbers.
    pub(super) fn binary(self, op: Binary, a: Approx, b: Approx) -> Approx {
        let extreme = |x: f64| match (a, b) {
            _ if a.x.is_nan() && a.is_exact() || b.x.is_nan() && b.is_exact() => Approx::exact(f64::NAN),
            _ if !a.e.is_finite() || !b.e.is_finite() => Approx::UNKNOWN,
            _ if x.is_infinite() => Approx::exact(x),
            _ => Approx { x, e: a.e.max(b.e) },
        };
        match op {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.add(a, b.neg()),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Mod => self.modulo(a, b),
            Binary::Max if a.is_low() && b.is_finite() && b.low() > -SMALL => b,
            Binary::Max if b.is_low() && a.is_finite() && a.low() > -SMALL => a,
            Binary::Min | Binary::And => extreme(a.x.min(b.x)),
            Binary::Max | Binary::Or => extreme(a.x.max(b.x)),
            Binary::Pow => self.pow(a, b),
        }
    }

    /// The result of a cast from `from` to `to`.
    pub(super) fn cast(self, from: Elem, to: Elem, a: Approx) -> Approx {
        match (from, to) {
            (Elem::F32, Elem::I32) if a.is_exact() => Approx::exact(f64::from(a.x as i32)),
            (Elem::F32, Elem::I32) if a.is_finite() => {
                let whole = |x: f64| f64::from(x as i32);
                let x = whole(a.x);
                Approx { x, e: (whole(a.high()) - x).max(x - whole(a.low())) }
            }
            (Elem::F32, Elem::I32) => Approx { x: 0.0, e: ANY_INT },
            (Elem::I32, Elem::F32) => self.read(a),
            _ => a,
        }
    }
}

/// The result of an op of two truth values.
pub(super) fn logical(op: Binary, a: Approx, b: Approx) -> Approx {
    // The operand that decides alone: false of `and`, true of `or`.
    let decides = if op == Binary::And { 0.0 } else { 1.0 };
    if [a, b].contains(&Approx::exact(decides)) {
        return Approx::exact(decides);
    }
    let x = if op == Binary::And { a.x.min(b.x) } else { a.x.max(b.x) };
    Approx { x, e: a.e.max(b.e) }
}

/// The result of an integer op of one operand.
pub(super) fn int_unary(op: Unary, a: Approx) -> Approx {
    let x = a.x as i32;
    let x = if op == Unary::Abs { x.wrapping_abs() } else { x.wrapping_neg() };
    let wraps = a.e > 0.0 && a.low() <= f64::from(i32::MIN);
    Approx { x: f64::from(x), e: if wraps { ANY_INT } else { a.e } }
}

/// The result of an integer op of two operands.
pub(super) fn int_binary(op: Binary, a: Approx, b: Approx) -> Approx {
    let (x, y) = (a.x as i32, b.x as i32);
    let divide = || {
        let quotient = x.wrapping_div(y);
        let below = x.wrapping_rem(y) != 0 && (x < 0) != (y < 0);
        if below { quotient - 1 } else { quotient }
    };
    let r = match op {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::Div | Binary::Mod if y == 0 => 0,
        Binary::Div => divide(),
        Binary::Mod => x.wrapping_sub(y.wrapping_mul(divide())),
        Binary::Pow | Binary::And | Binary::Or => 0,
    };
    let r = f64::from(r);
    if a.is_exact() && b.is_exact() {
        return Approx::exact(r);
    }
    let (whole, e) = match op {
        Binary::Add => (a.x + b.x, a.e + b.e),
        Binary::Sub => (a.x - b.x, a.e + b.e),
        Binary::Mul => (a.x * b.x, a.x.abs() * b.e + b.x.abs() * a.e + a.e * b.e),
        Binary::Min | Binary::Max => (r, a.e.max(b.e)),
        _ => (r, ANY_INT),
    };
    let wraps = !matches!(op, Binary::Min | Binary::Max) && whole.abs() + e > f64::from(i32::MAX);
    Approx { x: r, e: if wraps { ANY_INT } else { e } }
}

/// The result of a comparison.
pub(super) fn compare(op: Compare, a: Approx, b: Approx) -> Approx {
    let x = match op {
        Compare::Eq => a.x == b.x,
        Compare::Ne => a.x != b.x,
        Compare::Lt => a.x < b.x,
        Compare::Le => a.x <= b.x,
        Compare::Gt => a.x > b.x,
        Compare::Ge => a.x >= b.x,
    };
    let exact = a.is_exact() && b.is_exact();
    let nan = [a, b].iter().any(|x| x.is_exact() && x.x.is_nan());
    let apart = a.high() < b.low() || b.high() < a.low();
    Approx { x: f64::from(u8::from(x)), e: if exact || nan || apart { 0.0 } else { 1.0 } }
}
