//! Tests of rewriting.
mod fused;
