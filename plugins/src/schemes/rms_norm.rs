//! Norms of queries and keys: each is divided by the root of its mean square.
//!
//! Zhang, Sennrich: *Root Mean Square Layer Normalization* (arXiv 1910.07467), over the elements of a head and without learned weights: Llama 4
//! normalises queries and keys of its rotated layers so, and calls it an L2 norm. `eps` is 1e-5 there. Rotations keep the norm: before or after
//! one it is the same.
//!
//! ```text
//! %q_out = scheme rms_norm.query %q @0 : f32[h, q, d]
//! %k_out = scheme rms_norm.key %k @0 : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %3 = dot %q, %q over d : f32[h, q]
//! %4 = const 0.125 : f32
//! %5 = mul %3, %4 : f32[h, q]
//! %6 = const 1e-5 : f32
//! %7 = add %5, %6 : f32[h, q]
//! %8 = sqrt %7 : f32[h, q]
//! %q_out = div %q, %8 : f32[h, q, d]
//! %10 = dot %k, %k over d : f32[h, k]
//! %11 = const 0.125 : f32
//! %12 = mul %10, %11 : f32[h, k]
//! %13 = const 1e-5 : f32
//! %14 = add %12, %13 : f32[h, k]
//! %15 = sqrt %14 : f32[h, k]
//! %k_out = div %k, %15 : f32[h, k, d]
//! ```

use rhumb_ir::Expr;

use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Query and key divided by the root of their mean square (arXiv 1910.07467).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct RmsNorm: "rms_norm" at Query, Key = "x / sqrt(mean of x^2 + eps)" {
        /// Added to the mean square.
        #[range(AttrRange::above(0.0))]
        eps: f64 = 1e-5,
    }
}

impl RmsNorm {
    /// The norm with this number, above 0, added to the mean square.
    pub fn new(eps: f64) -> RmsNorm {
        RmsNorm { eps }
    }

    fn normed<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let mean = x.dot(x, cx.dim_axis()) * (1.0 / f64::from(cx.head_dim()?));
        Ok(x / (mean + self.eps).sqrt())
    }
}

impl PositionScheme for RmsNorm {
    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.normed(cx, x)
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.normed(cx, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("rms_norm.rs"), 8, |_| Box::new(RmsNorm::default()));
    }
}
