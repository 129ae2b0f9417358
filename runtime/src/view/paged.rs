//! Borrowed tensors in pages.

use std::fmt;

use rhumb_ir::Elem;

use crate::error::ViewError;
use crate::layout::Layout;
use crate::limits::{MAX_RANK, PAGE_UNIT};
use crate::memory::Span;
use crate::overlap::{Region, overlap};
use crate::view::TensorView;

mod error;

pub use error::PagedViewError;

/// A borrowed tensor that a call reads, one dimension of which lies in pages: the tokens of a sequence in a cache of keys or values.
///
/// A pool holds pages, all of one layout, and a table has the number of each page of the sequence, in order. Page `i` of the sequence
/// has its tokens from `i * page_size` on. The pages may lie anywhere in the pool, and a page may be of many sequences, or in one table
/// twice. Views are plain values, copied at will.
///
/// ```
/// use rhumb_runtime::{PagedView, TensorView};
///
/// // 8 pages of 16 tokens, for 2 heads: [page, head, token, dim].
/// let data: Vec<f32> = (0..8 * 2 * 16 * 4).map(|x| x as f32).collect();
/// let pool = TensorView::from_slice(&data, &[8, 2, 16, 4])?;
/// // The sequence's 40 tokens lie in pages 5, 0 and 3. Without dimension 0, which counts pages, dimension 1 counts tokens.
/// let keys = PagedView::new(pool, &[5, 0, 3], 0, 1, 40)?;
/// assert_eq!(keys.shape(), [2, 40, 4]);
/// assert_eq!(keys.get(&[1, 20, 3]), pool.get(&[0, 1, 4, 3]));
/// // The last page has the 8 tokens from 32 on.
/// assert_eq!(keys.page(2).map(|page| page.shape().to_vec()), Some(vec![2, 8, 4]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct PagedView<'a> {
    span: Span<'a>,
    /// Of element 0 of the pool's page 0.
    offset: usize,
    /// Of a whole page.
    page: Layout,
    /// Pages of the pool.
    count: usize,
    /// From a page of the pool to the next, in elements; 0 where there is no element.
    step: isize,
    /// Those that have tokens.
    pages: &'a [u32],
    token_dim: usize,
    shape: [usize; MAX_RANK],
    norms: Option<PageNorms<'a>>,
}

/// Bounds on the norms of rows.
#[derive(Clone, Copy)]
struct PageNorms<'a> {
    /// For each page of the pool one for each index along `dim`.
    norms: &'a [f32],
    dim: usize,
}

