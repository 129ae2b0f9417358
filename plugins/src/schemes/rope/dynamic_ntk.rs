//! Dynamic NTK-aware scaling: the base grows with the length of the call, once that is past the length trained on.
//!
//! emozilla, 2023, after NTK-aware scaling (bloc97, 2023). With `L` the length trained on, `L'` the length of the call, and
//! `m = max(1, factor L' / L - (factor - 1))`, the base is `base m^(R / (R - 2))`: pair `j` turns by `p base^(-2j / R) m^(-2j / (R - 2))`.
//!
//! `L'` is the site's length, the number of keys where nothing else is said, so one kernel serves every length; `length` gives it outright, as
//! a number or a value. Where positions do not count from 0, the length is the greatest position and 1. All tokens of a call have
//! the base of that call: keys that were rotated in shorter calls do not fit, so that a cache has to keep them as they were. (Code in the wild
//! remembers the longest call so far, and gives other results after a longer one.)
//!
//! ```text
//! %q_out = scheme dynamic_ntk.query %q @0 {factor = 2.0, train_length = 2048} : f32[h, q, d]
//! %k_out = scheme dynamic_ntk.key %k @0 {factor = 2.0, train_length = 2048} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %6 = const 2048 : i32
//! %7 = max %length, %6 : i32
//! %8 = const 0.0009765625 : f32
//! %9 = cast %7 to f32 : f32
//! %10 = mul %9, %8 : f32
//! %11 = const 1.0 : f32
//! %12 = sub %10, %11 : f32
//! %13 = table [-0.0, -0.3333333333333333, -0.6666666666666666, -1.0] : f32[pair]
//! %14 = table [1.0, 0.1, 0.01, 0.001] : f32[pair]
//! %15 = const 1.0 : f32
//! %16 = max %12, %15 : f32
//! %17 = pow %16, %13 : f32[pair]
//! %18 = mul %14, %17 : f32[pair]
//! %19 = cast %i to f32 : f32[q]
//! %20 = mul %19, %18 : f32[q, pair]
//! %q_out = rotate %q over d by %20 over pair half : f32[h, q, d]
//! %22 = const 2048 : i32
//! %23 = max %length, %22 : i32
//! %24 = const 0.0009765625 : f32
//! %25 = cast %23 to f32 : f32
//! %26 = mul %25, %24 : f32
//! %27 = const 1.0 : f32
//! %28 = sub %26, %27 : f32
//! %29 = const 1.0 : f32
//! %30 = max %28, %29 : f32
//! %31 = pow %30, %13 : f32[pair]
//! %32 = mul %14, %31 : f32[pair]
//! %33 = cast %j to f32 : f32[k]
//! %34 = mul %33, %32 : f32[k, pair]
//! %k_out = rotate %k over d by %34 over pair half : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Expr};

use super::rotary::{Block, Rotary, Rotation, positions, rotation};
use crate::attrs::{AttrRange, IntOrValue};
use crate::error::SchemeError;
use crate::scheme::SchemeContext;
use crate::schemes::shared::{check_length, length};

crate::scheme! {
    /// RoPE with a base that grows with the length of the call (emozilla, 2023).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct DynamicNtk: "dynamic_ntk" at Query, Key = "pair j of x turns by p base^(-2j/R) max(1, factor L'/L - (factor - 1))^(-2j/(R-2))" {
        /// How strongly the base grows.
        #[range(AttrRange::above(0.0))]
        factor: f64,
        /// L: the length trained on.
        #[range(1.., "a number of tokens")]
        train_length: i32,
        /// L': the length in place of the call's own.
        #[range(1.., "a number of tokens")]
        #[default("the site's length")]
        length: Option<IntOrValue> = None,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl DynamicNtk {
    /// The whole head, half pairing, for a model trained on `train_length` tokens: at least 1. `factor` is above 0.
    pub fn new(factor: f64, train_length: i32) -> DynamicNtk {
        DynamicNtk::with_defaults(factor, train_length)
    }

    /// With this length in place of the call's own: a number, or an `i32` value that does not vary by query or key.
    #[must_use]
    pub fn length(self, length: impl Into<IntOrValue>) -> DynamicNtk {
        DynamicNtk { length: Some(length.into()), ..self }
    }
}

impl Rotation for DynamicNtk {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, cx: &SchemeContext<'_>, block: &Block) -> Result<(), SchemeError> {
        if block.dim <= 2 {
            return Err(SchemeError::RotaryDim {
                what: "the rotary dimension".to_owned(),
                found: block.dim,
                expected: "at least 4: a rotary dimension of 2 has one frequency, which no base changes".to_owned(),
            });
        }
        check_length(cx, self.length)
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        let (train, factor) = (f64::from(self.train_length), self.factor);
        let powers = self.rotary.powers(block.dim);
        let exponents = (0..block.pairs()).map(|j| -2.0 * f64::from(j) / (f64::from(block.dim) - 2.0));
        if let Some(IntOrValue::Int(length)) = self.length {
            let growth = (factor * f64::from(length) / train - (factor - 1.0)).max(1.0);
            let grown = powers.iter().zip(exponents).map(|(power, exponent)| power * growth.powf(exponent));
            return Ok(cx.table(&[pair], grown.collect::<Vec<f64>>()));
        }
        let growth = length(cx, self.length)?.max(self.train_length) * (factor / train) - (factor - 1.0);
        let exponents = cx.table(&[pair], exponents.collect::<Vec<f64>>());
        Ok(cx.table(&[pair], powers) * growth.max(1.0).pow(exponents))
    }
}

rotation!(DynamicNtk);
positions!(DynamicNtk);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("dynamic_ntk.rs"), 8, |_| Box::new(DynamicNtk::new(2.0, 2048)));
    }
}
