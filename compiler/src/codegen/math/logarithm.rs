//! Logarithms.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::codegen::vocab::Vocab;

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

impl Vocab<'_, '_> {
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
        self.where_defined(x, result)
    }

    /// A logarithm of positive numbers as that of any: infinite or NaN where `x` is, `-inf` at 0 and NaN below.
    fn where_defined(&mut self, x: Value, result: Value) -> Value {
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
}
