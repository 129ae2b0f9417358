//! FIRE: a small learned network of the distance, measured by how far the query has come.
//!
//! Li et al.: *Functional Interpolation for Relative Positions* (arXiv 2310.04418). With `psi(x) = ln(c x + 1)` the bias of head `h` is
//! `b2_h + sum_u w2_hu max(0, w1_u t + b1_u)` of `t = psi(|p_q - p_k|) / (psi(max(p_q, L)) + eps)`, which lies within 0 and 1 for keys that are
//! not ahead, at any length. `c` is 0.1 and `L` 512 at first in the paper; both are learned, and given as numbers here. Positions count from 0.
//!
//! A pair of query and key computes the network: its hidden units are written out one by one, and no table of pairs is made. A hidden unit takes
//! three vector instructions for each pair (a multiply-add, a maximum, a multiply-add), so that 32 units cost 2.3 times what ALiBi does at
//! 2048 x 2048. The signs of the weights `w2` are known to a call alone, and which units bend within a tile depends on its other queries: neither
//! saves an instruction without a row that depends on more than itself.
//!
//! ```text
//! %out = scheme fire.score %score @0 {b1 = %b1, w1 = %w1, w2 = %w2} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %8 = cast %i to f32 : f32[q]
//! %9 = cast %j to f32 : f32[k]
//! %10 = const 512.0 : f32
//! %11 = max %8, %10 : f32[q]
//! %12 = const 0.1 : f32
//! %13 = mul %11, %12 : f32[q]
//! %14 = const 1.0 : f32
//! %15 = add %13, %14 : f32[q]
//! %16 = log %15 : f32[q]
//! %17 = const 1e-6 : f32
//! %18 = add %16, %17 : f32[q]
//! %19 = const 1.0 : f32
//! %20 = div %19, %18 : f32[q]
//! %21 = sub %8, %9 : f32[q, k]
//! %22 = abs %21 : f32[q, k]
//! %23 = const 0.1 : f32
//! %24 = mul %22, %23 : f32[q, k]
//! %25 = const 1.0 : f32
//! %26 = add %24, %25 : f32[q, k]
//! %27 = log %26 : f32[q, k]
//! %28 = mul %27, %20 : f32[q, k]
//! %29 = const 0 : i32
//! %30 = gather %w1 over unit at %29 : f32
//! %31 = mul %30, %28 : f32[q, k]
//! %32 = const 0 : i32
//! %33 = gather %b1 over unit at %32 : f32
//! %34 = add %31, %33 : f32[q, k]
//! %35 = const 0.0 : f32
//! %36 = max %34, %35 : f32[q, k]
//! %37 = const 0 : i32
//! %38 = gather %w2 over unit at %37 : f32[h]
//! %39 = mul %36, %38 : f32[h, q, k]
//! %40 = const 1 : i32
//! %41 = gather %w1 over unit at %40 : f32
//! %42 = mul %41, %28 : f32[q, k]
//! %43 = const 1 : i32
//! %44 = gather %b1 over unit at %43 : f32
//! %45 = add %42, %44 : f32[q, k]
//! %46 = const 0.0 : f32
//! %47 = max %45, %46 : f32[q, k]
//! %48 = const 1 : i32
//! %49 = gather %w2 over unit at %48 : f32[h]
//! %50 = mul %47, %49 : f32[h, q, k]
//! %51 = add %39, %50 : f32[h, q, k]
//! %out = add %score, %51 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr, Value};

