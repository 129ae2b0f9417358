//! ALiBi with slopes that flatten beyond the training length.
//!
//! Al-Khateeb, Dey, Soboleva, Hestness: *Position Interpolation Improves ALiBi Extrapolation* (arXiv 2310.13017). With `L` the length trained
//! on and `L'` the length of the call, slopes are `m_h L / L'` once `L' > L`, and `m_h` before. `L'` is the site's length, so one kernel
//! serves every length; `length` fixes it instead, as prefill in chunks wants: all chunks of a prompt then use the final length.
//!
//! The reference code (BTLM, JAIS) counts the keys, the cache included, which is the default of the site's length.
//!
//! ```text
//! %out = scheme dynamic_alibi.score %score @0 {train_length = 2048} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %6 = const 2048 : i32
//! %7 = max %length, %6 : i32
//! %8 = const 2048.0 : f32
//! %9 = cast %7 to f32 : f32
//! %10 = div %8, %9 : f32
//! %11 = table [0.0625, 0.00390625] : f32[h]
//! %12 = mul %11, %10 : f32[h]
//! %13 = sub %j, %i : i32[q, k]
//! %14 = cast %13 to f32 : f32[q, k]
//! %15 = mul %12, %14 : f32[h, q, k]
//! %out = add %score, %15 : f32[h, q, k]
//! ```

use rhumb_ir::{Attr, Attrs, Expr, Hook};

use super::alibi::{Alibi, BIAS_MAX, FORM, SCALE, SLOPES};
use crate::attrs::{AttrInfo, AttrKind, IntOrValue, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// ALiBi with slopes times `L / L'` beyond the training length: see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicAlibi {
    train_length: i64,
    length: Option<IntOrValue>,
    alibi: Alibi,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "dynamic_alibi",
    summary: "ALiBi with slopes that flatten beyond the training length (arXiv 2310.13017)",
    formula: "score - m_h min(1, L / L') (p_q - p_k)",
    attributes: &[
        BIAS_MAX,
        FORM,
        AttrInfo::new("length", AttrKind::IntOrValue, "the site's length", "L': the length in place of the call's own"),
        SCALE,
        SLOPES,
        AttrInfo::new("train_length", AttrKind::Int, "", "L: the length trained on"),
    ],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        Ok(DynamicAlibi {
            train_length: required(attrs.int("train_length")?, "train_length", AttrKind::Int)?,
            length: attrs.int_or_value("length")?,
            alibi: Alibi::read(attrs)?,
        })
    })
}

impl DynamicAlibi {
    /// The paper's, for a model trained on `train_length` tokens: at least 1.
    pub fn new(train_length: i64) -> DynamicAlibi {
        DynamicAlibi { train_length, length: None, alibi: Alibi::new() }
    }

    /// With the form, the slopes and the scale of `alibi`.
    #[must_use]
    pub fn alibi(self, alibi: Alibi) -> DynamicAlibi {
        DynamicAlibi { alibi, ..self }
    }

    /// With this length in place of the call's own: a number, or an `i32` value that does not vary by query or key.
    #[must_use]
    pub fn length(self, length: impl Into<IntOrValue>) -> DynamicAlibi {
        DynamicAlibi { length: Some(length.into()), ..self }
    }
}

impl PositionScheme for DynamicAlibi {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Score]
    }

    fn attributes(&self) -> Attrs {
        let mut attrs = self.alibi.attributes();
        attrs.insert("train_length".to_owned(), Attr::Int(self.train_length));
        if let Some(length) = self.length {
            attrs.insert("length".to_owned(), length.attr());
        }
        attrs
    }

    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let lengths = 1..=i64::from(i32::MAX);
        let expected = || format!("a number of tokens from 1 to {}", i32::MAX);
        if !lengths.contains(&self.train_length) {
            return Err(SchemeError::range("train_length", self.train_length, expected()));
        }
        match self.length {
            Some(IntOrValue::Int(length)) if !lengths.contains(&length) => {
                return Err(SchemeError::range("length", length, expected()));
            }
            Some(length @ IntOrValue::Value(_)) => {
                let axes = [cx.query_axis(), cx.key_axis(), cx.dim_axis()];
                cx.free_of("length", cx.int_or_value("length", length)?, &axes)?;
            }
            _ => {}
        }
        self.alibi.check(cx)
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let train = self.train_length as f64;
        let factor = match self.length {
            // Known now: the factor goes into the table of slopes.
            Some(IntOrValue::Int(length)) => {
                let factor = (train / length as f64).min(1.0);
                return self.alibi.clone().scaled(factor).biased(cx, score, None);
            }
            Some(length) => train / cx.int_or_value("length", length)?.max(self.train_length as i32),
            None => train / cx.length().max(self.train_length as i32),
        };
        self.alibi.biased(cx, score, Some(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("dynamic_alibi.rs"), 8, |_| Box::new(DynamicAlibi::new(2048)));
    }
}
