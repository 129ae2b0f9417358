//! The vector instruction table: one entry per operation, one row per lane type, one column per width.
//!
//! A column that reads `INVALID` says that the instruction set has no such instruction. AVX-512 code uses the EVEX columns only: all 32
//! registers, embedded broadcasts and scaled displacements are worth more than the shorter VEX prefix.

mod float;
mod int;

pub(crate) use float::*;
pub(crate) use int::*;

use crate::features::Features;
use cranelift_codegen::ir::{Type, types};
use iced_x86::Code;

/// The type of a vector's lanes, or of a scalar in a vector register.
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
    pub(crate) fn of(ty: Type) -> Option<Self> {
        Some(match ty.lane_type() {
            types::I8 => Self::I8,
            types::I16 => Self::I16,
            types::I32 => Self::I32,
            types::I64 => Self::I64,
            types::F32 => Self::F32,
            types::F64 => Self::F64,
            _ => return None,
        })
    }

    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The integer lane as wide as this one.
    pub(crate) fn as_int(self) -> Self {
        match self {
            Self::F32 => Self::I32,
            Self::F64 => Self::I64,
            int => int,
        }
    }
}

/// How much of a vector register is used. `Scalar` is the lowest lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    Scalar,
    W128,
    W256,
    W512,
}

impl Width {
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        Some(match bits {
            128 => Self::W128,
            256 => Self::W256,
            512 => Self::W512,
            _ => return None,
        })
    }

    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Scalar | Self::W128 => 16,
            Self::W256 => 32,
            Self::W512 => 64,
        }
    }

    /// The width of a whole register that holds this much.
    pub(crate) fn packed(self) -> Self {
        self.max(Self::W128)
    }
}

/// The codes of one operation on one lane type.
pub(crate) struct Row {
    lane: Lane,
    /// Scalar, 128, 256.
    vex: [Code; 3],
    /// Scalar, 128, 256, 512.
    evex: [Code; 4],
}

/// One operation.
pub(crate) type Op = [Row];

/// The instruction for `op`, or `None` where this instruction set has none.
pub(crate) fn code(op: &Op, features: Features, lane: Lane, width: Width) -> Option<Code> {
    let row = op.iter().find(|row| row.lane == lane)?;
    let code = if features.avx512() { row.evex[width as usize] } else { *row.vex.get(width as usize)? };
    (code != Code::INVALID).then_some(code)
}

/// Whether AVX-512 would have the instruction.
pub(crate) fn has_evex(op: &Op, lane: Lane, width: Width) -> bool {
    code(op, Features::cross_avx512(), lane, width).is_some()
}

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident { $($lane:ident: [$($vex:ident),*], [$($evex:ident),*];)* })*) => {
        use super::{Lane, Op, Row};
        #[allow(clippy::enum_glob_use, reason = "a table of over 600 codes")]
        use iced_x86::Code::*;
        $($(#[$doc])* pub(crate) static $name: &Op = &[
            $(Row { lane: Lane::$lane, vex: [$($vex),*], evex: [$($evex),*] }),*
        ];)*
    };
}
pub(crate) use ops;
