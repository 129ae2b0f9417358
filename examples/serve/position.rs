//! Where the two models have their positions: the attentions that each needs.

use rhumb::prelude::*;

use crate::transformer::{DIM, HEADS};

/// Elements of a head.
pub(crate) const HEAD_DIM: usize = DIM / HEADS;

/// The position scheme that a model was trained with.
#[derive(Clone, Copy)]
pub(crate) enum Position {
    Alibi,
    Rope,
}

impl Position {
    /// The file of the model, and its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Position::Alibi => "alibi",
            Position::Rope => "rope",
        }
    }

    /// Attention over keys as the projection leaves them.
    pub(crate) fn over_keys(self) -> Attention {
        match self {
            Position::Alibi => attention().scheme(Alibi::new()).scheme(Causal),
            Position::Rope => attention().scheme(Rope::new()).scheme(Causal),
        }
    }

    /// Attention over keys of a cache, which RoPE rotated on the way in: the query alone is left to turn. Queries are the last tokens of
    /// their sequence, so that positions need not be told.
    pub(crate) fn over_cache(self) -> Attention {
        match self {
            Position::Alibi => self.over_keys(),
            Position::Rope => attention().scheme(Rope::new().query_only()).scheme(Causal),
        }
    }

    /// What is done to keys on their way into a cache, if anything. The index of the first of them is an input, which the cache binds.
    pub(crate) fn of_keys(self) -> Option<Attention> {
        match self {
            Position::Alibi => None,
            Position::Rope => Some(attention().scheme(Rope::new()).q_offset_input()),
        }
    }
}

fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(HEAD_DIM)
}
