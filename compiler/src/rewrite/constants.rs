//! Constants, in the arithmetic of the IR: `f32` in double precision, integers wrapping at 32 bits.

use egg::Id;
use rhumb_ir::{Binary, Compare, ElemKind, Graph, Unary};

use super::kind::Kind;
use super::language::{Node, Number};

/// The value of a node whose operands are constants; `None` if it is no constant.
pub(crate) fn fold(
    graph: &Graph,
    node: &Node,
    constant: impl Fn(Id) -> Option<Number>,
    kind: impl Fn(Id) -> Option<Kind>,
) -> Option<Number> {
    match node {
        Node::Const(number) => Some(*number),
        Node::Size([axis]) => match kind(*axis)? {
            Kind::Axis(axis) => graph.static_extent(axis).and_then(|n| i32::try_from(n).ok()).map(Number::I32),
            _ => None,
        },
        Node::Unary(op, [x]) => unary(*op, constant(*x)?),
        Node::Binary(op, [a, b]) => binary(*op, constant(*a)?, constant(*b)?),
        Node::Compare(op, [a, b]) => {
            let (a, b) = (constant(*a)?.scalar().as_f64(), constant(*b)?.scalar().as_f64());
            Some(Number::Bool(compare(*op, a, b)))
        }
        Node::Select([cond, on_true, on_false]) => match constant(*cond)? {
            Number::Bool(true) => constant(*on_true),
            Number::Bool(false) => constant(*on_false),
            _ => None,
        },
        Node::Cast(elem, [x]) => {
            let x = constant(*x)?.scalar().as_f64();
            Some(match elem.kind() {
                ElemKind::Real => Number::real(x),
                // Toward zero, saturating, NaN to 0: what `as` does.
                ElemKind::Whole => Number::I32(x as i32),
                ElemKind::Truth => Number::Bool(x != 0.0),
            })
        }
        _ => None,
    }
}

/// An op of one operand on a constant.
pub(crate) fn unary(op: Unary, x: Number) -> Option<Number> {
    let real = match (op, x) {
        (Unary::Neg, Number::I32(x)) => return Some(Number::I32(x.wrapping_neg())),
        (Unary::Abs, Number::I32(x)) => return Some(Number::I32(x.wrapping_abs())),
        (Unary::Not, Number::Bool(x)) => return Some(Number::Bool(!x)),
        (_, Number::F32(bits)) => f64::from_bits(bits),
        _ => return None,
    };
    (op != Unary::Not).then(|| Number::real(op.real()(real)))
}

/// An op of two operands on constants.
pub(crate) fn binary(op: Binary, a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Bool(a), Number::Bool(b)) => match op {
            Binary::And => Some(Number::Bool(a && b)),
            Binary::Or => Some(Number::Bool(a || b)),
            _ => None,
        },
        (Number::I32(a), Number::I32(b)) => Some(Number::I32(match op {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Div | Binary::Mod if b == 0 => 0,
            Binary::Div => floor_div(a, b),
            Binary::Mod => a.wrapping_sub(b.wrapping_mul(floor_div(a, b))),
            Binary::Pow | Binary::And | Binary::Or => return None,
        })),
        (Number::F32(a), Number::F32(b)) => {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            let nan = a.is_nan() || b.is_nan();
            Some(Number::real(match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Mod => a - b * (a / b).floor(),
                Binary::Min | Binary::Max if nan => f64::NAN,
                Binary::Min => a.min(b),
                Binary::Max => a.max(b),
                Binary::Pow if b == 0.0 => 1.0,
                Binary::Pow if a >= 0.0 => (b * a.log2()).exp2(),
                Binary::Pow => f64::NAN,
                Binary::And | Binary::Or => return None,
            }))
        }
        _ => None,
    }
}

fn floor_div(a: i32, b: i32) -> i32 {
    let quotient = a.wrapping_div(b);
    let inexact = a.wrapping_rem(b) != 0;
    if inexact && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// A comparison of numbers.
pub(crate) fn compare(op: Compare, a: f64, b: f64) -> bool {
    match op {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::Gt => a > b,
        Compare::Ge => a >= b,
    }
}
