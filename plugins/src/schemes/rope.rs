//! RoPE: query and key turn by an angle that grows with their position, so that their product depends on the distance alone.
//!
//! Su et al.: *RoFormer* (arXiv 2104.09864). Pair `j` of the `R / 2` pairs of the rotary block turns by `p theta_j`, with
//! `theta_j = base^(-2j / R) / factor`. `R` is the rotary dimension, not the head dimension: with partial rotary (GPT-NeoX, arXiv 2204.06745)
//! the frequencies spread over the block and the elements outside pass.
//!
//! - `pairing` `half` pairs element `j` with `j + R/2` (GPT-NeoX, Llama in Hugging Face), `interleaved` `2j` with `2j + 1` (RoFormer, GPT-J,
//!   Cohere, GLM).
//! - A larger `base` is ABF (arXiv 2309.16039): 500000 in Llama 3, 1e6 in Qwen2.
//! - `factor` is linear position interpolation (arXiv 2306.15595).
//! - `ntk` is NTK-aware scaling, `base ntk^(R / (R - 2))` (bloc97, 2023).
//! - `frequencies` gives `theta` outright, for scalings that are not built in.
//!
//! Positions are the site's, or those given; `offset` is added to either. Angles are products of a position and a table in double precision.
//!
//! ```text
//! %q_out = scheme rope.query %q @0 : f32[h, q, d]
//! %k_out = scheme rope.key %k @0 : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [1.0, 0.1, 0.01, 0.001] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %q_out = rotate %q over d by %7 over pair half : f32[h, q, d]
//! %9 = cast %j to f32 : f32[k]
//! %10 = mul %9, %5 : f32[k, pair]
//! %k_out = rotate %k over d by %10 over pair half : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Elem, Expr, Hook, Pairing, Value};

use crate::attrs::{AttrRange, Choice, IntOrValue};
use crate::declare::Declared;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Query and key turn with their position (arXiv 2104.09864).
    ///
    /// Rotary position embedding: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rope: "rope" at Query, Key = "pair j of x turns by p base^(-2j/R) / factor" {
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// Linear position interpolation: positions are divided by it.
        #[range(AttrRange::above(0.0))]
        factor: f64 = 1.0,
        /// Radians per position of each pair.
        #[default("from base")]
        frequencies: Option<Vec<f64>> = None,
        /// Position of each key, i32 or f32.
        #[default("the site's")]
        k_positions: Option<Value> = None,
        /// NTK-aware scaling: the base times ntk^(R/(R-2)).
        #[range(AttrRange::above(0.0))]
        ntk: f64 = 1.0,
        /// Added to all positions.
        offset: IntOrValue = IntOrValue::Int(0),
        /// Pairs element j with j + R/2, or 2j with 2j + 1.
        pairing: Pairing = Pairing::Half,
        /// Position of each query, i32 or f32.
        #[default("the site's")]
        q_positions: Option<Value> = None,
        /// Leave the key alone: it was rotated when it was cached.
        query_only: bool = false,
        /// R: elements that turn.
        #[range(2.., "an even number")]
        #[default("all from start")]
        rotary_dim: Option<u32> = None,
        /// First element that turns.
        start: u32 = 0,
    }
}

impl Choice for Pairing {
    const NAMES: &'static [(&'static str, Pairing)] = &[("half", Pairing::Half), ("interleaved", Pairing::Interleaved)];
}

impl Rope {
    /// The whole head, half pairing, the frequencies of the paper.
    pub fn new() -> Rope {
        Rope::default()
    }

    /// The base of the frequencies: finite, above 0.
    #[must_use]
    pub fn base(self, base: f64) -> Rope {
        Rope { base, ..self }
    }

    /// Pairs neighbours, `2j` with `2j + 1`.
    #[must_use]
    pub fn interleaved(self) -> Rope {
        self.pairing(Pairing::Interleaved)
    }

    /// Which elements pair up.
    #[must_use]
    pub fn pairing(self, pairing: Pairing) -> Rope {
        Rope { pairing, ..self }
    }

    /// The number of elements that turn: even, and within the head.
    #[must_use]
    pub fn rotary_dim(self, rotary_dim: u32) -> Rope {
        Rope { rotary_dim: Some(rotary_dim), ..self }
    }

    /// The first element that turns.
    #[must_use]
    pub fn start(self, start: u32) -> Rope {
        Rope { start, ..self }
    }

    /// Added to all positions: a number, or an `i32` value.
    #[must_use]
    pub fn offset(self, offset: impl Into<IntOrValue>) -> Rope {
        Rope { offset: offset.into(), ..self }
    }

    /// Positions in place of the site's: `i32` or `f32` values, over the query axis and over the key axis.
    #[must_use]
    pub fn positions(self, queries: Expr<'_>, keys: Expr<'_>) -> Rope {
        Rope { q_positions: Some(queries.value()), k_positions: Some(keys.value()), ..self }
    }

    /// Turns the query alone, where keys were rotated when they were cached.
    #[must_use]
    pub fn query_only(self) -> Rope {
        Rope { query_only: true, ..self }
    }

    /// Linear position interpolation: positions divided by `factor`.
    #[must_use]
    pub fn factor(self, factor: f64) -> Rope {
        Rope { factor, ..self }
    }

    /// NTK-aware scaling for a context `ntk` times as long: the base times `ntk^(R / (R - 2))`.
    #[must_use]
    pub fn ntk(self, ntk: f64) -> Rope {
        Rope { ntk, ..self }
    }

