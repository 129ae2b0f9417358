//! Elementary functions, emitted inline from polynomials.
//!
//! | function | single precision, any lane count | double precision, scalar |
//! |---|---|---|
//! | `exp2` | 2 ulp; 0 below -125 | 4 ulp; 0 below -1021 |
//! | `exp2` of the softmax | 1 ulp and 2^-100; 0 from -100 down | |
//! | `exp` | 3 ulp; 0 below -86 | relative 1e-13 |
//! | `log2`, `log` | 4 ulp, or 2e-7 absolute near 1 | 4 ulp, or 1e-15 absolute near 1 |
//! | `sin`, `cos` | 2e-7 absolute for angles up to 1e4 in magnitude | 1e-15 absolute for angles up to 1e6 |
//! | `tanh` | 4 ulp | 1e-15 absolute |
//! | `sigmoid` | 4 ulp; 0 below -86 | relative 1e-13 |
//! | `pow` | `exp2(b log2 a)`: relative error grows with `abs(b log2 a)` | the same |
//!
//! `tests/math.rs` holds each function against the standard library in `f64` over its range, as kernels run it; what double precision
//! gives is rounded to `f32` there, and a score passes two more roundings, for which the tests allow 2 ulp (or 2e-7) more.
//! Outside the range of `sin` and `cos` the angle is reduced less exactly; infinities give NaN. Subnormal results of `exp2` are flushed
//! to 0.
//!
//! The reduction to sine and cosine, and the polynomials of `log` in double precision, follow the tables of fdlibm (Sun, 1993); the
//! polynomial of `exp2` in single precision is a minimax fit on [-1/2, 1/2] (degree 6, relative error 2e-9 before rounding), in double
//! precision the Taylor series. `tanh` in single precision is made of `1 - 2^x`, which the same polynomial without its first
//! coefficient gives for small `x`.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use rhumb_ir::Unary;

mod angle;
mod logarithm;

use super::vocab::Vocab;
use crate::plan::Pruning;

const EXP2_F32: [f64; 7] = [
    1.0,
    0.693_147_182_464_599_6,
    0.240_226_462_483_406_07,
    0.055_503_286_421_298_98,
    0.009_618_489_071_726_799,
    0.001_339_993_090_368_807_3,
    0.000_153_458_124_259_468_64,
];

/// Weights of 2 to minus this and less are 0. Much smaller ones would have subnormal products with values, on which processors stall.
const VANISHING: f64 = Pruning::BELOW;

impl Vocab<'_, '_> {
    /// Adding this rounds to an integer, whose low bits are then the low bits of the sum.
    fn rounder(&self) -> f64 {
        if self.shape.double { 6_755_399_441_055_744.0 } else { 12_582_912.0 }
    }

    fn mantissa_bits(&self) -> i64 {
        if self.shape.double { 52 } else { 23 }
    }

    /// An operation of one operand on floats; truth values have theirs in [`Vocab::not`].
    pub(crate) fn elementary(&mut self, op: Unary, x: Value) -> Value {
        match op {
            Unary::Neg => self.fb.ins().fneg(x),
            Unary::Abs => self.fb.ins().fabs(x),
            Unary::Floor => self.fb.ins().floor(x),
            Unary::Ceil => self.fb.ins().ceil(x),
            Unary::Sqrt => self.fb.ins().sqrt(x),
            Unary::Exp => self.exp(x),
            Unary::Exp2 => self.exp2(x),
            Unary::Log => self.log(x),
            Unary::Log2 => self.log2(x),
            Unary::Sin => self.sin_cos(x).0,
            Unary::Cos => self.sin_cos(x).1,
            Unary::Tanh => self.tanh(x),
            Unary::Sigmoid => self.sigmoid(x),
            Unary::Not => self.not(x),
        }
    }

    /// `2^x`; NaN of NaN, 0 of `-inf`.
    pub(crate) fn exp2(&mut self, x: Value) -> Value {
        // Half of the power is formed and doubled at the end, so that the largest results do not overflow on the way.
        let (bias, lowest) = if self.shape.double { (1022.0, -1021.0) } else { (126.0, -125.0) };
        let magic = self.float(self.rounder() + bias);
        let shifted = self.fadd(x, magic);
        let magic = self.float(self.rounder() + bias);
        let whole = self.fsub(shifted, magic);
        let fraction = self.fsub(x, whole);
        let polynomial = if self.shape.double {
            let mut coefficients = [0.0; 14];
            let mut term = 1.0;
            for (n, coefficient) in coefficients.iter_mut().enumerate() {
                *coefficient = term;
                term *= std::f64::consts::LN_2 / (n + 1) as f64;
            }
            self.polynomial(fraction, &coefficients)
        } else {
            self.polynomial(fraction, &EXP2_F32)
        };
        let bits = self.bits_of(shifted);
        let exponent = self.shl(bits, self.mantissa_bits());
        let power = self.float_of(exponent);
        let half = self.fmul(polynomial, power);
        let result = self.fadd(half, half);
        let least = self.float(lowest);
        let tiny = self.fcmp(FloatCC::LessThan, x, least);
        let zero = self.float(0.0);
        let result = self.select_float(tiny, zero, result);
        let most = self.float(bias + 2.0);
        let huge = self.fcmp(FloatCC::GreaterThanOrEqual, x, most);
        let infinity = self.float(f64::INFINITY);
        self.select_float(huge, infinity, result)
    }

