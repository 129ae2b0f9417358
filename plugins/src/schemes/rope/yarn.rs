//! YaRN: fast pairs turn as they did in training, slow ones are interpolated, and what turns grows by an attention factor.
//!
//! Peng, Quesnelle, Fan, Shippole: *YaRN* (arXiv 2309.00071), in the form of its code, which published models follow (the ramp of the paper is
//! another function). With `L` the length trained on, `theta_j = base^(-2j / R)`, and `c(n) = R ln(L / (2 pi n)) / (2 ln base)` the pair that
//! turns `n` times within `L`:
//!
//! - `low = floor c(beta_fast)` and `high = ceil c(beta_slow)`, within `0` and `R - 1`; without `truncate` (GPT-OSS) they are not rounded.
//! - `ramp_j = (j - low) / (high - low)`, within 0 and 1; pair `j` turns by `p theta_j ((1 - ramp_j) + ramp_j / factor)`.
//! - What turns is multiplied by `A`, query and key both, so that the score has `A^2`; with partial rotary the elements that pass do not
//!   have it. `A` is `attention_factor`; or `m(mscale) / m(mscale_all_dim)` where both are given and not 0 (DeepSeek); or `m(1)`, with
//!   `m(x) = 0.1 x ln factor + 1`, and 1 where `factor` is 1 at most. DeepSeek also scales all scores by `m(mscale_all_dim)^2`: that is a
//!   matter of [`Attention::scale`](crate::Attention::scale).
//!
//! ```text
//! %q_out = scheme yarn.query %q @0 {factor = 4.0, train_length = 2048} : f32[h, q, d]
//! %k_out = scheme yarn.key %k @0 {factor = 4.0, train_length = 2048} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = const 1.138629436111989 : f32
//! %6 = mul %q, %5 : f32[h, q, d]
//! %7 = table [1.0, 0.1, 0.00625, 0.00025] : f32[pair]
//! %8 = cast %i to f32 : f32[q]
//! %9 = mul %8, %7 : f32[q, pair]
//! %q_out = rotate %6 over d by %9 over pair half : f32[h, q, d]
//! %11 = const 1.138629436111989 : f32
//! %12 = mul %k, %11 : f32[h, k, d]
//! %13 = cast %j to f32 : f32[k]
//! %14 = mul %13, %7 : f32[k, pair]
//! %k_out = rotate %12 over d by %14 over pair half : f32[h, k, d]
//! ```

use std::f64::consts::PI;

use rhumb_ir::{Axis, Expr};

use super::rotary::{Block, Rotary, Rotation, positions, rotation};
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

crate::scheme! {
    /// RoPE with slow pairs interpolated, and a factor on what turns (arXiv 2309.00071).
    ///
    /// YaRN: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Yarn: "yarn" at Query, Key = "pair j of A x turns by p base^(-2j/R) ((1 - ramp_j) + ramp_j / factor)" {
        /// How many times as long the context is.
        #[range(AttrRange::above(0.0))]
        factor: f64,
        /// L: the length trained on.
        #[range(1.., "a number of tokens")]
        train_length: i32,
        /// A: the factor on what turns.
        #[range(AttrRange::above(0.0))]
        #[default("m(mscale) / m(mscale_all_dim), or m(1)")]
        attention_factor: Option<f64> = None,
        /// Turns within L from which a pair keeps its frequency.
        #[range(AttrRange::above(0.0))]
        beta_fast: f64 = 32.0,
        /// Turns within L up to which a pair is interpolated.
        #[range(AttrRange::above(0.0))]
        beta_slow: f64 = 1.0,
        /// The numerator of A, if mscale_all_dim is given too.
        #[range(0.0..)]
        #[default("none")]
        mscale: Option<f64> = None,
        /// The denominator of A, if mscale is given too.
        #[range(0.0..)]
        #[default("none")]
        mscale_all_dim: Option<f64> = None,
        /// Round the ends of the ramp to whole pairs.
        truncate: bool = true,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl Yarn {
    /// The whole head, half pairing, for a context `factor` times the `train_length` tokens trained on.
    pub fn new(factor: f64, train_length: i32) -> Yarn {
        Yarn::with_defaults(factor, train_length)
    }

    /// The factor on what turns, outright: above 0.
    #[must_use]
    pub fn attention_factor(self, factor: f64) -> Yarn {
        Yarn { attention_factor: Some(factor), ..self }
    }

    /// Where the ramp begins and ends, in turns within the length trained on: 32 and 1 in the paper.
    #[must_use]
    pub fn betas(self, fast: f64, slow: f64) -> Yarn {
        Yarn { beta_fast: fast, beta_slow: slow, ..self }
    }

    /// The parts of the attention factor (DeepSeek); where one is 0 it is as if neither were given.
    #[must_use]
    pub fn mscales(self, mscale: f64, mscale_all_dim: f64) -> Yarn {
        Yarn { mscale: Some(mscale), mscale_all_dim: Some(mscale_all_dim), ..self }
    }

    /// Leaves the ends of the ramp between pairs (GPT-OSS).
    #[must_use]
    pub fn untruncated(self) -> Yarn {
        Yarn { truncate: false, ..self }
    }

    /// `0.1 mscale ln factor + 1`, and 1 where `factor` is at most 1: what attention factors, and the scale of DeepSeek's scores, are made of.
    pub fn magnitude(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    }

    /// The first pair that is interpolated, and the first that is wholly so.
    fn ramp(&self, dim: u32) -> (f64, f64) {
        let pair_of = |turns: f64| {
            let length = f64::from(self.train_length);
            f64::from(dim) * (length / (2.0 * PI * turns)).ln() / (2.0 * self.rotary.base.ln())
        };
        let (low, high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        (low.max(0.0), high.min(f64::from(dim) - 1.0))
    }

    /// Radians per position of each of the `dim / 2` pairs.
    pub(crate) fn frequencies(&self, dim: u32) -> Vec<f64> {
        let (low, high) = self.ramp(dim);
        // As the code has it, so that the ramp of one pair is no division by 0.
        let high = if low == high { high + 0.001 } else { high };
        let turned = |(j, theta): (usize, f64)| {
            let ramp = ((j as f64 - low) / (high - low)).clamp(0.0, 1.0);
            theta * (1.0 - ramp) + theta / self.factor * ramp
        };
        self.rotary.powers(dim).into_iter().enumerate().map(turned).collect()
    }
}

impl Rotation for Yarn {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, _: &SchemeContext<'_>, _: &Block) -> Result<(), SchemeError> {
        if self.rotary.base <= 1.0 {
            return Err(SchemeError::range(
                "base",
                self.rotary.base,
                "a number above 1: pairs are told apart by its powers",
            ));
        }
        if self.beta_fast < self.beta_slow {
            return Err(SchemeError::range(
                "beta_fast",
                self.beta_fast,
                format!("at least `beta_slow`, {}", self.beta_slow),
            ));
        }
        Ok(())
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.table(&[pair], self.frequencies(block.dim)))
    }

    fn amplitude(&self) -> f64 {
        let magnitude = |mscale| Yarn::magnitude(self.factor, mscale);
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(factor), ..) => factor,
            (None, Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => magnitude(mscale) / magnitude(all),
            _ => magnitude(1.0),
        }
    }
}

rotation!(Yarn);
positions!(Yarn);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("yarn.rs"), 8, |_| Box::new(Yarn::new(4.0, 2048)));
    }
}
