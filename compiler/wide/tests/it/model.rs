//! What every operation means, one lane at a time, in terms of bit patterns.

use rhumb_random::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Lane {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    pub(crate) fn as_int(self) -> Self {
        match self {
            Self::F32 => Self::I32,
            Self::F64 => Self::I64,
            int => int,
        }
    }

    pub(crate) fn as_float(self) -> Self {
        match self {
            Self::I64 | Self::F64 => Self::F64,
            _ => Self::F32,
        }
    }

    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }

    pub(crate) fn sign_extend(self, bits: u64) -> i64 {
        let shift = 64 - 8 * self.bytes();
        ((bits << shift) as i64) >> shift
    }

    pub(crate) fn read(self, buffer: &[u8], index: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..self.bytes()].copy_from_slice(&buffer[index * self.bytes()..][..self.bytes()]);
        u64::from_le_bytes(bytes)
    }

    /// Equal bits, or two NaNs.
    pub(crate) fn same(self, a: u64, b: u64) -> bool {
        a == b
            || match self {
                Self::F32 => f32::from_bits(a as u32).is_nan() && f32::from_bits(b as u32).is_nan(),
                Self::F64 => f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan(),
                _ => false,
            }
    }

    /// An edge value, or a number of ordinary size, or any bits at all.
    pub(crate) fn value(self, rng: &mut Rng) -> u64 {
        const F32: [f32; 24] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            -f32::NAN,
            f32::MIN_POSITIVE,
            1e-45,
            -1e-45,
            f32::MAX,
            f32::MIN,
            2_147_483_648.0,
            -2_147_483_648.0,
            2_147_483_520.0,
            9.223_372e18,
            -9.223_372e18,
            8_388_608.5,
            4_194_304.5,
        ];
        let kind = rng.below(4);
        let bits = match (self, kind) {
            (Self::F32, 0 | 1) => u64::from(rng.pick(&F32).to_bits()),
            (Self::F32, 2) => u64::from(((rng.bits() as i32) as f32 / 1e7).to_bits()),
            (Self::F64, 0) => f64::from(rng.pick(&F32)).to_bits(),
            (Self::F64, 1) => rng
                .pick(&[f64::MAX, f64::MIN_POSITIVE, 5e-324, 2_147_483_647.0, 2_147_483_647.5, -2_147_483_648.5])
                .to_bits(),
            (Self::F64, 2) => ((rng.bits() as i32) as f64 / 1e7).to_bits(),
            (_, 0) => {
                rng.pick(&[0, 1, u64::MAX, 1 << 63, i64::MAX as u64, 1 << 31, 0x7fff_ffff, 0x80, 0x7f, 0x8000, 0x7fff])
            }
            (_, 1) => (rng.below(64) as u64).wrapping_sub(32),
            _ => rng.bits(),
        };
        bits & self.mask()
    }
}

/// One operation on one type: `{0}`, `{1}`, `{2}` stand for the operands, `{I}`, `{F}`, `{out}` for vector types, `{i}`, `{f}` for their
/// lanes, and `$0` for the result; other `$` are steps on the way.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) inputs: &'static [Lane],
    pub(crate) output: Lane,
    pub(crate) scalar: bool,
    pub(crate) vector: bool,
    pub(crate) model: fn([u64; 3]) -> u64,
}

use Lane::{F32, F64, I8, I16, I32, I64};

const fn case(
    name: &'static str,
    text: &'static str,
    inputs: &'static [Lane],
    output: Lane,
    model: fn([u64; 3]) -> u64,
) -> Case {
    Case { name, text, inputs, output, scalar: true, vector: true, model }
}

const fn vector(
    name: &'static str,
    text: &'static str,
    inputs: &'static [Lane],
    output: Lane,
    model: fn([u64; 3]) -> u64,
) -> Case {
    Case { name, text, inputs, output, scalar: false, vector: true, model }
}

const fn scalar(
    name: &'static str,
    text: &'static str,
    inputs: &'static [Lane],
    output: Lane,
    model: fn([u64; 3]) -> u64,
) -> Case {
    Case { name, text, inputs, output, scalar: true, vector: false, model }
}

