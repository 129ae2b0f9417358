//! A scheme by functions.

use std::sync::LazyLock;

use rhumb::ir::{Attrs, Expr, Hook, Pairing};
use rhumb::plugins::{Declared, PositionScheme, SchemeContext, SchemeError, SchemeInfo};

pub(crate) type Score = for<'g> fn(&SchemeContext<'g>, Expr<'g>) -> Expr<'g>;

/// A scheme by functions.
#[derive(Clone, Copy)]
pub(crate) struct By {
    pub(crate) info: fn() -> &'static SchemeInfo,
    pub(crate) hooks: &'static [Hook],
    pub(crate) attributes: fn() -> Attrs,
    pub(crate) turn: for<'g> fn(&SchemeContext<'g>, Hook) -> Expr<'g>,
    pub(crate) score: Score,
    pub(crate) mask: for<'g> fn(&SchemeContext<'g>) -> Expr<'g>,
}

impl By {
    fn turned<'g>(&self, cx: &SchemeContext<'g>, hook: Hook, x: Expr<'g>) -> Expr<'g> {
        let pair = cx.axis("pair", 4);
        let angle = (self.turn)(cx, hook) * cx.table(&[pair], [1.0, 0.1, 0.01, 0.001]);
        x.rotate(angle, cx.dim_axis(), pair, Pairing::Half, 0)
    }
}

/// What is declared of `by`: its name, and all hooks.
pub(crate) fn bare() -> &'static SchemeInfo {
    static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
        SchemeInfo::new("by", [Hook::Query, Hook::Key, Hook::Score, Hook::Mask], "score", "of the tests")
    });
    &INFO
}

impl Declared for By {
    fn info(&self) -> &SchemeInfo {
        (self.info)()
    }

    fn attributes(&self) -> Attrs {
        (self.attributes)()
    }
}

impl PositionScheme for By {
    fn hooks(&self) -> &[Hook] {
        self.hooks
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.turned(cx, Hook::Query, x))
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.turned(cx, Hook::Key, x))
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((self.score)(cx, score))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((self.mask)(cx))
    }
}

/// The plain score.
pub(crate) const BY: By = By {
    info: bare,
    hooks: &[Hook::Score],
    attributes: Attrs::new,
    turn: |cx, hook| if hook == Hook::Query { cx.q_pos() } else { cx.k_pos() },
    score: |_, score| score * 1.0,
    mask: |cx| cx.builder().bool(true),
};
