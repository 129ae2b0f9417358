//! KERPLE: learned penalties that grow with the logarithm of the distance, or with a power of it.
//!
//! Chi, Fan, Ramadge, Rudnicky: *KERPLE* (arXiv 2205.09921). With two learned numbers `p_h` and `a_h` above 0 and `D` the distance:
//!
//! | kernel | added to the score |
//! |---|---|
//! | `log` (default) | `-p_h ln(1 + a_h D)` |
//! | `power` | `-a_h D^p_h`, with `p_h` at most 2 |
//!
//! The authors' code keeps both numbers at `least` 0.01, and takes `D = max(p_q - p_k, 0)`, for a causal mask; with `symmetric` it is
//! `|p_q - p_k|`, as in the paper.
//!
//! ```text
//! %out = scheme kerple.score %score @0 {a = %a, p = %p} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %7 = const 0.01 : f32
//! %8 = max %p, %7 : f32[h]
//! %9 = const 0.01 : f32
//! %10 = max %a, %9 : f32[h]
//! %11 = sub %i, %j : i32[q, k]
//! %12 = const 0 : i32
//! %13 = max %11, %12 : i32[q, k]
//! %14 = cast %13 to f32 : f32[q, k]
//! %15 = mul %10, %14 : f32[h, q, k]
//! %16 = const 1.0 : f32
//! %17 = add %16, %15 : f32[h, q, k]
//! %18 = log %17 : f32[h, q, k]
//! %19 = mul %8, %18 : f32[h, q, k]
//! %out = sub %score, %19 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr};

use super::shared::{by_head, check_by_head};
use crate::attrs::{AttrRange, Choice, ListOrValue};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A learned penalty that grows with the logarithm or a power of the distance (arXiv 2205.09921).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Kerple: "kerple" at Score = "score - p_h ln(1 + a_h D); power: score - a_h D^p_h" {
        /// p: one number per head, a list or a value over the heads.
        p: ListOrValue,
        /// a: one number per head, a list or a value over the heads.
        a: ListOrValue,
        /// -p ln(1 + a D), or -a D^p.
        kernel: Kernel = Kernel::Log,
        /// Both numbers are at least this.
        #[range(AttrRange::above(0.0))]
        least: f64 = 0.01,
        /// D is |p_q - p_k|, and not 0 for keys ahead of the query.
        symmetric: bool = false,
    }
}

/// What the penalty grows with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The logarithm of the distance.
    Log,
    /// A power of the distance.
    Power,
}

impl Choice for Kernel {
    const NAMES: &'static [(&'static str, Kernel)] = &[("log", Kernel::Log), ("power", Kernel::Power)];
}

impl Kerple {
    /// `-p_h ln(1 + a_h D)`, with two learned numbers of each head: `f32` values over the head axis.
    pub fn log(p: Expr<'_>, a: Expr<'_>) -> Kerple {
        Kerple::with_defaults(ListOrValue::Value(p.value()), ListOrValue::Value(a.value()))
    }

    /// `-a_h D^p_h`, with two learned numbers of each head: `f32` values over the head axis.
    pub fn power(p: Expr<'_>, a: Expr<'_>) -> Kerple {
        Kerple { kernel: Kernel::Power, ..Kerple::log(p, a) }
    }

    /// `-p_h ln(1 + a_h D)` with numbers that are known now, one of each per head.
    pub fn constant(p: impl Into<Vec<f64>>, a: impl Into<Vec<f64>>) -> Kerple {
        Kerple::with_defaults(ListOrValue::List(p.into()), ListOrValue::List(a.into()))
    }

    /// Another kernel.
    #[must_use]
    pub fn kernel(self, kernel: Kernel) -> Kerple {
        Kerple { kernel, ..self }
    }

    /// The distance `|p_q - p_k|`, for keys ahead of the query too.
    #[must_use]
    pub fn symmetric(self) -> Kerple {
        Kerple { symmetric: true, ..self }
    }

    fn learned<'g>(&self, cx: &SchemeContext<'g>) -> Result<[Expr<'g>; 2], SchemeError> {
        Ok([by_head(cx, "p", &self.p)?, by_head(cx, "a", &self.a)?])
    }
}

impl PositionScheme for Kerple {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        check_by_head(cx, "p", &self.p)?;
        check_by_head(cx, "a", &self.a)
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let [p, a] = self.learned(cx)?.map(|x| x.max(self.least));
        let ahead = cx.q_pos() - cx.k_pos();
        let distance = if self.symmetric { ahead.abs() } else { ahead.max(0) }.cast(Elem::F32);
        Ok(match self.kernel {
            Kernel::Log => score - p * (1.0 + a * distance).log(),
            Kernel::Power => score - a * distance.pow(p.min(2.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("kerple.rs"), 8, |cx| {
            let heads = cx.head_axis().expect("heads");
            let [p, a] = ["p", "a"].map(|name| cx.builder().input(name, Elem::F32, [heads]));
            Box::new(Kerple::log(p, a))
        });
    }
}