fn s(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn ones(lane: Lane, truth: bool) -> u64 {
    if truth { lane.mask() } else { 0 }
}

macro_rules! float_cases {
    ($lane:ident, $int:ident, $f:ty, $get:ident, $bits:ty, $signed:ty) => {{
        type Float = $f;
        fn out(x: Float) -> u64 {
            x.to_bits() as u64
        }
        fn two(op: impl Fn(Float, Float) -> Float, [a, b, _]: [u64; 3]) -> u64 {
            out(op($get(a), $get(b)))
        }
        fn compare(op: impl Fn(Float, Float) -> bool, [a, b, _]: [u64; 3]) -> u64 {
            ones(Lane::$int, op($get(a), $get(b)))
        }
        fn unordered(a: Float, b: Float) -> bool {
            a.is_nan() || b.is_nan()
        }
        fn minimum(a: Float, b: Float) -> Float {
            if unordered(a, b) {
                Float::NAN
            } else if a == b {
                Float::from_bits(a.to_bits() | b.to_bits())
            } else if a < b {
                a
            } else {
                b
            }
        }
        fn maximum(a: Float, b: Float) -> Float {
            if unordered(a, b) {
                Float::NAN
            } else if a == b {
                Float::from_bits(a.to_bits() & b.to_bits())
            } else if a > b {
                a
            } else {
                b
            }
        }
        const CASES: &[Case] = &[
            case("fadd", "$0 = fadd {0}, {1}", &[$lane, $lane], $lane, |v| two(|a, b| a + b, v)),
            case("fsub", "$0 = fsub {0}, {1}", &[$lane, $lane], $lane, |v| two(|a, b| a - b, v)),
            case("fmul", "$0 = fmul {0}, {1}", &[$lane, $lane], $lane, |v| two(|a, b| a * b, v)),
            case("fdiv", "$0 = fdiv {0}, {1}", &[$lane, $lane], $lane, |v| two(|a, b| a / b, v)),
            case("fmin", "$0 = fmin {0}, {1}", &[$lane, $lane], $lane, |v| two(minimum, v)),
            case("fmax", "$0 = fmax {0}, {1}", &[$lane, $lane], $lane, |v| two(maximum, v)),
            case("fma", "$0 = fma {0}, {1}, {2}", &[$lane, $lane, $lane], $lane, |[a, b, c]| {
                out($get(a).mul_add($get(b), $get(c)))
            }),
            case("fma of a square", "$0 = fma {0}, {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                out($get(a).mul_add($get(a), $get(b)))
            }),
            case("fma onto a factor", "$0 = fma {0}, {1}, {0}", &[$lane, $lane], $lane, |[a, b, _]| {
                out($get(a).mul_add($get(b), $get(a)))
            }),
            case("fcopysign", "$0 = fcopysign {0}, {1}", &[$lane, $lane], $lane, |v| two(|a, b| a.copysign(b), v)),
            case("fneg", "$0 = fneg {0}", &[$lane], $lane, |[a, ..]| out(-$get(a))),
            case("fabs", "$0 = fabs {0}", &[$lane], $lane, |[a, ..]| out($get(a).abs())),
            case("sqrt", "$0 = sqrt {0}", &[$lane], $lane, |[a, ..]| out($get(a).sqrt())),
            case("nearest", "$0 = nearest {0}", &[$lane], $lane, |[a, ..]| out($get(a).round_ties_even())),
            case("floor", "$0 = floor {0}", &[$lane], $lane, |[a, ..]| out($get(a).floor())),
            case("ceil", "$0 = ceil {0}", &[$lane], $lane, |[a, ..]| out($get(a).ceil())),
            case("trunc", "$0 = trunc {0}", &[$lane], $lane, |[a, ..]| out($get(a).trunc())),
            vector("fcmp ord", "$0 = fcmp ord {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| !unordered(a, b), v)),
            vector("fcmp uno", "$0 = fcmp uno {0}, {1}", &[$lane, $lane], $int, |v| compare(unordered, v)),
            vector("fcmp eq", "$0 = fcmp eq {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a == b, v)),
            vector("fcmp ne", "$0 = fcmp ne {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a != b, v)),
            vector("fcmp one", "$0 = fcmp one {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a != b && !unordered(a, b), v)),
            vector("fcmp ueq", "$0 = fcmp ueq {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a == b || unordered(a, b), v)),
            vector("fcmp lt", "$0 = fcmp lt {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a < b, v)),
            vector("fcmp le", "$0 = fcmp le {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a <= b, v)),
            vector("fcmp gt", "$0 = fcmp gt {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a > b, v)),
            vector("fcmp ge", "$0 = fcmp ge {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| a >= b, v)),
            vector("fcmp ult", "$0 = fcmp ult {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| !(a >= b), v)),
            vector("fcmp ule", "$0 = fcmp ule {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| !(a > b), v)),
            vector("fcmp ugt", "$0 = fcmp ugt {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| !(a <= b), v)),
            vector("fcmp uge", "$0 = fcmp uge {0}, {1}", &[$lane, $lane], $int, |v| compare(|a, b| !(a < b), v)),
            scalar("select fcmp eq", "$1 = fcmp eq {0}, {1}; $0 = select $1, {0}, {2}", &[$lane; 3], $lane, |[a, b, c]| {
                if $get(a) == $get(b) { a } else { c }
            }),
            scalar("select fcmp ne", "$1 = fcmp ne {0}, {1}; $0 = select $1, {0}, {2}", &[$lane; 3], $lane, |[a, b, c]| {
                if $get(a) != $get(b) { a } else { c }
            }),
            scalar("select fcmp lt", "$1 = fcmp lt {0}, {1}; $0 = select $1, {0}, {2}", &[$lane; 3], $lane, |[a, b, c]| {
                if $get(a) < $get(b) { a } else { c }
            }),
            scalar("scalar fcmp eq", "$0 = fcmp eq {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| u64::from($get(a) == $get(b))),
            scalar("scalar fcmp ne", "$0 = fcmp ne {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| u64::from($get(a) != $get(b))),
            scalar("scalar fcmp uge", "$0 = fcmp uge {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| u64::from(!($get(a) < $get(b)))),
            scalar("scalar fcmp ord", "$0 = fcmp ord {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| {
                u64::from(!unordered($get(a), $get(b)))
            }),
            scalar("scalar max", "$1 = fcmp gt {0}, {1}; $0 = select $1, {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                if $get(a) > $get(b) { a } else { b }
            }),
            vector(
                "blend",
                "$1 = fcmp lt {0}, {1}; $2 = bitcast.{F} little $1; $0 = bitselect $2, {2}, {0}",
                &[$lane; 3],
                $lane,
                |[a, b, c]| if $get(a) < $get(b) { c } else { a },
            ),
            vector(
                "blend with zero",
                "$1 = fcmp lt {0}, {1}; $2 = bitcast.{F} little $1; $3 = iconst.{i} 0; $4 = splat.{I} $3; $5 = bitcast.{F} little $4; $0 = bitselect $2, {2}, $5",
                &[$lane; 3],
                $lane,
                |[a, b, c]| if $get(a) < $get(b) { c } else { 0 },
            ),
            vector(
                "blend by two masks",
                "$1 = fcmp lt {0}, {1}; $2 = fcmp ne {0}, {2}; $3 = band $1, $2; $4 = bitcast.{F} little $3; $0 = bitselect $4, {2}, {0}",
                &[$lane; 3],
                $lane,
                |[a, b, c]| if $get(a) < $get(b) && $get(a) != $get(c) { c } else { a },
            ),
            vector(
                "blend by no mask",
                "$1 = fcmp lt {0}, {1}; $2 = bnot $1; $3 = bitcast.{F} little $2; $0 = bitselect $3, {2}, {0}",
                &[$lane; 3],
                $lane,
                |[a, b, c]| if $get(a) < $get(b) { a } else { c },
            ),
            vector(
                "max",
                "$1 = fcmp gt {0}, {1}; $2 = bitcast.{F} little $1; $0 = bitselect $2, {0}, {1}",
                &[$lane, $lane],
                $lane,
                |[a, b, _]| if $get(a) > $get(b) { a } else { b },
            ),
            vector(
                "max, swapped",
                "$1 = fcmp lt {0}, {1}; $2 = bitcast.{F} little $1; $0 = bitselect $2, {1}, {0}",
                &[$lane, $lane],
                $lane,
                |[a, b, _]| if $get(a) < $get(b) { b } else { a },
            ),
            vector(
                "min, negated",
                "$1 = fcmp ule {0}, {1}; $2 = bitcast.{F} little $1; $0 = bitselect $2, {0}, {1}",
                &[$lane, $lane],
                $lane,
                |[a, b, _]| if $get(a) > $get(b) { b } else { a },
            ),
            vector(
                "bitselect of floats",
                "$0 = bitselect {0}, {1}, {2}",
                &[$lane; 3],
                $lane,
                |[m, a, b]| m & a | !m & b,
            ),
            case("fcvt_to_sint_sat", "$0 = fcvt_to_sint_sat.{out} {0}", &[$lane], $int, |[a, ..]| ($get(a) as $signed) as u64),
            case("fcvt_from_sint", "$0 = fcvt_from_sint.{out} {0}", &[$int], $lane, |[a, ..]| out((a as $bits as $signed) as Float)),
            case("bitcast to int", "$0 = bitcast.{out} little {0}", &[$lane], $int, |[a, ..]| a),
            case("bitcast from int", "$0 = bitcast.{out} little {0}", &[$int], $lane, |[a, ..]| a),
        ];
        CASES
    }};
}

macro_rules! int_cases {
    ($lane:ident, $signed:ty, $unsigned:ty) => {{
        type S = $signed;
        type U = $unsigned;
        const CASES: &[Case] = &[
            case("iadd", "$0 = iadd {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a.wrapping_add(b)),
            case("isub", "$0 = isub {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a.wrapping_sub(b)),
            case("imul", "$0 = imul {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a.wrapping_mul(b)),
            case("ineg", "$0 = ineg {0}", &[$lane], $lane, |[a, ..]| a.wrapping_neg()),
            case("iabs", "$0 = iabs {0}", &[$lane], $lane, |[a, ..]| (a as S).wrapping_abs() as u64),
            case("smin", "$0 = smin {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| (a as S).min(b as S) as u64),
            case("smax", "$0 = smax {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| (a as S).max(b as S) as u64),
            case("umin", "$0 = umin {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| (a as U).min(b as U) as u64),
            case("umax", "$0 = umax {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| (a as U).max(b as U) as u64),
            case("band", "$0 = band {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a & b),
            case("bor", "$0 = bor {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a | b),
            case("bxor", "$0 = bxor {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| a ^ b),
            case("bnot", "$0 = bnot {0}", &[$lane], $lane, |[a, ..]| !a),
            case("band of bnot", "$1 = bnot {1}; $0 = band {0}, $1", &[$lane, $lane], $lane, |[a, b, _]| a & !b),
            case("bitselect", "$0 = bitselect {0}, {1}, {2}", &[$lane; 3], $lane, |[m, a, b]| m & a | !m & b),
            case("ishl by 5", "$1 = iconst.i8 5; $0 = ishl {0}, $1", &[$lane], $lane, |[a, ..]| {
                (a as U).wrapping_shl(5) as u64
            }),
            case("ushr by 3", "$1 = iconst.i64 3; $0 = ushr {0}, $1", &[$lane], $lane, |[a, ..]| {
                (a as U).wrapping_shr(3) as u64
            }),
            case("sshr by 2", "$1 = iconst.i32 2; $0 = sshr {0}, $1", &[$lane], $lane, |[a, ..]| {
                (a as S).wrapping_shr(2) as u64
            }),
            scalar("ishl", "$0 = ishl {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                (a as U).wrapping_shl(b as u32) as u64
            }),
            scalar("ushr", "$0 = ushr {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                (a as U).wrapping_shr(b as u32) as u64
            }),
            scalar("sshr", "$0 = sshr {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                (a as S).wrapping_shr(b as u32) as u64
            }),
            vector("icmp eq", "$0 = icmp eq {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| ones($lane, a == b)),
            vector("icmp ne", "$0 = icmp ne {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| ones($lane, a != b)),
            vector("icmp slt", "$0 = icmp slt {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, (a as S) < b as S)
            }),
            vector("icmp sle", "$0 = icmp sle {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as S <= b as S)
            }),
            vector("icmp sgt", "$0 = icmp sgt {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as S > b as S)
            }),
            vector("icmp sge", "$0 = icmp sge {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as S >= b as S)
            }),
            vector("icmp ult", "$0 = icmp ult {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, (a as U) < b as U)
            }),
            vector("icmp ule", "$0 = icmp ule {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as U <= b as U)
            }),
            vector("icmp ugt", "$0 = icmp ugt {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as U > b as U)
            }),
            vector("icmp uge", "$0 = icmp uge {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ones($lane, a as U >= b as U)
            }),
            scalar("scalar icmp slt", "$0 = icmp slt {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| {
                u64::from((a as S) < b as S)
            }),
            scalar("scalar icmp ule", "$0 = icmp ule {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| {
                u64::from(a as U <= b as U)
            }),
            scalar("scalar icmp eq", "$0 = icmp eq {0}, {1}", &[$lane, $lane], I8, |[a, b, _]| u64::from(a == b)),
            scalar(
                "test of band",
                "$1 = band {0}, {1}; $2 = iconst.{i} 0; $0 = icmp ne $1, $2",
                &[$lane, $lane],
                I8,
                |[a, b, _]| u64::from(a & b != 0),
            ),
            scalar("select", "$0 = select {0}, {1}, {2}", &[$lane; 3], $lane, |[c, a, b]| if c != 0 { a } else { b }),
            scalar(
                "select icmp",
                "$1 = icmp sgt {0}, {1}; $0 = select $1, {2}, {0}",
                &[$lane; 3],
                $lane,
                |[a, b, c]| {
                    if a as S > b as S { c } else { a }
                },
            ),
            scalar("bmask", "$0 = bmask.{i} {0}", &[$lane], $lane, |[a, ..]| ones($lane, a != 0)),
            scalar("umulhi", "$0 = umulhi {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ((u128::from(a) * u128::from(b)) >> U::BITS) as u64
            }),
            scalar("smulhi", "$0 = smulhi {0}, {1}", &[$lane, $lane], $lane, |[a, b, _]| {
                ((i128::from(a as S) * i128::from(b as S)) >> S::BITS) as u64
            }),
        ];
        CASES
    }};
}

const MIXED: &[Case] = &[
    scalar("fpromote", "$0 = fpromote.f64 {0}", &[F32], F64, |[a, ..]| f64::from(s(a)).to_bits()),
    scalar("fdemote", "$0 = fdemote.f32 {0}", &[F64], F32, |[a, ..]| u64::from((d(a) as f32).to_bits())),
    case("fcvt_from_uint", "$0 = fcvt_from_uint.{out} {0}", &[I32], F32, |[a, ..]| {
        u64::from((a as u32 as f32).to_bits())
    }),
    case("fcvt_from_uint", "$0 = fcvt_from_uint.{out} {0}", &[I32], F64, |[a, ..]| f64::from(a as u32).to_bits()),
    vector("fcvt_from_uint", "$0 = fcvt_from_uint.{out} {0}", &[I64], F64, |[a, ..]| (a as f64).to_bits()),
    case("fcvt_from_sint", "$0 = fcvt_from_sint.{out} {0}", &[I32], F64, |[a, ..]| f64::from(a as i32).to_bits()),
    scalar("fcvt_from_sint", "$0 = fcvt_from_sint.{out} {0}", &[I64], F32, |[a, ..]| {
        u64::from((a as i64 as f32).to_bits())
    }),
    scalar("fcvt_from_sint", "$0 = fcvt_from_sint.{out} {0}", &[I8], F32, |[a, ..]| {
        u64::from(f32::from(a as i8).to_bits())
    }),
    scalar("fcvt_from_uint", "$0 = fcvt_from_uint.{out} {0}", &[I16], F64, |[a, ..]| f64::from(a as u16).to_bits()),
    case("fcvt_to_sint_sat", "$0 = fcvt_to_sint_sat.{out} {0}", &[F64], I32, |[a, ..]| d(a) as i32 as u64),
    scalar("fcvt_to_sint_sat", "$0 = fcvt_to_sint_sat.{out} {0}", &[F32], I64, |[a, ..]| s(a) as i64 as u64),
    scalar("uextend", "$0 = uextend.{out} {0}", &[I8], I32, |[a, ..]| a),
    scalar("uextend", "$0 = uextend.{out} {0}", &[I16], I64, |[a, ..]| a),
    scalar("uextend", "$0 = uextend.{out} {0}", &[I32], I64, |[a, ..]| a),
    scalar("sextend", "$0 = sextend.{out} {0}", &[I8], I64, |[a, ..]| a as i8 as u64),
    scalar("sextend", "$0 = sextend.{out} {0}", &[I16], I32, |[a, ..]| a as i16 as u64),
    scalar("sextend", "$0 = sextend.{out} {0}", &[I32], I64, |[a, ..]| a as i32 as u64),
    scalar("ireduce", "$0 = ireduce.{out} {0}", &[I64], I32, |[a, ..]| a),
    scalar("ireduce", "$0 = ireduce.{out} {0}", &[I32], I8, |[a, ..]| a),
    scalar("rotl by 7", "$1 = iconst.i32 7; $0 = rotl {0}, $1", &[I32], I32, |[a, ..]| {
        u64::from((a as u32).rotate_left(7))
    }),
    scalar("rotr by 9", "$1 = iconst.i32 9; $0 = rotr {0}, $1", &[I64], I64, |[a, ..]| a.rotate_right(9)),
    scalar("udiv", "$1 = iconst.i32 1; $2 = bor {1}, $1; $0 = udiv {0}, $2", &[I32, I32], I32, |[a, b, _]| a / (b | 1)),
    scalar("urem", "$1 = iconst.i64 1; $2 = bor {1}, $1; $0 = urem {0}, $2", &[I64, I64], I64, |[a, b, _]| a % (b | 1)),
    scalar("srem", "$1 = iconst.i32 1; $2 = bor {1}, $1; $0 = srem {0}, $2", &[I32, I32], I32, |[a, b, _]| {
        (a as i32).wrapping_rem(b as i32 | 1) as u64
    }),
    scalar(
        "sdiv",
        "$1 = iconst.i64 7; $2 = band {1}, $1; $3 = iconst.i64 1; $4 = iadd $2, $3; $0 = sdiv {0}, $4",
        &[I64, I64],
        I64,
        |[a, b, _]| (a as i64 / ((b & 7) + 1) as i64) as u64,
    ),
    vector("x86_cvtt2dq", "$0 = x86_cvtt2dq.{out} {0}", &[F32], I32, |[a, ..]| {
        let x = s(a);
        if (-2_147_483_648.0..2_147_483_648.0).contains(&x) { x as i32 as u64 } else { 0x8000_0000 }
    }),
    vector("blendv", "$0 = blendv {0}, {1}, {2}", &[I32; 3], I32, |[m, a, b]| if m >> 31 != 0 { a } else { b }),
    vector("blendv", "$0 = blendv {0}, {1}, {2}", &[I8; 3], I8, |[m, a, b]| if m >> 7 != 0 { a } else { b }),
];

/// All cases of all types.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [
        float_cases!(F32, I32, f32, s, u32, i32),
        float_cases!(F64, I64, f64, d, u64, i64),
        int_cases!(I8, i8, u8),
        int_cases!(I16, i16, u16),
        int_cases!(I32, i32, u32),
        int_cases!(I64, i64, u64),
        MIXED,
    ]
    .into_iter()
    .flatten()
}
