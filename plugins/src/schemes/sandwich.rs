//! Sandwich: a sum of cosines of the distance, flatter by head.
//!
//! Chi, Fan, Rudnicky, Ramadge: *Dissecting Transformer Length Extrapolation* (arXiv 2212.10356). Of sinusoidal embeddings it keeps the product
//! of the two positions: `H / (8 (h + 1)) sum_i cos((p_q - p_k) / base^(2i / w))` over the `w / 2` waves `i`, with `w` 128 in the paper.
//!
//! A cosine of a difference is a product of two unit vectors that turn with the positions, so the bias is a second product of queries and keys,
//! of `w` elements, and no pair computes a cosine. A score that is capped before this bias is no sum of products, and is refused by kernels.
//!
//! ```text
//! %out = scheme sandwich.score %score @0 {waves = 4} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %5 = cast %i to f32 : f32[q]
//! %6 = table [1.0, 0.01] : f32[wave_pair]
//! %7 = mul %5, %6 : f32[q, wave_pair]
//! %8 = table [1.0, 0.0, 1.0, 0.0] : f32[wave]
//! %9 = rotate %8 over wave by %7 over wave_pair interleaved : f32[q, wave]
//! %10 = cast %j to f32 : f32[k]
//! %11 = mul %10, %6 : f32[k, wave_pair]
//! %12 = rotate %8 over wave by %11 over wave_pair interleaved : f32[k, wave]
//! %13 = table [0.25, 0.125] : f32[h]
//! %14 = mul %9, %13 : f32[h, q, wave]
//! %15 = dot %14, %12 over wave : f32[h, q, k]
//! %out = add %score, %15 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr, Pairing};

use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A sum of cosines of the distance, flatter by head (arXiv 2212.10356).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Sandwich: "sandwich" at Score = "score + H / (8 (h + 1)) sum_i cos((p_q - p_k) / base^(2i/w))" {
        /// w: twice the number of waves, even.
        #[range(2..=65_536, "an even number")]
        waves: u32 = 128,
        /// Base of the wave lengths.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
    }
}

impl Sandwich {
    /// The paper's, of 64 waves.
    pub fn new() -> Sandwich {
        Sandwich::default()
    }

    /// Twice another number of waves.
    #[must_use]
    pub fn waves(self, waves: u32) -> Sandwich {
        Sandwich { waves, ..self }
    }

    /// Another base of the wave lengths.
    #[must_use]
    pub fn base(self, base: f64) -> Sandwich {
        Sandwich { base, ..self }
    }

    /// Unit vectors turned by a position, one for each wave.
    fn turned<'g>(&self, cx: &SchemeContext<'g>, position: Expr<'g>) -> Expr<'g> {
        let (pair, wave) = (cx.axis("wave_pair", self.waves / 2), cx.axis("wave", self.waves));
        let exponent = |i: u32| -2.0 * f64::from(i) / f64::from(self.waves);
        let theta: Vec<f64> = (0..self.waves / 2).map(|i| self.base.powf(exponent(i))).collect();
        let units: Vec<f64> = (0..self.waves).map(|i| f64::from(1 - i % 2)).collect();
        let angle = position * cx.table(&[pair], theta);
        cx.table(&[wave], units).rotate(angle, wave, pair, Pairing::Interleaved, 0)
    }
}

impl PositionScheme for Sandwich {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.heads()?;
        if self.waves.is_multiple_of(2) {
            Ok(())
        } else {
            Err(SchemeError::range("waves", self.waves, "an even number"))
        }
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let heads = cx.heads()?;
        let weights: Vec<f64> = (0..heads).map(|h| f64::from(heads) / (8.0 * f64::from(h + 1))).collect();
        let (q, k) = (self.turned(cx, cx.q_pos().cast(Elem::F32)), self.turned(cx, cx.k_pos().cast(Elem::F32)));
        Ok(score + (q * cx.per_head(weights)?).dot(k, cx.axis("wave", self.waves)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("sandwich.rs"), 8, |_| Box::new(Sandwich::new().waves(4)));
    }
}
