//! PoPE: every element of a query or a key is a length, and its position an angle.
//!
//! *Decoupling the "What" and "Where" with Polar Coordinate Positional Embeddings* (arXiv 2509.10534). With `mu = softplus`, frequencies
//! `theta_c = base^(-c / D)` for each of the `D` elements, and learned phases `delta` by head and element, kept within `-2 pi` and 0, the score is
//! `scale sum_c mu(q_c) mu(k_c) cos(p_k theta_c + delta_hc - p_q theta_c)`.
//!
//! That is a product of vectors of `2 D` elements, which takes the place of the product of query and key: what the score was before this scheme,
//! other schemes' rotations with it, is dropped. Put it ahead of what adds to the score.
//!
//! A vector of the product has a length twice, turned by its angle: that is `sqrt(2) mu (cos, sin)` of the angle and an eighth of a turn, which
//! cosines of differences do not see. So the product is halved.
//!
//! ```text
//! %out = scheme pope.score %score @0 {keys = %keys, queries = %queries} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %7 = table [1.0, 0.31622776601683794, 0.1, 0.03162277660168379, ... 8 in all] : f32[channel]
//! %8 = cast %i to f32 : f32[q]
//! %9 = mul %8, %7 : f32[q, channel]
//! %10 = cast %j to f32 : f32[k]
//! %11 = mul %10, %7 : f32[k, channel]
//! %12 = const 0.0 : f32
//! %13 = max %queries, %12 : f32[h, q, d]
//! %14 = abs %queries : f32[h, q, d]
//! %15 = neg %14 : f32[h, q, d]
//! %16 = exp %15 : f32[h, q, d]
//! %17 = const 1.0 : f32
//! %18 = add %17, %16 : f32[h, q, d]
//! %19 = log %18 : f32[h, q, d]
//! %20 = add %13, %19 : f32[h, q, d]
//! %21 = iota polar : i32[polar]
//! %22 = const 8 : i32
//! %23 = mod %21, %22 : i32[polar]
//! %24 = gather %20 over d at %23 : f32[h, q, polar]
//! %25 = rotate %24 over polar by %9 over channel half : f32[h, q, polar]
//! %26 = const 0.0 : f32
//! %27 = max %keys, %26 : f32[h, k, d]
//! %28 = abs %keys : f32[h, k, d]
//! %29 = neg %28 : f32[h, k, d]
//! %30 = exp %29 : f32[h, k, d]
//! %31 = const 1.0 : f32
//! %32 = add %31, %30 : f32[h, k, d]
//! %33 = log %32 : f32[h, k, d]
//! %34 = add %27, %33 : f32[h, k, d]
//! %35 = iota polar : i32[polar]
//! %36 = const 8 : i32
//! %37 = mod %35, %36 : i32[polar]
//! %38 = gather %34 over d at %37 : f32[h, k, polar]
//! %39 = rotate %38 over polar by %11 over channel half : f32[h, k, polar]
//! %40 = dot %25, %39 over polar : f32[h, q, k]
//! %41 = const 0.17677669529663687 : f32
//! %out = mul %40, %41 : f32[h, q, k]
//! ```

use std::f64::consts::TAU;

use rhumb_ir::{Expr, Pairing, Value};

use super::shared::{learned, rows};
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Every element of a query or a key is a length, and its position an angle (arXiv 2509.10534).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Pope: "pope" at Score = "scale sum_c softplus(q_c) softplus(k_c) cos((p_k - p_q) theta_c + delta_hc)" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// The keys: f32 over keys and elements.
        keys: Value,
        /// delta: f32 over elements, and maybe the heads.
        #[default("0")]
        phases: Option<Value> = None,
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// Factor on the product.
        #[default("1 / sqrt(head_dim)")]
        scale: Option<f64> = None,
    }
}

impl Pope {
    /// Of these queries and keys, such as [`query`](crate::AttentionParts::query) and [`key`](crate::AttentionParts::key) of an attention.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>) -> Pope {
        Pope::with_defaults(queries.value(), keys.value())
    }

    /// Learned phases of the keys: `f32` over the axis of elements, and maybe the heads.
    #[must_use]
    pub fn phases(self, phases: Expr<'_>) -> Pope {
        Pope { phases: Some(phases.value()), ..self }
    }

    /// The base of the frequencies: finite, above 0.
    #[must_use]
    pub fn base(self, base: f64) -> Pope {
        Pope { base, ..self }
    }

    /// The factor on the product, in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Pope {
        Pope { scale: Some(scale), ..self }
    }

    /// The lengths of `x`, each turned by its angle and by an eighth of a turn more: both elements of a pair are the length, as in a vector
    /// that is longer by the square root of 2.
    fn turned<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>, angle: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.head_dim()?;
        let (wide, pair) = (cx.axis("polar", 2 * dim), cx.axis("channel", dim));
        let length = x.max(0.0) + (1.0 + (-x.abs()).exp()).log();
        let twice = length.gather(cx.dim_axis(), cx.builder().iota(wide) % dim as i32);
        Ok(twice.rotate(angle, wide, pair, Pairing::Half, 0))
    }
}

impl PositionScheme for Pope {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        // Twice the head is an axis of tables.
        let dim = cx.head_dim()?;
        if dim > 1 << 16 {
            let (what, expected) = ("the head dimension".to_owned(), "at most 65536 elements".to_owned());
            return Err(SchemeError::RotaryDim { what, found: dim, expected });
        }
        rows(cx, "queries", self.queries, cx.query_axis())?;
        rows(cx, "keys", self.keys, cx.key_axis())?;
        let Some(phases) = self.phases else { return Ok(()) };
        match learned(cx, "phases", phases, &[cx.dim_axis()])? {
            (x, own) if own.is_empty() && x.ty().axes.contains(cx.dim_axis()) => Ok(()),
            (x, _) => Err(cx.bad_value("phases", x, "f32 over the elements of a head, and maybe the heads")),
        }
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, _: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.head_dim()?;
        let (queries, keys) = (cx.value("queries", self.queries)?, cx.value("keys", self.keys)?);
        let pair = cx.axis("channel", dim);
        let theta: Vec<f64> = (0..dim).map(|c| self.base.powf(-f64::from(c) / f64::from(dim))).collect();
        let angle = |position: Expr<'g>| position * cx.table(&[pair], theta.clone());
        let (q_angle, mut k_angle) = (angle(cx.q_pos()), angle(cx.k_pos()));
        if let Some(phases) = self.phases {
            let phases = cx.value("phases", phases)?.gather(cx.dim_axis(), cx.builder().iota(pair));
            k_angle = k_angle + phases.max(-TAU).min(0.0);
        }
        let (q, k) = (self.turned(cx, queries, q_angle)?, self.turned(cx, keys, k_angle)?);
        // The product of two vectors that are too long by the square root of 2 is twice what it should be.
        let scale = self.scale.unwrap_or(1.0 / f64::from(dim).sqrt()) / 2.0;
        Ok(q.dot(k, cx.axis("polar", 2 * dim)) * scale)
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("pope.rs"), 8, |cx| {
            let (heads, dim) = (cx.head_axis().expect("heads"), cx.dim_axis());
            let rows = |name, axis| cx.builder().input(name, Elem::F32, [heads, axis, dim]);
            Box::new(Pope::new(rows("queries", cx.query_axis()), rows("keys", cx.key_axis())))
        });
    }
}
