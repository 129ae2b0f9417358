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
pub(super) struct PagedInput {
    pub(super) tensor: TensorId,
    /// Its number among the inputs.
    pub(super) input: usize,
    /// Bytes that the rows of a key tile take, where a key tile can pass the end of a page: they are copied one behind the other, for each
    /// key tile. Whole cache lines.
    pub(super) copied: Option<usize>,
}

/// The rows of an input in pages, at the outer indices of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagedRows<'a> {
    view: &'a PagedView<'a>,
    /// The index of each dimension that is held: lengths are those of axes, which are `i32`. 0 of the tokens and of the elements of a row.
    held: [u32; MAX_RANK],
    /// The dimension of the elements of a row.
    row_dim: usize,
}

impl PagedInput {
    /// An input of a plan, by its tensor and its number.
    pub(super) fn new(plan: &Plan, (tensor, input): (TensorId, usize), view: &PagedView<'_>) -> PagedInput {
        let whole = plan.tiles_on_grid() && view.page_size().is_multiple_of(plan.tiling.keys.max(1));
        // Rows are shorter than the scratch memory of a plan, which has offsets of 32 bits.
        let bytes = || (plan.tiling.keys * row_bytes(view, row_dim(plan, tensor))).next_multiple_of(ALIGN);
        PagedInput { tensor, input, copied: (!whole).then(bytes) }
    }
}

/// The strides that code walks the rows of a tensor by, in bytes, where these are copied one behind the other.
pub(super) fn put_copied_strides(words: &mut [u64], view: &PagedView<'_>, row_dim: usize) {
    for (dim, word) in words.iter_mut().enumerate() {
        *word = match dim {
            dim if dim == view.token_dim() => row_bytes(view, row_dim) as u64,
            dim if dim == row_dim => view.elem().bytes() as u64,
            _ => 0,
        };
    }
}

/// Bytes of a row along the dimension with this number.
fn row_bytes(view: &PagedView<'_>, dim: usize) -> usize {
    view.shape()[dim] * view.elem().bytes()
}

/// The dimension of the elements of a tensor's rows, of one that key tiles read.
pub(super) fn row_dim(plan: &Plan, tensor: TensorId) -> usize {
    let mut axes = plan.attention.iter().flat_map(|attention| {
        let products = attention.products.iter().map(|product| (product.key, product.dim));
        products.chain(attention.reductions.iter().map(|reduction| (reduction.value, reduction.dim)))
    });
    let axis = axes.find(|(rows, _)| plan.rows_of(*rows) == tensor).map(|(_, dim)| dim);
    plan.tensors[tensor].dims.iter().position(|dim| Some(*dim) == axis).unwrap_or(0)
}

impl<'a> PagedRows<'a> {
    /// The rows along a dimension, at the index of each other dimension but that of the tokens.
    pub(super) fn new(view: &'a PagedView<'a>, row_dim: usize, index: impl Fn(usize) -> usize) -> PagedRows<'a> {
        let mut rows = PagedRows { view, held: [0; MAX_RANK], row_dim };
        for dim in 0..view.rank() {
            rows.held[dim] = if rows.holds(dim) { index(dim) as u32 } else { 0 };
        }
        rows
    }

    /// Whether one index of a dimension is held.
    fn holds(&self, dim: usize) -> bool {
        dim != self.view.token_dim() && dim != self.row_dim
    }

    /// The address of the row of a key in the page that has it, and the end of the keys there; 0 past the last key.
    pub(super) fn address(&self, key: usize) -> (u64, usize) {
        let (size, strides) = (self.view.page_size(), self.view.strides());
        let Some(start) = self.view.page_start(key / size) else { return (0, key) };
        let held = self.held.iter().zip(strides).filter(|(index, _)| **index > 0);
        let steps = held.map(|(index, stride)| *index as isize * stride).sum::<isize>();
        let steps = steps + (key % size) as isize * strides[self.view.token_dim()];
        let address = start.wrapping_offset(steps * self.view.elem().bytes() as isize);
        (address as u64, (key / size + 1) * size)
    }

    /// A number that the norm of the row of no key among some is above; `inf` where that is not known.
    pub(super) fn norm(&self, keys: (usize, usize)) -> f32 {
        self.view.norm(keys, |dim| self.holds(dim).then(|| self.held[dim] as usize))
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
        let row = page.shape()[self.row_dim];
        let mut strides: SmallVec<[isize; MAX_RANK]> = SmallVec::from_elem(1, page.rank());
        strides[token_dim] = row as isize;
        for dim in (0..page.rank()).filter(|dim| self.holds(*dim)) {
            page = page.narrow(dim, self.held[dim] as usize, 1).ok()?;
            strides[dim] = 0;
        }
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
