//! Tests of rewriting.

mod cases;
mod fused;
mod graphs;
mod notation;
mod origins;
mod places;
mod proofs;
mod random;
mod regimes;
mod rules;
mod values;
