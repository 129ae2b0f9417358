//! Arctangent and arccosine.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, SQRT_2};

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use crate::codegen::vocab::Vocab;

/// `atan(t) / t` in `t^2`, for `t` up to `tan(pi/8)`: off by 7e-10, and by 2e-21.
const ATAN_F32: [f64; 6] = [
    0.999_999_999_371_228_2,
    -0.333_333_068_930_485_14,
    0.199_981_830_410_832_06,
    -0.142_395_326_696_489_74,
    0.105_698_288_064_144_48,
    -0.060_263_052_276_584_59,
];
const ATAN_F64: [f64; 14] = [
    1.0,
    -0.333_333_333_333_333_3,
    0.199_999_999_999_998_5,
    -0.142_857_142_856_921_05,
    0.111_111_111_093_743_44,
    -0.090_909_090_092_738_04,
    0.076_923_051_995_894_04,
    -0.066_666_148_135_360_87,
    0.058_815_973_499_589_294,
    -0.052_553_408_501_062_854,
    0.047_044_349_347_049_826,
    -0.040_511_455_656_736_09,
    0.029_533_108_747_433_718,
    -0.012_911_256_782_015_863,
];

impl Vocab<'_, '_> {
    /// Arctangent.
    pub(super) fn atan(&mut self, x: Value) -> Value {
        let magnitude = self.fb.ins().fabs(x);
        let atan = self.atan_of_magnitude(magnitude);
        let sign = self.bits(if self.shape.double { i64::MIN } else { i64::from(i32::MIN) });
        let bits = self.bits_of(x);
        let sign = self.fb.ins().band(bits, sign);
        self.flip_sign(atan, sign)
    }

    /// `2 atan(sqrt((1 - x) / (1 + x)))`, whose quotient is exact at both ends but for a rounding.
    pub(super) fn acos(&mut self, x: Value) -> Value {
        let one = self.float(1.0);
        let less = self.fsub(one, x);
        let one = self.float(1.0);
        let more = self.fadd(one, x);
        let quotient = self.fb.ins().fdiv(less, more);
        let tangent = self.fb.ins().sqrt(quotient);
        let half = self.atan_of_magnitude(tangent);
        self.fadd(half, half)
    }

    /// Of an operand that is not below 0: `pi/4 + atan((x - 1) / (x + 1))` from `tan(pi/8)` on, `pi/2 + atan(-1 / x)` from `tan(3 pi/8)` on.
    fn atan_of_magnitude(&mut self, x: Value) -> Value {
        let middle = self.float(SQRT_2 - 1.0);
        let middle = self.fcmp(FloatCC::GreaterThan, x, middle);
        let far = self.float(SQRT_2 + 1.0);
        let far = self.fcmp(FloatCC::GreaterThan, x, far);
        let one = self.float(1.0);
        let less = self.fsub(x, one);
        let numerator = self.select_float(middle, less, x);
        let minus = self.float(-1.0);
        let numerator = self.select_float(far, minus, numerator);
        let one = self.float(1.0);
        let more = self.fadd(x, one);
        let one = self.float(1.0);
        let denominator = self.select_float(middle, more, one);
        let denominator = self.select_float(far, x, denominator);
        let tangent = self.fb.ins().fdiv(numerator, denominator);
        let square = self.fmul(tangent, tangent);
        let polynomial = self.polynomial(square, if self.shape.double { &ATAN_F64 } else { &ATAN_F32 });
        let (zero, quarter) = (self.float(0.0), self.float(FRAC_PI_4));
        let start = self.select_float(middle, quarter, zero);
        let half = self.float(FRAC_PI_2);
        let start = self.select_float(far, half, start);
        self.fma(polynomial, tangent, start)
    }
}
