//! rhumb compiler.
