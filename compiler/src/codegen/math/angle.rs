//! Sine and cosine.

use cranelift_codegen::ir::{InstBuilder, Value};

use crate::codegen::vocab::Vocab;

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
}
