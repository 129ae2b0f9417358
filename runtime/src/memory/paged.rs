//! Inputs that lie in pages: where their rows are, and rows that are copied to where code can walk them.

use rhumb_compiler::plan::{Plan, TensorId};
use smallvec::SmallVec;

use crate::layout::Layout;
use crate::limits::MAX_RANK;
use crate::memory::Workspace;
use crate::memory::alloc::ALIGN;
use crate::view::{PagedView, TensorViewMut};

/// An input in pages whose rows key tiles alone read.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagedInput<'a> {
    pub(super) tensor: TensorId,
    pub(super) view: PagedView<'a>,
    /// Whether a key tile can pass the end of a page: its rows are copied one behind the other, for each key tile.
    pub(super) copied: bool,
}

/// The rows of an input in pages, at the outer indices of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagedRows<'a> {
    view: PagedView<'a>,
    /// The index of each dimension that is held; none of the tokens and of the elements of a row.
    held: [Option<usize>; MAX_RANK],
    /// The dimension of the elements of a row.
    row_dim: usize,
}

impl<'a> PagedInput<'a> {
    /// An input of a plan, by its tensor.
    pub(super) fn new(plan: &Plan, tensor: TensorId, view: PagedView<'a>) -> PagedInput<'a> {
        let whole = plan.tiles_on_grid() && view.page_size().is_multiple_of(plan.tiling.keys.max(1));
        PagedInput { tensor, view, copied: !whole }
    }

    /// Bytes of a row along the dimension with this number.
    fn row_bytes(&self, dim: usize) -> usize {
        self.view.shape()[dim] * self.view.elem().bytes()
    }

    /// Bytes that the rows of a key tile take where they are copied, of whole cache lines; `None` if they are not.
    pub(super) fn copied_bytes(&self, plan: &Plan, row_dim: usize) -> Option<usize> {
        // Rows are shorter than the scratch memory of a plan, which has offsets of 32 bits.
        self.copied.then(|| (plan.tiling.keys * self.row_bytes(row_dim)).next_multiple_of(ALIGN))
    }

    /// The strides that code walks rows by, in bytes, where these are copied one behind the other.
    pub(super) fn put_copied_strides(&self, words: &mut [u64], row_dim: usize) {
        for (dim, word) in words.iter_mut().enumerate() {
            *word = match dim {
                dim if dim == self.view.token_dim() => self.row_bytes(row_dim) as u64,
                dim if dim == row_dim => self.view.elem().bytes() as u64,
                _ => 0,
            };
        }
    }
}

impl<'a> PagedRows<'a> {
    /// The rows along a dimension, at the index of each other dimension but that of the tokens.
    pub(super) fn new(input: &PagedInput<'a>, row_dim: usize, index: impl Fn(usize) -> usize) -> PagedRows<'a> {
        let (view, mut held) = (input.view, [None; MAX_RANK]);
        for dim in (0..view.rank()).filter(|dim| *dim != view.token_dim() && *dim != row_dim) {
            held[dim] = Some(index(dim));
        }
        PagedRows { view, held, row_dim }
    }

    /// The address of the row of a key in the page that has it, and the end of the keys there; 0 past the last key.
    pub(super) fn address(&self, key: usize) -> (u64, usize) {
        let size = self.view.page_size();
        let Some(page) = self.view.page(key / size).filter(|page| !page.is_empty()) else { return (0, key) };
        let held = self.held.iter().zip(page.strides()).filter_map(|(index, stride)| Some(((*index)?, *stride)));
        let steps = held.map(|(index, stride)| index as isize * stride).sum::<isize>();
        let steps = steps + (key % size) as isize * page.strides()[self.view.token_dim()];
        let address = page.as_ptr().wrapping_offset(steps * page.elem().bytes() as isize);
        (address as u64, (key / size + 1) * size)
    }

    /// A number that the norm of the row of no key among some is above; `inf` where that is not known.
    pub(super) fn norm(&self, keys: (usize, usize)) -> f32 {
        self.view.norm(keys, |dim| self.held[dim])
    }

    /// Copies the rows of some keys to a place in memory, one behind the other; false if they do not fit there.
    pub(super) fn copy(&self, (first, end): (usize, usize), to: &mut Workspace, start: usize) -> bool {
        let (mut key, mut at) = (first, start);
        let row = self.view.shape()[self.row_dim];
        while key < end {
            let size = self.view.page_size();
            let until = ((key / size + 1) * size).min(end);
            let Some(copied) = self.copy_page((key, until), to, at) else { return false };
            debug_assert!(copied == (until - key) * row * self.view.elem().bytes(), "whole rows");
            (key, at) = (until, at + copied);
        }
        true
    }

    /// Copies rows of one page; the bytes that they take.
    fn copy_page(&self, (first, end): (usize, usize), to: &mut Workspace, start: usize) -> Option<usize> {
        let (size, token_dim) = (self.view.page_size(), self.view.token_dim());
        let mut page = self.view.page(first / size)?.narrow(token_dim, first % size, end - first).ok()?;
        for (dim, index) in self.held.iter().enumerate() {
            if let Some(index) = index {
                page = page.narrow(dim, *index, 1).ok()?;
            }
        }
        let row = page.shape()[self.row_dim];
        let mut strides: SmallVec<[isize; MAX_RANK]> = SmallVec::from_elem(1, page.rank());
        strides[token_dim] = row as isize;
        strides.iter_mut().zip(&self.held).filter(|(_, held)| held.is_some()).for_each(|(stride, _)| *stride = 0);
        let len = (end - first) * row;
        let span = to.span_mut(self.view.elem(), start, len)?;
        let copied = TensorViewMut::of_span(span, 0, Layout::new(page.shape(), &strides).ok()?);
        copied.ok()?.copy_from(&page).then_some(len * self.view.elem().bytes())
    }
}

/// Copies an input in pages to a place in memory, row-major; false if it does not fit there.
pub(super) fn gather(view: &PagedView<'_>, to: &mut Workspace, start: usize) -> bool {
    let layout = Layout::contiguous(view.shape());
    let (Some(span), Ok(layout)) = (to.span_mut(view.elem(), start, view.len()), layout) else { return false };
    let Ok(mut dense) = TensorViewMut::of_span(span, 0, layout) else { return false };
    view.pages().enumerate().all(|(number, page)| {
        let tokens = page.shape()[view.token_dim()];
        let part = dense.reborrow().narrow(view.token_dim(), number * view.page_size(), tokens);
        part.is_ok_and(|mut part| part.copy_from(&page))
    })
}
