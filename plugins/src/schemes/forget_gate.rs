//! Forget gate: what a token keeps of those before it, summed up in logarithms.
//!
//! Lin et al.: *Forgetting Transformer* (arXiv 2503.02130); data-dependent ALiBi. Each token has a gate `f_t` from 0 to 1 for each head, computed
//! from its embedding, and the bias is `sum of ln f_t over j < t <= i`, which is `F_i - F_j` of the cumulative sums `F`.
//!
//! The caller gives `log_forget`, the logarithms of the gates, along an axis of tokens of its own, for each token from the first key to the last;
//! of its axes beside the heads the last to be declared is that of tokens. Sums are made in double precision once per call, with the square of
//! the number of tokens in additions. A caller that keeps the sums (with a cache) gives `sums` instead, along the keys. Logarithms must be finite.
//!
//! Wants a causal mask: keys ahead of the query get a bonus.
//!
//! ```text
//! %out = scheme forget_gate.score %score @0 {log_forget = %log_forget} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %6 = iota token : i32[token]
//! %7 = le %6, %i : bool[q, token]
//! %8 = cast %7 to f32 : f32[q, token]
//! %9 = dot %log_forget, %8 over token : f32[h, q]
//! %10 = le %6, %j : bool[k, token]
//! %11 = cast %10 to f32 : f32[k, token]
//! %12 = dot %log_forget, %11 over token : f32[h, k]
//! %13 = sub %9, %12 : f32[h, q, k]
//! %out = add %score, %13 : f32[h, q, k]
//! ```

use rhumb_ir::{Axis, Elem, Expr, Value};

use super::shared::learned;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// What a token keeps of those before it, summed up in logarithms (arXiv 2503.02130).
    ///
    /// Forget gates: see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct ForgetGate: "forget_gate" at Score = "score + sum of ln f_t over j < t <= i" {
        /// ln f of each token, f32 along an axis of tokens of its own, and maybe heads and batch.
        #[default("`sums` are given")]
        log_forget: Option<Value> = None,
        /// Its cumulative sums, f32 along the keys, and maybe heads and batch.
        #[default("from `log_forget`")]
        sums: Option<Value> = None,
    }
}

impl ForgetGate {
    /// Gates by their logarithms: `f32` along an axis of tokens that is not that of keys, with one element for each key.
    pub fn new(log_forget: Expr<'_>) -> ForgetGate {
        ForgetGate { log_forget: Some(log_forget.value()), ..ForgetGate::default() }
    }

    /// Cumulative sums of the logarithms, along the keys.
    pub fn of_sums(sums: Expr<'_>) -> ForgetGate {
        ForgetGate { sums: Some(sums.value()), ..ForgetGate::default() }
    }

    /// The logarithms, and the axis of their tokens.
    fn tokens<'g>(cx: &SchemeContext<'g>, log_forget: Value) -> Result<(Expr<'g>, Axis), SchemeError> {
        let (x, own) = learned(cx, "log_forget", log_forget, &[])?;
        let of_attention = [cx.query_axis(), cx.key_axis(), cx.dim_axis()];
        match own.last() {
            Some(token) if !own.iter().any(|axis| of_attention.contains(axis)) => Ok((x, *token)),
            _ => Err(cx.bad_value("log_forget", x, "f32 over an axis of tokens of its own, and maybe heads and batch")),
        }
    }
}

impl PositionScheme for ForgetGate {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        match (self.log_forget, self.sums) {
            (Some(_), Some(_)) => Err(SchemeError::clash("log_forget", "sums")),
            (Some(log_forget), None) => ForgetGate::tokens(cx, log_forget).map(|_| ()),
            (None, Some(sums)) => {
                let (x, own) = learned(cx, "sums", sums, &[])?;
                if own.contains(&cx.key_axis()) {
                    return cx.free_of("sums", x, &[cx.query_axis(), cx.dim_axis()]);
                }
                Err(cx.bad_value("sums", x, "f32 along the keys, and maybe heads and batch"))
            }
            (None, None) => Err(SchemeError::AttrMissing {
                name: "log_forget".to_owned(),
                expected: "the logarithms of the gates, or `sums` of them".to_owned(),
            }),
        }
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (of_query, of_key) = match (self.log_forget, self.sums) {
            (Some(log_forget), _) => {
                let (x, token) = ForgetGate::tokens(cx, log_forget)?;
                let index = cx.builder().iota(token);
                let up_to = |last: Expr<'g>| x.dot(index.le(last).cast(Elem::F32), token);
                (up_to(cx.q_index()), up_to(cx.k_index()))
            }
            (None, Some(sums)) => {
                let sums = cx.value("sums", sums)?;
                (sums.gather(cx.key_axis(), cx.q_index()), sums)
            }
            (None, None) => return Ok(score),
        };
        Ok(score + (of_query - of_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("forget_gate.rs"), 8, |cx| {
            let (token, heads) = (cx.builder().axis("token"), cx.head_axis().expect("heads"));
            Box::new(ForgetGate::new(cx.builder().input("log_forget", Elem::F32, [heads, token])))
        });
    }
}
