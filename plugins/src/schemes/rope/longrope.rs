//! LongRoPE: each pair is slowed down by a factor of its own, of one list in short contexts and of another in long ones.
//!
//! Ding et al.: *LongRoPE* (arXiv 2402.13753); the form is that of Phi-3. With `L` the length trained on and `L'` the length of the call, pair
//! `j` turns by `p base^(-2j / R) / long_j` where `L' > L`, by `p base^(-2j / R) / short_j` where not. What turns is multiplied by `A`, at
//! any length: `attention_factor`, or `sqrt(1 + ln factor / ln L)`, and 1 where `factor` is 1 at most; the score has `A^2`, and with
//! partial rotary the elements that pass have none of it. `factor` is the longest context there is to be over `L`.
//!
//! `L'` is the site's length, the number of keys where nothing else is said, so one kernel serves every length; `length` gives it outright, as
//! a number or a value. Where positions do not count from 0, the length is the greatest position and 1. All tokens of a call turn
//! by the same list: keys that were rotated in calls up to `L` do not fit those beyond, so that a cache has to keep them as they were.
//!
//! ```text
//! %q_out = scheme longrope.query %q @0 {attention_factor = 1.25, long = [1.0, 2.0, 4.0, 8.0], short = [1.0, 1.0, 1.25, 2.0], train_length = 4096} : f32[h, q, d]
//! %k_out = scheme longrope.key %k @0 {attention_factor = 1.25, long = [1.0, 2.0, 4.0, 8.0], short = [1.0, 1.0, 1.25, 2.0], train_length = 4096} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %6 = const 1.25 : f32
//! %7 = mul %q, %6 : f32[h, q, d]
//! %8 = const 4096 : i32
//! %9 = gt %length, %8 : bool
//! %10 = table [1.0, 0.05, 0.0025, 0.000125] : f32[pair]
//! %11 = table [1.0, 0.1, 0.008, 0.0005] : f32[pair]
//! %12 = select %9, %10, %11 : f32[pair]
//! %13 = cast %i to f32 : f32[q]
//! %14 = mul %13, %12 : f32[q, pair]
//! %q_out = rotate %7 over d by %14 over pair half : f32[h, q, d]
//! %16 = const 1.25 : f32
//! %17 = mul %k, %16 : f32[h, k, d]
//! %18 = const 4096 : i32
//! %19 = gt %length, %18 : bool
//! %20 = select %19, %10, %11 : f32[pair]
//! %21 = cast %j to f32 : f32[k]
//! %22 = mul %21, %20 : f32[k, pair]
//! %k_out = rotate %17 over d by %22 over pair half : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Expr};

use super::rotary::{Block, Rotary, Rotation, check_frequencies, positions, rotation};
use crate::attrs::{AttrRange, IntOrValue};
use crate::error::SchemeError;
use crate::scheme::SchemeContext;
use crate::schemes::shared::{check_length, length};

crate::scheme! {
    /// RoPE with a factor for each pair, of two lists by the length of the call (arXiv 2402.13753).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct LongRope: "longrope" at Query, Key = "pair j of A x turns by p base^(-2j/R) / (if L' > L: long_j, else short_j)" {
        /// Factors of the pairs in contexts longer than L.
        #[range(AttrRange::above(0.0))]
        long: Vec<f64>,
        /// Factors of the pairs in contexts up to L.
        #[range(AttrRange::above(0.0))]
        short: Vec<f64>,
        /// L: the length trained on.
        #[range(1.., "a number of tokens")]
        train_length: i32,
        /// A: the factor on what turns.
        #[range(AttrRange::above(0.0))]
        #[default("sqrt(1 + ln factor / ln L)")]
        attention_factor: Option<f64> = None,
        /// The longest context over L.
        #[range(AttrRange::above(0.0))]
        factor: f64 = 1.0,
        /// L': the length in place of the call's own.
        #[range(1.., "a number of tokens")]
        #[default("the site's length")]
        length: Option<IntOrValue> = None,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl LongRope {
    /// The whole head, half pairing, for a model trained on `train_length` tokens: at least 1. Lists have a factor above 0 for each pair.
    pub fn new(train_length: i32, short: impl Into<Vec<f64>>, long: impl Into<Vec<f64>>) -> LongRope {
        LongRope::with_defaults(long.into(), short.into(), train_length)
    }

    /// The longest context over the length trained on, which the attention factor is made of: above 0.
    #[must_use]
    pub fn factor(self, factor: f64) -> LongRope {
        LongRope { factor, ..self }
    }

    /// The factor on what turns, outright: above 0.
    #[must_use]
    pub fn attention_factor(self, factor: f64) -> LongRope {
        LongRope { attention_factor: Some(factor), ..self }
    }

    /// With this length in place of the call's own: a number, or an `i32` value that does not vary by query or key.
    #[must_use]
    pub fn length(self, length: impl Into<IntOrValue>) -> LongRope {
        LongRope { length: Some(length.into()), ..self }
    }
}

impl Rotation for LongRope {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, cx: &SchemeContext<'_>, block: &Block) -> Result<(), SchemeError> {
        check_frequencies("short", &self.short, block.pairs())?;
        check_frequencies("long", &self.long, block.pairs())?;
        if self.train_length == 1 && self.factor > 1.0 && self.attention_factor.is_none() {
            let expected = "at least 2, or `attention_factor` outright: the factor divides by ln L";
            return Err(SchemeError::range("train_length", self.train_length, expected));
        }
        check_length(cx, self.length)
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        let powers = self.rotary.powers(block.dim);
        let table = |factors: &[f64]| {
            cx.table(&[pair], powers.iter().zip(factors).map(|(power, factor)| power / factor).collect::<Vec<f64>>())
        };
        match self.length {
            Some(IntOrValue::Int(length)) if length > self.train_length => Ok(table(&self.long)),
            Some(IntOrValue::Int(_)) => Ok(table(&self.short)),
            given => Ok(length(cx, given)?.gt(self.train_length).select(table(&self.long), table(&self.short))),
        }
    }

    fn amplitude(&self) -> f64 {
        let of_factor = || (1.0 + self.factor.ln() / f64::from(self.train_length).ln()).sqrt();
        self.attention_factor.unwrap_or_else(|| if self.factor <= 1.0 { 1.0 } else { of_factor() })
    }
}

rotation!(LongRope);
positions!(LongRope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        let (short, long) = ([1.0, 1.0, 1.25, 2.0], [1.0, 2.0, 4.0, 8.0]);
        let scheme = || LongRope::new(4096, short, long).attention_factor(1.25);
        crate::schemes::example::check(include_str!("longrope.rs"), 8, |_| Box::new(scheme()));
    }
}
