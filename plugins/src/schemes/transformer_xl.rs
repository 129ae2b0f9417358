//! Transformer-XL: a query meets the key and its distance, each with a learned bias of the query.
//!
//! Dai et al.: *Transformer-XL* (arXiv 1901.02860). The score is `scale ((q + u_h) . k + (q + v_h) . r[p_q - p_k])`, with `r` the projected
//! embeddings of the distances from 0 on. Distances past the last embedding, and keys ahead of the query, take the nearest: it wants a causal mask.
//!
//! ```text
//! %q_out = scheme transformer_xl.query %q @0 {distances = %distances, queries = %queries, u = %u, v = %v} : f32[h, q, d]
//! %out = scheme transformer_xl.score %score @0 {distances = %distances, queries = %queries, u = %u, v = %v} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %q_out = add %q, %u : f32[h, q, d]
//! %10 = add %queries, %v : f32[h, q, d]
//! %11 = dot %10, %distances over d : f32[h, q, distance]
//! %12 = const 0.35355339059327373 : f32
//! %13 = mul %11, %12 : f32[h, q, distance]
//! %14 = sub %j, %i : i32[q, k]
//! %15 = neg %14 : i32[q, k]
//! %16 = gather %13 over distance at %15 : f32[h, q, k]
//! %out = add %score, %16 : f32[h, q, k]
//! ```

use rhumb_ir::{Axis, Expr, Value};

use super::shared::{check_whole, learned, rows, whole_distance};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query meets the key and its distance, each with a learned bias of the query (arXiv 1901.02860).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct TransformerXl: "transformer_xl" at Query, Score = "q + u_h; score + scale (q + v_h) . r[p_q - p_k]" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// r: f32 over an axis of distances from 0 on and the elements, and maybe the heads.
        distances: Value,
        /// u: f32 over the elements, and maybe the heads.
        u: Value,
        /// v: f32 over the elements, and maybe the heads.
        v: Value,
        /// Factor on the product with distances.
        #[default("1 / sqrt(head_dim)")]
        scale: Option<f64> = None,
    }
}

impl TransformerXl {
    /// By the projected embeddings of distances, `f32` over an axis of distances and the elements, the biases `u` and `v` over the elements,
    /// each with the heads or without, and the queries, such as [`query`](crate::AttentionParts::query) of an attention.
    pub fn new(queries: Expr<'_>, distances: Expr<'_>, [u, v]: [Expr<'_>; 2]) -> TransformerXl {
        TransformerXl::with_defaults(queries.value(), distances.value(), u.value(), v.value())
    }

    /// The factor on the product with distances, in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> TransformerXl {
        TransformerXl { scale: Some(scale), ..self }
    }

    /// The embeddings, and the axis of their distances.
    fn embeddings<'g>(&self, cx: &SchemeContext<'g>) -> Result<(Expr<'g>, Axis), SchemeError> {
        let (x, own) = learned(cx, "distances", self.distances, &[cx.dim_axis()])?;
        match own[..] {
            [axis] if ![cx.query_axis(), cx.key_axis()].contains(&axis) && x.ty().axes.contains(cx.dim_axis()) => {
                Ok((x, axis))
            }
            _ => {
                Err(cx.bad_value("distances", x, "f32 over an axis of distances and the elements, and maybe the heads"))
            }
        }
    }
}

impl PositionScheme for TransformerXl {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        check_whole(cx)?;
        rows(cx, "queries", self.queries, cx.query_axis())?;
        self.embeddings(cx)?;
        for (name, value) in [("u", self.u), ("v", self.v)] {
            let (x, own) = learned(cx, name, value, &[cx.dim_axis()])?;
            if !own.is_empty() || !x.ty().axes.contains(cx.dim_axis()) {
                return Err(cx.bad_value(name, x, "f32 over the elements of a head, and maybe the heads"));
            }
        }
        Ok(())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(x + cx.value("u", self.u)?)
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (embeddings, distance) = self.embeddings(cx)?;
        let queries = cx.value("queries", self.queries)? + cx.value("v", self.v)?;
        let scale = self.scale.unwrap_or(1.0 / f64::from(cx.head_dim()?).sqrt());
        let products = queries.dot(embeddings, cx.dim_axis()) * scale;
        Ok(score + products.gather(distance, -whole_distance(cx)))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("transformer_xl.rs"), 8, |cx| {
            let (heads, dim, builder) = (cx.head_axis().expect("heads"), cx.dim_axis(), cx.builder());
            let queries = builder.input("queries", Elem::F32, [heads, cx.query_axis(), dim]);
            let distances = builder.input("distances", Elem::F32, [heads, builder.axis("distance"), dim]);
            let biases = ["u", "v"].map(|name| builder.input(name, Elem::F32, [heads, dim]));
            Box::new(TransformerXl::new(queries, distances, biases))
        });
    }
}
