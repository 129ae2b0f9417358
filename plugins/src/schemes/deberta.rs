//! DeBERTa: queries meet learned vectors of distances, and keys meet others.
//!
//! He et al.: *DeBERTa* (arXiv 2006.03654), version 2 and 3. With `B` buckets and `c = clip(bucket(p_q - p_k) + B, 0, 2B - 1)`, the bias is
//! `scale (q . position_keys[c] + k . position_queries[c])`, of tables of `2B` projected vectors. All products of DeBERTa, that of query and key with
//! them, have the factor `1 / sqrt(D (1 + the number of these terms))`, which is `scale` where it is left out: `Attention::scale` must be the same.
//!
//! Buckets are exact up to `B / 2` and grow with the logarithm up to `max_distance`: with `m = B / 2`, `bucket(n) = n` for `|n| <= m`, else
//! `sign(n) (m + ceil(ln(|n| / m) / ln((max_distance - 1) / m) (m - 1)))`. Checkpoints have 256 buckets and a `max_distance` of 512.
//!
//! ```text
//! %out = scheme deberta.score %score @0 {buckets = 4, keys = %keys, max_distance = 6, position_keys = %position_keys, position_queries = %position_queries, queries = %queries} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %9 = table [0, 1, 1, 1, ... 13 in all] : i32[distance]
//! %10 = const 6 : i32
//! %11 = sub %j, %i : i32[q, k]
//! %12 = sub %10, %11 : i32[q, k]
//! %13 = gather %9 over distance at %12 : i32[q, k]
//! %14 = dot %queries, %position_keys over d : f32[h, q, position_keys]
//! %15 = const 0.20412414523193154 : f32
//! %16 = mul %14, %15 : f32[h, q, position_keys]
//! %17 = gather %16 over position_keys at %13 : f32[h, q, k]
//! %18 = add %score, %17 : f32[h, q, k]
//! %19 = dot %keys, %position_queries over d : f32[h, k, position_queries]
//! %20 = const 0.20412414523193154 : f32
//! %21 = mul %19, %20 : f32[h, k, position_queries]
//! %22 = gather %21 over position_queries at %13 : f32[h, q, k]
//! %out = add %18, %22 : f32[h, q, k]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::{check_whole, learned_along, rows, whole_distance};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Queries meet learned vectors of distances, and keys meet others (arXiv 2006.03654).
    ///
    /// DeBERTa's disentangled attention: see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Deberta: "deberta" at Score = "score + scale (q . position_keys[c] + k . position_queries[c])" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// The keys: f32 over keys and elements.
        keys: Value,
        /// What queries meet: f32 over an axis of 2 buckets and the elements, and maybe the heads.
        #[default("none")]
        position_keys: Option<Value> = None,
        /// What keys meet: f32 over an axis of 2 buckets and the elements, and maybe the heads.
        #[default("none")]
        position_queries: Option<Value> = None,
        /// B: buckets of one direction.
        #[range(4..=65_536, "a number of buckets")]
        buckets: u32 = 256,
        /// The distance at which buckets end.
        #[range(2..=500_000, "a number of tokens")]
        max_distance: u32 = 512,
        /// Factor on the products.
        #[default("1 / sqrt(head_dim (1 + terms))")]
        scale: Option<f64> = None,
    }
}

impl Deberta {
    /// Of these queries and keys, such as [`query`](crate::AttentionParts::query) and [`key`](crate::AttentionParts::key) of an attention.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>) -> Deberta {
        Deberta::with_defaults(queries.value(), keys.value())
    }

    /// What queries meet (`c2p`): `f32` over an axis of twice the buckets and the elements, and maybe the heads.
    #[must_use]
    pub fn position_keys(self, table: Expr<'_>) -> Deberta {
        Deberta { position_keys: Some(table.value()), ..self }
    }

    /// What keys meet (`p2c`): `f32` over an axis of twice the buckets and the elements, and maybe the heads.
    #[must_use]
    pub fn position_queries(self, table: Expr<'_>) -> Deberta {
        Deberta { position_queries: Some(table.value()), ..self }
    }

    /// Another number of buckets, and another distance at which they end.
    #[must_use]
    pub fn buckets(self, buckets: u32, max_distance: u32) -> Deberta {
        Deberta { buckets, max_distance, ..self }
    }

    /// The row of the tables for a key `distance` tokens behind the query.
    fn row(&self, distance: i64) -> i32 {
        let (span, middle) = (i64::from(self.buckets), i64::from(self.buckets / 2));
        let size = distance.abs();
        let bucket = if size <= middle {
            distance
        } else {
            let log = |x: i64| (x as f64 / middle as f64).ln();
            let steps = log(size) / log(i64::from(self.max_distance) - 1) * (middle - 1) as f64;
            // Where a step is whole, its logarithms may have come out a little above.
            distance.signum() * (middle + (steps - 1e-9).ceil().min(1e9) as i64)
        };
        (bucket + span).clamp(0, 2 * span - 1) as i32
    }

    /// The terms: side, rows, and table with its name.
    fn terms(&self) -> impl Iterator<Item = (&'static str, Value, &'static str, Value)> {
        let c2p = self.position_keys.map(|table| ("queries", self.queries, "position_keys", table));
        c2p.into_iter().chain(self.position_queries.map(|table| ("keys", self.keys, "position_queries", table)))
    }
}

impl PositionScheme for Deberta {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        check_whole(cx)?;
        rows(cx, "queries", self.queries, cx.query_axis())?;
        rows(cx, "keys", self.keys, cx.key_axis())?;
        if self.max_distance - 1 <= self.buckets / 2 {
            let expected = format!("more than the {} distances that have a bucket each", self.buckets / 2 + 1);
            return Err(SchemeError::range("max_distance", self.max_distance, expected));
        }
        if self.terms().next().is_none() {
            let expected = "what queries meet, or `position_queries`".to_owned();
            return Err(SchemeError::AttrMissing { name: "position_keys".to_owned(), expected });
        }
        for (_, _, name, table) in self.terms() {
            learned_along(cx, name, table, (&[cx.dim_axis()], Some(2 * self.buckets)))?;
        }
        Ok(())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, mut score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let parts = 1 + self.terms().count();
        let scale = self.scale.unwrap_or(1.0 / (f64::from(cx.head_dim()?) * parts as f64).sqrt());
        let reach = self.max_distance as i32;
        let rows: Vec<i32> = (-reach..=reach).map(|distance| self.row(distance.into())).collect();
        let distance = cx.axis("distance", rows.len() as u32);
        // What is farther takes the nearest.
        let row = cx.builder().int_table([distance], &rows).gather(distance, cx.int(reach) - whole_distance(cx));
        for (side, x, name, table) in self.terms() {
            let (table, axis) = learned_along(cx, name, table, (&[cx.dim_axis()], Some(2 * self.buckets)))?;
            let products = cx.value(side, x)?.dot(table, cx.dim_axis()) * scale;
            score = score + products.gather(axis, row);
        }
        Ok(score)
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("deberta.rs"), 8, |cx| {
            let (heads, dim, builder) = (cx.head_axis().expect("heads"), cx.dim_axis(), cx.builder());
            let rows = |name, axis| builder.input(name, Elem::F32, [heads, axis, dim]);
            let (queries, keys) = (rows("queries", cx.query_axis()), rows("keys", cx.key_axis()));
            let table = |name| builder.input(name, Elem::F32, [heads, builder.axis_of(name, 8), dim]);
            let scheme = Deberta::new(queries, keys).buckets(4, 6);
            Box::new(scheme.position_keys(table("position_keys")).position_queries(table("position_queries")))
        });
    }
}