impl<'a> PagedView<'a> {
    /// The tensor of `len` tokens in those of the pool's pages that `pages` lists, the first `page_size` tokens in the first.
    ///
    /// Dimension `page_dim` of the pool counts pages. Of the dimensions that are left without it, which are the tensor's, `token_dim`
    /// counts tokens; its size in the pool is the page size. Numbers in `pages` past those that `len` tokens take are not looked at.
    ///
    /// # Errors
    /// [`PagedViewError`] if there are no such dimensions, the page size is not a multiple of [`PAGE_UNIT`](crate::PAGE_UNIT), the tokens take more pages
    /// than are listed, or a page is not in the pool.
    pub fn new(
        pool: TensorView<'a>,
        pages: &'a [u32],
        page_dim: usize,
        token_dim: usize,
        len: usize,
    ) -> Result<PagedView<'a>, PagedViewError> {
        let page = pool.layout.without(page_dim)?;
        let rank = page.shape().len();
        let page_size = *page.shape().get(token_dim).ok_or(ViewError::NoDim { dim: token_dim, rank })?;
        if page_size == 0 || !page_size.is_multiple_of(PAGE_UNIT) {
            return Err(PagedViewError::PageSize { size: page_size });
        }
        let used = pages.get(..len.div_ceil(page_size));
        let pages = used.ok_or(PagedViewError::TooFewPages { len, page_size, pages: pages.len() })?;
        let count = pool.shape()[page_dim];
        if let Some((position, &page)) = pages.iter().enumerate().find(|(_, page)| **page as usize >= count) {
            return Err(PagedViewError::NoPage { position, page, count });
        }
        let mut shape = [0; MAX_RANK];
        shape[..rank].copy_from_slice(page.shape());
        shape[token_dim] = len;
        // A table may list a page more often than memory could hold it.
        Layout::contiguous(&shape[..rank])?;
        let step = if pool.is_empty() { 0 } else { pool.strides()[page_dim] };
        let norms = None;
        Ok(PagedView { span: pool.span, offset: pool.offset, page, count, step, pages, token_dim, shape, norms })
    }

    /// The tensor, with what is known of its rows, which are along any one dimension: for each page of the pool, and each index along `dim`
    /// (of heads, as a rule), a number that the Euclidean norm of no row there is above. `inf` says nothing; a row that holds NaN has no
    /// other bound. Of rows of integers that a graph scales they bound what it makes of them. Norms by token, or by element of a row, bound no row of a page: nothing comes of them.
    ///
    /// Calls of few queries whose scores fall off with distance leave pages out that can have no weight, by the norms of keys and values,
    /// without a look at them. Bounds that do not hold make for wrong results.
    ///
    /// # Errors
    /// [`PagedViewError`] if there is no such dimension, or norms are not as many as pages of the pool times its size.
    pub fn with_norms(self, norms: &'a [f32], dim: usize) -> Result<PagedView<'a>, PagedViewError> {
        let size = *self.shape().get(dim).ok_or(ViewError::NoDim { dim, rank: self.rank() })?;
        let expected = self.count.saturating_mul(size);
        if norms.len() != expected {
            return Err(PagedViewError::Norms { found: norms.len(), pages: self.count, dim, size });
        }
        Ok(PagedView { norms: Some(PageNorms { norms, dim }), ..self })
    }

    /// A number that the norm of no row of some tokens is above, at an index of each dimension but those of tokens and of the rows'
    /// elements; `inf` where that is not known.
    pub(crate) fn norm(&self, (first, end): (usize, usize), index: impl Fn(usize) -> Option<usize>) -> f32 {
        let known = self.norms.and_then(|known| Some((known, index(known.dim)?)));
        let Some((PageNorms { norms, dim }, index)) = known else { return f32::INFINITY };
        let size = self.shape[dim];
        let pages = self.pages.get(first / self.page_size()..end.div_ceil(self.page_size())).unwrap_or_default();
        let of = |page: &u32| norms.get(*page as usize * size + index).copied().unwrap_or(f32::INFINITY);
        let all = pages.iter().map(of).map(|norm| if norm.is_nan() { f32::INFINITY } else { norm });
        all.fold(0.0, f32::max)
    }

    /// The element type.
    pub fn elem(&self) -> Elem {
        self.span.elem()
    }

    /// Sizes of the dimensions, outermost first: those of a page, but for the number of tokens.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.rank()]
    }

    /// Steps between neighbours along each dimension inside a page, in elements.
    pub fn strides(&self) -> &[isize] {
        self.page.strides()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.page.shape().len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dimension that lies in pages.
    pub fn token_dim(&self) -> usize {
        self.token_dim
    }

    /// Number of tokens.
    pub fn len_tokens(&self) -> usize {
        self.shape[self.token_dim]
    }

    /// Sizes of the dimensions of a page that is full.
    pub(crate) fn page_shape(&self) -> &[usize] {
        self.page.shape()
    }

    /// Tokens of a page that is full.
    pub fn page_size(&self) -> usize {
        self.page.shape()[self.token_dim]
    }

    /// The numbers of the pages in the pool, in the order of the sequence.
    pub fn page_table(&self) -> &'a [u32] {
        self.pages
    }

    /// The element at an index, as a number; truth values are 0 and 1. `None` outside the shape.
    pub fn get(&self, index: &[usize]) -> Option<f64> {
        let token = *index.get(self.token_dim)?;
        let mut inside = [0; MAX_RANK];
        let inside = inside.get_mut(..index.len())?;
        inside.copy_from_slice(index);
        inside[self.token_dim] = token % self.page_size();
        self.page(token / self.page_size())?.get(inside)
    }

    /// The tokens in the page at a position of the sequence, which is the whole page but for the last; `None` past that.
    pub fn page(&self, position: usize) -> Option<TensorView<'a>> {
        let number = *self.pages.get(position)?;
        let len = (self.len_tokens() - position * self.page_size()).min(self.page_size());
        let (layout, _) = self.page.narrow(self.token_dim, 0, len).ok()?;
        Some(TensorView { span: self.span, offset: self.offset_of(number), layout })
    }

    /// Address of element 0 of every dimension of the page at a position of the sequence; `None` past that, and without elements.
    pub(crate) fn page_start(&self, position: usize) -> Option<*const u8> {
        let number = *self.pages.get(position).filter(|_| !self.is_empty())?;
        Some(self.span.as_ptr().wrapping_add(self.offset_of(number) * self.elem().bytes()))
    }

    /// The tokens in each page, in the order of the sequence.
    pub fn pages(&self) -> impl Iterator<Item = TensorView<'a>> {
        let view = *self;
        (0..self.pages.len()).filter_map(move |position| view.page(position))
    }

    /// Offset of element 0 of a page of the pool. The pool's layout proves that it fits.
    fn offset_of(&self, number: u32) -> usize {
        self.offset.wrapping_add_signed(self.step * number as isize)
    }

    /// All elements as numbers, in row-major order of the tensor.
    pub(crate) fn elements(&self) -> impl Iterator<Item = f64> {
        let mut index = [0; MAX_RANK];
        (0..self.len()).filter_map(move |_| {
            let element = self.get(&index[..self.rank()]);
            for (i, size) in index.iter_mut().zip(self.shape()).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
            element
        })
    }

    /// Whether an element shares a byte with a region.
    pub(crate) fn overlaps(&self, region: Region<'_>) -> bool {
        self.pages().any(|page| overlap(page.region(), region))
    }
}

impl fmt::Debug for PagedView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (elem, shape, strides) = (self.elem(), self.shape(), self.strides());
        let (dim, size, pages) = (self.token_dim, self.page_size(), self.pages);
        write!(f, "PagedView: {elem}{shape:?} strides {strides:?}, dimension {dim} in pages of {size}: {pages:?}")
    }
}

#[cfg(test)]
mod tests;
