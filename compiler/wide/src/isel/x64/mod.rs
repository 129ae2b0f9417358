//! Selection for x86-64.
//!
//! Blocks are walked from the last to the first and each from its end, so that an instruction is met after everything that uses it: what
//! nothing asked for is left out, and what its user has taken into an operand is not computed again. Constants are never kept in registers;
//! each use reads them from the literal pool.
//!
//! `blocks` walks the function, and `ops` says in one line per CLIF operation which rule it takes. The rules are methods of
//! `context::Lower`, one file to a topic: `float`, `integer`, `lanes`, `shuffle` and `permute` for vectors, `scalar`, `select` for flags, `memory`,
//! `control`; `plain` for what the tables tell alone. They take their operands by way of `operand` and `address`.

mod address;
mod blocks;
mod context;
mod control;
mod float;
mod integer;
mod lanes;
mod memory;
mod operand;
mod ops;
mod permute;
mod plain;
mod scalar;
mod select;
mod shuffle;

pub(crate) use blocks::lower;
