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

const LOG_F32: [f64; 4] = [0.666_666_626_93, 0.400_009_721_52, 0.284_987_866_88, 0.242_790_788_41];

const LOG_F64: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];

const SIN_F32: [f64; 3] = [-1.666_665_461_1e-1, 8.332_160_873_6e-3, -1.951_529_589_1e-4];
const COS_F32: [f64; 3] = [4.166_664_568_298_827e-2, -1.388_731_625_493_765e-3, 2.443_315_711_809_948e-5];

const SIN_F64: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];

const COS_F64: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

/// pi/2 in parts whose products with a quadrant number are exact: of 11 and 24 bits for `f32`, of 33 bits for `f64`.
const HALF_PI_F32: [f64; 3] = [1.570_312_5, 4.837_512_969_970_703e-4, 7.549_789_948_768_648e-8];
const HALF_PI_F64: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];

impl Vocab<'_, '_> {
    /// Adding this rounds to an integer, whose low bits are then the low bits of the sum.
    fn rounder(&self) -> f64 {
        if self.shape.double { 6_755_399_441_055_744.0 } else { 12_582_912.0 }
    }

    fn mantissa_bits(&self) -> i64 {
        if self.shape.double { 52 } else { 23 }
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

    /// Logarithm to base `e`, times `unit`; `exponent_unit` is the value of one binary exponent.
    fn log_in_units(&mut self, x: Value, unit: f64, exponent_unit: f64) -> Value {
        let bits = self.mantissa_bits();
        // Subnormals are scaled into the normal range first.
        let (least, scale) = if self.shape.double {
            (f64::MIN_POSITIVE, 18_014_398_509_481_984.0)
        } else {
            (f64::from(f32::MIN_POSITIVE), 33_554_432.0)
        };
        let least = self.float(least);
        let subnormal = self.fcmp(FloatCC::LessThan, x, least);
        let factor = self.float(scale);
        let scaled = self.fmul(x, factor);
        let normal = self.select_float(subnormal, scaled, x);
        let (shift, zero) = (self.float(f64::log2(scale)), self.float(0.0));
        let shift = self.select_float(subnormal, shift, zero);

        // x = m 2^e with m in [sqrt(1/2), sqrt(2)).
        let root_half = if self.shape.double {
            std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64
        } else {
            i64::from(std::f32::consts::FRAC_1_SQRT_2.to_bits())
        };
        let pattern = self.bits_of(normal);
        let base = self.bits(root_half);
        let offset = self.fb.ins().isub(pattern, base);
        let exponent = self.fb.ins().sshr_imm_u(offset, bits);
        let aligned = self.fb.ins().ishl_imm_u(exponent, bits);
        let mantissa = self.fb.ins().isub(pattern, aligned);
        let mantissa = self.float_of(mantissa);
        let float_type = self.float_type();
        let exponent = self.fb.ins().fcvt_from_sint(float_type, exponent);
        let exponent = self.fsub(exponent, shift);

        let one = self.float(1.0);
        let f = self.fsub(mantissa, one);
        let two = self.float(2.0);
        let denominator = self.fadd(f, two);
        let s = self.fb.ins().fdiv(f, denominator);
        let z = self.fmul(s, s);
        let series = if self.shape.double { self.polynomial(z, &LOG_F64) } else { self.polynomial(z, &LOG_F32) };
        let r = self.fmul(z, series);
        let half = self.float(0.5);
        let half_f = self.fmul(f, half);
        let half_square = self.fmul(half_f, f);
        let sum = self.fadd(half_square, r);
        let correction = self.fmul(s, sum);
        let tail = self.fsub(correction, half_square);
        let unit = self.float(unit);
        let low = self.fmul(tail, unit);
        let mantissa_log = self.fma(f, unit, low);
        let exponent_unit = self.float(exponent_unit);
        let result = self.fma(exponent, exponent_unit, mantissa_log);

        let infinity = self.float(f64::INFINITY);
        let finite = self.fcmp(FloatCC::LessThan, x, infinity);
        let result = self.select_float(finite, result, x);
        let zero = self.float(0.0);
        let positive = self.fcmp(FloatCC::GreaterThan, x, zero);
        let unordered = self.fcmp(FloatCC::Unordered, x, x);
        let defined = self.fb.ins().bor(positive, unordered);
        let is_zero = self.fcmp(FloatCC::Equal, x, zero);
        let (nan, low) = (self.float(f64::NAN), self.float(f64::NEG_INFINITY));
        let outside = self.select_float(is_zero, low, nan);
        self.select_float(defined, result, outside)
    }

    /// Natural logarithm.
    pub(crate) fn log(&mut self, x: Value) -> Value {
        self.log_in_units(x, 1.0, std::f64::consts::LN_2)
    }

    /// Logarithm to base 2.
    pub(crate) fn log2(&mut self, x: Value) -> Value {
        self.log_in_units(x, std::f64::consts::LOG2_E, 1.0)
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

    /// Sine and cosine of an angle in radians.
    pub(crate) fn sin_cos(&mut self, x: Value) -> (Value, Value) {
        let per_quadrant = self.float(std::f64::consts::FRAC_2_PI);
        let turns = self.fmul(x, per_quadrant);
        let magic = self.float(self.rounder());
        let shifted = self.fadd(turns, magic);
        let magic = self.float(self.rounder());
        let quadrant = self.fsub(shifted, magic);
        let negative = self.fb.ins().fneg(quadrant);
        let mut r = x;
        for part in if self.shape.double { HALF_PI_F64 } else { HALF_PI_F32 } {
            let part = self.float(part);
            r = self.fma(negative, part, r);
        }
        let z = self.fmul(r, r);
        let sin_series = if self.shape.double { self.polynomial(z, &SIN_F64) } else { self.polynomial(z, &SIN_F32) };
        let cos_series = if self.shape.double { self.polynomial(z, &COS_F64) } else { self.polynomial(z, &COS_F32) };
        let cube = self.fmul(z, r);
        let sin = self.fma(cube, sin_series, r);
        let z2 = self.fmul(z, z);
        let (one, minus_half) = (self.float(1.0), self.float(-0.5));
        let head = self.fma(z, minus_half, one);
        let cos = self.fma(z2, cos_series, head);

        let bits = self.bits_of(shifted);
        let one = self.bits(1);
        let low = self.fb.ins().band(bits, one);
        // In odd quadrants the two change places: by masks, as a jump could not be predicted.
        let odd = self.fb.ins().ineg(low);
        let (sin, cos) = (self.bits_of(sin), self.bits_of(cos));
        let difference = self.fb.ins().bxor(sin, cos);
        let difference = self.fb.ins().band(difference, odd);
        let sin = self.fb.ins().bxor(sin, difference);
        let cos = self.fb.ins().bxor(cos, difference);
        let sign_shift = if self.shape.double { 62 } else { 30 };
        let two = self.bits(2);
        let second = self.fb.ins().band(bits, two);
        let sin_sign = self.shl(second, sign_shift);
        let sin = self.fb.ins().bxor(sin, sin_sign);
        let one = self.bits(1);
        let next = self.fb.ins().iadd(bits, one);
        let two = self.bits(2);
        let second = self.fb.ins().band(next, two);
        let cos_sign = self.shl(second, sign_shift);
        let cos = self.fb.ins().bxor(cos, cos_sign);
        (self.float_of(sin), self.float_of(cos))
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
