//! Offset set: a query sees the keys at certain distances behind it.
//!
//! `i - j` is one of a set. Log-sparse attention (arXiv 1907.00235) has 0, 1, 2, 4, 8 and so on. Which distances there are is a constant of the
//! kernel; a pair of query and key reads one element of it.
//!
//! ```text
//! %mask = scheme offset_set.mask @0 {offsets = [0.0, 1.0, 2.0, 4.0]} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = const 1 : i32
//! %7 = add %5, %6 : i32[q, k]
//! %8 = table [0, 1, 1, 1, ... 7 in all] : i32[distance]
//! %9 = gather %8 over distance at %7 : i32[q, k]
//! %10 = const 0 : i32
//! %mask = ne %9, %10 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query sees the keys at certain distances behind it (arXiv 1907.00235).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct OffsetSet: "offset_set" at Mask = "i - j is one of the offsets" {
        /// The distances seen: whole numbers.
        #[range(0.0..=1e6, "a list of whole numbers of tokens")]
        offsets: Vec<f64>,
    }
}

impl OffsetSet {
    /// Keys at these distances behind the query; 0 is the query's own.
    pub fn new(offsets: impl Into<Vec<u32>>) -> OffsetSet {
        OffsetSet::with_defaults(offsets.into().into_iter().map(f64::from).collect())
    }

    /// The query's own key and those 1, 2, 4, 8 tokens behind it and so on, up to `most`.
    pub fn log_sparse(most: u32) -> OffsetSet {
        let powers = std::iter::successors(Some(1u32), |offset| offset.checked_mul(2));
        OffsetSet::new([0].into_iter().chain(powers.take_while(|offset| *offset <= most)).collect::<Vec<_>>())
    }
}

impl PositionScheme for OffsetSet {
    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if self.offsets.is_empty() {
            return Err(SchemeError::range("offsets", "an empty list", "at least one distance"));
        }
        match self.offsets.iter().find(|offset| offset.fract() != 0.0) {
            Some(offset) => {
                Err(SchemeError::range("offsets", format!("a list with {offset}"), "whole numbers of tokens"))
            }
            None => Ok(()),
        }
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let most = self.offsets.iter().fold(0.0f64, |most, offset| most.max(*offset)) as usize;
        // Before 0 and after the last there is nothing: what is outside takes the nearest.
        let mut seen = vec![0; most + 3];
        for offset in &self.offsets {
            seen[*offset as usize + 1] = 1;
        }
        let distance = cx.axis("distance", seen.len() as u32);
        let at = cx.q_index() - cx.k_index() + 1;
        Ok(cx.builder().int_table([distance], &seen).gather(distance, at).ne(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("offset_set.rs"), 8, |_| Box::new(OffsetSet::log_sparse(4)));
    }
}
