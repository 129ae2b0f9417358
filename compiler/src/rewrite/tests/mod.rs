//! Tests of rewriting.

mod cases;
mod fused;
mod graphs;
mod notation;
mod proofs;
mod random;
mod rules;
mod values;
