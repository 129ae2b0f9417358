//! FIRE: a small learned network of the distance, measured by how far the query has come.
//!
//! Li et al.: *Functional Interpolation for Relative Positions* (arXiv 2310.04418). With `psi(x) = ln(c x + 1)` the bias of head `h` is
//! `b2_h + sum_u w2_hu max(0, w1_u t + b1_u)` of `t = psi(|p_q - p_k|) / (psi(max(p_q, L)) + eps)`, which lies within 0 and 1 for keys that are
//! not ahead, at any length. `c` is 0.1 and `L` 512 at first in the paper; both are learned, and given as numbers here. Positions count from 0.
//!
//! A pair of query and key computes the network: its hidden units are written out one by one, and no table of pairs is made. A unit bends at
//! `c_u = -b1_u / w1_u`, so that `max(0, w1_u t + b1_u)` is `|w1_u| max(t, c_u)`, and beside it `b1_u` where `w1_u` is above 0, `w1_u t` where it is
//! below: all that but the maximum is linear, and one sum for all units. A hidden unit then takes two vector instructions for each pair, a
//! maximum and a multiply-add, where it is computed pair by pair: in calls of few queries, and where positions or masks are given by a call. In
//! others, few units bend within a tile of queries and keys, and all that do not are one line: 32 units cost 1.1 times what ALiBi does at
//! 2048 x 2048.
//!
//! ```text
//! %out = scheme fire.score %score @0 {b1 = %b1, w1 = %w1, w2 = %w2} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %8 = cast %i to f32 : f32[q]
//! %9 = const 512.0 : f32
//! %10 = max %8, %9 : f32[q]
//! %11 = const 0.1 : f32
//! %12 = mul %10, %11 : f32[q]
//! %13 = const 1.0 : f32
//! %14 = add %12, %13 : f32[q]
//! %15 = log %14 : f32[q]
//! %16 = const 1e-6 : f32
//! %17 = add %15, %16 : f32[q]
//! %18 = const 1.0 : f32
//! %19 = div %18, %17 : f32[q]
//! %20 = sub %i, %j : i32[q, k]
//! %21 = abs %20 : i32[q, k]
//! %22 = cast %21 to f32 : f32[q, k]
//! %23 = const 0.1 : f32
//! %24 = mul %22, %23 : f32[q, k]
//! %25 = const 1.0 : f32
//! %26 = add %24, %25 : f32[q, k]
//! %27 = log %26 : f32[q, k]
//! %28 = mul %27, %19 : f32[q, k]
//! %29 = abs %w1 : f32[unit]
//! %30 = const 1e30 : f32
//! %31 = mul %29, %30 : f32[unit]
//! %32 = abs %b1 : f32[unit]
//! %33 = le %31, %32 : bool[unit]
//! %34 = const 0.0 : f32
//! %35 = select %33, %34, %w1 : f32[unit]
//! %36 = neg %b1 : f32[unit]
//! %37 = const 1.0 : f32
//! %38 = select %33, %37, %w1 : f32[unit]
//! %39 = div %36, %38 : f32[unit]
//! %40 = abs %35 : f32[unit]
//! %41 = mul %40, %w2 : f32[h, unit]
//! %42 = const 0.0 : f32
//! %43 = max %b1, %42 : f32[unit]
//! %44 = const 0.0 : f32
//! %45 = gt %w1, %44 : bool[unit]
//! %46 = const 0.0 : f32
//! %47 = select %45, %b1, %46 : f32[unit]
//! %48 = select %33, %43, %47 : f32[unit]
//! %49 = const 0 : i32
//! %50 = gather %39 over unit at %49 : f32
//! %51 = gt %50, %28 : bool[q, k]
//! %52 = select %51, %50, %28 : f32[q, k]
//! %53 = const 0 : i32
//! %54 = gather %41 over unit at %53 : f32[h]
//! %55 = mul %52, %54 : f32[h, q, k]
//! %56 = const 1 : i32
//! %57 = gather %39 over unit at %56 : f32
//! %58 = gt %57, %28 : bool[q, k]
//! %59 = select %58, %57, %28 : f32[q, k]
//! %60 = const 1 : i32
//! %61 = gather %41 over unit at %60 : f32[h]
//! %62 = mul %59, %61 : f32[h, q, k]
//! %63 = add %55, %62 : f32[h, q, k]
//! %64 = const 0.0 : f32
//! %65 = min %35, %64 : f32[unit]
//! %66 = dot %65, %w2 over unit : f32[h]
//! %67 = mul %66, %28 : f32[h, q, k]
//! %68 = add %63, %67 : f32[h, q, k]
//! %69 = dot %48, %w2 over unit : f32[h]
//! %70 = add %68, %69 : f32[h, q, k]
//! %out = add %score, %70 : f32[h, q, k]
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

/// More than any measured distance.
const FAR: f64 = 1e30;
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
        let q = cx.q_pos().cast(Elem::F32);
        let measure = 1.0 / (self.psi(q.max(self.threshold)) + self.eps);
        let t = self.psi((cx.q_pos() - cx.k_pos()).abs().cast(Elem::F32)) * measure;
        // What bends beyond all distances does not bend.
        let flat = (w1.abs() * FAR).le(b1.abs());
        let (steep, bend) = (flat.select(0.0, w1), -b1 / flat.select(1.0, w1));
        let (weights, level) = (steep.abs() * w2, flat.select(b1.max(0.0), w1.gt(0.0).select(b1, 0.0)));
        let of_unit = |u: u32| {
            let at = |x: Expr<'g>| x.gather(unit, cx.int(u as i32));
            let bend = at(bend);
            bend.gt(t).select(bend, t) * at(weights)
        };
        let bent = (1..cx.length_of(unit)?).fold(of_unit(0), |sum, u| sum + of_unit(u));
        let sum = bent + steep.min(0.0).dot(w2, unit) * t + level.dot(w2, unit);
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
