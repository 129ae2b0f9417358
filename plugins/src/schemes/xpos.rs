//! xPos: rotation with a decay, by which products of distant queries and keys fade.
//!
//! Sun et al.: *A Length-Extrapolatable Transformer* (arXiv 2212.10554). Pair `c` of `D / 2` turns as in RoPE, and its elements are multiplied by
//! `zeta_c^((p - c0) / B)` in queries and by the inverse in keys, with `zeta_c = (2c / D + gamma) / (1 + gamma)`. `B` is 512 and `gamma` 0.4;
//! pairs are neighbours in torchscale, lucidrains' code and here (`interleaved`).
//!
//! The centre `c0` cancels in the product, but must be one for queries and keys: keys in a cache are scaled for good. Factors far from the centre
//! leave single precision, `zeta_0` to the power 70 at distance `70 B`; a centre near the middle of the text serves the longest.
//!
//! ```text
//! %q_out = scheme xpos.query %q @0 : f32[h, q, d]
//! %k_out = scheme xpos.key %k @0 : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [1.0, 0.1, 0.01, 0.001] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %8 = rotate %q over d by %7 over pair interleaved : f32[h, q, d]
//! %9 = table [-0.0024468026728425153, -0.0024468026728425153, -0.001498545220143881, -0.001498545220143881, ... 8 in all] : f32[d]
//! %10 = cast %i to f32 : f32[q]
//! %11 = mul %10, %9 : f32[q, d]
//! %12 = exp %11 : f32[q, d]
//! %q_out = mul %8, %12 : f32[h, q, d]
//! %14 = cast %j to f32 : f32[k]
//! %15 = mul %14, %5 : f32[k, pair]
//! %16 = rotate %k over d by %15 over pair interleaved : f32[h, k, d]
//! %17 = table [0.0024468026728425153, 0.0024468026728425153, 0.001498545220143881, 0.001498545220143881, ... 8 in all] : f32[d]
//! %18 = cast %j to f32 : f32[k]
//! %19 = mul %18, %17 : f32[k, d]
//! %20 = exp %19 : f32[k, d]
//! %k_out = mul %16, %20 : f32[h, k, d]
//! ```

use rhumb_ir::{Elem, Expr, Pairing};

use super::rope::Rope;
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Rotation with a decay, by which distant products fade (arXiv 2212.10554).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct XPos: "xpos" at Query, Key = "pair c of q turns by p theta_c, times zeta_c^((p - c0)/B); k inversely" {
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// c0: the position whose factor is 1.
        center: f64 = 0.0,
        /// Keeps the factor of the first pair off 0.
        #[range(AttrRange::above(0.0))]
        gamma: f64 = 0.4,
        /// Pairs element 2j with 2j + 1, or j with j + D/2.
        pairing: Pairing = Pairing::Interleaved,
        /// B: positions over which a factor reaches zeta.
        #[range(AttrRange::above(0.0))]
        scale_base: f64 = 512.0,
    }
}

impl XPos {
    /// The paper's, with a scale base of 512.
    pub fn new() -> XPos {
        XPos::default()
    }

    /// The base of the frequencies: finite, above 0.
    #[must_use]
    pub fn base(self, base: f64) -> XPos {
        XPos { base, ..self }
    }

    /// Positions over which a factor reaches `zeta`: finite, above 0.
    #[must_use]
    pub fn scale_base(self, scale_base: f64) -> XPos {
        XPos { scale_base, ..self }
    }

    /// The position whose factor is 1, one for queries and keys.
    #[must_use]
    pub fn center(self, center: f64) -> XPos {
        XPos { center, ..self }
    }

    /// Which elements pair up.
    #[must_use]
    pub fn pairing(self, pairing: Pairing) -> XPos {
        XPos { pairing, ..self }
    }

    fn rope(&self) -> Rope {
        Rope::new().base(self.base).pairing(self.pairing)
    }

    /// `x`, which is rotated, times the factors; `sign` is -1 for keys.
    fn scaled<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        (position, sign): (Expr<'g>, f64),
    ) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.head_dim()?;
        let rate = |element: u32| {
            let pair = if self.pairing == Pairing::Half { element % (dim / 2) } else { element / 2 };
            let zeta = (2.0 * f64::from(pair) / f64::from(dim) + self.gamma) / (1.0 + self.gamma);
            sign * zeta.ln() / self.scale_base
        };
        let rates = cx.table(&[cx.dim_axis()], (0..dim).map(rate).collect::<Vec<_>>());
        let position = position.cast(Elem::F32);
        let away = if self.center == 0.0 { position } else { position - self.center };
        Ok(x * (away * rates).exp())
    }
}

impl PositionScheme for XPos {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        self.rope().check(cx)
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.scaled(cx, self.rope().query(cx, x)?, (cx.q_pos(), 1.0))
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.scaled(cx, self.rope().key(cx, x)?, (cx.k_pos(), -1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("xpos.rs"), 8, |_| Box::new(XPos::new()));
    }
}
