//! What operations cost: the one table, by which rewriting weighs forms, and planning places, code generators and lane counts.
//!
//! The unit is a vector instruction for each vector of results, slow ones counted by the time they take. Loads are not counted here, nor what
//! a place takes beside an operation: rewriting has no places, and the plan adds its own.

use rhumb_ir::{Binary, Unary};

use crate::elementary::elementary;

/// Instructions to look an element up: its index is taken, and the element loaded.
pub(crate) const LOOKUP: f64 = 2.0;

/// Queries that share what is read of keys and values, and rows that are computed while they are loaded: their states stay in the second-level
/// cache.
pub(crate) const TASK_QUERIES: usize = 384;

/// Something that is computed of operands that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Unary(Unary),
    Binary(Binary),
    Compare,
    Select,
    Cast,
    /// An element of a table at an index of its own.
    Lookup,
    /// A cosine and a sine.
    Angle,
    /// An element of a row that is rotated: two products and a sum for each.
    Rotation,
    /// A product that is added to a sum of such.
    MultiplyAdd,
    /// An element that is stored to scratch memory and loaded from there, in first-level caches that have other uses.
    Staged,
    /// An element of a table: it is written to memory.
    Kept,
}

impl Work {
    /// Vector instructions.
    pub(crate) fn instructions(self) -> f64 {
        match self {
            Work::Unary(op) => elementary(op).instructions,
            Work::Binary(op) => match op {
                Binary::Add | Binary::Sub | Binary::Mul | Binary::Min | Binary::Max | Binary::And | Binary::Or => 1.0,
                Binary::Div => 10.0,
                Binary::Mod => 15.0,
                Binary::Pow => 40.0,
            },
            Work::Compare | Work::Select | Work::Cast | Work::MultiplyAdd => 1.0,
            Work::Lookup => LOOKUP,
            Work::Angle => elementary(Unary::Cos).instructions + elementary(Unary::Sin).instructions,
            Work::Rotation => 3.0,
            // Of vectors of 16 lanes, of which two instructions begin in a cycle: 0.3 cycles, and half a cycle at 8 bytes each.
            Work::Staged => 10.0,
            Work::Kept => 16.0,
        }
    }
}
