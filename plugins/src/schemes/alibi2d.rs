//! 2D ALiBi: a penalty that grows with the distance of two patches of an image.
//!
//! `-m_h |c_q - c_k|`, with `c = (y, x)` the coordinates of a patch and `m_h` the slopes of ALiBi. CROMA (arXiv 2311.00566) has the Euclidean
//! distance and the official slopes, for any number of heads; copies of its code that leave out what belongs to head counts that are no power
//! of two have other slopes. `metric = "manhattan"` is `|y_q - y_k| + |x_q - x_k|`.
//!
//! Coordinates come from a grid of `height` rows and `width` columns in row order, by token index; or outright, as values: patches that were
//! left out of a masked image, or longitude and latitude. A pair of query and key computes the distance: no table of pairs is made.
//!
//! ```text
//! %out = scheme alibi2d.score %score @0 {width = 14} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %5 = table [0.0625, 0.00390625] : f32[h]
//! %6 = const 14 : i32
//! %7 = div %i, %6 : i32[q]
//! %8 = const 14 : i32
//! %9 = mod %i, %8 : i32[q]
//! %10 = const 14 : i32
//! %11 = div %j, %10 : i32[k]
//! %12 = const 14 : i32
//! %13 = mod %j, %12 : i32[k]
//! %14 = sub %7, %11 : i32[q, k]
//! %15 = cast %14 to f32 : f32[q, k]
//! %16 = sub %9, %13 : i32[q, k]
//! %17 = cast %16 to f32 : f32[q, k]
//! %18 = mul %15, %15 : f32[q, k]
//! %19 = mul %17, %17 : f32[q, k]
//! %20 = add %18, %19 : f32[q, k]
//! %21 = sqrt %20 : f32[q, k]
//! %22 = mul %5, %21 : f32[h, q, k]
//! %out = sub %score, %22 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr, Value};

use super::alibi::Alibi;
use super::shared::{by_head, cell, check_by_head};
use crate::attrs::{AttrRange, Choice, ListOrValue};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A penalty linear in the distance of two patches, with a slope per head (arXiv 2311.00566).
    ///
    /// 2D ALiBi: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Alibi2d: "alibi2d" at Score = "score - m_h |(y_q - y_k, x_q - x_k)|" {
        /// Columns of the patch grid.
        #[range(1..=1_000_000, "a number of columns")]
        #[default("coordinates are given")]
        width: Option<i32> = None,
        /// Row of each query, i32 or f32.
        #[default("from the grid")]
        q_y: Option<Value> = None,
        /// Column of each query.
        #[default("from the grid")]
        q_x: Option<Value> = None,
        /// Row of each key.
        #[default("from the grid")]
        k_y: Option<Value> = None,
        /// Column of each key.
        #[default("from the grid")]
        k_x: Option<Value> = None,
        /// Minus the log2 of the last head's slope.
        #[range(AttrRange::above(0.0))]
        bias_max: f64 = 8.0,
        /// The straight distance, or the sum of those along the axes.
        metric: Metric = Metric::Euclidean,
        /// Factor on all slopes.
        scale: f64 = 1.0,
        /// One slope per head: a list, or a value over the heads.
        #[default("official")]
        slopes: Option<ListOrValue> = None,
    }
}

/// How far two patches are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `sqrt(dy^2 + dx^2)`.
    Euclidean,
    /// `|dy| + |dx|`.
    Manhattan,
}

impl Choice for Metric {
    const NAMES: &'static [(&'static str, Metric)] =
        &[("euclidean", Metric::Euclidean), ("manhattan", Metric::Manhattan)];
}

const GIVEN: [&str; 4] = ["q_y", "q_x", "k_y", "k_x"];

impl Alibi2d {
    /// Patches in row order, `width` to a row.
    pub fn grid(width: i32) -> Alibi2d {
        Alibi2d { width: Some(width), ..Alibi2d::default() }
    }

