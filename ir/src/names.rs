//! The names of operations in the text form.

use crate::op::{Binary, Compare, Hook, Pairing};
use crate::unary::Unary;

/// The ops whose names are no elementwise operation's.
pub(crate) const SPECIAL: [&str; 13] = [
    "input",
    "const",
    "table",
    "iota",
    "size",
    "select",
    "cast",
    "gather",
    "rotate",
    "dot",
    "softmax",
    "logsumexp",
    "scheme",
];

/// The names of all ops.
pub(crate) fn op_names() -> impl Iterator<Item = &'static str> {
    SPECIAL
        .into_iter()
        .chain(Unary::ALL.map(Unary::name))
        .chain(Binary::ALL.map(Binary::name))
        .chain(Compare::ALL.map(Compare::name))
}

impl Binary {
    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Mod => "mod",
            Binary::Min => "min",
            Binary::Max => "max",
            Binary::Pow => "pow",
            Binary::And => "and",
            Binary::Or => "or",
        }
    }

    /// All of them.
    pub const ALL: [Binary; 10] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Mod,
        Binary::Min,
        Binary::Max,
        Binary::Pow,
        Binary::And,
        Binary::Or,
    ];
}

impl Compare {
    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Compare::Eq => "eq",
            Compare::Ne => "ne",
            Compare::Lt => "lt",
            Compare::Le => "le",
            Compare::Gt => "gt",
            Compare::Ge => "ge",
        }
    }

    /// All of them.
    pub const ALL: [Compare; 6] = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];
}

impl Hook {
    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Query => "query",
            Hook::Key => "key",
            Hook::Score => "score",
            Hook::Mask => "mask",
        }
    }

    /// All of them.
    pub const ALL: [Hook; 4] = [Hook::Query, Hook::Key, Hook::Score, Hook::Mask];
}

impl Pairing {
    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Pairing::Half => "half",
            Pairing::Interleaved => "interleaved",
        }
    }

    /// All of them.
    pub const ALL: [Pairing; 2] = [Pairing::Half, Pairing::Interleaved];

    /// The two elements of pair `j` in a block of `n` pairs from `start`.
    pub fn elements(self, start: u32, n: u32, j: u32) -> (u32, u32) {
        match self {
            Pairing::Half => (start + j, start + j + n),
            Pairing::Interleaved => (start + 2 * j, start + 2 * j + 1),
        }
    }
}
