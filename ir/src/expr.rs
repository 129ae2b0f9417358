//! Arithmetic on handles of values under construction.

use std::f64::consts::PI;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Rem, Sub};

use crate::builder::{Expr, GraphBuilder};
use crate::op::{Base, Binary, Compare, Op, Pairing};
use crate::types::{Axis, Elem};
use crate::unary::Unary;

impl<'g> Expr<'g> {
    fn unary(self, op: Unary) -> Expr<'g> {
        let x = if matches!(op, Unary::Neg | Unary::Abs | Unary::Not) { self } else { self.real() };
        self.builder.push(Op::Unary(op, x.value))
    }

    /// The value as `f32` if it is an `i32`; otherwise itself.
    fn real(self) -> Expr<'g> {
        if self.ty().elem == Elem::I32 { self.cast(Elem::F32) } else { self }
    }

    /// Both operands in one element type: `i32` beside `f32` is converted.
    fn promote(self, other: Expr<'g>) -> (Expr<'g>, Expr<'g>) {
        match (self.ty().elem, other.ty().elem) {
            (Elem::I32, Elem::F32) => (self.cast(Elem::F32), other),
            (Elem::F32, Elem::I32) => (self, other.cast(Elem::F32)),
            _ => (self, other),
        }
    }

    fn binary(self, op: Binary, other: impl Operand<'g>) -> Expr<'g> {
        let (a, b) = self.promote(other.expr(self));
        self.builder.push(Op::Binary(op, a.value, b.value))
    }

    fn compare(self, op: Compare, other: impl Operand<'g>) -> Expr<'g> {
        let (a, b) = self.promote(other.expr(self));
        self.builder.push(Op::Compare(op, a.value, b.value))
    }

    /// `|x|`.
    #[must_use]
    pub fn abs(self) -> Expr<'g> {
        self.unary(Unary::Abs)
    }

    /// Largest integer not above.
    #[must_use]
    pub fn floor(self) -> Expr<'g> {
        self.unary(Unary::Floor)
    }

    /// Smallest integer not below.
    #[must_use]
    pub fn ceil(self) -> Expr<'g> {
        self.unary(Unary::Ceil)
    }

    /// The nearest integer; of two as near, the even one.
    #[must_use]
    pub fn round(self) -> Expr<'g> {
        self.unary(Unary::Round)
    }

    /// Square root.
    #[must_use]
    pub fn sqrt(self) -> Expr<'g> {
        self.unary(Unary::Sqrt)
    }

    /// `e^x`.
    #[must_use]
    pub fn exp(self) -> Expr<'g> {
        self.unary(Unary::Exp)
    }

    /// `2^x`.
    #[must_use]
    pub fn exp2(self) -> Expr<'g> {
        self.unary(Unary::Exp2)
    }

    /// Natural logarithm.
    #[must_use]
    pub fn log(self) -> Expr<'g> {
        self.unary(Unary::Log)
    }

    /// Logarithm to base 2.
    #[must_use]
    pub fn log2(self) -> Expr<'g> {
        self.unary(Unary::Log2)
    }

    /// Sine, of radians.
    #[must_use]
    pub fn sin(self) -> Expr<'g> {
        self.unary(Unary::Sin)
    }

    /// Cosine, of radians.
    #[must_use]
    pub fn cos(self) -> Expr<'g> {
        self.unary(Unary::Cos)
    }

    /// The angle in radians whose tangent this is, from `-pi/2` to `pi/2`.
    #[must_use]
    pub fn atan(self) -> Expr<'g> {
        self.unary(Unary::Atan)
    }

    /// The angle in radians whose cosine this is, from 0 to `pi`; NaN below -1 and above 1.
    #[must_use]
    pub fn acos(self) -> Expr<'g> {
        self.unary(Unary::Acos)
    }

    /// The angle in radians, from `-pi` to `pi`, of the point whose height is this and which lies `x` to the right; 0 at the origin, and
    /// NaN where both are infinite. It is written as an arctangent and choices.
    #[must_use]
    pub fn atan2(self, x: impl Operand<'g>) -> Expr<'g> {
        let (y, x) = (self.real(), x.expr(self).real());
        let arc = (y / x).atan();
        let left = arc + y.lt(0.0).select(-PI, PI);
        let angle = x.lt(0.0).select(left, arc);
        // Straight up or down where x is 0.
        (x.eq(0.0) & y.eq(0.0)).select(0.0, angle)
    }

    /// Hyperbolic tangent.
    #[must_use]
    pub fn tanh(self) -> Expr<'g> {
        self.unary(Unary::Tanh)
    }

    /// `1 / (1 + e^-x)`.
    #[must_use]
    pub fn sigmoid(self) -> Expr<'g> {
        self.unary(Unary::Sigmoid)
    }

    /// Error function: `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to `x`. GELU is `x (1 + erf(x / sqrt(2))) / 2`.
    #[must_use]
    pub fn erf(self) -> Expr<'g> {
        self.unary(Unary::Erf)
    }

    /// The lesser of two.
    #[must_use]
    pub fn min(self, other: impl Operand<'g>) -> Expr<'g> {
        self.binary(Binary::Min, other)
    }

    /// The greater of two.
    #[must_use]
    pub fn max(self, other: impl Operand<'g>) -> Expr<'g> {
        self.binary(Binary::Max, other)
    }

    /// `self^exponent`.
    #[must_use]
    pub fn pow(self, exponent: impl Operand<'g>) -> Expr<'g> {
        let exponent = exponent.expr(self).real();
        self.real().binary(Binary::Pow, exponent)
    }

    /// Whether equal.
    #[must_use]
    pub fn eq(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Eq, other)
    }

    /// Whether different.
    #[must_use]
    pub fn ne(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Ne, other)
    }

    /// Whether less.
    #[must_use]
    pub fn lt(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Lt, other)
    }

    /// Whether less or equal.
    #[must_use]
    pub fn le(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Le, other)
    }

    /// Whether greater.
    #[must_use]
    pub fn gt(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Gt, other)
    }

    /// Whether greater or equal.
    #[must_use]
    pub fn ge(self, other: impl Operand<'g>) -> Expr<'g> {
        self.compare(Compare::Ge, other)
    }

    /// `on_true` where this (a `bool`) holds, else `on_false`.
    #[must_use]
    pub fn select(self, on_true: impl Operand<'g>, on_false: impl Operand<'g>) -> Expr<'g> {
        let elem = on_false.elem().unwrap_or(Elem::F32);
        let on_true = on_true.expr_as(self.builder, elem);
        let (on_true, on_false) = on_true.promote(on_false.expr(on_true));
        self.builder.push(Op::Select { cond: self.value, on_true: on_true.value, on_false: on_false.value })
    }

    /// The value in another element type.
    #[must_use]
    pub fn cast(self, elem: Elem) -> Expr<'g> {
        self.builder.push(Op::Cast(elem, self.value))
    }

    /// This table indexed along `axis`; indices outside take the nearest element.
    #[must_use]
    pub fn gather(self, axis: Axis, index: Expr<'g>) -> Expr<'g> {
        self.builder.push(Op::Gather { table: self.value, axis, index: self.builder.local(index).value })
    }

    /// Rotates pairs along `dim` by `angle`, whose axis `pair` counts the pairs; the rotary block starts at element `start`.
    #[must_use]
    pub fn rotate(self, angle: Expr<'g>, dim: Axis, pair: Axis, pairing: Pairing, start: u32) -> Expr<'g> {
        self.builder.push(Op::Rotate {
            x: self.value,
            angle: self.builder.local(angle).value,
            dim,
            pair,
            pairing,
            start,
        })
    }

    /// Sum over `axis` of the product with `other`.
    #[must_use]
    pub fn dot(self, other: Expr<'g>, axis: Axis) -> Expr<'g> {
        self.builder.push(Op::Dot { a: self.value, b: self.builder.local(other).value, axis })
    }

    /// Softmax along `axis`.
    #[must_use]
    pub fn softmax(self, axis: Axis) -> Expr<'g> {
        self.builder.push(Op::Softmax { x: self.value, axis, sink: None, base: Base::E })
    }

    /// Softmax along `axis` with an extra score that takes part in the sum alone (an attention sink).
    #[must_use]
    pub fn softmax_with_sink(self, axis: Axis, sink: Expr<'g>) -> Expr<'g> {
        self.builder.push(Op::Softmax {
            x: self.value,
            axis,
            sink: Some(self.builder.local(sink).value),
            base: Base::E,
        })
    }

    /// `log(sum(exp(x)))` along `axis`, with an optional sink.
    #[must_use]
    pub fn log_sum_exp(self, axis: Axis, sink: Option<Expr<'g>>) -> Expr<'g> {
        let sink = sink.map(|sink| self.builder.local(sink).value);
        self.builder.push(Op::LogSumExp { x: self.value, axis, sink, base: Base::E })
    }

    /// This score where `mask` holds, `-inf` elsewhere.
    #[must_use]
    pub fn mask(self, mask: Expr<'g>) -> Expr<'g> {
        self.builder.local(mask).select(self, f64::NEG_INFINITY)
    }
}

/// What can stand beside an [`Expr`] in arithmetic: another one, or a number.
///
/// An `f32` stands on the right alone, as in `score * weight`: were it allowed on the left too, Rust could not tell which type the number
/// of `1.0 + score` is of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't stand beside an expression of a graph",
    label = "not an expression, `f64`, `f32` or `i32`",
    note = "convert whole numbers by `as i32`, and real ones by `f64::from`"
)]
pub trait Operand<'g>: Copy {
    /// The operand as a value of the builder of `beside`; a number takes the element type of `beside` where it can.
    fn expr(self, beside: Expr<'g>) -> Expr<'g> {
        self.expr_as(beside.builder, beside.ty().elem)
    }

    /// The operand as a value of `builder`; a number becomes `elem` where it can.
    fn expr_as(self, builder: &'g GraphBuilder, elem: Elem) -> Expr<'g>;

    /// Its element type, unless it is a number, which takes that of what it stands beside.
    fn elem(self) -> Option<Elem> {
        None
    }
}

impl<'g> Operand<'g> for Expr<'g> {
    fn expr_as(self, builder: &'g GraphBuilder, _: Elem) -> Expr<'g> {
        builder.local(self)
    }

    fn elem(self) -> Option<Elem> {
        Some(self.ty().elem)
    }
}

impl<'g> Operand<'g> for f64 {
    fn expr_as(self, builder: &'g GraphBuilder, _: Elem) -> Expr<'g> {
        builder.scalar(self)
    }
}

impl<'g> Operand<'g> for f32 {
    fn expr_as(self, builder: &'g GraphBuilder, _: Elem) -> Expr<'g> {
        builder.scalar(f64::from(self))
    }
}

impl<'g> Operand<'g> for i32 {
    fn expr_as(self, builder: &'g GraphBuilder, elem: Elem) -> Expr<'g> {
        if elem == Elem::F32 { builder.scalar(f64::from(self)) } else { builder.int(self) }
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<'g, T: Operand<'g>> $trait<T> for Expr<'g> {
            type Output = Expr<'g>;
            fn $method(self, other: T) -> Expr<'g> {
                self.binary(Binary::$op, other)
            }
        }
        impl<'g> $trait<Expr<'g>> for f64 {
            type Output = Expr<'g>;
            fn $method(self, other: Expr<'g>) -> Expr<'g> {
                self.expr(other).binary(Binary::$op, other)
            }
        }
        impl<'g> $trait<Expr<'g>> for i32 {
            type Output = Expr<'g>;
            fn $method(self, other: Expr<'g>) -> Expr<'g> {
                self.expr(other).binary(Binary::$op, other)
            }
        }
    )*};
}

operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Mod);

impl<'g> BitAnd for Expr<'g> {
    type Output = Expr<'g>;
    fn bitand(self, other: Expr<'g>) -> Expr<'g> {
        self.binary(Binary::And, other)
    }
}

impl<'g> BitOr for Expr<'g> {
    type Output = Expr<'g>;
    fn bitor(self, other: Expr<'g>) -> Expr<'g> {
        self.binary(Binary::Or, other)
    }
}

impl<'g> Neg for Expr<'g> {
    type Output = Expr<'g>;
    fn neg(self) -> Expr<'g> {
        self.unary(Unary::Neg)
    }
}

impl<'g> Not for Expr<'g> {
    type Output = Expr<'g>;
    fn not(self) -> Expr<'g> {
        self.unary(Unary::Not)
    }
}
