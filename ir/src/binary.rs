//! Elementwise operations of two operands: what they mean.

use crate::op::{Binary, Compare};

impl Binary {
    /// The operation on real numbers, in double precision. Truth values are 0 and 1.
    pub fn real(self) -> fn(f64, f64) -> f64 {
        match self {
            Binary::Add => |a, b| a + b,
            Binary::Sub => |a, b| a - b,
            Binary::Mul | Binary::And => |a, b| a * b,
            Binary::Div => |a, b| a / b,
            Binary::Mod => |a, b| a - b * (a / b).floor(),
            Binary::Min => |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) },
            Binary::Max => |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) },
            Binary::Pow => pow,
            Binary::Or => f64::max,
        }
    }
}

impl Compare {
    /// Whether it holds of two real numbers: 1 or 0.
    pub fn real(self) -> fn(f64, f64) -> f64 {
        match self {
            Compare::Eq => |a, b| f64::from(u8::from(a == b)),
            Compare::Ne => |a, b| f64::from(u8::from(a != b)),
            Compare::Lt => |a, b| f64::from(u8::from(a < b)),
            Compare::Le => |a, b| f64::from(u8::from(a <= b)),
            Compare::Gt => |a, b| f64::from(u8::from(a > b)),
            Compare::Ge => |a, b| f64::from(u8::from(a >= b)),
        }
    }
}

fn pow(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        1.0
    } else if a == 0.0 && b > 0.0 {
        0.0
    } else if a < 0.0 {
        f64::NAN
    } else {
        (b * a.log2()).exp2()
    }
}
