//! What vectors are made of, on any architecture: types of lanes, and widths.

use cranelift_codegen::ir::{Type, types};

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
