//! What the tables consist of: operations, each with its instructions by lane type, instruction set and width; and how one is looked up.

use crate::isa::x64::features::Features;
use crate::lane::{Lane, Width};
use iced_x86::Code;

/// The codes of one operation on one lane type.
pub(crate) struct Row {
    pub(super) lane: Lane,
    /// Scalar, 128, 256.
    pub(super) vex: [Code; 3],
    /// Scalar, 128, 256, 512.
    pub(super) evex: [Code; 4],
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
        use super::row::{Op, Row};
        use $crate::lane::Lane;
        #[allow(clippy::enum_glob_use, reason = "a table of over 600 codes")]
        use iced_x86::Code::*;
        $($(#[$doc])* pub(crate) static $name: &Op = &[
            $(Row { lane: Lane::$lane, vex: [$($vex),*], evex: [$($evex),*] }),*
        ];)*
    };
}
pub(crate) use ops;
