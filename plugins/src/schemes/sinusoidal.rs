//! Sinusoidal: sines and cosines of the position are added to queries and keys.
//!
//! Vaswani et al.: *Attention Is All You Need* (arXiv 1706.03762), where `PE(p)_2i = sin(p / base^(2i / D))` and `PE(p)_2i+1 = cos(..)` are added
//! to the embeddings ahead of all projections: outside of attention. Position-infused attention (Press, Smith, Lewis: *Shortformer*, arXiv
//! 2012.15832) adds them to queries and keys in each layer, and not to values, which is what this does. `layout = "half"` has all sines first,
//! then all cosines.
//!
//! ```text
//! %q_out = scheme sinusoidal.query %q @0 : f32[h, q, d]
//! %k_out = scheme sinusoidal.key %k @0 : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [-1.0, -0.1, -0.01, -0.001] : f32[pair]
//! %6 = cast %i to f32 : f32[q]
//! %7 = mul %6, %5 : f32[q, pair]
//! %8 = table [0.0, 1.0, 0.0, 1.0, ... 8 in all] : f32[d]
//! %9 = rotate %8 over d by %7 over pair interleaved : f32[q, d]
//! %q_out = add %q, %9 : f32[h, q, d]
//! %11 = cast %j to f32 : f32[k]
//! %12 = mul %11, %5 : f32[k, pair]
//! %13 = rotate %8 over d by %12 over pair interleaved : f32[k, d]
//! %k_out = add %k, %13 : f32[h, k, d]
//! ```

use rhumb_ir::{Expr, Pairing};

use super::shared::even_head_dim;
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Sines and cosines of the position are added to queries and keys (arXiv 1706.03762, 2012.15832).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Sinusoidal: "sinusoidal" at Query, Key = "x + PE(p), PE_2i = sin(p base^(-2i/D)), PE_2i+1 = cos(p base^(-2i/D))" {
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// Sines and cosines alternate, or all sines come first.
        layout: Pairing = Pairing::Interleaved,
        /// Factor on what is added.
        scale: f64 = 1.0,
    }
}

impl Sinusoidal {
    /// The paper's.
    pub fn new() -> Sinusoidal {
        Sinusoidal::default()
    }

    /// All sines first, then all cosines.
    #[must_use]
    pub fn half(self) -> Sinusoidal {
        Sinusoidal { layout: Pairing::Half, ..self }
    }

    /// A factor on what is added.
    #[must_use]
    pub fn scale(self, scale: f64) -> Sinusoidal {
        Sinusoidal { scale, ..self }
    }

    fn added<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>, position: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (dim, head_dim) = (cx.dim_axis(), cx.head_dim()?);
        let pair = cx.axis("pair", head_dim / 2);
        let theta = |i: u32| -self.base.powf(-2.0 * f64::from(i) / f64::from(head_dim));
        let is_cosine = |i: u32| if self.layout == Pairing::Half { i >= head_dim / 2 } else { i % 2 == 1 };
        // (0, 1) turned back by an angle is its sine and cosine.
        let units: Vec<f64> = (0..head_dim).map(|i| if is_cosine(i) { self.scale } else { 0.0 }).collect();
        let angle = position * cx.table(&[pair], (0..head_dim / 2).map(theta).collect::<Vec<_>>());
        Ok(x + cx.table(&[dim], units).rotate(angle, dim, pair, self.layout, 0))
    }
}

impl PositionScheme for Sinusoidal {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        even_head_dim(cx).map(|_| ())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.added(cx, x, cx.q_pos())
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.added(cx, x, cx.k_pos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("sinusoidal.rs"), 8, |_| Box::new(Sinusoidal::new()));
    }
}
