//! QK-norm: queries and keys are brought to one length before their product.
//!
//! Henry et al.: *Query-Key Normalization* (arXiv 2010.04245). Over the elements of a head:
//!
//! | norm | | used by |
//! |---|---|---|
//! | `l2` (default) | `x / max(\|x\|, eps)` | Swin V2's cosine attention (arXiv 2111.09883), with `eps` 1e-12 |
//! | `rms` | `x / sqrt(mean(x^2) + eps)` | Qwen 3, Gemma 3, OLMo 2, with `eps` 1e-6 and learned weights |
//!
//! Learned weights multiply the elements, `1 + w` with `unit_offset` (Gemma). `logit_scale` is learned by head: queries are multiplied by
//! `exp(min(s_h, ln 100))`, as in Swin V2; `Attention::scale` is then 1. Before a rotation or after it: schemes apply in the order given.
//!
//! ```text
//! %q_out = scheme qk_norm.query %q @0 : f32[h, q, d]
//! %k_out = scheme qk_norm.key %k @0 : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %3 = dot %q, %q over d : f32[h, q]
//! %4 = sqrt %3 : f32[h, q]
//! %5 = const 1e-12 : f32
//! %6 = max %4, %5 : f32[h, q]
//! %7 = const 1.0 : f32
//! %8 = div %7, %6 : f32[h, q]
//! %q_out = mul %q, %8 : f32[h, q, d]
//! %10 = dot %k, %k over d : f32[h, k]
//! %11 = sqrt %10 : f32[h, k]
//! %12 = const 1e-12 : f32
//! %13 = max %11, %12 : f32[h, k]
//! %14 = const 1.0 : f32
//! %15 = div %14, %13 : f32[h, k]
//! %k_out = mul %k, %15 : f32[h, k, d]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::learned;
use crate::attrs::Choice;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Queries and keys are brought to one length (arXiv 2010.04245).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct QkNorm: "qk_norm" at Query, Key = "x / |x|; rms: x w / sqrt(mean(x^2) + eps)" {
        /// Length 1, or a mean square of 1.
        norm: Norm = Norm::L2,
        /// Keeps the divisor off 0.
        #[range(0.0..)]
        eps: f64 = 1e-12,
        /// Factor on each element of queries: f32 over the elements, and maybe the heads.
        #[default("none")]
        q_weight: Option<Value> = None,
        /// Factor on each element of keys: f32 over the elements, and maybe the heads.
        #[default("none")]
        k_weight: Option<Value> = None,
        /// Weights are 1 and these.
        unit_offset: bool = false,
        /// Queries are multiplied by exp(min(s, ln 100)): f32 over the heads.
        #[default("none")]
        logit_scale: Option<Value> = None,
    }
}

/// What is made the same of all queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The length.
    L2,
    /// The mean square.
    Rms,
}

impl Choice for Norm {
    const NAMES: &'static [(&'static str, Norm)] = &[("l2", Norm::L2), ("rms", Norm::Rms)];
}

impl QkNorm {
    /// Queries and keys of length 1.
    pub fn l2() -> QkNorm {
        QkNorm::default()
    }

    /// Queries and keys of mean square 1, as nearly as `eps` 1e-6 lets them.
    pub fn rms() -> QkNorm {
        QkNorm { norm: Norm::Rms, eps: 1e-6, ..QkNorm::default() }
    }

    /// Another number that keeps the divisor off 0.
    #[must_use]
    pub fn eps(self, eps: f64) -> QkNorm {
        QkNorm { eps, ..self }
    }

    /// Factors on the elements of queries and of keys: `f32` over the axis of elements, and maybe the heads.
    #[must_use]
    pub fn weights(self, queries: Expr<'_>, keys: Expr<'_>) -> QkNorm {
        QkNorm { q_weight: Some(queries.value()), k_weight: Some(keys.value()), ..self }
    }

    /// Weights are 1 and those given, as in Gemma.
    #[must_use]
    pub fn unit_offset(self) -> QkNorm {
        QkNorm { unit_offset: true, ..self }
    }

    /// Multiplies queries by `exp(min(s, ln 100))`: `f32` over the heads.
    #[must_use]
    pub fn logit_scale(self, scale: Expr<'_>) -> QkNorm {
        QkNorm { logit_scale: Some(scale.value()), ..self }
    }

    fn normed<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        (name, weight): (&str, Option<Value>),
    ) -> Result<Expr<'g>, SchemeError> {
        let squares = x.dot(x, cx.dim_axis());
        let length = match self.norm {
            Norm::L2 => squares.sqrt().max(self.eps),
            Norm::Rms => (squares * (1.0 / f64::from(cx.head_dim()?)) + self.eps).sqrt(),
        };
        let x = x * (1.0 / length);
        let Some(weight) = weight else { return Ok(x) };
        let weight = cx.value(name, weight)?;
        Ok(x * if self.unit_offset { weight + 1.0 } else { weight })
    }
}

impl PositionScheme for QkNorm {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        for (name, weight) in [("q_weight", self.q_weight), ("k_weight", self.k_weight)] {
            let Some(weight) = weight else { continue };
            let (x, own) = learned(cx, name, weight, &[cx.dim_axis()])?;
            if !own.is_empty() || !x.ty().axes.contains(cx.dim_axis()) {
                return Err(cx.bad_value(name, x, "f32 over the elements of a head, and maybe the heads"));
            }
        }
        if let Some(scale) = self.logit_scale {
            let (x, own) = learned(cx, "logit_scale", scale, &[])?;
            if !own.is_empty() {
                return Err(cx.bad_value("logit_scale", x, "f32 over the heads"));
            }
        }
        if self.unit_offset && self.q_weight.is_none() && self.k_weight.is_none() {
            let expected = "the weights that `unit_offset` adds 1 to".to_owned();
            return Err(SchemeError::AttrMissing { name: "q_weight".to_owned(), expected });
        }
        Ok(())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let x = self.normed(cx, x, ("q_weight", self.q_weight))?;
        let Some(scale) = self.logit_scale else { return Ok(x) };
        Ok(x * cx.value("logit_scale", scale)?.min(100f64.ln()).exp())
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.normed(cx, x, ("k_weight", self.k_weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("qk_norm.rs"), 8, |_| Box::new(QkNorm::l2()));
    }
}
