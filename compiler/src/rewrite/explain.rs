//! Proofs: how each output of the fused graph follows from the user's.
use super::{RewriteError, RewriteOptions};
use rhumb_ir::Verified;
use std::fmt;
/// todo
#[derive(Debug)]
pub struct Explanation {}
/// todo
#[derive(Debug)]
pub struct Proof {}
/// todo
#[derive(Debug)]
pub struct Step {}
/// e
pub fn explain(_l: &Verified, _o: &RewriteOptions) -> Result<Explanation, RewriteError> {
    Ok(Explanation {})
}
