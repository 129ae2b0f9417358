//! T5's bias: a learned number for each range of distances, by head.
//!
//! Raffel et al.: *Exploring the Limits of Transfer Learning* (arXiv 1910.10683). The bias is `table[bucket(p_k - p_q), h]`. Of `n` buckets,
//! half are for keys ahead (`bidirectional`, the encoder; the decoder's has all for keys behind, and those ahead share bucket 0). Of the `m`
//! of a direction, half are for the distances below `m / 2` one by one, and the others grow with the logarithm up to `max_distance`:
//!
//! `m / 2 + floor(ln(distance / (m / 2)) / ln(max_distance / (m / 2)) (m - m / 2))`, at most `m - 1`.
//!
//! T5 has 32 buckets and a `max_distance` of 128, and does not scale its scores (`Attention::scale` 1); WavLM has 320 and 800.
//! x-transformers multiplies the bias by `sqrt(head_dim)`: `scale`. Distances are of whole tokens, so positions must be `i32`.
//!
//! The table of buckets is made one of distances, once per call; a pair of query and key reads one element of that.
//!
//! ```text
//! %out = scheme t5.score %score @0 {bidirectional = false, buckets = 4, max_distance = 4, table = %table} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %6 = table [3, 3, 2, 1, ... 5 in all] : i32[distance]
//! %7 = gather %table over bucket at %6 : f32[h, distance]
//! %8 = sub %j, %i : i32[q, k]
//! %9 = const 4 : i32
//! %10 = add %8, %9 : i32[q, k]
//! %11 = gather %7 over distance at %10 : f32[h, q, k]
//! %out = add %score, %11 : f32[h, q, k]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::{check_whole, learned_along, whole_distance};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A learned number for each range of distances (arXiv 1910.10683).
    ///
    /// T5's relative position bias: see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct T5: "t5" at Score = "score + table[bucket(p_k - p_q), h]" {
        /// The learned numbers: f32 over an axis of buckets, and maybe the heads.
        table: Value,
        /// Half of the buckets are for keys ahead of the query; without, these share bucket 0.
        bidirectional: bool = true,
        /// The number of buckets, of both directions together.
        #[range(2..=65_536, "a number of buckets")]
        buckets: u32 = 32,
        /// The distance from which on all share the last bucket.
        #[range(2..=500_000, "a number of tokens")]
        max_distance: u32 = 128,
        /// Factor on the bias.
        scale: f64 = 1.0,
    }
}

impl T5 {
    /// T5's encoder bias by a learned table, `f32` over an axis of 32 buckets and maybe the heads.
    pub fn new(table: Expr<'_>) -> T5 {
        T5::with_defaults(table.value())
    }

    /// All buckets for keys behind, as in T5's decoder.
    #[must_use]
    pub fn causal(self) -> T5 {
        T5 { bidirectional: false, ..self }
    }

    /// Another number of buckets, and another distance from which on all share the last.
    #[must_use]
    pub fn buckets(self, buckets: u32, max_distance: u32) -> T5 {
        T5 { buckets, max_distance, ..self }
    }

    /// A factor on the bias, such as the `sqrt(head_dim)` of x-transformers.
    #[must_use]
    pub fn scale(self, scale: f64) -> T5 {
        T5 { scale, ..self }
    }

    /// The buckets of one direction, and how many of them have one distance each.
    fn of_direction(&self) -> (u32, u32) {
        let all = if self.bidirectional { self.buckets / 2 } else { self.buckets };
        (all, all / 2)
    }

    /// The bucket of a key `distance` tokens ahead of the query.
    fn bucket(&self, distance: i64) -> u32 {
        let (all, exact) = self.of_direction();
        let ahead = self.bidirectional && distance > 0;
        let n = if self.bidirectional { distance.unsigned_abs() } else { (-distance).max(0).unsigned_abs() };
        let within = if n < u64::from(exact) {
            n as u32
        } else {
            let log = |x: f64| (x / f64::from(exact)).ln();
            let step = log(n as f64) / log(f64::from(self.max_distance)) * f64::from(all - exact);
            // Where a step is whole, its logarithms may have come out a little below.
            exact + (step + 1e-9).min(f64::from(all)) as u32
        };
        within.min(all - 1) + if ahead { all } else { 0 }
    }
}

impl PositionScheme for T5 {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let (all, exact) = self.of_direction();
        if all < 2 {
            return Err(SchemeError::range("buckets", self.buckets, "at least 2 buckets for each direction"));
        }
        if self.max_distance <= exact {
            let expected = format!("more than the {exact} distances that have a bucket each");
            return Err(SchemeError::range("max_distance", self.max_distance, expected));
        }
        check_whole(cx)?;
        learned_along(cx, "table", self.table, (&[], Some(self.buckets))).map(|_| ())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (table, bucket) = learned_along(cx, "table", self.table, (&[], Some(self.buckets)))?;
        let reach = self.max_distance as i32;
        // Without buckets for keys ahead, these are at distance 0.
        let ahead = if self.bidirectional { reach } else { 0 };
        let buckets: Vec<i32> = (-reach..=ahead).map(|distance| self.bucket(distance.into()) as i32).collect();
        let distance = cx.axis("distance", buckets.len() as u32);
        let by_distance = table.gather(bucket, cx.builder().int_table([distance], &buckets));
        let by_distance = if self.scale == 1.0 { by_distance } else { by_distance * self.scale };
        // What is farther takes the nearest.
        Ok(score + by_distance.gather(distance, whole_distance(cx) + reach))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::{Elem, GraphBuilder};

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("t5.rs"), 8, |cx| {
            let bucket = cx.builder().axis_of("bucket", 4);
            let table = cx.builder().input("table", Elem::F32, [bucket, cx.head_axis().expect("heads")]);
            Box::new(T5::new(table).causal().buckets(4, 4))
        });
    }

    /// Hugging Face's recipe, in single precision as it runs.
    fn hugging_face(scheme: &T5, distance: i64) -> u32 {
        let mut buckets = scheme.buckets;
        let (mut bucket, mut n) = (0, distance);
        if scheme.bidirectional {
            buckets /= 2;
            bucket += if n > 0 { buckets } else { 0 };
            n = n.abs();
        } else {
            n = -n.min(0);
        }
        let exact = buckets / 2;
        if n < i64::from(exact) {
            return bucket + n as u32;
        }
        let log = (n as f32 / exact as f32).ln() / (f64::from(scheme.max_distance) / f64::from(exact)).ln() as f32;
        bucket + (exact + (log * (buckets - exact) as f32) as u32).min(buckets - 1)
    }

    #[test]
    fn buckets_end_where_those_of_hugging_face_do() {
        let builder = GraphBuilder::new("none");
        let table = builder.scalar(0.0);
        let sizes =
            [(32, 128), (64, 128), (32, 64), (16, 40), (320, 800), (32, 256), (32, 512), (128, 1024), (32, 10_000)];
        for (buckets, most) in sizes {
            for scheme in [T5::new(table).buckets(buckets, most), T5::new(table).buckets(buckets, most).causal()] {
                for distance in -20_000..=20_000 {
                    let (found, expected) = (scheme.bucket(distance), hugging_face(&scheme, distance));
                    assert_eq!(found, expected, "{scheme:?} at {distance}");
                }
            }
        }
    }
}