use super::shared::{learned, learned_along};
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A small learned network of the distance, measured by how far the query has come (arXiv 2310.04418).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Fire: "fire" at Score = "score + mlp_h(psi(|p_q - p_k|) / (psi(max(p_q, L)) + eps)), psi(x) = ln(c x + 1)" {
        /// Weights of the hidden units: f32 over an axis of units.
        w1: Value,
        /// Biases of the hidden units: f32 over the same axis.
        b1: Value,
        /// Weights of the outputs: f32 over heads and units.
        w2: Value,
        /// Biases of the outputs: f32 over the heads.
        #[default("none")]
        b2: Option<Value> = None,
        /// How fast distances shrink.
        #[range(AttrRange::above(0.0))]
        c: f64 = 0.1,
        /// Keeps the divisor off 0.
        #[range(0.0..)]
        eps: f64 = 1e-6,
        /// L: up to here queries are measured by this.
        #[range(AttrRange::above(0.0))]
        threshold: f64 = 512.0,
    }
}

/// The most hidden units: each is a few operations of every pair.
const MOST_UNITS: u32 = 256;

impl Fire {
    /// A network by its learned tensors: weights and biases of hidden units, `f32` over an axis of units, and weights of the outputs, over
    /// the heads and that axis.
    pub fn new(w1: Expr<'_>, b1: Expr<'_>, w2: Expr<'_>) -> Fire {
        Fire::with_defaults(w1.value(), b1.value(), w2.value())
    }

    /// Biases of the outputs: `f32` over the heads.
    #[must_use]
    pub fn output_bias(self, b2: Expr<'_>) -> Fire {
        Fire { b2: Some(b2.value()), ..self }
    }

    /// How fast distances shrink: above 0.
    #[must_use]
    pub fn c(self, c: f64) -> Fire {
        Fire { c, ..self }
    }

    /// Up to here queries are measured by this: above 0.
    #[must_use]
    pub fn threshold(self, threshold: f64) -> Fire {
        Fire { threshold, ..self }
    }

    fn psi<'g>(&self, x: Expr<'g>) -> Expr<'g> {
        (x * self.c + 1.0).log()
    }
}

impl PositionScheme for Fire {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let (w1, unit) = learned_along(cx, "w1", self.w1, (&[], None))?;
        let units = cx.length_of(unit)?;
        if units > MOST_UNITS {
            return Err(cx.bad_value("w1", w1, format!("f32 over an axis of at most {MOST_UNITS} units")));
        }
        let of_units = "f32 over the units of `w1`, and maybe the heads";
        let others = [
            ("b1", Some(self.b1), vec![unit], of_units),
            ("w2", Some(self.w2), vec![unit], of_units),
            ("b2", self.b2, vec![], "f32 over the heads"),
        ];
        for (name, value, axes, expected) in others {
            let Some(value) = value else { continue };
            let (x, own) = learned(cx, name, value, &[])?;
            if own != axes {
                return Err(cx.bad_value(name, x, expected));
            }
        }
        Ok(())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let (w1, unit) = learned_along(cx, "w1", self.w1, (&[], None))?;
        let (b1, w2) = (cx.value("b1", self.b1)?, cx.value("w2", self.w2)?);
        let (q, k) = (cx.q_pos().cast(Elem::F32), cx.k_pos().cast(Elem::F32));
        let measure = 1.0 / (self.psi(q.max(self.threshold)) + self.eps);
        let t = self.psi((q - k).abs()) * measure;
        let of_unit = |u: u32| {
            let at = |x: Expr<'g>| x.gather(unit, cx.int(u as i32));
            (at(w1) * t + at(b1)).max(0.0) * at(w2)
        };
        let sum = (1..cx.length_of(unit)?).fold(of_unit(0), |sum, u| sum + of_unit(u));
        match self.b2 {
            Some(b2) => Ok(score + (sum + cx.value("b2", b2)?)),
            None => Ok(score + sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("fire.rs"), 8, |cx| {
            let (unit, heads) = (cx.builder().axis_of("unit", 2), cx.head_axis().expect("heads"));
            let [w1, b1] = ["w1", "b1"].map(|name| cx.builder().input(name, Elem::F32, [unit]));
            Box::new(Fire::new(w1, b1, cx.builder().input("w2", Elem::F32, [heads, unit])))
        });
    }
}
