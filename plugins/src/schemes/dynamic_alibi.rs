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

use rhumb_ir::Expr;

use super::alibi::Alibi;
use super::shared::{check_length, length};
use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// ALiBi with slopes that flatten beyond the training length (arXiv 2310.13017).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct DynamicAlibi: "dynamic_alibi" at Score = "score - m_h min(1, L / L') (p_q - p_k)" {
        /// L: the length trained on.
        #[range(1.., "a number of tokens")]
        train_length: i32,
        /// L': the length in place of the call's own.
        #[range(1.., "a number of tokens")]
        #[default("the site's length")]
        length: Option<IntOrValue> = None,
        /// The slopes before they flatten.
        #[flatten]
        alibi: Alibi = Alibi::new(),
    }
}

impl DynamicAlibi {
    /// The paper's, for a model trained on `train_length` tokens: at least 1.
    pub fn new(train_length: i32) -> DynamicAlibi {
        DynamicAlibi::with_defaults(train_length)
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
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        check_length(cx, self.length)?;
        self.alibi.check(cx)
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let train = f64::from(self.train_length);
        let factor = match self.length {
            // Known now: the factor goes into the table of slopes.
            Some(IntOrValue::Int(length)) => {
                let factor = (train / f64::from(length)).min(1.0);
                return self.alibi.clone().scaled(factor).biased(cx, score, None);
            }
            given => train / length(cx, given)?.max(self.train_length),
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
