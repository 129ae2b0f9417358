//! Chunked mask: tokens see their own chunk alone.
//!
//! `floor(i / c) = floor(j / c)`. With the causal mask it is the local attention of Llama 4 (chunks of 8192).
//!
//! ```text
//! %mask = scheme chunked.mask @0 {chunk = 8192} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 8192 : i32
//! %6 = div %i, %5 : i32[q]
//! %7 = const 8192 : i32
//! %8 = div %j, %7 : i32[k]
//! %mask = eq %6, %8 : bool[q, k]
//! ```

use rhumb_ir::{Attr, Attrs, Expr, Hook};

use crate::attrs::{AttrInfo, AttrKind, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// Tokens see their own chunk alone: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    chunk: i64,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "chunked",
    summary: "tokens see their own chunk alone; join with causal",
    formula: "floor(i / c) = floor(j / c)",
    attributes: &[AttrInfo::new("chunk", AttrKind::Int, "", "c: tokens of a chunk")],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| Ok(Chunked { chunk: required(attrs.int("chunk")?, "chunk", AttrKind::Int)? }))
}

impl Chunked {
    /// Chunks of `chunk` tokens: at least 1.
    pub fn new(chunk: i64) -> Chunked {
        Chunked { chunk }
    }
}

impl PositionScheme for Chunked {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("chunk".to_owned(), Attr::Int(self.chunk))])
    }

    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if (1..=i64::from(i32::MAX)).contains(&self.chunk) {
            return Ok(());
        }
        Err(SchemeError::range("chunk", self.chunk, format!("a number of tokens from 1 to {}", i32::MAX)))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let chunk = self.chunk as i32;
        Ok((cx.q_index() / chunk).eq(cx.k_index() / chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("chunked.rs"), 8, |_| Box::new(Chunked::new(8192)));
    }
}
