//! DAPE: a small learned network mixes the scores of all heads with a bias.
//!
//! Zheng et al.: *DAPE* (arXiv 2405.14722). With `s` the scores of all `H` heads at a pair, and `A` the ALiBi of each, the score of head `h` becomes
//! `s_h + A_h + b2_h + sum_u w2_hu leaky(b1_u + sum_g (w1_ug s_g + w1_u(H+g) A_g))`, with a slope of 0.01 below 0 in `leaky`.
//!
//! The network needs the scores of all heads at once, which no tile has: it is computed in a table over queries and tokens. For this the caller
//! gives the keys a second time, along an axis of tokens of their own; the table has the size of the score matrix, of all heads and hidden units.
//!
//! ```text
//! %out = scheme dape.score %score @0 {b1 = %b1, b2 = %b2, keys = %keys, queries = %queries, w1 = %w1, w2 = %w2} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %11 = table [0.0625, 0.00390625] : f32[h]
//! %12 = dot %queries, %keys over d : f32[h, q, token]
//! %13 = const 0.35355339059327373 : f32
//! %14 = mul %12, %13 : f32[h, q, token]
//! %15 = iota h : i32[h]
//! %16 = gather %w1 over in at %15 : f32[h, unit]
//! %17 = iota h : i32[h]
//! %18 = const 2 : i32
//! %19 = add %17, %18 : i32[h]
//! %20 = gather %w1 over in at %19 : f32[h, unit]
//! %21 = iota token : i32[token]
//! %22 = sub %21, %i : i32[q, token]
//! %23 = cast %22 to f32 : f32[q, token]
//! %24 = mul %11, %23 : f32[h, q, token]
//! %25 = dot %16, %14 over h : f32[q, token, unit]
//! %26 = dot %20, %24 over h : f32[q, token, unit]
//! %27 = add %25, %26 : f32[q, token, unit]
//! %28 = add %27, %b1 : f32[q, token, unit]
//! %29 = const 0.0 : f32
//! %30 = max %28, %29 : f32[q, token, unit]
//! %31 = const 0.0 : f32
//! %32 = min %28, %31 : f32[q, token, unit]
//! %33 = const 0.01 : f32
//! %34 = mul %33, %32 : f32[q, token, unit]
//! %35 = add %30, %34 : f32[q, token, unit]
//! %36 = dot %35, %w2 over unit : f32[h, q, token]
//! %37 = add %36, %b2 : f32[h, q, token]
//! %38 = sub %j, %i : i32[q, k]
//! %39 = cast %38 to f32 : f32[q, k]
//! %40 = mul %11, %39 : f32[h, q, k]
//! %41 = add %score, %40 : f32[h, q, k]
//! %42 = gather %37 over token at %j : f32[h, q, k]
//! %out = add %41, %42 : f32[h, q, k]
//! ```

use rhumb_ir::{Axis, Expr, Value};

use super::alibi::Alibi;
use super::shared::{learned, learned_along, rows, second_keys};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A small learned network mixes the scores of all heads with ALiBi (arXiv 2405.14722).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Dape: "dape" at Score = "score + A_h + mlp_h(scores of all heads, A of all heads), A = m (p_k - p_q)" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// The keys: f32 over an axis of tokens of their own and the elements.
        keys: Value,
        /// Weights of the hidden units: f32 over an axis of units and one of twice the heads.
        w1: Value,
        /// Biases of the hidden units: f32 over the axis of units.
        b1: Value,
        /// Weights of the outputs: f32 over heads and units.
        w2: Value,
        /// Biases of the outputs: f32 over the heads.
        b2: Value,
        /// Slope of the hidden units below 0.
        leak: f64 = 0.01,
        /// Factor on the product of queries and keys.
        #[default("1 / sqrt(head_dim)")]
        scale: Option<f64> = None,
    }
}

impl Dape {
    /// By queries, keys along an axis of tokens of their own, and the learned tensors `w1`, `b1`, `w2` and `b2`.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>, [w1, b1, w2, b2]: [Expr<'_>; 4]) -> Dape {
        Dape::with_defaults(queries.value(), keys.value(), w1.value(), b1.value(), w2.value(), b2.value())
    }

    /// The factor on the product of queries and keys, in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Dape {
        Dape { scale: Some(scale), ..self }
    }

    /// The axes of units and of inputs of the network.
    fn axes(&self, cx: &SchemeContext<'_>) -> Result<(Axis, Axis), SchemeError> {
        let (_, unit) = learned_along(cx, "b1", self.b1, (&[], None))?;
        let (_, inputs) = learned_along(cx, "w1", self.w1, (&[unit], Some(2 * cx.heads()?)))?;
        Ok((unit, inputs))
    }
}

impl PositionScheme for Dape {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        rows(cx, "queries", self.queries, cx.query_axis())?;
        second_keys(cx, "keys", self.keys)?;
        let (unit, _) = self.axes(cx)?;
        let others = [
            ("w2", self.w2, vec![unit], "f32 over the heads and the units of `b1`"),
            ("b2", self.b2, vec![], "f32 over the heads"),
        ];
        for (name, value, axes, expected) in others {
            let (x, own) = learned(cx, name, value, &[])?;
            if own != axes {
                return Err(cx.bad_value(name, x, expected));
            }
        }
        Ok(())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (head, heads) = (cx.head_axis()?, cx.heads()?);
        let (unit, inputs) = self.axes(cx)?;
        let (keys, token) = second_keys(cx, "keys", self.keys)?;
        let scale = self.scale.unwrap_or(1.0 / f64::from(cx.head_dim()?).sqrt());
        let slopes = cx.per_head(Alibi::official_slopes(heads))?;
        let bias = |k: Expr<'g>| slopes * (k - cx.q_index());
        let scores = cx.value("queries", self.queries)?.dot(keys, cx.dim_axis()) * scale;
        let w1 = cx.value("w1", self.w1)?;
        let of_scores = w1.gather(inputs, cx.head()?);
        let of_biases = w1.gather(inputs, cx.head()? + heads as i32);
        let biases = bias(cx.builder().iota(token));
        let hidden = of_scores.dot(scores, head) + of_biases.dot(biases, head) + cx.value("b1", self.b1)?;
        let hidden = hidden.max(0.0) + self.leak * hidden.min(0.0);
        let mixed = hidden.dot(cx.value("w2", self.w2)?, unit) + cx.value("b2", self.b2)?;
        Ok(score + bias(cx.k_index()) + mixed.gather(token, cx.k_index()))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("dape.rs"), 8, |cx| {
            let (heads, dim, builder) = (cx.head_axis().expect("heads"), cx.dim_axis(), cx.builder());
            let (token, unit, inputs) = (builder.axis("token"), builder.axis_of("unit", 32), builder.axis_of("in", 4));
            let input = |name: &str, dims: &[Axis]| builder.input(name, Elem::F32, dims.iter().copied());
            let queries = input("queries", &[heads, cx.query_axis(), dim]);
            let learned = [
                input("w1", &[unit, inputs]),
                input("b1", &[unit]),
                input("w2", &[heads, unit]),
                input("b2", &[heads]),
            ];
            Box::new(Dape::new(queries, input("keys", &[heads, token, dim]), learned))
        });
    }
}
