//! What the elementwise ops do to one element.

use crate::op::{Base, Binary};
use crate::types::Elem;
use crate::unary::Unary;

/// The `i32` in an element of an `i32` value; exact, since such elements are whole and in range.
fn int(x: f64) -> i32 {
    x as i32
}

pub(super) fn unary(op: Unary, elem: Elem) -> fn(f64) -> f64 {
    match (op, elem) {
        (Unary::Neg, Elem::I32) => |x| f64::from(int(x).wrapping_neg()),
        (Unary::Abs, Elem::I32) => |x| f64::from(int(x).wrapping_abs()),
        _ => op.real(),
    }
}

pub(super) fn binary(op: Binary, elem: Elem) -> fn(f64, f64) -> f64 {
    if elem == Elem::I32 {
        return match op {
            Binary::Add => |a, b| f64::from(int(a).wrapping_add(int(b))),
            Binary::Sub => |a, b| f64::from(int(a).wrapping_sub(int(b))),
            Binary::Mul => |a, b| f64::from(int(a).wrapping_mul(int(b))),
            Binary::Div => |a, b| f64::from(floor_div(int(a), int(b)).0),
            Binary::Mod => |a, b| f64::from(floor_div(int(a), int(b)).1),
            Binary::Min => f64::min,
            Binary::Max => f64::max,
            // The typing rules keep these from integers.
            Binary::Pow | Binary::And | Binary::Or => |_, _| 0.0,
        };
    }
    op.real()
}

/// Quotient rounded down and remainder with the sign of the divisor; both 0 when the divisor is 0. The quotient wraps.
fn floor_div(a: i32, b: i32) -> (i32, i32) {
    if b == 0 {
        return (0, 0);
    }
    let (quotient, remainder) = (a.wrapping_div(b), a.wrapping_rem(b));
    if remainder != 0 && (remainder < 0) != (b < 0) { (quotient - 1, remainder + b) } else { (quotient, remainder) }
}

pub(super) fn cast(from: Elem, to: Elem) -> fn(f64) -> f64 {
    match (from, to) {
        // `as` goes toward zero, saturates, and takes NaN to 0.
        (Elem::F32, Elem::I32) => |x| f64::from(x as i32),
        // Every i32 and truth value is a real number.
        _ => |x| x,
    }
}

/// `base^x`.
pub(super) fn power(base: Base) -> fn(f64) -> f64 {
    match base {
        Base::E => f64::exp,
        Base::Two => f64::exp2,
    }
}

/// Logarithm to `base`.
pub(super) fn logarithm(base: Base) -> fn(f64) -> f64 {
    match base {
        Base::E => f64::ln,
        Base::Two => f64::log2,
    }
}
