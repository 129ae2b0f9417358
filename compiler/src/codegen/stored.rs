//! How elements lie in memory: how each type is loaded, as lanes of 32 bits, and how it is stored.
//!
//! Integers of 8 bits are widened by their sign, and single precision holds each of them. Floats of 8 bits are floats of single precision
//! once their digits stand where those do: a power of 2 makes up for the bias of the exponent, which is exact. Those of 16 bits are in
//! [`half`].

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;
use rhumb_ir::{Elem, ElemKind};

use super::half::{self, Lanes};
use super::vocab::{access, lane_order};
use crate::machine::ROW_LANES;
use crate::plan::Storage;

/// What a float of 8 bits is multiplied with once its digits stand where those of single precision do.
const REBIAS: f32 = f32::from_bits((127 + 120) << 23);

/// The magnitude of a NaN.
const NAN: i32 = 0x7f;

/// Loads an element: one that has less than 32 bits as single precision or as an integer of 32 bits, a truth value as it is stored.
pub(crate) fn load(fb: &mut FunctionBuilder<'_>, storage: Storage, address: Ssa) -> Ssa {
    let elem = match storage {
        Storage::F64 => return fb.ins().load(types::F64, access(), address, 0),
        Storage::Mask => return fb.ins().load(types::I32, access(), address, 0),
        Storage::Of(elem) => elem,
    };
    match elem {
        Elem::F32 => fb.ins().load(types::F32, access(), address, 0),
        Elem::F16 | Elem::Bf16 => half::load(fb, storage, address),
        Elem::F8e4m3 => {
            let bits = fb.ins().sload8(types::I32, access(), address, 0);
            float(fb, bits)
        }
        Elem::I8 => fb.ins().sload8(types::I32, access(), address, 0),
        Elem::I32 => fb.ins().load(types::I32, access(), address, 0),
        Elem::Bool => fb.ins().load(types::I8, access(), address, 0),
    }
}

/// Loads neighbouring elements, one for each of 4 lanes or more: floats as single precision, others in 32 bits. Bytes of truth values and
/// floats of 64 bits have no lanes of as many bits.
pub(crate) fn load_lanes(fb: &mut FunctionBuilder<'_>, storage: Storage, lanes: usize, at: (Ssa, i32)) -> Ssa {
    match storage {
        Storage::Of(Elem::F16 | Elem::Bf16) => half::load_lanes(fb, storage, lanes, at),
        Storage::Of(Elem::F8e4m3) => {
            let bits = bytes(fb, lanes, at);
            float(fb, bits)
        }
        Storage::Of(Elem::I8) => bytes(fb, lanes, at),
        Storage::Of(Elem::F32 | Elem::I32 | Elem::Bool) | Storage::F64 | Storage::Mask => {
            let lane = if storage.kind() == ElemKind::Real { types::F32 } else { types::I32 };
            fb.ins().load(lane.by(lanes as u32).unwrap_or(lane), access(), at.0, at.1)
        }
    }
}

/// As [`load_lanes`], of integers too as single precision.
pub(crate) fn load_floats(fb: &mut FunctionBuilder<'_>, storage: Storage, lanes: usize, at: (Ssa, i32)) -> Ssa {
    match types::F32.by(lanes as u32).filter(|_| lanes > ROW_LANES) {
        Some(floats) if storage == Storage::Of(Elem::I8) => converted(fb, floats, at),
        _ => {
            let lanes = load_lanes(fb, storage, lanes, at);
            if storage.kind() == ElemKind::Whole { fb.ins().fcvt_from_sint(types::F32X4, lanes) } else { lanes }
        }
    }
}

/// Stores what a tensor with this storage holds, of any number of lanes: floats of single precision are rounded where it has fewer bits.
pub(crate) fn store(fb: &mut FunctionBuilder<'_>, storage: Storage, x: Ssa, address: Ssa) {
    match storage {
        Storage::Of(Elem::F16 | Elem::Bf16) => half::store(fb, storage, x, address),
        // Of 8 bits are truth values; numbers of 8 bits are read alone.
        Storage::Of(Elem::F32 | Elem::F8e4m3 | Elem::I8 | Elem::I32 | Elem::Bool) | Storage::F64 | Storage::Mask => {
            fb.ins().store(access(), x, address, 0);
        }
    }
}

/// Neighbouring integers of 8 bits, each in 32.
fn bytes(fb: &mut FunctionBuilder<'_>, lanes: usize, at: (Ssa, i32)) -> Ssa {
    let wide = |lane: Type| lane.by(lanes as u32).filter(|_| lanes > ROW_LANES);
    match (wide(types::F32), wide(types::I32)) {
        (Some(floats), Some(ints)) => {
            let number = converted(fb, floats, at);
            // A float holds every number of 8 bits: of more than 4 lanes this is how CLIF says that they are widened.
            fb.ins().fcvt_to_sint_sat(ints, number)
        }
        _ => four(fb, at),
    }
}

/// Neighbouring integers of 8 bits as floats.
fn converted(fb: &mut FunctionBuilder<'_>, floats: Type, (address, offset): (Ssa, i32)) -> Ssa {
    let bytes = types::I8.by(floats.lane_count()).unwrap_or(types::I8X16);
    let bytes = fb.ins().load(bytes, access(), address, offset);
    fb.ins().fcvt_from_sint(floats, bytes)
}

/// Four neighbouring integers of 8 bits, each in 32.
fn four(fb: &mut FunctionBuilder<'_>, (address, offset): (Ssa, i32)) -> Ssa {
    let bits = fb.ins().load(types::I32, access(), address, offset);
    let bits = fb.ins().scalar_to_vector(types::I32X4, bits);
    let bytes = fb.ins().bitcast(types::I8X16, lane_order(), bits);
    let shorts = fb.ins().swiden_low(bytes);
    fb.ins().swiden_low(shorts)
}

/// Floats of 8 bits, each widened by its sign to 32, as single precision.
fn float(fb: &mut FunctionBuilder<'_>, bits: Ssa) -> Ssa {
    let lanes = Lanes::of(fb, bits);
    let sign = lanes.and(fb, bits, i32::MIN);
    let magnitude = lanes.and(fb, bits, NAN);
    let digits = fb.ins().ishl_imm_u(magnitude, 20);
    // Exact, and makes a subnormal number normal.
    let number = lanes.float_of(fb, digits);
    let rebias = lanes.number(fb, REBIAS);
    let number = fb.ins().fmul(number, rebias);
    let number = lanes.bits_of(fb, number);
    // NaN alone has the greatest magnitude.
    let (most, exponent, none) = (lanes.bits(fb, NAN), lanes.bits(fb, 0xff << 23), lanes.bits(fb, 0));
    let nan = fb.ins().icmp(IntCC::Equal, magnitude, most);
    let exponent = lanes.select(fb, nan, exponent, none);
    let number = fb.ins().bor(number, exponent);
    let number = fb.ins().bor(number, sign);
    lanes.float_of(fb, number)
}
