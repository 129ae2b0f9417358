//! Floats of 16 bits: how they are loaded as single precision, which holds all of them, and how single precision is rounded to them.
//!
//! Both ways are bit operations on 32-bit lanes, of any number, which every target has; but for `f16` in more than 4 lanes, which only
//! `clif-wide` has: there an instruction widens them. Arithmetic on the way is exact, or rounds as the result does. Floats below the least
//! normal one are kept: code runs with subnormal numbers.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;

use super::vocab::{access, by_name, lane_order};
use crate::machine::ROW_LANES;
use crate::plan::Storage;

/// What a float of `f16` is multiplied with once its digits stand where those of single precision do: the difference of the biases of their
/// exponents, as a power of 2.
const REBIAS: f32 = f32::from_bits((127 + 112) << 23);

/// Lanes of 32 bits: floats, or the integers that hold their bits.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    float: Type,
    int: Type,
}

impl Lanes {
    /// The lanes of a value.
    pub(super) fn of(fb: &FunctionBuilder<'_>, x: Ssa) -> Lanes {
        let lanes = fb.func.dfg.value_type(x).lane_count();
        let [float, int] = [types::F32, types::I32].map(|lane| lane.by(lanes).unwrap_or(lane));
        Lanes { float, int }
    }

    fn is_vector(self) -> bool {
        self.int.is_vector()
    }

    pub(super) fn bits(self, fb: &mut FunctionBuilder<'_>, x: i32) -> Ssa {
        let x = fb.ins().iconst(types::I32, i64::from(x));
        if self.is_vector() { fb.ins().splat(self.int, x) } else { x }
    }

    pub(super) fn number(self, fb: &mut FunctionBuilder<'_>, x: f32) -> Ssa {
        let x = fb.ins().f32const(x);
        if self.is_vector() { fb.ins().splat(self.float, x) } else { x }
    }

    pub(super) fn and(self, fb: &mut FunctionBuilder<'_>, x: Ssa, mask: i32) -> Ssa {
        let mask = self.bits(fb, mask);
        fb.ins().band(x, mask)
    }

    pub(super) fn bits_of(self, fb: &mut FunctionBuilder<'_>, x: Ssa) -> Ssa {
        fb.ins().bitcast(self.int, lane_order(), x)
    }

    pub(super) fn float_of(self, fb: &mut FunctionBuilder<'_>, x: Ssa) -> Ssa {
        fb.ins().bitcast(self.float, lane_order(), x)
    }

    /// Integers: `a` where a comparison of lanes holds, else `b`.
    pub(super) fn select(self, fb: &mut FunctionBuilder<'_>, holds: Ssa, a: Ssa, b: Ssa) -> Ssa {
        if self.is_vector() { fb.ins().bitselect(holds, a, b) } else { fb.ins().select(holds, a, b) }
    }
}

/// Loads an element in 16 bits as single precision.
pub(crate) fn load(fb: &mut FunctionBuilder<'_>, storage: Storage, address: Ssa) -> Ssa {
    let bits = fb.ins().uload16(types::I32, access(), address, 0);
    widened(fb, storage, bits)
}

/// Loads neighbouring elements in 16 bits as single precision, one for each of 4 lanes or more.
pub(crate) fn load_lanes(
    fb: &mut FunctionBuilder<'_>,
    storage: Storage,
    lanes: usize,
    (address, offset): (Ssa, i32),
) -> Ssa {
    let wide = |lane: Type| lane.by(lanes as u32).filter(|_| lanes > ROW_LANES && storage == Storage::F16);
    if let (Some(short), Some(float)) = (wide(types::I16), wide(types::F32)) {
        let bits = fb.ins().load(short, access(), address, offset);
        return by_name(fb, clif_wide::WIDEN, &[bits], float);
    }
    let bits = load_bits(fb, lanes, (address, offset));
    widened(fb, storage, bits)
}

/// Loads neighbouring elements in 16 bits as they are, each in the lower half of a lane of 32, of 4 lanes or more.
pub(crate) fn load_bits(fb: &mut FunctionBuilder<'_>, lanes: usize, (address, offset): (Ssa, i32)) -> Ssa {
    let wide = |lane: Type| lane.by(lanes as u32).filter(|_| lanes > ROW_LANES);
    match (wide(types::I16), wide(types::F32), wide(types::I32)) {
        (Some(short), Some(float), Some(int)) => {
            let bits = fb.ins().load(short, access(), address, offset);
            // Every number of 16 bits is a float: of more than 4 lanes this is how CLIF says that they are widened.
            let number = fb.ins().fcvt_from_uint(float, bits);
            fb.ins().fcvt_to_sint_sat(int, number)
        }
        _ => fb.ins().uload16x4(access(), address, offset),
    }
}

