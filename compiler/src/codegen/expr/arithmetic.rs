//! What elementwise operations are in code.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value as Ssa};
use rhumb_ir::{Binary, Compare, Elem, Op, Scalar, Unary, Value};

use super::ExprEmitter;
use crate::codegen::vocab::floor_divide;

impl ExprEmitter<'_, '_> {
    pub(super) fn unary(&mut self, unary: Unary, elem: Elem, x: Ssa) -> Ssa {
        match (unary, elem) {
            (Unary::Neg, Elem::I32) => self.fb().ins().ineg(x),
            (Unary::Abs, Elem::I32) => {
                let negative = self.fb().ins().ineg(x);
                self.fb().ins().smax(x, negative)
            }
            (op, _) => self.v.elementary(op, x),
        }
    }

    /// Whether a float is never NaN.
    pub(super) fn is_number(&self, value: Value) -> bool {
        match *self.plan.graph.op(value) {
            Op::Const(Scalar::F32(x)) => !x.is_nan(),
            Op::Cast(Elem::F32, from) => self.plan.graph.ty(from).elem == Elem::I32,
            _ => false,
        }
    }

    pub(super) fn binary(&mut self, binary: Binary, elem: Elem, a: Ssa, b: Ssa) -> Ssa {
        match (binary, elem) {
            (Binary::And, _) => self.fb().ins().band(a, b),
            (Binary::Or, _) => self.fb().ins().bor(a, b),
            (Binary::Add, Elem::I32) => self.fb().ins().iadd(a, b),
            (Binary::Sub, Elem::I32) => self.fb().ins().isub(a, b),
            (Binary::Mul, Elem::I32) => self.fb().ins().imul(a, b),
            (Binary::Min, Elem::I32) => self.fb().ins().smin(a, b),
            (Binary::Max, Elem::I32) => self.fb().ins().smax(a, b),
            (Binary::Div, Elem::I32) => {
                let ty = self.v.int_type();
                self.v.by_lane(&[a, b], ty, |fb, _, x| floor_divide(fb, x[0], x[1]).0)
            }
            (Binary::Mod, Elem::I32) => {
                let ty = self.v.int_type();
                self.v.by_lane(&[a, b], ty, |fb, _, x| floor_divide(fb, x[0], x[1]).1)
            }
            (Binary::Add, _) => self.v.fadd(a, b),
            (Binary::Sub, _) => self.v.fsub(a, b),
            (Binary::Mul, _) => self.v.fmul(a, b),
            (Binary::Div, _) => self.fb().ins().fdiv(a, b),
            (Binary::Mod, _) => {
                let quotient = self.fb().ins().fdiv(a, b);
                let whole = self.fb().ins().floor(quotient);
                let product = self.v.fmul(b, whole);
                self.v.fsub(a, product)
            }
            (Binary::Min, _) => self.fb().ins().fmin(a, b),
            (Binary::Max, _) => self.fb().ins().fmax(a, b),
            (Binary::Pow, _) => self.v.pow(a, b),
        }
    }

    pub(super) fn compare(&mut self, compare: Compare, elem: Elem, a: Ssa, b: Ssa) -> Ssa {
        if elem == Elem::F32 {
            let cc = match compare {
                Compare::Eq => FloatCC::Equal,
                Compare::Ne => FloatCC::NotEqual,
                Compare::Lt => FloatCC::LessThan,
                Compare::Le => FloatCC::LessThanOrEqual,
                Compare::Gt => FloatCC::GreaterThan,
                Compare::Ge => FloatCC::GreaterThanOrEqual,
            };
            return self.v.fcmp(cc, a, b);
        }
        let cc = match compare {
            Compare::Eq => IntCC::Equal,
            Compare::Ne => IntCC::NotEqual,
            Compare::Lt => IntCC::SignedLessThan,
            Compare::Le => IntCC::SignedLessThanOrEqual,
            Compare::Gt => IntCC::SignedGreaterThan,
            Compare::Ge => IntCC::SignedGreaterThanOrEqual,
        };
        self.v.icmp(cc, a, b)
    }

    pub(super) fn cast(&mut self, from: Elem, to: Elem, x: Ssa) -> Ssa {
        match (from, to) {
            (Elem::I32, Elem::F32) => self.v.int_to_float(x),
            (Elem::F32, Elem::I32) => self.v.float_to_int(x),
            (Elem::Bool, Elem::I32) => self.v.bool_to_int(x),
            (Elem::Bool, Elem::F32) => {
                let int = self.v.bool_to_int(x);
                self.v.int_to_float(int)
            }
            _ => x,
        }
    }
}
