//! Instruction sets, a module to each: its instructions and which of them does what, its calling conventions, and the encoding.

pub(crate) mod x64;
