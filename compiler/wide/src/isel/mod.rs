//! Instruction selection: CLIF to machine instructions over virtual registers.
//!
//! Here is what holds for any architecture: the order of blocks, where stack slots stand, and what is known of a function before selection
//! begins. Each architecture has a module of rules, which say by which of its instructions an operation is done; the instructions
//! themselves are in [`isa`](crate::isa).

mod facts;
mod order;
mod slots;
pub(crate) mod x64;