    /// `2^x - 2^-100`, from -100 down 0, for `x` of single precision that stays far below 128 (or is NaN): the exponential of softmax.
    pub(crate) fn exp2_bounded(&mut self, x: Value) -> Value {
        let least = self.float(-VANISHING);
        let x = self.pseudo_max(least, x);
        let magic = self.float(self.rounder() + 127.0);
        let shifted = self.fadd(x, magic);
        let magic = self.float(self.rounder() + 127.0);
        let whole = self.fsub(shifted, magic);
        let fraction = self.fsub(x, whole);
        let polynomial = self.polynomial(fraction, &EXP2_F32);
        let bits = self.bits_of(shifted);
        let exponent = self.shl(bits, self.mantissa_bits());
        let power = self.float_of(exponent);
        // Exact at the least: the polynomial is 1 there.
        let least = self.float(-f64::exp2(-VANISHING));
        self.fma(polynomial, power, least)
    }

    /// `e^x`.
    pub(crate) fn exp(&mut self, x: Value) -> Value {
        let log2_e = self.float(std::f64::consts::LOG2_E);
        if !self.is_vector() && self.shape.double {
            let scaled = self.fmul(x, log2_e);
            return self.exp2(scaled);
        }
        // In single precision the product with log2(e) loses bits that a large result would show: carry its rounding error along.
        let scaled = self.fmul(x, log2_e);
        let high = self.exp2(scaled);
        let error = self.product_error(x, std::f32::consts::LOG2_E, scaled);
        let low = self.float(std::f64::consts::LOG2_E - f64::from(std::f32::consts::LOG2_E));
        let error = self.fma(x, low, error);
        let ln_2 = self.float(std::f64::consts::LN_2);
        let error = self.fmul(error, ln_2);
        let corrected = self.fma(high, error, high);
        let infinity = self.float(f64::INFINITY);
        let magnitude = self.fb.ins().fabs(x);
        let finite = self.fcmp(FloatCC::LessThan, magnitude, infinity);
        let overflow = self.fcmp(FloatCC::LessThan, high, infinity);
        let usable = self.fb.ins().band(finite, overflow);
        self.select_float(usable, corrected, high)
    }

    /// The rounding error of a product with a constant, in single precision.
    fn product_error(&mut self, x: Value, factor: f32, product: Value) -> Value {
        if self.shape.fma {
            let negated = self.fb.ins().fneg(product);
            let factor = self.float(f64::from(factor));
            return self.fma(x, factor, negated);
        }
        // Halves of 12 digits have exact products (Dekker 1971).
        const HIGH: i32 = -4096;
        let factor_high = f32::from_bits(factor.to_bits() & HIGH as u32);
        let bits = self.bits_of(x);
        let mask = self.bits(i64::from(HIGH));
        let high = self.fb.ins().band(bits, mask);
        let x_high = self.float_of(high);
        let x_low = self.fsub(x, x_high);
        let [high, low] = [factor_high, factor - factor_high].map(|half| self.float(f64::from(half)));
        let first = self.fmul(x_high, high);
        let mut error = self.fsub(first, product);
        for (x, factor) in [(x_high, low), (x_low, high), (x_low, low)] {
            let part = self.fmul(x, factor);
            error = self.fadd(error, part);
        }
        error
    }

    /// `1 / (1 + e^-x)`.
    pub(crate) fn sigmoid(&mut self, x: Value) -> Value {
        if !self.shape.double {
            return self.sigmoid_single(x);
        }
        let negated = self.fb.ins().fneg(x);
        let power = self.exp(negated);
        let one = self.float(1.0);
        let denominator = self.fadd(one, power);
        let one = self.float(1.0);
        self.fb.ins().fdiv(one, denominator)
    }

