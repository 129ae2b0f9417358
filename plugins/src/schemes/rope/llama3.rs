//! Llama 3.1's scaling: pairs that turn often within the length trained on keep their frequency, those that turn seldom have it divided.
//!
//! *The Llama 3 Herd of Models* (arXiv 2407.21783) and the code of its release. With `L` the length trained on, `theta_j = base^(-2j / R)`,
//! and `n_j = L theta_j / (2 pi)` the turns of pair `j` within `L`: it turns by `p theta_j` from `n_j = high_freq_factor` up, by
//! `p theta_j / factor` up to `low_freq_factor`, and between by `p theta_j ((1 - s) / factor + s)`, with
//! `s = (n_j - low_freq_factor) / (high_freq_factor - low_freq_factor)`. There is no attention factor.
//!
//! Defaults are Llama 3.1's, but the base: 8, 1, 4, 8192. Llama 3.2 has factor 32. Both have base 500000.
//!
//! ```text
//! %q_out = scheme llama3_rope.query %q @0 {base = 500000.0} : f32[h, q, d]
//! %k_out = scheme llama3_rope.key %k @0 {base = 500000.0} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [1.0, 0.03760603093086393, 0.0005248461609929547, 6.647869871181235e-6] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %q_out = rotate %q over d by %7 over pair half : f32[h, q, d]
//! %9 = cast %j to f32 : f32[k]
//! %10 = mul %9, %5 : f32[k, pair]
//! %k_out = rotate %k over d by %10 over pair half : f32[h, k, d]
//! ```

use std::f64::consts::PI;

use rhumb_ir::{Axis, Expr};

use super::rotary::{Block, Rotary, Rotation, positions, rotation};
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

crate::scheme! {
    /// RoPE with pairs that turn seldom slowed down (Llama 3.1, arXiv 2407.21783).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Llama3Rope: "llama3_rope" at Query, Key = "pair j of x turns by p base^(-2j/R) ((1 - s_j) / factor + s_j)" {
        /// How many times as slow pairs get that turn seldom.
        #[range(AttrRange::above(0.0))]
        factor: f64 = 8.0,
        /// Turns within the length trained on from which a pair keeps its frequency.
        #[range(AttrRange::above(0.0))]
        high_freq_factor: f64 = 4.0,
        /// Turns within the length trained on up to which a pair has its frequency divided by factor.
        #[range(AttrRange::above(0.0))]
        low_freq_factor: f64 = 1.0,
        /// L: the length trained on.
        #[range(1.., "a number of tokens")]
        train_length: i32 = 8192,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl Llama3Rope {
    /// Llama 3.1's scaling; its base is 500000, which is yet to be given.
    pub fn new() -> Llama3Rope {
        Llama3Rope::default()
    }

    /// How many times as slow pairs get that turn seldom: above 0.
    #[must_use]
    pub fn factor(self, factor: f64) -> Llama3Rope {
        Llama3Rope { factor, ..self }
    }

    /// Turns within the length trained on: pairs with `low` at most have their frequency divided, those with `high` at least keep it.
    #[must_use]
    pub fn turns(self, low: f64, high: f64) -> Llama3Rope {
        Llama3Rope { low_freq_factor: low, high_freq_factor: high, ..self }
    }

    /// The length trained on: at least 1.
    #[must_use]
    pub fn train_length(self, train_length: i32) -> Llama3Rope {
        Llama3Rope { train_length, ..self }
    }

    /// Radians per position of each of the `dim / 2` pairs.
    pub(crate) fn frequencies(&self, dim: u32) -> Vec<f64> {
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        let turned = |theta: f64| {
            let turns = f64::from(self.train_length) * theta / (2.0 * PI);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * theta / self.factor + kept * theta
        };
        self.rotary.powers(dim).into_iter().map(turned).collect()
    }
}

impl Rotation for Llama3Rope {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, _: &SchemeContext<'_>, _: &Block) -> Result<(), SchemeError> {
        if self.high_freq_factor <= self.low_freq_factor {
            let expected = format!("above `low_freq_factor`, {}", self.low_freq_factor);
            return Err(SchemeError::range("high_freq_factor", self.high_freq_factor, expected));
        }
        Ok(())
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.table(&[pair], self.frequencies(block.dim)))
    }
}

rotation!(Llama3Rope);
positions!(Llama3Rope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("llama3.rs"), 8, |_| Box::new(Llama3Rope::new().base(500_000.0)));
    }
}