    /// Radians per position of each pair, in place of powers of the base. `factor` still divides them.
    #[must_use]
    pub fn frequencies(self, frequencies: impl Into<Vec<f64>>) -> Rope {
        Rope { frequencies: Some(frequencies.into()), ..self }
    }

    /// `x` rotated along the axis `dim` by `positions`: what the hooks do, for a graph of one's own, such as one that rotates keys before
    /// they are cached. `cx` names the attention around, of which the axis `dim` and the value attributes are used.
    ///
    /// # Errors
    /// [`SchemeError`] where the attributes do not fit `dim`.
    pub fn rotate<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        positions: Expr<'g>,
        dim: Axis,
    ) -> Result<Expr<'g>, SchemeError> {
        let block = self.block(cx.length_of(dim)?)?;
        let positions = match self.offset {
            IntOrValue::Int(0) => positions,
            offset => positions + cx.int_or_value("offset", offset)?,
        };
        let pair = cx.axis("pair", block.dim / 2);
        let angle = positions * cx.table(&[pair], self.theta(block.dim));
        Ok(x.rotate(angle, dim, pair, self.pairing, block.start))
    }

    /// Radians per position of each of the `dim / 2` pairs.
    fn theta(&self, dim: u32) -> Vec<f64> {
        let dim = f64::from(dim);
        // With no scaling the exponent does not matter, and for two elements it does not exist.
        let base = if self.ntk == 1.0 { self.base } else { self.base * self.ntk.powf(dim / (dim - 2.0)) };
        match &self.frequencies {
            Some(list) => list.iter().map(|theta| theta / self.factor).collect(),
            None => (0..dim as u32 / 2).map(|j| base.powf(-2.0 * f64::from(j) / dim) / self.factor).collect(),
        }
    }

    fn block(&self, head_dim: u32) -> Result<Block, SchemeError> {
        let Some(left) = head_dim.checked_sub(self.start) else {
            return Err(SchemeError::range("start", self.start, format!("an element of a head of {head_dim}")));
        };
        let dim = self.rotary_dim.unwrap_or(left);
        if dim < 2 || dim > left || !dim.is_multiple_of(2) {
            let (what, expected) = match (self.rotary_dim, self.start) {
                (Some(_), _) => ("the rotary dimension", format!("an even number from 2 to {left}")),
                (None, 0) => {
                    ("the head dimension", "an even number, or set `rotary_dim` to turn a part of the head".to_owned())
                }
                (None, _) => (
                    "the head dimension after `start`",
                    "an even number, or set `rotary_dim` to turn a part".to_owned(),
                ),
            };
            return Err(SchemeError::RotaryDim { what: what.to_owned(), found: dim, expected });
        }
        Ok(Block { start: self.start, dim })
    }
}

/// The elements that turn; within the head, `dim` even and at least 2.
struct Block {
    start: u32,
    dim: u32,
}

impl PositionScheme for Rope {
    fn hooks(&self) -> &[Hook] {
        if self.query_only { &[Hook::Query] } else { &[Hook::Query, Hook::Key] }
    }

    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let block = self.block(cx.head_dim()?)?;
        if self.ntk != 1.0 && block.dim <= 2 {
            return Err(SchemeError::range("ntk", self.ntk, "1, for a rotary dimension of 2 has one frequency"));
        }
        if let Some(list) = &self.frequencies {
            check_frequencies("frequencies", list, block.dim / 2)?;
            check_excluded(self, "frequencies", &["base", "ntk"])?;
        }
        if let offset @ IntOrValue::Value(_) = self.offset {
            let axes = [cx.dim_axis(), cx.query_axis(), cx.key_axis()];
            cx.free_of("offset", cx.int_or_value("offset", offset)?, &axes)?;
        }
        check_positions(cx, "q_positions", self.q_positions, cx.key_axis())?;
        check_positions(cx, "k_positions", self.k_positions, cx.query_axis())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let positions = self.q_positions.map_or(Ok(cx.q_pos()), |value| cx.value("q_positions", value))?;
        self.rotate(cx, x, positions, cx.dim_axis())
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let positions = self.k_positions.map_or(Ok(cx.k_pos()), |value| cx.value("k_positions", value))?;
        self.rotate(cx, x, positions, cx.dim_axis())
    }
}

/// Checks that the attributes `others` are left out, or at their defaults, where `name` is given.
pub(super) fn check_excluded(scheme: &impl Declared, name: &str, others: &[&str]) -> Result<(), SchemeError> {
    let written = scheme.attributes();
    match others.iter().find(|other| written.contains_key(**other)) {
        Some(other) => Err(SchemeError::clash(name, other)),
        None => Ok(()),
    }
}

/// Checks a list of frequencies: one for each pair.
pub(super) fn check_frequencies(name: &str, list: &[f64], pairs: u32) -> Result<(), SchemeError> {
    if list.len() as u64 != u64::from(pairs) {
        let found = format!("a list of {} numbers", list.len());
        return Err(SchemeError::range(name, found, format!("one number for each of {pairs} pairs")));
    }
    Ok(())
}

/// Checks a value attribute of positions: numbers, free of the head dimension and of the axis of the other side.
pub(super) fn check_positions(
    cx: &SchemeContext<'_>,
    name: &str,
    positions: Option<Value>,
    other: Axis,
) -> Result<(), SchemeError> {
    let Some(positions) = positions else { return Ok(()) };
    let positions = cx.value(name, positions)?;
    if positions.ty().elem == Elem::Bool {
        return Err(cx.bad_value(name, positions, "i32 or f32 positions"));
    }
    cx.free_of(name, positions, &[other, cx.dim_axis()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("rope.rs"), 8, |_| Box::new(Rope::new()));
    }
}