    /// `1 / (1 + 2^n e^-r)` with `x = r - n ln(2)`, in single precision.
    fn sigmoid_single(&mut self, x: Value) -> Value {
        // From here on the power is nothing beside 1.
        let most = self.float(86.0);
        let near = self.pseudo_min(most, x);
        let scale = self.float(-std::f64::consts::LOG2_E);
        let magic = self.float(self.rounder() + 127.0);
        let shifted = self.fma(near, scale, magic);
        let magic = self.float(self.rounder() + 127.0);
        let whole = self.fsub(shifted, magic);
        // Of 16 bits, so that its products with whole numbers are exact.
        const LN_2_HIGH: f64 = 0.693_145_751_953_125;
        let high = self.float(LN_2_HIGH);
        let rest = self.fma(whole, high, near);
        let low = self.float(std::f64::consts::LN_2 - LN_2_HIGH);
        let rest = self.fma(whole, low, rest);
        let mut coefficients = EXP2_F32;
        let mut scale = 1.0;
        for coefficient in &mut coefficients {
            *coefficient *= scale;
            scale *= -std::f64::consts::LOG2_E;
        }
        let polynomial = self.polynomial(rest, &coefficients);
        let bits = self.bits_of(shifted);
        let exponent = self.shl(bits, self.mantissa_bits());
        let power = self.float_of(exponent);
        let one = self.float(1.0);
        let denominator = self.fma(polynomial, power, one);
        let one = self.float(1.0);
        let quotient = self.fb.ins().fdiv(one, denominator);
        // Further down the power overflows.
        let least = self.float(-86.0);
        let tiny = self.fcmp(FloatCC::LessThan, x, least);
        let zero = self.float(0.0);
        self.select_float(tiny, zero, quotient)
    }

    /// Hyperbolic tangent.
    pub(crate) fn tanh(&mut self, x: Value) -> Value {
        let magnitude = self.fb.ins().fabs(x);
        let tanh = if self.shape.double { self.tanh_double(magnitude) } else { self.tanh_single(magnitude) };
        let sign = self.bits(if self.shape.double { i64::MIN } else { i64::from(i32::MIN) });
        let bits = self.bits_of(x);
        let sign = self.fb.ins().band(bits, sign);
        self.flip_sign(tanh, sign)
    }

    /// `(1 - 2^y) / (1 + 2^y)` with `y = -2 x log2(e)`, for `x` of single precision that is not negative.
    fn tanh_single(&mut self, x: Value) -> Value {
        // From here on `2^y` is 0.
        let most = self.float(44.0);
        let x = self.pseudo_min(most, x);
        let factor = -2.0 * std::f64::consts::LOG2_E;
        let (scale, magic) = (self.float(factor), self.float(self.rounder() + 127.0));
        let shifted = self.fma(x, scale, magic);
        let magic = self.float(self.rounder() + 127.0);
        let negated = self.fsub(magic, shifted);
        let scale = self.float(factor);
        let fraction = self.fma(x, scale, negated);
        let bits = self.bits_of(shifted);
        let exponent = self.shl(bits, self.mantissa_bits());
        let power = self.float_of(exponent);
        // 1 - 2^y = (1 - 2^n) - 2^n (2^f - 1): nothing cancels near 0, where n = 0.
        let mut coefficients = [0.0; 6];
        for (coefficient, of_exp2) in coefficients.iter_mut().zip(&EXP2_F32[1..]) {
            *coefficient = -of_exp2;
        }
        let polynomial = self.polynomial(fraction, &coefficients);
        let less = self.fmul(polynomial, fraction);
        let one = self.float(1.0);
        let whole = self.fsub(one, power);
        let numerator = self.fma(power, less, whole);
        let two = self.float(2.0);
        let denominator = self.fsub(two, numerator);
        self.fb.ins().fdiv(numerator, denominator)
    }

    /// The same in double precision.
    fn tanh_double(&mut self, x: Value) -> Value {
        let scale = self.float(-2.0 * std::f64::consts::LOG2_E);
        let doubled = self.fmul(x, scale);
        let power = self.exp2(doubled);
        let one = self.float(1.0);
        let denominator = self.fadd(power, one);
        let one = self.float(1.0);
        let numerator = self.fsub(one, power);
        let far = self.fb.ins().fdiv(numerator, denominator);
        // x - x^3/3 + 2x^5/15 - 17x^7/315 + 62x^9/2835: exact to 1e-16 below 0.02.
        let z = self.fmul(x, x);
        let series = self.polynomial(z, &[-1.0 / 3.0, 2.0 / 15.0, -17.0 / 315.0, 62.0 / 2835.0]);
        let scaled = self.fmul(z, series);
        let near = self.fma(x, scaled, x);
        let limit = self.float(0.02);
        let is_near = self.fcmp(FloatCC::LessThan, x, limit);
        self.select_float(is_near, near, far)
    }

    fn flip_sign(&mut self, x: Value, sign: Value) -> Value {
        let bits = self.bits_of(x);
        let bits = self.fb.ins().bxor(bits, sign);
        self.float_of(bits)
    }

    /// `a^b`: 1 where `b` is 0, 0 where `a` is 0 and `b > 0`, NaN where `a < 0` and `b` is not 0.
    pub(crate) fn pow(&mut self, a: Value, b: Value) -> Value {
        let log = self.log2(a);
        let product = self.fmul(b, log);
        let power = self.exp2(product);
        let (zero, one) = (self.float(0.0), self.float(1.0));
        let trivial = self.fcmp(FloatCC::Equal, b, zero);
        self.select_float(trivial, one, power)
    }
}
