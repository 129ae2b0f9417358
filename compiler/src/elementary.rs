//! What the compiler knows of each operation of one operand, beside its code: cost, range, and how errors pass through it.
//!
//! What an operation means is [`Unary::real`]; its code stands in `codegen/math.rs`, whose table says how exact it is. The errors here are
//! those of that table.

use std::f64::consts::PI;

use rhumb_ir::Unary;

/// The unit roundoff of single precision: an ulp is at most `2 U` of a result.
const U: f64 = f64::from_bits((1023 - 24) << 52);
/// The relative error allowed for results in double precision.
const ROOM: f64 = f64::from_bits((1023 - 50) << 52);
/// Results of `exp2` below this are 0, and those of `exp` below about the same.
pub(crate) const FLUSHED: f64 = 4.5e-38;

/// The values that an operation takes over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Range {
    /// Those between the values at the ends.
    Rising,
    /// Those between the values at the ends, as far as these are not below 0; below 0 it is NaN.
    RisingFrom0,
    /// Those between the values at the ends, the greatest first, as far as the operand is from -1 to 1; beyond it is NaN.
    FallingWithin1,
    /// Within these, wherever the operand is finite.
    Within(f64, f64),
    /// Of arithmetic, which intervals have of their own.
    Arithmetic,
}

/// What the compiler knows of an operation.
pub(crate) struct Elementary {
    /// Vector instructions, slow ones counted by the time they take.
    pub(crate) instructions: f64,
    pub(crate) range: Range,
    /// Whether the range ends where the operand is infinite, as that of a function with a limit does.
    pub(crate) has_limits: bool,
    /// How far the result at `x`, which is `r`, moves at most where the operand moves by `e`.
    pub(crate) moved: fn(x: f64, e: f64, r: f64) -> f64,
    /// The error in single precision at an exact operand of magnitude `x`, where the result is `r`.
    pub(crate) single: fn(x: f64, r: f64) -> f64,
    /// The same in double precision.
    pub(crate) double: fn(x: f64, r: f64) -> f64,
}

/// An operation whose errors are those of its operand.
const EXACT: Elementary = Elementary {
    instructions: 1.0,
    range: Range::Arithmetic,
    has_limits: false,
    moved: |_, e, _| e,
    single: |_, _| 0.0,
    double: |_, _| 0.0,
};

/// What the compiler knows of an operation.
pub(crate) fn elementary(op: Unary) -> Elementary {
    match op {
        Unary::Neg | Unary::Abs | Unary::Not => EXACT,
        Unary::Floor | Unary::Ceil | Unary::Round => Elementary { range: Range::Rising, ..EXACT },
        Unary::Sqrt => Elementary {
            instructions: 10.0,
            range: Range::RisingFrom0,
            moved: |x, e, r| r - (x - e).sqrt(),
            single: |_, r| U * r,
            ..EXACT
        },
        Unary::Exp => EXP,
        Unary::Exp2 => EXP2,
        Unary::Log => LOG,
        Unary::Log2 => Elementary { moved: |x, e, _| -(-e / x).ln_1p() * std::f64::consts::LOG2_E, ..LOG },
        Unary::Sin | Unary::Cos => SIN_COS,
        Unary::Atan => ATAN,
        Unary::Acos => ACOS,
        Unary::Tanh => TANH,
        Unary::Sigmoid => SIGMOID,
        Unary::Erf => ERF,
    }
}

/// Of `e^x`.
const EXP: Elementary = Elementary {
    instructions: 18.0,
    range: Range::Rising,
    moved: |_, e, r| r * e.exp_m1(),
    single: |_, r| 6.0 * U * r + FLUSHED,
    double: |_, r| 1e-13 * r + FLUSHED,
    ..EXACT
};

/// Of `2^x`.
const EXP2: Elementary = Elementary {
    instructions: 17.0,
    range: Range::Rising,
    moved: |_, e, r| r * (e * std::f64::consts::LN_2).exp_m1(),
    single: |_, r| 4.0 * U * r + FLUSHED,
    double: |_, _| FLUSHED,
    ..EXACT
};

/// Of the natural logarithm.
const LOG: Elementary = Elementary {
    instructions: 20.0,
    range: Range::RisingFrom0,
    moved: |x, e, _| -(-e / x).ln_1p(),
    single: |_, r| (8.0 * U * r.abs()).max(2e-7),
    double: |_, _| 1e-15,
    ..EXACT
};

/// Of sines and cosines.
const SIN_COS: Elementary = Elementary {
    instructions: 30.0,
    range: Range::Within(-1.0, 1.0),
    moved: |_, e, _| e.min(2.0),
    single: of_angle,
    // Up to about here the reduction finds the quadrant.
    double: |x, _| if x > 1e15 { f64::INFINITY } else { 1e-15 + ROOM * x },
    ..EXACT
};

/// Of the arc tangent.
const ATAN: Elementary = Elementary {
    instructions: 32.0,
    range: Range::Rising,
    // The greatest slope between the ends.
    moved: |x, e, _| (e / (1.0 + (x.abs() - e).max(0.0).powi(2))).min(PI),
    single: |_, r| 8.0 * U * r.abs(),
    double: |_, r| 1e-14 * r.abs(),
    has_limits: true,
};

/// Of the arc cosine.
const ACOS: Elementary = Elementary {
    instructions: 52.0,
    range: Range::FallingWithin1,
    moved: |x, e, r| ((x - e).max(-1.0).acos() - r).max(r - (x + e).min(1.0).acos()),
    single: |_, r| 16.0 * U * r,
    double: |_, r| 1e-14 * r,
    ..EXACT
};

/// Of the hyperbolic tangent.
const TANH: Elementary = Elementary {
    instructions: 30.0,
    range: Range::Rising,
    // The greatest slope between the ends.
    moved: |x, e, _| e * (4.0 * (-2.0 * (x.abs() - e).max(0.0)).exp()).min(1.0),
    single: |_, r| 8.0 * U * r.abs(),
    double: |_, _| 1e-15,
    has_limits: true,
};

/// Of `1 / (1 + e^-x)`.
const SIGMOID: Elementary = Elementary {
    instructions: 26.0,
    range: Range::Within(0.0, 1.0),
    moved: |x, e, _| e * (-(x.abs() - e).max(0.0)).exp().min(0.25),
    single: |_, r| 8.0 * U * r + FLUSHED,
    double: |_, r| 1e-13 * r + FLUSHED,
    has_limits: true,
};

/// Of the error function.
const ERF: Elementary = Elementary {
    instructions: 40.0,
    range: Range::Rising,
    // The greatest slope between the ends.
    moved: |x, e, _| (e * std::f64::consts::FRAC_2_SQRT_PI * (-(x.abs() - e).max(0.0).powi(2)).exp()).min(2.0),
    single: |_, r| 8.0 * U * r.abs(),
    double: |_, r| 1e-14 * r.abs(),
    has_limits: true,
};

/// The error of a sine or cosine in single precision. The first part of pi/2 leaves 2^-11 of the angle, which is rounded.
fn of_angle(x: f64, _: f64) -> f64 {
    match x {
        x if x <= 1e4 => 2e-7,
        x if x <= 1e6 => 4e-7 + U * 1e-3 * x,
        _ => f64::INFINITY,
    }
}
