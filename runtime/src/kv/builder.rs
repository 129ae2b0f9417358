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
    zero_points: bool,
}

impl KvCache {
    /// Starts a cache for `kv_heads` heads of `head_dim` elements: those of `k` in the attention's graph.
    pub fn builder(kv_heads: usize, head_dim: usize) -> KvCacheBuilder {
        KvCacheBuilder {
            kv_heads,
            head_dim,
            value_dim: head_dim,
            page_size: 64,
            pages: 0,
            elem: Elem::F32,
            zero_points: false,
        }
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

    /// The element type: `f32` if not told. In 8 bits, rows are given in `f32`, `f16` or `bf16`, and stored
    ///
    /// - as integers ([`Elem::I8`]), each row, of a token and a head, with a [scale](KvCache::key_scales) of its own: no element is off by
    ///   more than half of that;
    /// - as floats ([`Elem::F8e4m3`]), each element rounded.
    pub fn elem(self, elem: Elem) -> KvCacheBuilder {
        KvCacheBuilder { elem, ..self }
    }

    /// Rows of [`Elem::I8`] also have [zero points](KvCache::key_zeros): the integers go from the least element of a row to the greatest, or
    /// to 0 where that is beyond.
    pub fn zero_points(self) -> KvCacheBuilder {
        KvCacheBuilder { zero_points: true, ..self }
    }

    /// Allocates the memory of all pages.
    ///
    /// # Errors
    /// [`KvError`] if a size is 0, the page size is not a multiple of [`PAGE_UNIT`], rows have no zero points, or there is no memory for the
    /// pages.
    pub fn build(self) -> Result<KvCache, KvError> {
        let KvCacheBuilder { kv_heads, head_dim, value_dim, page_size, pages, elem, zero_points } = self;
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
        if zero_points && elem != Elem::I8 {
            return Err(KvError::ZeroPoints { elem });
        }
        let shape = |dim| [pages, kv_heads, page_size, dim];
        let too_large = |_| KvError::TooLarge { shape: shape(head_dim) };
        let count = u32::try_from(pages).map_err(too_large)?;
        Ok(KvCache {
            keys: Pool::new(shape(head_dim), elem, zero_points)?,
            values: Pool::new(shape(value_dim), elem, zero_points)?,
            page_size,
            pages: Pages::new(count)?,
            sequences: Sequences::default(),
            positions: Positions::new(page_size)?,
            opened: Vec::new(),
        })
    }
}
