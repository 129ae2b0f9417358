//! CoPE: positions count the keys that open a query's gate, and not tokens.
//!
//! Golovneva et al.: *Contextual Position Encoding* (arXiv 2405.18719). The gate of query `i` and key `t` is `sigmoid(s_it)` of the scaled score, the
//! position of key `j` is the sum of the gates from `j` to `i`, at most `P - 1`, and the bias is that between `q . e[floor(p)]` and
//! `q . e[ceil(p)]`, of `P` learned vectors. The paper's text has gates of `q . k`; its listing, which is followed here, scales the product first.
//!
//! Sums along a row are in no tile: they are made in a table over queries and tokens, of the size of the score matrix, with the cube of the number
//! of tokens in additions. For this the caller gives the keys a second time, along an axis of tokens of their own, and the indices of the tokens,
//! 0, 1, and so on, along another. It is for comparison, not for long texts. Wants a causal mask.
//!
//! ```text
//! %out = scheme cope.score %score @0 {embeddings = %embeddings, keys = %keys, queries = %queries, tokens = %tokens} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %9 = iota t : i32[t]
//! %10 = dot %queries, %keys over d : f32[h, q, t]
//! %11 = const 0.35355339059327373 : f32
//! %12 = mul %10, %11 : f32[h, q, t]
//! %13 = sigmoid %12 : f32[h, q, t]
//! %14 = le %9, %i : bool[q, t]
//! %15 = const 0.0 : f32
//! %16 = select %14, %13, %15 : f32[h, q, t]
//! %17 = ge %9, %tokens : bool[t, u]
//! %18 = cast %17 to f32 : f32[t, u]
//! %19 = dot %16, %18 over t : f32[h, q, u]
//! %20 = const 63.0 : f32
//! %21 = min %19, %20 : f32[h, q, u]
//! %22 = dot %queries, %embeddings over d : f32[h, q, position]
//! %23 = floor %21 : f32[h, q, u]
//! %24 = cast %23 to i32 : i32[h, q, u]
//! %25 = gather %22 over position at %24 : f32[h, q, u]
//! %26 = sub %21, %23 : f32[h, q, u]
//! %27 = ceil %21 : f32[h, q, u]
//! %28 = cast %27 to i32 : i32[h, q, u]
//! %29 = gather %22 over position at %28 : f32[h, q, u]
//! %30 = cast %23 to i32 : i32[h, q, u]
//! %31 = gather %22 over position at %30 : f32[h, q, u]
//! %32 = sub %29, %31 : f32[h, q, u]
//! %33 = mul %26, %32 : f32[h, q, u]
//! %34 = add %25, %33 : f32[h, q, u]
//! %35 = gather %34 over u at %j : f32[h, q, k]
//! %out = add %score, %35 : f32[h, q, k]
//! ```

use rhumb_ir::{Axis, Elem, Expr, Value};

use super::shared::{learned_along, rows, second_keys};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Positions count the keys that open a query's gate (arXiv 2405.18719).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Cope: "cope" at Score = "score + q . e[p], p = sum of sigmoid(s_it) over j <= t <= i, at most P - 1" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// The keys: f32 over an axis of tokens of their own and the elements.
        keys: Value,
        /// The index of each token, i32 along another axis of tokens.
        tokens: Value,
        /// e: f32 over an axis of positions and the elements, and maybe the heads.
        embeddings: Value,
        /// Factor on the product of queries and keys.
        #[default("1 / sqrt(head_dim)")]
        scale: Option<f64> = None,
    }
}

impl Cope {
    /// By queries, keys along an axis of tokens of their own, the indices of the tokens along another, and learned vectors of positions, `f32`
    /// over an axis of positions and the elements.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>, tokens: Expr<'_>, embeddings: Expr<'_>) -> Cope {
        Cope::with_defaults(queries.value(), keys.value(), tokens.value(), embeddings.value())
    }

    /// The factor on the product of queries and keys, in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Cope {
        Cope { scale: Some(scale), ..self }
    }

    /// The indices of tokens, and their axis.
    fn indices<'g>(&self, cx: &SchemeContext<'g>) -> Result<(Expr<'g>, Axis), SchemeError> {
        let x = cx.value("tokens", self.tokens)?;
        let (_, second) = second_keys(cx, "keys", self.keys)?;
        let mut axes = x.ty().axes.iter();
        let taken = [cx.query_axis(), cx.key_axis(), cx.dim_axis(), second];
        match (axes.next(), axes.next()) {
            (Some(axis), None) if x.ty().elem == Elem::I32 && !taken.contains(&axis) => Ok((x, axis)),
            _ => Err(cx.bad_value("tokens", x, "i32 along an axis of tokens that is not that of `keys`")),
        }
    }
}

impl PositionScheme for Cope {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        cx.head_dim()?;
        rows(cx, "queries", self.queries, cx.query_axis())?;
        self.indices(cx)?;
        learned_along(cx, "embeddings", self.embeddings, (&[cx.dim_axis()], None)).map(|_| ())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let queries = cx.value("queries", self.queries)?;
        let (keys, second) = second_keys(cx, "keys", self.keys)?;
        let (token, axis) = self.indices(cx)?;
        let (embeddings, position) = learned_along(cx, "embeddings", self.embeddings, (&[cx.dim_axis()], None))?;
        let scale = self.scale.unwrap_or(1.0 / f64::from(cx.head_dim()?).sqrt());
        let index = cx.builder().iota(second);
        let opened = (queries.dot(keys, cx.dim_axis()) * scale).sigmoid();
        let gates = index.le(cx.q_index()).select(opened, 0.0);
        let last = f64::from(cx.length_of(position)? - 1);
        let p = gates.dot(index.ge(token).cast(Elem::F32), second).min(last);
        let products = queries.dot(embeddings, cx.dim_axis());
        let at = |p: Expr<'g>| products.gather(position, p.cast(Elem::I32));
        let below = p.floor();
        let bias = at(below) + (p - below) * (at(p.ceil()) - at(below));
        Ok(score + bias.gather(axis, cx.k_index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("cope.rs"), 8, |cx| {
            let (heads, dim, builder) = (cx.head_axis().expect("heads"), cx.dim_axis(), cx.builder());
            let (second, third, position) = (builder.axis("t"), builder.axis("u"), builder.axis_of("position", 64));
            let input = |name, dims: &[Axis]| builder.input(name, Elem::F32, dims.iter().copied());
            let queries = input("queries", &[heads, cx.query_axis(), dim]);
            let tokens = builder.input("tokens", Elem::I32, [third]);
            let keys = input("keys", &[heads, second, dim]);
            Box::new(Cope::new(queries, keys, tokens, input("embeddings", &[position, dim])))
        });
    }
}
