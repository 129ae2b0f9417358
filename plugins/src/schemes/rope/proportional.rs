//! p-RoPE: the fast pairs turn as in RoPE, the slow ones not at all.
//!
//! Barbero et al.: *Round and Round We Go!* (arXiv 2410.06205); Gemma 4 has it in its layers of full attention, with `fraction` 0.25. Of the
//! `R / 2` pairs the first `fraction R / 2`, rounded down, turn by `p base^(-2j / R) / factor`; the others have angle 0. It is not a partial
//! rotation: pairs reach over the whole block, and the exponents divide by all of it.
//!
//! ```text
//! %q_out = scheme proportional_rope.query %q @0 {base = 1000000.0, fraction = 0.5} : f32[h, q, d]
//! %k_out = scheme proportional_rope.key %k @0 {base = 1000000.0, fraction = 0.5} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [1.0, 0.03162277660168379, 0.0, 0.0] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %q_out = rotate %q over d by %7 over pair half : f32[h, q, d]
//! %9 = cast %j to f32 : f32[k]
//! %10 = mul %9, %5 : f32[k, pair]
//! %k_out = rotate %k over d by %10 over pair half : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Expr};

use super::rotary::{Block, Rotary, Rotation, positions, rotation};
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

crate::scheme! {
    /// RoPE whose slow pairs do not turn (arXiv 2410.06205).
    ///
    /// p-RoPE: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct ProportionalRope: "proportional_rope" at Query, Key = "pair j < fraction R/2 of x turns by p base^(-2j/R) / factor" {
        /// The share of the pairs that turn: the fastest.
        #[range(0.0..=1.0)]
        fraction: f64,
        /// Linear position interpolation: positions are divided by it.
        #[range(AttrRange::above(0.0))]
        factor: f64 = 1.0,
        /// What turns, and by which positions.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

impl ProportionalRope {
    /// The whole head, half pairing; of the pairs the share `fraction` turns, from 0 to 1.
    pub fn new(fraction: f64) -> ProportionalRope {
        ProportionalRope::with_defaults(fraction)
    }

    /// Linear position interpolation: positions divided by `factor`, which is above 0.
    #[must_use]
    pub fn factor(self, factor: f64) -> ProportionalRope {
        ProportionalRope { factor, ..self }
    }
}

impl Rotation for ProportionalRope {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, _: &SchemeContext<'_>, _: &Block) -> Result<(), SchemeError> {
        Ok(())
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        let turning = (self.fraction * f64::from(block.dim) / 2.0).floor();
        let powers = self.rotary.powers(block.dim).into_iter().enumerate();
        let thetas = powers.map(|(j, power)| if (j as f64) < turning { power / self.factor } else { 0.0 });
        Ok(cx.table(&[pair], thetas.collect::<Vec<f64>>()))
    }
}

rotation!(ProportionalRope);
positions!(ProportionalRope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        let scheme = || ProportionalRope::new(0.5).base(1e6);
        crate::schemes::example::check(include_str!("proportional.rs"), 8, |_| Box::new(scheme()));
    }
}
