//! Dilated window: every `d`-th key near the query.
//!
//! `|i - j| <= w and |i - j| mod d = 0` (LongNet, arXiv 2307.02486; Longformer, arXiv 2004.05150). Join with the causal mask for the
//! causal form.
//!
//! ```text
//! %mask = scheme dilated.mask @0 {dilation = 3, window = 12} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = sub %i, %j : i32[q, k]
//! %6 = abs %5 : i32[q, k]
//! %7 = const 12 : i32
//! %8 = le %6, %7 : bool[q, k]
//! %9 = const 3 : i32
//! %10 = mod %6, %9 : i32[q, k]
//! %11 = const 0 : i32
//! %12 = eq %10, %11 : bool[q, k]
//! %mask = and %8, %12 : bool[q, k]
//! ```

use rhumb_ir::{Attr, Attrs, Expr, Hook};

use crate::attrs::{AttrInfo, AttrKind, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// Every `d`-th key of a window: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dilated {
    window: i64,
    dilation: i64,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "dilated",
    summary: "every d-th key near the query",
    formula: "|i - j| <= w and |i - j| mod d = 0",
    attributes: &[
        AttrInfo::new("dilation", AttrKind::Int, "", "d: distance between the keys seen"),
        AttrInfo::new("window", AttrKind::Int, "", "w: how far the window reaches, in tokens"),
    ],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        let dilation = required(attrs.int("dilation")?, "dilation", AttrKind::Int)?;
        Ok(Dilated { window: required(attrs.int("window")?, "window", AttrKind::Int)?, dilation })
    })
}

impl Dilated {
    /// Keys at most `window` tokens away (from 0), a multiple of `dilation` tokens (at least 1).
    pub fn new(window: i64, dilation: i64) -> Dilated {
        Dilated { window, dilation }
    }
}

impl PositionScheme for Dilated {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("dilation".to_owned(), Attr::Int(self.dilation)), ("window".to_owned(), Attr::Int(self.window))])
    }

    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let most = i64::from(i32::MAX);
        if !(0..=most).contains(&self.window) {
            return Err(SchemeError::range("window", self.window, format!("a number of tokens from 0 to {most}")));
        }
        if !(1..=most).contains(&self.dilation) {
            return Err(SchemeError::range("dilation", self.dilation, format!("a number of tokens from 1 to {most}")));
        }
        Ok(())
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let distance = (cx.q_index() - cx.k_index()).abs();
        Ok(distance.le(self.window as i32) & (distance % self.dilation as i32).eq(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("dilated.rs"), 8, |_| Box::new(Dilated::new(12, 3)));
    }
}
