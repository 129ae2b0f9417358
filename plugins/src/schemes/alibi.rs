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

use rhumb_ir::{Attr, Attrs, Elem, Expr, Hook, Value};

use crate::attrs::{AttrInfo, AttrKind, AttrReader};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// ALiBi: see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Alibi {
    form: AlibiForm,
    slopes: Slopes,
    bias_max: f64,
    scale: f64,
}

/// Which of the equivalent forms of ALiBi is added to the score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlibiForm {
    /// `-m (p_q - p_k)`.
    #[default]
    Causal,
    /// `-m |p_q - p_k|`.
    Symmetric,
    /// `m p_k`.
    Key,
    /// `m (p_k - (length - 1))`.
    Last,
}

#[derive(Clone, Debug, PartialEq)]
enum Slopes {
    Official,
    List(Vec<f64>),
    Value(Value),
}

const FORMS: &[(&str, AlibiForm)] = &[
    ("causal", AlibiForm::Causal),
    ("symmetric", AlibiForm::Symmetric),
    ("key", AlibiForm::Key),
    ("last", AlibiForm::Last),
];

pub(super) const BIAS_MAX: AttrInfo =
    AttrInfo::new("bias_max", AttrKind::Float, "8", "minus the log2 of the last head's slope; 8 is the paper's");
pub(super) const FORM: AttrInfo = AttrInfo::new(
    "form",
    AttrKind::Name(&["causal", "symmetric", "key", "last"]),
    "causal",
    "-m(p_q - p_k), -m|p_q - p_k|, m p_k or m(p_k - (length - 1)); all but symmetric differ in lse alone",
);
pub(super) const SCALE: AttrInfo = AttrInfo::new("scale", AttrKind::Float, "1", "factor on all slopes");
pub(super) const SLOPES: AttrInfo =
    AttrInfo::new("slopes", AttrKind::ListOrValue, "official", "one slope per head: a list, or a value over the heads");

const INFO: SchemeInfo = SchemeInfo {
    name: "alibi",
    summary: "a penalty linear in distance, with a slope per head (arXiv 2108.12409)",
    formula: "score - m_h (p_q - p_k)",
    attributes: &[BIAS_MAX, FORM, SCALE, SLOPES],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, Alibi::read)
}

impl Alibi {
    /// The paper's: official slopes, for a causal mask.
    pub fn new() -> Alibi {
        Alibi { form: AlibiForm::Causal, slopes: Slopes::Official, bias_max: 8.0, scale: 1.0 }
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
        Alibi { slopes: Slopes::List(slopes.into()), ..self }
    }

    /// Slopes that each call tells: an `f32` value over the head axis.
    #[must_use]
    pub fn slopes_value(self, slopes: Expr<'_>) -> Alibi {
        Alibi { slopes: Slopes::Value(slopes.value()), ..self }
    }

    /// The slope of the last head is `2^-bias_max`: 8 in the paper, `alibi_bias_max` in MPT checkpoints.
    #[must_use]
    pub fn bias_max(self, bias_max: f64) -> Alibi {
        Alibi { bias_max, ..self }
    }

    /// A factor on all slopes, such as Falcon's `1 / sqrt(head_dim)`.
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
        slopes(heads, 8.0)
    }

    pub(super) fn read(attrs: AttrReader<'_>) -> Result<Alibi, SchemeError> {
        let slopes = match attrs.get("slopes") {
            None => Slopes::Official,
            Some(Attr::List(slopes)) => Slopes::List(slopes.clone()),
            Some(Attr::Value(value)) => Slopes::Value(*value),
            Some(_) => return Err(attrs.wrong_type("slopes", AttrKind::ListOrValue)),
        };
        Ok(Alibi {
            form: attrs.name("form", FORMS)?.unwrap_or_default(),
            slopes,
            bias_max: attrs.float("bias_max")?.unwrap_or(8.0),
            scale: attrs.float("scale")?.unwrap_or(1.0),
        })
    }

    /// The score with the penalty, its slopes times `factor`.
    pub(super) fn biased<'g>(
        &self,
        cx: &SchemeContext<'g>,
        score: Expr<'g>,
        factor: Option<Expr<'g>>,
    ) -> Result<Expr<'g>, SchemeError> {
        let mut slope = match &self.slopes {
            Slopes::Official => cx.per_head(scaled(&slopes(cx.heads()?, self.bias_max), self.scale))?,
            Slopes::List(list) => cx.per_head(scaled(list, self.scale))?,
            Slopes::Value(value) => {
                let slope = cx.value("slopes", *value)?;
                if self.scale == 1.0 { slope } else { slope * self.scale }
            }
        };
        if let Some(factor) = factor {
            slope = slope * factor;
        }
        let (q, k) = (cx.q_pos(), cx.k_pos());
        Ok(match self.form {
            AlibiForm::Causal => score + slope * (k - q),
            AlibiForm::Symmetric => score - slope * (q - k).abs(),
            AlibiForm::Key => score + slope * k,
            AlibiForm::Last => score + slope * (k - (cx.length() - 1)),
        })
    }
}

impl Default for Alibi {
    fn default() -> Alibi {
        Alibi::new()
    }
}

impl PositionScheme for Alibi {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Score]
    }

    fn attributes(&self) -> Attrs {
        let mut attrs = Attrs::new();
        if self.form != AlibiForm::Causal {
            let name = FORMS.iter().find(|(_, form)| *form == self.form).map_or("causal", |(name, _)| name);
            attrs.insert("form".to_owned(), Attr::Str(name.to_owned()));
        }
        match &self.slopes {
            Slopes::Official => None,
            Slopes::List(list) => attrs.insert("slopes".to_owned(), Attr::List(list.clone())),
            Slopes::Value(value) => attrs.insert("slopes".to_owned(), Attr::Value(*value)),
        };
        if self.bias_max != 8.0 {
            attrs.insert("bias_max".to_owned(), Attr::Float(self.bias_max));
        }
        if self.scale != 1.0 {
            attrs.insert("scale".to_owned(), Attr::Float(self.scale));
        }
        attrs
    }

    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let heads = cx.heads()?;
        if !self.scale.is_finite() {
            return Err(SchemeError::range("scale", self.scale, "a finite number"));
        }
        if !(self.bias_max > 0.0 && self.bias_max.is_finite()) {
            return Err(SchemeError::range("bias_max", self.bias_max, "a finite number above 0"));
        }
        match &self.slopes {
            Slopes::Official => Ok(()),
            Slopes::List(list) if list.len() as u64 != u64::from(heads) => {
                let found = format!("a list of {} numbers", list.len());
                Err(SchemeError::range("slopes", found, format!("one slope for each of the {heads} heads")))
            }
            Slopes::List(list) => match list.iter().find(|slope| !slope.is_finite()) {
                Some(slope) => Err(SchemeError::range("slopes", slope, "a list of finite numbers")),
                None => Ok(()),
            },
            Slopes::Value(value) => {
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
