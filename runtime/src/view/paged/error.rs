//! Errors of views in pages.

use crate::error::ViewError;
use crate::limits::PAGE_UNIT;

/// A view in pages that can't be.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagedViewError {
    /// A dimension that is not there, or more elements than can be counted.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Pages of an odd number of tokens.
    #[error("a page of {size} tokens; the number of tokens of a page is a multiple of {PAGE_UNIT}, and not 0")]
    PageSize {
        /// Tokens of a page.
        size: usize,
    },
    /// A table that is too short.
    #[error(
        "{len} tokens take {} pages of {page_size}, and the table has {pages}; list all pages of the sequence, or pass fewer tokens",
        len.div_ceil(*page_size)
    )]
    TooFewPages {
        /// Tokens of the sequence.
        len: usize,
        /// Tokens of a page.
        page_size: usize,
        /// Pages listed.
        pages: usize,
    },
    /// A page that is not in the pool.
    #[error(
        "page {position} of the sequence is number {page}, but the pool has {count} pages; list numbers of pages, which count from 0"
    )]
    NoPage {
        /// Position in the table.
        position: usize,
        /// Number of the page.
        page: u32,
        /// Pages of the pool.
        count: usize,
    },
    /// Norms that are not those of the pool.
    #[error(
        "{found} norms for {pages} pages, and dimension {dim} of {size}; give one for each page of the pool and each index of the dimension"
    )]
    Norms {
        /// Norms given.
        found: usize,
        /// Pages of the pool.
        pages: usize,
        /// The dimension.
        dim: usize,
        /// Its size.
        size: usize,
    },
}

rhumb_ir::debug_as_display!(PagedViewError);
