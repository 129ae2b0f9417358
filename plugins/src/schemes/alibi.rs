//! ALiBi: a penalty that grows with distance, steeper or flatter by head.
//!
//! Press, Smith, Lewis: *Train Short, Test Long* (arXiv 2108.12409). With `m_h` the slope of head `h`:
//!
//! | form | added to the score | used by |
//! |---|---|---|
//! | `causal` (default) | `-m_h (p_q - p_k)` | the paper; keys ahead of the query get a bonus, so it wants a causal mask |
//! | `symmetric` | <code>-m_h \|p_q - p_k\|</code> | encoders: MosaicBERT, JinaBERT |
//! | `key` | `m_h p_k` | BLOOM |
//! | `last` | `m_h (p_k - (length - 1))` | MPT |
//!
//! `causal`, `key` and `last` differ by a constant per row: the same output, another `lse`.
//!
//! Falcon-RW adds `key` in bfloat16 before scores are scaled: slopes, positions and their products are rounded to its 8 bits (`bf16`), and the
//! whole is divided by `sqrt(head_dim)` (`scale`).
//!
//! Slopes: for `n` heads, a power of two, `m_h = 2^(-8 (h + 1) / n)`; otherwise those of the power of two below, followed by every second
//! one of the power of two above. Checkpoints trained with another `alibi_bias_max` than 8 (MPT) set `bias_max`; learned or other slopes
//! come as a list or as a value over the head axis.
//!
//! ```text
//! %out = scheme alibi.score %score @0 : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %5 = table [0.0625, 0.00390625] : f32[h]
//! %6 = sub %j, %i : i32[q, k]
//! %7 = cast %6 to f32 : f32[q, k]
//! %8 = mul %5, %7 : f32[h, q, k]
//! %out = add %score, %8 : f32[h, q, k]
//! ```

use rhumb_ir::{Elem, Expr};

use crate::attrs::{AttrRange, Choice, ListOrValue};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A penalty linear in distance, with a slope per head (arXiv 2108.12409).
    ///
    /// ALiBi: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Alibi: "alibi" at Score = "score - m_h (p_q - p_k)" {
        /// Minus the log2 of the last head's slope; 8 is the paper's.
        #[range(AttrRange::above(0.0))]
        bias_max: f64 = 8.0,
        /// -m(p_q - p_k), -m|p_q - p_k|, m p_k or m(p_k - (length - 1)); all but symmetric differ in lse alone.
        form: AlibiForm = AlibiForm::Causal,
        /// Round slopes, positions and their products to bfloat16, as Falcon does.
        bf16: bool = false,
        /// Factor on all slopes.
        scale: f64 = 1.0,
        /// One slope per head: a list, or a value over the heads.
        #[default("official")]
        slopes: Option<ListOrValue> = None,
    }
}

/// Which of the equivalent forms of ALiBi is added to the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlibiForm {
    /// `-m (p_q - p_k)`.
    Causal,
    /// `-m |p_q - p_k|`.
    Symmetric,
    /// `m p_k`.
    Key,
    /// `m (p_k - (length - 1))`.
    Last,
}

impl Choice for AlibiForm {
    const NAMES: &'static [(&'static str, AlibiForm)] = &[
        ("causal", AlibiForm::Causal),
        ("symmetric", AlibiForm::Symmetric),
        ("key", AlibiForm::Key),
        ("last", AlibiForm::Last),
    ];
}

impl Alibi {
    /// The paper's: official slopes, for a causal mask.
    pub fn new() -> Alibi {
        Alibi::default()
    }

    /// The form for encoders, `-m |p_q - p_k|`.
    #[must_use]
    pub fn symmetric(self) -> Alibi {
        self.form(AlibiForm::Symmetric)
    }

    /// Another form.
    #[must_use]
    pub fn form(self, form: AlibiForm) -> Alibi {
        Alibi { form, ..self }
    }

    /// These slopes, one per head.
    #[must_use]
    pub fn slopes(self, slopes: impl Into<Vec<f64>>) -> Alibi {
        Alibi { slopes: Some(ListOrValue::List(slopes.into())), ..self }
    }

    /// Slopes that each call tells: an `f32` value over the head axis.
    #[must_use]
    pub fn slopes_value(self, slopes: Expr<'_>) -> Alibi {
        Alibi { slopes: Some(ListOrValue::Value(slopes.value())), ..self }
    }

    /// The slope of the last head is `2^-bias_max`: 8 in the paper, `alibi_bias_max` in MPT checkpoints.
    #[must_use]
    pub fn bias_max(self, bias_max: f64) -> Alibi {
        Alibi { bias_max, ..self }
    }

    /// Falcon's, for heads of `head_dim` elements: BLOOM's form, rounded to bfloat16 and divided by `sqrt(head_dim)` with the scores.
    pub fn falcon(head_dim: u32) -> Alibi {
        Alibi::new().form(AlibiForm::Key).scale(1.0 / f64::from(head_dim).sqrt()).bf16()
    }

