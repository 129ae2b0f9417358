//! The sizes of a cache.

use rhumb_ir::Elem;

use crate::kv::KvCache;
use crate::kv::error::KvError;
use crate::kv::pages::Pages;
use crate::kv::pool::Pool;
use crate::kv::sequences::Sequences;
use crate::kv::transform::Positions;
use crate::limits::PAGE_UNIT;

/// The sizes that a [`KvCache`] is built of.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct KvCacheBuilder {
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    page_size: usize,
    pages: usize,
    elem: Elem,
}

impl KvCache {
    /// Starts a cache for `kv_heads` heads of `head_dim` elements: those of `k` in the attention's graph.
    pub fn builder(kv_heads: usize, head_dim: usize) -> KvCacheBuilder {
        KvCacheBuilder { kv_heads, head_dim, value_dim: head_dim, page_size: 64, pages: 0, elem: Elem::F32 }
    }
}

impl KvCacheBuilder {
    /// Elements of a head of the values: those of a head of the keys if not told.
    pub fn value_dim(self, value_dim: usize) -> KvCacheBuilder {
        KvCacheBuilder { value_dim, ..self }
    }

    /// Tokens of a page, a multiple of [`PAGE_UNIT`]: 64 if not told. Smaller pages waste less behind the last token of each sequence, and
    /// share more; larger ones are read in longer pieces.
    pub fn page_size(self, page_size: usize) -> KvCacheBuilder {
        KvCacheBuilder { page_size, ..self }
    }

    /// Pages of all sequences together. Has to be told.
    pub fn pages(self, pages: usize) -> KvCacheBuilder {
        KvCacheBuilder { pages, ..self }
    }

    /// The element type: `f32` if not told.
    pub fn elem(self, elem: Elem) -> KvCacheBuilder {
        KvCacheBuilder { elem, ..self }
    }

    /// Allocates the memory of all pages.
    ///
    /// # Errors
    /// [`KvError`] if a size is 0, the page size is not a multiple of [`PAGE_UNIT`], or there is no memory for the pages.
    pub fn build(self) -> Result<KvCache, KvError> {
        let KvCacheBuilder { kv_heads, head_dim, value_dim, page_size, pages, elem } = self;
        let sizes = [
            ("the number of key/value heads", kv_heads),
            ("the head dimension", head_dim),
            ("the value's head dimension", value_dim),
            ("the number of pages", pages),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(KvError::Zero { what });
        }
        if page_size == 0 || !page_size.is_multiple_of(PAGE_UNIT) {
            return Err(KvError::PageSize { size: page_size });
        }
        let shape = |dim| [pages, kv_heads, page_size, dim];
        let too_large = |_| KvError::TooLarge { shape: shape(head_dim) };
        let count = u32::try_from(pages).map_err(too_large)?;
        Ok(KvCache {
            keys: Pool::new(shape(head_dim), elem)?,
            values: Pool::new(shape(value_dim), elem)?,
            page_size,
            pages: Pages::new(count)?,
            sequences: Sequences::default(),
            positions: Positions::new(page_size)?,
            opened: Vec::new(),
        })
    }
}
