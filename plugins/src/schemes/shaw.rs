//! Shaw: a query meets a learned vector for each distance.
//!
//! Shaw, Uszkoreit, Vaswani: *Self-Attention with Relative Position Representations* (arXiv 1803.02155), the part of the keys. The bias is
//! `scale q . table[clip(p_k - p_q, -left, right) + left]`, with a table of `left + 1 + right` vectors. Wav2Vec2-BERT looks 64 back and 8 ahead.
//!
//! Queries meet the whole table once, and a pair of query and key reads one of these products.
//!
//! ```text
//! %out = scheme shaw.score %score @0 {left = 64, queries = %queries, right = 8, table = %table} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %7 = dot %queries, %table over d : f32[h, q, distance]
//! %8 = const 0.35355339059327373 : f32
//! %9 = mul %7, %8 : f32[h, q, distance]
//! %10 = sub %j, %i : i32[q, k]
//! %11 = const 64 : i32
//! %12 = add %10, %11 : i32[q, k]
//! %13 = gather %9 over distance at %12 : f32[h, q, k]
//! %out = add %score, %13 : f32[h, q, k]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::{check_whole, learned_along, rows, whole_distance};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query meets a learned vector for each distance (arXiv 1803.02155).
    ///
    /// Shaw's relative keys: see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Shaw: "shaw" at Score = "score + scale q . table[clip(p_k - p_q, -left, right) + left]" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// The learned vectors: f32 over an axis of distances and the elements, and maybe the heads.
        table: Value,
        /// How far keys behind are told apart.
        #[range(0..=500_000, "a number of tokens")]
        left: u32,
        /// How far keys ahead are told apart.
        #[range(0..=500_000, "a number of tokens")]
        right: u32,
        /// Factor on the product.
        #[default("1 / sqrt(head_dim)")]
        scale: Option<f64> = None,
    }
}

impl Shaw {
    /// Vectors of distances from `left` behind to `right` ahead, `f32` over an axis of these distances and the elements, and the queries that
    /// meet them, such as [`query`](crate::AttentionParts::query) of an attention.
    pub fn new(queries: Expr<'_>, table: Expr<'_>, left: u32, right: u32) -> Shaw {
        Shaw::with_defaults(queries.value(), table.value(), left, right)
    }

    /// The factor on the product, in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Shaw {
        Shaw { scale: Some(scale), ..self }
    }
}

impl PositionScheme for Shaw {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        check_whole(cx)?;
        rows(cx, "queries", self.queries, cx.query_axis())?;
        let length = Some(self.left + 1 + self.right);
        learned_along(cx, "table", self.table, (&[cx.dim_axis()], length)).map(|_| ())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let queries = cx.value("queries", self.queries)?;
        let length = Some(self.left + 1 + self.right);
        let (table, distance) = learned_along(cx, "table", self.table, (&[cx.dim_axis()], length))?;
        let scale = self.scale.unwrap_or(1.0 / f64::from(cx.head_dim()?).sqrt());
        let products = queries.dot(table, cx.dim_axis()) * scale;
        // What is farther takes the nearest.
        Ok(score + products.gather(distance, whole_distance(cx) + self.left as i32))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("shaw.rs"), 8, |cx| {
            let (heads, dim) = (cx.head_axis().expect("heads"), cx.dim_axis());
            let distance = cx.builder().axis_of("distance", 73);
            let queries = cx.builder().input("queries", Elem::F32, [heads, cx.query_axis(), dim]);
            Box::new(Shaw::new(queries, cx.builder().input("table", Elem::F32, [distance, dim]), 64, 8))
        });
    }
}
