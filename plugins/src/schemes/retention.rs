//! Retention: rotated queries and keys, whose products decay with distance, and no softmax.
//!
//! Sun et al.: *Retentive Network* (arXiv 2307.08621). Pairs are neighbours and turn by `p theta_c`, with `theta_c = base^(-c / (D / 2 - 1))` for
//! `c = 0 .. D / 2 - 1`, which is not RoPE's exponent. Scores decay by `gamma_h^(i - j)` for keys that are not ahead, with
//! `gamma_h = 1 - 2^(-5 - h)`, and are 0 for those ahead. As torchscale has it, rows are divided by the root of the sum of their decays, and with
//! `normalised` by `max(|the sum of the row|, 1)` too. A group norm after the attention makes either needless.
//!
//! Scores are the weights: `Attention::weights_with(|_, score| score)`, with a scale of `1 / sqrt(head_dim)`. A row and the sum that divides it are
//! made in one pass over the keys.
//!
//! ```text
//! %q_out = scheme retention.query %q @0 : f32[h, q, d]
//! %k_out = scheme retention.key %k @0 : f32[h, k, d]
//! %out = scheme retention.score %score @0 : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %5 = table [1.0, 0.046415888336127795, 0.0021544346900318843, 0.0001] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %q_out = rotate %q over d by %7 over pair interleaved : f32[h, q, d]
//! %9 = cast %j to f32 : f32[k]
//! %10 = mul %9, %5 : f32[k, pair]
//! %k_out = rotate %k over d by %10 over pair interleaved : f32[h, k, d]
//! %12 = table [-0.0317486983145803, -0.015748356968139168] : f32[h]
//! %13 = table [0.03125, 0.015625] : f32[h]
//! %14 = le %j, %i : bool[q, k]
//! %15 = sub %i, %j : i32[q, k]
//! %16 = const 0 : i32
//! %17 = max %15, %16 : i32[q, k]
//! %18 = cast %17 to f32 : f32[q, k]
//! %19 = mul %12, %18 : f32[h, q, k]
//! %20 = exp %19 : f32[h, q, k]
//! %21 = const 1 : i32
//! %22 = add %i, %21 : i32[q]
//! %23 = cast %22 to f32 : f32[q]
//! %24 = mul %12, %23 : f32[h, q]
//! %25 = exp %24 : f32[h, q]
//! %26 = const 1.0 : f32
//! %27 = sub %26, %25 : f32[h, q]
//! %28 = div %27, %13 : f32[h, q]
//! %29 = mul %score, %20 : f32[h, q, k]
//! %30 = sqrt %28 : f32[h, q]
//! %31 = div %29, %30 : f32[h, q, k]
//! %32 = const 0.0 : f32
//! %33 = select %14, %31, %32 : f32[h, q, k]
//! %34 = cast %14 to f32 : f32[q, k]
//! %35 = dot %33, %34 over k : f32[h, q]
//! %36 = abs %35 : f32[h, q]
//! %37 = const 1.0 : f32
//! %38 = max %36, %37 : f32[h, q]
//! %out = div %33, %38 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr, Pairing};

use super::shared::even_head_dim;
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Rotated queries and keys, whose products decay with distance, and no softmax (arXiv 2307.08621).
    ///
    /// RetNet: see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Retention: "retention" at Query, Key, Score = "pair c turns by p theta_c; score gamma_h^(i - j) / norm, 0 for j > i" {
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// Divide each row by its sum, where that is above 1.
        normalised: bool = true,
    }
}

impl Retention {
    /// RetNet's.
    pub fn new() -> Retention {
        Retention::default()
    }

    /// Leaves rows undivided by their sums, for a group norm that follows.
    #[must_use]
    pub fn unnormalised(self) -> Retention {
        Retention { normalised: false, ..self }
    }

    fn rotated<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>, position: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let pairs = cx.head_dim()? / 2;
        let pair = cx.axis("pair", pairs);
        let last = f64::from(pairs.saturating_sub(1).max(1));
        let theta: Vec<f64> = (0..pairs).map(|c| self.base.powf(-f64::from(c) / last)).collect();
        Ok(x.rotate(position * cx.table(&[pair], theta), cx.dim_axis(), pair, Pairing::Interleaved, 0))
    }
}

impl PositionScheme for Retention {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.heads()?;
        even_head_dim(cx).map(|_| ())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.rotated(cx, x, cx.q_pos())
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.rotated(cx, x, cx.k_pos())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let rest = |h: u32| (-5.0 - f64::from(h)).exp2();
        let heads = cx.heads()?;
        let log_gamma = cx.per_head((0..heads).map(|h| (-rest(h)).ln_1p()).collect::<Vec<_>>())?;
        let rests = cx.per_head((0..heads).map(rest).collect::<Vec<_>>())?;
        let (i, j) = (cx.q_index(), cx.k_index());
        let seen = j.le(i);
        let decay = (log_gamma * (i - j).max(0)).exp();
        // The sum of a geometric series: all keys from the first to the query's own.
        let decays = (1.0 - (log_gamma * (i + 1)).exp()) / rests;
        let weights = seen.select(score * decay / decays.sqrt(), 0.0);
        if !self.normalised {
            return Ok(weights);
        }
        let sum = weights.dot(seen.cast(Elem::F32), cx.key_axis());
        Ok(weights / sum.abs().max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("retention.rs"), 8, |_| Box::new(Retention::new()));
    }
}
