//! rhumb compiler.

pub mod rewrite;