    /// Coordinates outright, `i32` or `f32`: row and column of each query, over the query axis, and of each key, over the key axis.
    pub fn at(q_y: Expr<'_>, q_x: Expr<'_>, k_y: Expr<'_>, k_x: Expr<'_>) -> Alibi2d {
        let [q_y, q_x, k_y, k_x] = [q_y, q_x, k_y, k_x].map(|x| Some(x.value()));
        Alibi2d { q_y, q_x, k_y, k_x, ..Alibi2d::default() }
    }

    /// Another distance.
    #[must_use]
    pub fn metric(self, metric: Metric) -> Alibi2d {
        Alibi2d { metric, ..self }
    }

    /// These slopes, one per head.
    #[must_use]
    pub fn slopes(self, slopes: impl Into<Vec<f64>>) -> Alibi2d {
        Alibi2d { slopes: Some(ListOrValue::List(slopes.into())), ..self }
    }

    /// Slopes that each call tells: an `f32` value over the head axis.
    #[must_use]
    pub fn slopes_value(self, slopes: Expr<'_>) -> Alibi2d {
        Alibi2d { slopes: Some(ListOrValue::Value(slopes.value())), ..self }
    }

    /// A factor on all slopes.
    #[must_use]
    pub fn scale(self, scale: f64) -> Alibi2d {
        Alibi2d { scale, ..self }
    }

    /// The coordinates that are given, in the order of `GIVEN`.
    fn given(&self) -> [Option<Value>; 4] {
        [self.q_y, self.q_x, self.k_y, self.k_x]
    }

    /// Row and column of the query, then of the key.
    fn coordinates<'g>(&self, cx: &SchemeContext<'g>) -> Result<[Expr<'g>; 4], SchemeError> {
        if let [Some(q_y), Some(q_x), Some(k_y), Some(k_x)] = self.given() {
            let [a, b, c, d] = GIVEN;
            return Ok([cx.value(a, q_y)?, cx.value(b, q_x)?, cx.value(c, k_y)?, cx.value(d, k_x)?]);
        }
        let Some(width) = self.width else { return Err(missing("width")) };
        let ([q_y, q_x], [k_y, k_x]) = (cell(cx.q_index(), width, 0), cell(cx.k_index(), width, 0));
        Ok([q_y, q_x, k_y, k_x])
    }
}

/// The error for coordinates that nothing tells.
fn missing(name: &str) -> SchemeError {
    let expected = "the columns of the grid, or `q_y`, `q_x`, `k_y` and `k_x`".to_owned();
    SchemeError::AttrMissing { name: name.to_owned(), expected }
}

impl PositionScheme for Alibi2d {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.heads()?;
        if let Some(slopes) = &self.slopes {
            check_by_head(cx, "slopes", slopes)?;
        }
        let given = GIVEN.into_iter().zip(self.given());
        if self.width.is_some() {
            let other = given.clone().find(|(_, value)| value.is_some());
            return other.map_or(Ok(()), |(name, _)| Err(SchemeError::clash("width", name)));
        }
        if self.given() == [None; 4] {
            return Err(missing("width"));
        }
        for (name, value) in given {
            let Some(value) = value else { return Err(missing(name)) };
            let x = cx.value(name, value)?;
            let other = if name.starts_with('q') { cx.key_axis() } else { cx.query_axis() };
            if x.ty().elem == Elem::Bool {
                return Err(cx.bad_value(name, x, "i32 or f32 coordinates"));
            }
            cx.free_of(name, x, &[other, cx.dim_axis()])?;
        }
        Ok(())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let slopes = match &self.slopes {
            Some(slopes) => by_head(cx, "slopes", slopes)?,
            None => cx.per_head(Alibi::slopes_of(cx.heads()?, self.bias_max))?,
        };
        let slopes = if self.scale == 1.0 { slopes } else { slopes * self.scale };
        let [q_y, q_x, k_y, k_x] = self.coordinates(cx)?;
        let (dy, dx) = ((q_y - k_y).cast(Elem::F32), (q_x - k_x).cast(Elem::F32));
        let distance = match self.metric {
            Metric::Euclidean => (dy * dy + dx * dx).sqrt(),
            Metric::Manhattan => dy.abs() + dx.abs(),
        };
        Ok(score - slopes * distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("alibi2d.rs"), 8, |_| Box::new(Alibi2d::grid(14)));
    }
}
