//! Sliding window: a query attends to the keys near its own token.
//!
//! `i - w < j <= i`: `w` keys, the query's own included (Mistral, arXiv 2310.06825; Hugging Face counts the same way). The symmetric form
//! is `|i - j| <= w`: `2w + 1` keys (ModernBERT, arXiv 2412.13663).
//!
//! ```text
//! %mask = scheme sliding_window.mask @0 {window = 4096} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = const 4096 : i32
//! %7 = lt %5, %6 : bool[q, k]
//! %8 = le %j, %i : bool[q, k]
//! %mask = and %7, %8 : bool[q, k]
//! ```

use rhumb_ir::{Attr, Attrs, Expr, Hook};

use crate::attrs::{AttrInfo, AttrKind, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// A sliding window: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    window: i64,
    symmetric: bool,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "sliding_window",
    summary: "a query attends to the keys near its own token",
    formula: "i - w < j <= i; symmetric: |i - j| <= w",
    attributes: &[
        AttrInfo::new("symmetric", AttrKind::Bool, "false", "look ahead as far as back"),
        AttrInfo::new("window", AttrKind::Int, "", "w: the keys seen, or how far the symmetric window reaches"),
    ],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        let window = required(attrs.int("window")?, "window", AttrKind::Int)?;
        Ok(SlidingWindow { window, symmetric: attrs.flag("symmetric")? })
    })
}

impl SlidingWindow {
    /// A causal window of `window` keys, the query's own included: at least 1.
    pub fn new(window: i64) -> SlidingWindow {
        SlidingWindow { window, symmetric: false }
    }

    /// Looks `window` keys ahead as well as back, beside the query's own.
    #[must_use]
    pub fn symmetric(self) -> SlidingWindow {
        SlidingWindow { symmetric: true, ..self }
    }
}

impl PositionScheme for SlidingWindow {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        let mut attrs = Attrs::from([("window".to_owned(), Attr::Int(self.window))]);
        if self.symmetric {
            attrs.insert("symmetric".to_owned(), Attr::Bool(true));
        }
        attrs
    }

    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let least = i64::from(!self.symmetric);
        if (least..=i64::from(i32::MAX)).contains(&self.window) {
            return Ok(());
        }
        Err(SchemeError::range("window", self.window, format!("a number of keys from {least} to {}", i32::MAX)))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let (i, j) = (cx.q_index(), cx.k_index());
        let window = self.window as i32;
        if self.symmetric {
            return Ok((i - j).abs().le(window));
        }
        Ok((i - j).lt(window) & j.le(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("sliding_window.rs"), 8, |_| Box::new(SlidingWindow::new(4096)));
    }
}