    /// Rounds slopes, positions and their products to bfloat16, ahead of the scale.
    #[must_use]
    pub fn bf16(self) -> Alibi {
        Alibi { bf16: true, ..self }
    }

    /// A factor on all slopes.
    #[must_use]
    pub fn scale(self, scale: f64) -> Alibi {
        Alibi { scale, ..self }
    }

    /// The scale times `factor`.
    pub(super) fn scaled(self, factor: f64) -> Alibi {
        Alibi { scale: self.scale * factor, ..self }
    }

    /// The paper's slopes of `heads` heads.
    pub fn official_slopes(heads: u32) -> Vec<f64> {
        slopes(heads, Alibi::new().bias_max)
    }

    /// Slopes of `heads` heads whose last is `2^-bias_max`.
    pub(super) fn slopes_of(heads: u32, bias_max: f64) -> Vec<f64> {
        slopes(heads, bias_max)
    }

    /// The score with the penalty, its slopes times `factor`.
    pub(super) fn biased<'g>(
        &self,
        cx: &SchemeContext<'g>,
        score: Expr<'g>,
        factor: Option<Expr<'g>>,
    ) -> Result<Expr<'g>, SchemeError> {
        // What is rounded is scaled afterwards.
        let scale = if self.bf16 { 1.0 } else { self.scale };
        let mut slope = match &self.slopes {
            None => cx.per_head(scaled(&slopes(cx.heads()?, self.bias_max), scale))?,
            Some(ListOrValue::List(list)) => cx.per_head(scaled(list, scale))?,
            Some(ListOrValue::Value(value)) => {
                let slope = cx.value("slopes", *value)?;
                if scale == 1.0 { slope } else { slope * scale }
            }
        };
        if let Some(factor) = factor {
            slope = slope * factor;
        }
        let (q, k) = (cx.q_pos(), cx.k_pos());
        let penalty = |x: Expr<'g>| match self.bf16 {
            true => bf16(bf16(slope) * bf16(x.cast(Elem::F32))) * self.scale,
            false => slope * x,
        };
        Ok(match self.form {
            AlibiForm::Causal => score + penalty(k - q),
            AlibiForm::Symmetric => score - penalty((q - k).abs()),
            AlibiForm::Key => score + penalty(k),
            AlibiForm::Last => score + penalty(k - (cx.length() - 1)),
        })
    }
}

impl PositionScheme for Alibi {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let heads = cx.heads()?;
        match &self.slopes {
            Some(ListOrValue::List(list)) if list.len() as u64 != u64::from(heads) => {
                let found = format!("a list of {} numbers", list.len());
                Err(SchemeError::range("slopes", found, format!("one slope for each of the {heads} heads")))
            }
            None | Some(ListOrValue::List(_)) => Ok(()),
            Some(ListOrValue::Value(value)) => {
                let slope = cx.value("slopes", *value)?;
                if slope.ty().elem != Elem::F32 {
                    return Err(cx.bad_value("slopes", slope, "f32 slopes over the heads"));
                }
                cx.free_of("slopes", slope, &[cx.query_axis(), cx.key_axis(), cx.dim_axis()])
            }
        }
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.biased(cx, score, None)
    }
}

/// The nearest number of 8 bits, the even one of two: bfloat16, but for its range. Exact in single precision.
fn bf16(x: Expr<'_>) -> Expr<'_> {
    let size = x.abs();
    // The distance of neighbours, a power of two; 0 is a multiple of any.
    let unit = (size.max(1e-30).log2().floor() - 7.0).exp2();
    let units = size / unit;
    let whole = units.floor();
    let rest = units - whole;
    let up = rest.gt(0.5) | (rest.eq(0.5) & (whole % 2.0).eq(1.0));
    let rounded = (whole + up.cast(Elem::F32)) * unit;
    x.lt(0.0).select(-rounded, rounded)
}

fn scaled(slopes: &[f64], scale: f64) -> Vec<f64> {
    slopes.iter().map(|slope| slope * scale).collect()
}

/// `2^(-bias_max (h + 1) / n)` for `n` heads, a power of two. Otherwise, of that list for the power of two above: the odd ones, which
/// are the list of the power of two below, then the even ones, cut to `heads`.
fn slopes(heads: u32, bias_max: f64) -> Vec<f64> {
    let whole = u64::from(heads).next_power_of_two();
    let slope = |h: u64| (-bias_max * (h + 1) as f64 / whole as f64).exp2();
    if whole == u64::from(heads) {
        return (0..whole).map(slope).collect();
    }
    let odd = (1..whole).step_by(2);
    odd.chain((0..whole).step_by(2)).take(heads as usize).map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("alibi.rs"), 8, |_| Box::new(Alibi::new()));
    }
}
