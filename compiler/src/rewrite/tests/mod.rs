//! Tests of rewriting.

mod cases;
mod fused;
mod graphs;
mod notation;
mod proofs;
mod rules;
mod values;
