//! The outer indices of a task: which attention of a call it is part of.

use rhumb_compiler::abi::{MOST_PRODUCTS, MOST_REDUCTIONS};
use rhumb_compiler::plan::{Attention, Plan, TensorId};
use rhumb_ir::Axis;
use smallvec::{SmallVec, smallvec};

use crate::limits::MAX_RANK;
use crate::memory::Frame;
use crate::memory::paged::{PagedRows, row_dim};

/// One index along each outer axis, less than its length; of heads that are packed, that of the first.
pub(crate) struct Outer<'t> {
    attention: &'t Attention,
    frame: &'t Frame<'t>,
    /// Axes of an output of the graph, which has no more dimensions than a view.
    indices: SmallVec<[u64; MAX_RANK]>,
}

/// Rows of keys or values, one for each key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rows<'t> {
    /// Address of that of key 0.
    first: u64,
    /// From each to the next, in bytes.
    stride: u64,
    /// Where they lie in pages: the rows there, and where in the scratch memory they are copied for each key tile, if they are.
    paged: Option<(PagedRows<'t>, Option<usize>)>,
}

impl<'t> Rows<'t> {
    /// The rows that are copied for each key tile, and where in the scratch memory.
    pub(super) fn copied(&self) -> Option<(&PagedRows<'t>, usize)> {
        self.paged.as_ref().and_then(|(rows, place)| Some((rows, (*place)?)))
    }

    /// A number that the norm of the row of no key among some is above; `inf` where that is not known.
    pub(super) fn norm(&self, keys: (usize, usize)) -> f32 {
        self.paged.as_ref().map_or(f32::INFINITY, |(rows, _)| rows.norm(keys))
    }

    /// The end of the keys whose rows lie where the strides of a key's lead; `usize::MAX` where all do.
    pub(super) fn run_end(&self, key: usize) -> usize {
        self.paged.as_ref().map_or(usize::MAX, |(rows, _)| rows.address(key).1)
    }

    /// Address of the row of a key, with scratch memory at this address.
    ///
    /// # Panics
    /// If keys up to `end` lie in several pages, and are not copied.
    #[inline]
    pub(super) fn of(&self, scratch: u64, (key, end): (usize, usize)) -> u64 {
        match &self.paged {
            None => self.first.wrapping_add((key as u64).wrapping_mul(self.stride)),
            Some((_, Some(place))) => scratch.wrapping_add(*place as u64),
            Some((rows, None)) => {
                let (address, page_end) = rows.address(key);
                assert!(end <= page_end || end <= key, "a key tile of several pages");
                address
            }
        }
    }
}

impl<'t> Outer<'t> {
    /// The number of outer indices.
    pub(crate) fn count(attention: &Attention, frame: &Frame<'_>) -> usize {
        attention.outer.iter().map(|axis| groups(attention, frame, *axis)).fold(1, usize::saturating_mul)
    }

    /// The outer indices with a number, which is less than [`Outer::count`]: different ones with each.
    pub(crate) fn new(attention: &'t Attention, frame: &'t Frame<'t>, number: usize) -> Outer<'t> {
        let mut indices: SmallVec<[u64; MAX_RANK]> = smallvec![0; attention.outer.len()];
        let mut rest = number;
        for (index, axis) in indices.iter_mut().zip(&attention.outer).rev() {
            let length = groups(attention, frame, *axis).max(1);
            let step = frame.length(*axis).checked_div(length).unwrap_or(1);
            *index = (rest % length * step) as u64;
            rest /= length;
        }
        Outer { attention, frame, indices }
    }

    /// The index along each outer axis, in their order.
    pub(crate) fn indices(&self) -> &[u64] {
        &self.indices
    }

    /// The plan of the call.
    fn plan(&self) -> &'t Plan {
        self.frame.plan()
    }

    /// The index along an axis: its own, or that of the axis that it groups; 0 along others.
    fn index(&self, axis: Axis) -> usize {
        self.index_of_head(axis, 0)
    }

