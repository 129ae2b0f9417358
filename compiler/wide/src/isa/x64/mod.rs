//! x86-64 with AVX2 and FMA, or with AVX-512.
//!
//! `mach` has the instructions that selection makes and `function` the functions of them that register allocation reads; `table` says which
//! instruction a vector operation is for a lane type and a width, `features` which of them there are, and `abi` where arguments live.
//! `emit` encodes what register allocation leaves, and `layout` places it.

pub(crate) mod abi;
pub(crate) mod emit;
pub(crate) mod features;
pub(crate) mod function;
pub(crate) mod layout;
pub(crate) mod mach;
pub(crate) mod table;
