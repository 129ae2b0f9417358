//! Continuous bias: a small learned network of the offset of two patches of a window, on a logarithmic scale.
//!
//! Swin V2 (arXiv 2111.09883). An offset `(dy, dx)` in a window of `h x w` patches has the coordinates `sign(t) log2(1 + |t|) / log2(8)` of
//! `t = 8 dy / (h - 1)` and `8 dx / (w - 1)`, by the size of the window trained on if `pretrained` tells another. The bias of head `h` is
//! `16 sigmoid(sum_u w2_hu max(0, w1_u . c + b1_u))`. Swin V2 has it with cosine attention: [`QkNorm`](crate::QkNorm) with `logit_scale`.
//!
//! The network runs once per call for each of the `(2h - 1)(2w - 1)` offsets; a pair of query and key reads one element. Windows are entries of
//! the batch.
//!
//! ```text
//! %out = scheme continuous_bias.score %score @0 {b1 = %b1, height = 2, w1 = %w1, w2 = %w2, width = 2} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %8 = table [-1.0566416671474377, -1.0566416671474377, -1.0566416671474377, 0.0, ... 18 in all] : f32[offset, coordinate]
//! %9 = dot %w1, %8 over coordinate : f32[unit, offset]
//! %10 = add %9, %b1 : f32[unit, offset]
//! %11 = const 0.0 : f32
//! %12 = max %10, %11 : f32[unit, offset]
//! %13 = dot %w2, %12 over unit : f32[h, offset]
//! %14 = sigmoid %13 : f32[h, offset]
//! %15 = const 16.0 : f32
//! %16 = mul %14, %15 : f32[h, offset]
//! %17 = const 2 : i32
//! %18 = div %i, %17 : i32[q]
//! %19 = const 2 : i32
//! %20 = mod %i, %19 : i32[q]
//! %21 = const 3 : i32
//! %22 = mul %18, %21 : i32[q]
//! %23 = add %22, %20 : i32[q]
//! %24 = const 4 : i32
//! %25 = add %23, %24 : i32[q]
//! %26 = const 2 : i32
//! %27 = div %j, %26 : i32[k]
//! %28 = const 2 : i32
//! %29 = mod %j, %28 : i32[k]
//! %30 = const 3 : i32
//! %31 = mul %27, %30 : i32[k]
//! %32 = add %31, %29 : i32[k]
//! %33 = sub %25, %32 : i32[q, k]
//! %34 = gather %16 over offset at %33 : f32[h, q, k]
//! %out = add %score, %34 : f32[h, q, k]
//! ```

use rhumb_ir::{Axis, Expr, Value};

use super::shared::{learned, learned_along, window_offsets};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A small learned network of the offset of two patches of a window (Swin V2, arXiv 2111.09883).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct ContinuousBias: "continuous_bias" at Score = "score + 16 sigmoid(mlp_h(log-spaced (y_q - y_k, x_q - x_k)))" {
        /// Weights of the hidden units: f32 over an axis of units and one of 2 coordinates, row then column.
        w1: Value,
        /// Biases of the hidden units: f32 over the axis of units.
        b1: Value,
        /// Weights of the outputs: f32 over heads and units.
        w2: Value,
        /// h: rows of the window.
        #[range(1..=500, "a number of rows")]
        height: i32,
        /// w: columns of the window.
        #[range(1..=500, "a number of columns")]
        width: i32,
        /// The bound of the bias.
        bound: f64 = 16.0,
        /// Rows and columns of the window trained on.
        #[range(2.0..)]
        #[default("those of the window")]
        pretrained: Option<[f64; 2]> = None,
    }
}

impl ContinuousBias {
    /// The network of a window of `height` by `width` patches, by its learned tensors: weights of hidden units, `f32` over an axis of units
    /// and one of 2 coordinates, their biases over the units, and weights of the outputs over the heads and the units.
    pub fn new(w1: Expr<'_>, b1: Expr<'_>, w2: Expr<'_>, [height, width]: [i32; 2]) -> ContinuousBias {
        ContinuousBias::with_defaults(w1.value(), b1.value(), w2.value(), height, width)
    }

    /// Measures offsets by a window of `height` rows and `width` columns, the one trained on: at least 2 of each.
    #[must_use]
    pub fn pretrained(self, height: f64, width: f64) -> ContinuousBias {
        ContinuousBias { pretrained: Some([height, width]), ..self }
    }

    /// The axes of units and of coordinates.
    fn axes(&self, cx: &SchemeContext<'_>) -> Result<(Axis, Axis), SchemeError> {
        let (_, unit) = learned_along(cx, "b1", self.b1, (&[], None))?;
        let (_, coordinate) = learned_along(cx, "w1", self.w1, (&[unit], Some(2)))?;
        Ok((unit, coordinate))
    }

    /// The coordinates of all offsets, row-major.
    fn coordinates(&self) -> Vec<f64> {
        let [height, width] = self.pretrained.unwrap_or([self.height.into(), self.width.into()]);
        let log = |offset: i32, n: f64| {
            let t = 8.0 * f64::from(offset) / (n - 1.0);
            t.signum() * t.abs().ln_1p() / 8f64.ln()
        };
        let across = |dy: i32| (1 - self.width..self.width).flat_map(move |dx| [log(dy, height), log(dx, width)]);
        (1 - self.height..self.height).flat_map(across).collect()
    }
}

impl PositionScheme for ContinuousBias {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let (unit, _) = self.axes(cx)?;
        let (w2, own) = learned(cx, "w2", self.w2, &[])?;
        if own != [unit] {
            return Err(cx.bad_value("w2", w2, "f32 over the heads and the units of `b1`"));
        }
        let short = [("height", self.height), ("width", self.width)].into_iter().find(|(_, n)| *n == 1);
        match short {
            Some((name, n)) if self.pretrained.is_none() => {
                let expected = "at least 2 patches, or the window trained on in `pretrained`";
                Err(SchemeError::range(name, n, expected))
            }
            _ => Ok(()),
        }
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (unit, coordinate) = self.axes(cx)?;
        let (w1, b1, w2) = (cx.value("w1", self.w1)?, cx.value("b1", self.b1)?, cx.value("w2", self.w2)?);
        let offset = cx.axis("offset", ((2 * self.height - 1) * (2 * self.width - 1)) as u32);
        let hidden = (w1.dot(cx.table(&[offset, coordinate], self.coordinates()), coordinate) + b1).max(0.0);
        let bias = w2.dot(hidden, unit).sigmoid() * self.bound;
        Ok(score + bias.gather(offset, window_offsets(cx, self.height, self.width, 0)))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("continuous_bias.rs"), 8, |cx| {
            let builder = cx.builder();
            let (unit, coordinate, heads) =
                (builder.axis_of("unit", 512), builder.axis_of("coordinate", 2), cx.head_axis().expect("heads"));
            let w1 = builder.input("w1", Elem::F32, [unit, coordinate]);
            let b1 = builder.input("b1", Elem::F32, [unit]);
            let w2 = builder.input("w2", Elem::F32, [heads, unit]);
            Box::new(ContinuousBias::new(w1, b1, w2, [2, 2]))
        });
    }
}
