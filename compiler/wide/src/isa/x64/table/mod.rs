//! The vector instruction tables: one entry per operation, one row per lane type, one column per width.
//!
//! A column that reads `INVALID` says that the instruction set has no such instruction. AVX-512 code uses the EVEX columns only: all 32
//! registers, embedded broadcasts and scaled displacements are worth more than the shorter VEX prefix.

mod float;
mod int;
mod row;

pub(crate) use float::*;
pub(crate) use int::*;
pub(crate) use row::{Op, code, has_evex};