    /// As [`Outer::index`], of one of the heads that are packed.
    fn index_of_head(&self, axis: Axis, head: usize) -> usize {
        let packed = |axis| self.attention.packed.is_some_and(|packed| packed.axis == axis);
        let along = |axis| {
            let position = self.attention.outer.iter().position(|outer| *outer == axis)?;
            Some(self.indices[position] as usize + if packed(axis) { head } else { 0 })
        };
        let grouped = || {
            let (finer, ratio) = self.frame.plan().graph.grouped(axis)?;
            Some(along(finer)? / ratio as usize)
        };
        along(axis).or_else(grouped).unwrap_or(0)
    }

    /// Rows of the keys of each product, and of the values of each reduction; of `place` as in [`Outer::rows`].
    pub(super) fn all_rows(&self, place: &mut usize) -> ([Rows<'t>; MOST_PRODUCTS], [Rows<'t>; MOST_REDUCTIONS]) {
        let mut keys = [Rows::default(); MOST_PRODUCTS];
        for (rows, product) in keys.iter_mut().zip(&self.attention.products) {
            *rows = self.rows(self.plan().rows_of(product.key), product.dim, place);
        }
        let mut values = [Rows::default(); MOST_REDUCTIONS];
        for (rows, reduction) in values.iter_mut().zip(&self.attention.reductions) {
            *rows = self.rows(self.plan().rows_of(reduction.value), reduction.dim, place);
        }
        (keys, values)
    }

    /// Rows of keys or values here, whose elements lie along `dim`.
    ///
    /// Those that are copied for each key tile have their place in the scratch memory from `place` on, which is moved past it.
    fn rows(&self, tensor: TensorId, dim: Axis, place: &mut usize) -> Rows<'t> {
        let (first, strides) = self.frame.tensor(tensor);
        let mut rows = Rows { first, stride: 0, paged: None };
        if let Some((input, view)) = self.frame.paged(tensor) {
            let dims = &self.plan().tensors[tensor].dims;
            let copied = input.copied.map(|bytes| std::mem::replace(place, *place + bytes));
            let row_dim = row_dim(self.plan(), tensor);
            rows.paged = Some((PagedRows::new(view, row_dim, |dim| self.index(dims[dim])), copied));
            return rows;
        }
        for (&axis, &stride) in self.frame.plan().tensors[tensor].dims.iter().zip(strides) {
            if axis == self.attention.key {
                rows.stride = stride;
            } else if axis != dim {
                rows.first = rows.first.wrapping_add((self.index(axis) as u64).wrapping_mul(stride));
            }
        }
        rows
    }

    /// The row of a table here: the index over all its dimensions but queries, keys and groups of these.
    pub(crate) fn row(&self, table: TensorId) -> usize {
        self.row_of_head(table, 0)
    }

    /// As [`Outer::row`], of one of the heads that are packed.
    pub(crate) fn row_of_head(&self, table: TensorId, head: usize) -> usize {
        let attention = self.attention;
        let mut row = 0;
        let in_tile = |axis| axis == attention.query || axis == attention.key;
        for &axis in &self.frame.plan().tensors[table].dims {
            let grouped = self.frame.plan().graph.grouped(axis);
            if in_tile(axis) || grouped.is_some_and(|(finer, _)| in_tile(finer)) {
                continue;
            }
            let index = self.index_of_head(axis, head);
            row = row * self.frame.length(axis) + index;
        }
        row
    }
}

/// Query tiles of an outer index.
pub(crate) fn query_tiles(attention: &Attention, frame: &Frame<'_>) -> usize {
    let (first, end) = queries(attention, frame);
    (end - first).div_ceil(frame.plan().tiling.queries())
}

/// The queries of an outer index that are computed, counted with the heads that are packed: from and to.
pub(super) fn queries(attention: &Attention, frame: &Frame<'_>) -> (usize, usize) {
    let heads = attention.queries_per_position();
    let (first, end) = frame.queries();
    (first.saturating_mul(heads), end.saturating_mul(heads))
}

/// Turns of the loop over an outer axis: its length, or the number of groups where heads are packed.
fn groups(attention: &Attention, frame: &Frame<'_>, axis: Axis) -> usize {
    match attention.packed {
        Some(packed) if packed.axis == axis => frame.length(axis) / packed.heads.max(1) as usize,
        _ => frame.length(axis),
    }
}