/// Stores floats of single precision, of any number of lanes, as neighbouring elements in 16 bits.
pub(super) fn store(fb: &mut FunctionBuilder<'_>, storage: Storage, x: Ssa, address: Ssa) {
    let bits = rounded(fb, storage, x);
    let ty = fb.func.dfg.value_type(bits);
    if !ty.is_vector() {
        fb.ins().istore16(access(), bits, address, 0);
        return;
    }
    for lane in 0..ty.lane_count() as u8 {
        let bits = fb.ins().extractlane(bits, lane);
        fb.ins().istore16(access(), bits, address, 2 * i32::from(lane));
    }
}

/// Numbers in 16 bits, each in the lower half of a lane whose upper half is 0, as single precision.
fn widened(fb: &mut FunctionBuilder<'_>, storage: Storage, bits: Ssa) -> Ssa {
    let lanes = Lanes::of(fb, bits);
    if storage != Storage::F16 {
        let bits = fb.ins().ishl_imm_u(bits, 16);
        return lanes.float_of(fb, bits);
    }
    let sign = lanes.and(fb, bits, 0x8000);
    let sign = fb.ins().ishl_imm_u(sign, 16);
    let magnitude = lanes.and(fb, bits, 0x7fff);
    let magnitude = fb.ins().ishl_imm_u(magnitude, 13);
    // Exact, and makes a subnormal number normal.
    let number = lanes.float_of(fb, magnitude);
    let rebias = lanes.number(fb, REBIAS);
    let number = fb.ins().fmul(number, rebias);
    let number = lanes.bits_of(fb, number);
    // The greatest exponent stays the greatest: that of infinities and NaN.
    let (least, exponent, none) = (lanes.bits(fb, 0x1f << 23), lanes.bits(fb, 0xff << 23), lanes.bits(fb, 0));
    let special = fb.ins().icmp(IntCC::SignedGreaterThanOrEqual, magnitude, least);
    let exponent = lanes.select(fb, special, exponent, none);
    let number = fb.ins().bor(number, exponent);
    let number = fb.ins().bor(number, sign);
    lanes.float_of(fb, number)
}

/// Floats of single precision rounded to 16 bits, to the nearest, to the even one of two: the bits, in the lower half of each lane. NaN
/// stays NaN.
fn rounded(fb: &mut FunctionBuilder<'_>, storage: Storage, x: Ssa) -> Ssa {
    let lanes = Lanes::of(fb, x);
    let bits = lanes.bits_of(fb, x);
    let nan = fb.ins().fcmp(FloatCC::Unordered, x, x);
    let (number, quiet) = match storage {
        Storage::F16 => f16_bits(fb, lanes, bits),
        _ => bf16_bits(fb, lanes, bits),
    };
    lanes.select(fb, nan, quiet, number)
}

/// The bits in `bf16` of a number, and of a NaN.
fn bf16_bits(fb: &mut FunctionBuilder<'_>, lanes: Lanes, bits: Ssa) -> (Ssa, Ssa) {
    let upper = fb.ins().ushr_imm_u(bits, 16);
    // Half a unit less the least, and that too where the number before it is odd. What is carried makes the next exponent of it, or infinity.
    let odd = lanes.and(fb, upper, 1);
    let half = lanes.bits(fb, 0x7fff);
    let raised = fb.ins().iadd(bits, half);
    let raised = fb.ins().iadd(raised, odd);
    let quiet = lanes.bits(fb, 0x40);
    (fb.ins().ushr_imm_u(raised, 16), fb.ins().bor(upper, quiet))
}

/// The bits in `f16` of a number, and of a NaN.
fn f16_bits(fb: &mut FunctionBuilder<'_>, lanes: Lanes, bits: Ssa) -> (Ssa, Ssa) {
    let sign = fb.ins().ushr_imm_u(bits, 16);
    let sign = lanes.and(fb, sign, 0x8000);
    let magnitude = lanes.and(fb, bits, 0x7fff_ffff);
    // What is too large becomes infinite; the rest is four times itself.
    let (up, down) = (lanes.number(fb, REBIAS), lanes.number(fb, f32::from_bits((127 - 110) << 23)));
    let number = lanes.float_of(fb, magnitude);
    let number = fb.ins().fmul(number, up);
    let number = fb.ins().fmul(number, down);
    // Beside a power of 2 that is greater by the digits that go, addition rounds as the result does.
    let exponent = lanes.and(fb, magnitude, 0xff << 23);
    let least = lanes.bits(fb, (127 - 14) << 23);
    let exponent = fb.ins().smax(exponent, least);
    let digits = lanes.bits(fb, 15 << 23);
    let power = fb.ins().iadd(exponent, digits);
    let power = lanes.float_of(fb, power);
    let sum = fb.ins().fadd(power, number);
    let sum = lanes.bits_of(fb, sum);
    let exponent = fb.ins().ushr_imm_u(sum, 13);
    let exponent = lanes.and(fb, exponent, 0x7c00);
    // Digits, with the one before them, which is one more exponent.
    let digits = lanes.and(fb, sum, 0x0fff);
    let number = fb.ins().iadd(exponent, digits);
    let number = fb.ins().bor(number, sign);
    let quiet = lanes.bits(fb, 0x7e00);
    (number, fb.ins().bor(quiet, sign))
}
