//! Temperature: queries grow with their position, so that attention stays sharp over long contexts.
//!
//! `q (1 + a ln(1 + floor((p + s) / F)))`. Llama 4 has it on layers without rotation, with `a` 0.1, `F` 8192 and `s` 1 (so that the factor grows
//! at the token before the boundary); Ministral 3 on top of YaRN, with `a` 0.1, `F` 16384 and `s` 0. Positions
//! below 0 leave the query as it is. Compare scalable softmax (arXiv 2501.19399).
//!
//! ```text
//! %q_out = scheme temperature.query %q @0 {period = 8192, shift = 1} : f32[h, q, d]
//! ```
//! becomes
//! ```text
//! %4 = const 1 : i32
//! %5 = add %i, %4 : i32[q]
//! %6 = cast %5 to f32 : f32[q]
//! %7 = const 8192.0 : f32
//! %8 = div %6, %7 : f32[q]
//! %9 = floor %8 : f32[q]
//! %10 = const 0.0 : f32
//! %11 = max %9, %10 : f32[q]
//! %12 = const 1.0 : f32
//! %13 = add %12, %11 : f32[q]
//! %14 = log %13 : f32[q]
//! %15 = const 0.1 : f32
//! %16 = mul %15, %14 : f32[q]
//! %17 = const 1.0 : f32
//! %18 = add %17, %16 : f32[q]
//! %q_out = mul %q, %18 : f32[h, q, d]
//! ```

use rhumb_ir::{Elem, Expr};

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Queries grow with the logarithm of their position (Llama 4, Ministral 3).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Temperature: "temperature" at Query = "q (1 + a ln(1 + floor((p + s) / F)))" {
        /// F: positions from step to step.
        #[range(1.., "a number of positions")]
        period: i32,
        /// a: how much a step adds.
        rate: f64 = 0.1,
        /// s: added to positions.
        #[range(0..=1_000_000)]
        shift: i32 = 0,
    }
}

impl Temperature {
    /// Ministral 3's, which counts positions from 0: `period` is the length trained on, 16384.
    pub fn new(period: i32) -> Temperature {
        Temperature::with_defaults(period)
    }

    /// Llama 4's, which counts positions from 1: `period` is 8192.
    pub fn llama4(period: i32) -> Temperature {
        Temperature { shift: 1, ..Temperature::new(period) }
    }

    /// How much a step adds.
    #[must_use]
    pub fn rate(self, rate: f64) -> Temperature {
        Temperature { rate, ..self }
    }
}

impl PositionScheme for Temperature {
    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let position = if self.shift == 0 { cx.q_pos() } else { cx.q_pos() + self.shift };
        let steps = (position.cast(Elem::F32) / f64::from(self.period)).floor().max(0.0);
        Ok(x * (1.0 + self.rate * (1.0 + steps).log()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("temperature.rs"), 8, |_| Box::new(Temperature::llama4(8192)));
    }
}
