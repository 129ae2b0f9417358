//! RoPE: query and key turn by an angle that grows with their position, so that their product depends on the distance alone.
//!
//! Su et al.: *RoFormer* (arXiv 2104.09864). Pair `j` of the `R / 2` pairs of the rotary block turns by `p theta_j`, with
//! `theta_j = base^(-2j / R) / factor`. `R` is the rotary dimension, not the head dimension: with partial rotary (GPT-NeoX, arXiv 2204.06745)
//! the frequencies spread over the block and the elements outside pass.
//!
//! - `pairing` `half` pairs element `j` with `j + R/2` (GPT-NeoX, Llama in Hugging Face), `interleaved` `2j` with `2j + 1` (RoFormer, GPT-J,
//!   Cohere, GLM). DeepSeek's code turns neighbours too, and then writes the first of all pairs before the second: scores are the same.
//! - A larger `base` is ABF (arXiv 2309.16039): 500000 in Llama 3, 1e6 in Qwen2.
//! - `factor` is linear position interpolation (arXiv 2306.15595).
//! - `ntk` is NTK-aware scaling, `base ntk^(R / (R - 2))` (bloc97, 2023).
//! - `frequencies` gives `theta` outright, for scalings that are not built in.
//!
//! Scalings with more to say are schemes of their own, with the same choice of what turns: [`Yarn`], [`Llama3Rope`], [`DynamicNtk`],
//! [`LongRope`], [`ProportionalRope`].
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

pub mod dynamic_ntk;
pub mod llama3;
pub mod longrope;
pub mod proportional;
mod rotary;
pub mod yarn;

use rhumb_ir::{Axis, Expr};

use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

pub use dynamic_ntk::DynamicNtk;
pub use llama3::Llama3Rope;
pub use longrope::LongRope;
pub use proportional::ProportionalRope;
pub use rotary::Rotary;
pub use yarn::Yarn;

pub(super) use rotary::{Block, Rotation, check_excluded, check_frequencies, check_positions, positions, rotation};

crate::scheme! {
    /// Query and key turn with their position (arXiv 2104.09864).
    ///
    /// Rotary position embedding: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rope: "rope" at Query, Key = "pair j of x turns by p base^(-2j/R) / factor" {
        /// Linear position interpolation: positions are divided by it.
        #[range(AttrRange::above(0.0))]
        factor: f64 = 1.0,
        /// Radians per position of each pair.
        #[default("from base")]
        frequencies: Option<Vec<f64>> = None,
        /// NTK-aware scaling: the base times ntk^(R/(R-2)).
        #[range(AttrRange::above(0.0))]
        ntk: f64 = 1.0,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl Rope {
    /// The whole head, half pairing, the frequencies of the paper.
    pub fn new() -> Rope {
        Rope::default()
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
}

impl Rotation for Rope {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, _: &SchemeContext<'_>, block: &Block) -> Result<(), SchemeError> {
        if self.ntk != 1.0 && block.dim <= 2 {
            return Err(SchemeError::range("ntk", self.ntk, "1, for a rotary dimension of 2 has one frequency"));
        }
        if let Some(list) = &self.frequencies {
            check_frequencies("frequencies", list, block.pairs())?;
            check_excluded(self, "frequencies", &["base", "ntk"])?;
        }
        Ok(())
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        let dim = f64::from(block.dim);
        // With no scaling the exponent does not matter, and for two elements it does not exist.
        let base = if self.ntk == 1.0 { self.rotary.base } else { self.rotary.base * self.ntk.powf(dim / (dim - 2.0)) };
        let list = self.frequencies.clone().unwrap_or_else(|| rotary::powers(base, block.dim));
        Ok(cx.table(&[pair], list.iter().map(|theta| theta / self.factor).collect::<Vec<f64>>()))
    }
}

rotation!(Rope);
positions!(Rope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("mod.rs"), 8, |_| Box::new(Rope::new()));
    }
}
