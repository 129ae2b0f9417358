//! Borrowed tensors.

use std::fmt;

use rhumb_ir::Elem;

use crate::element::{Element, OutputElement};
use crate::error::ViewError;
use crate::layout::Layout;
use crate::memory::{Span, SpanMut};
use crate::overlap::Region;

mod input;
mod paged;

pub use input::InputView;
pub use paged::{PagedView, PagedViewError};

/// A borrowed tensor that a call reads.
///
/// Sizes and strides count elements, outermost dimension first. Any strides are legal whose offsets stay inside the slice: 0 repeats
/// elements along a dimension, negative ones walk backwards. Views are plain values, copied at will.
///
/// ```
/// use rhumb_runtime::TensorView;
///
/// // Tokens outermost, heads inside: [batch, tokens, heads, dim] ...
/// let data = vec![0.0f32; 2 * 10 * 4 * 8];
/// let bshd = TensorView::from_slice(&data, &[2, 10, 4, 8])?;
/// // ... seen as [batch, heads, tokens, dim], without a copy.
/// let bhsd = bshd.permute(&[0, 2, 1, 3])?;
/// assert_eq!(bhsd.strides(), [320, 8, 32, 1]);
/// // The first 7 tokens.
/// assert_eq!(bhsd.narrow(2, 0, 7)?.shape(), [2, 4, 7, 8]);
/// # Ok::<(), rhumb_runtime::ViewError>(())
/// ```
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    span: Span<'a>,
    offset: usize,
    layout: Layout,
}

/// A borrowed tensor that a call writes.
///
/// As [`TensorView`], but no two indices may stand for one element.
pub struct TensorViewMut<'a> {
    span: SpanMut<'a>,
    offset: usize,
    layout: Layout,
}

impl<'a> TensorView<'a> {
    /// The row-major tensor of a whole slice.
    ///
    /// # Errors
    /// [`ViewError`] if the shape's element count is not the slice's length, or does not fit.
    pub fn from_slice<T: Element>(data: &'a [T], shape: &[usize]) -> Result<TensorView<'a>, ViewError> {
        let layout = exact(data.len(), shape)?;
        Ok(TensorView { span: Span::from_slice(data), offset: 0, layout })
    }

    /// A tensor with strides, in elements; index 0 of every dimension is the slice's first element.
    ///
    /// # Errors
    /// [`ViewError`] if the view would leave the slice, or sizes do not fit.
    pub fn with_strides<T: Element>(
        data: &'a [T],
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorView<'a>, ViewError> {
        TensorView::with_offset(data, 0, shape, strides)
    }

    /// A tensor with strides, in elements; index 0 of every dimension is element `offset` of the slice, so that negative strides have
    /// somewhere to go.
    ///
    /// # Errors
    /// [`ViewError`] if the view would leave the slice, or sizes do not fit.
    pub fn with_offset<T: Element>(
        data: &'a [T],
        offset: usize,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorView<'a>, ViewError> {
        TensorView::of_span(Span::from_slice(data), offset, Layout::new(shape, strides)?)
    }

    /// The view of part of a span, once that is proved to be part of it.
    pub(crate) fn of_span(span: Span<'a>, offset: usize, layout: Layout) -> Result<TensorView<'a>, ViewError> {
        let offset = layout.place(offset, span.len())?;
        Ok(TensorView { span, offset, layout })
    }

    /// The view with its dimensions in another order: dimension `i` is what was dimension `order[i]`.
    ///
    /// # Errors
    /// [`ViewError::Order`] if `order` is not a permutation of the dimensions.
    pub fn permute(self, order: &[usize]) -> Result<TensorView<'a>, ViewError> {
        Ok(TensorView { layout: self.layout.permute(order)?, ..self })
    }

    /// The window of `len` steps along `dim` from `start`.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or the window is not inside it.
    pub fn narrow(self, dim: usize, start: usize, len: usize) -> Result<TensorView<'a>, ViewError> {
        let (layout, step) = self.layout.narrow(dim, start, len)?;
        Ok(TensorView { layout, offset: self.offset.wrapping_add_signed(step), ..self })
    }

    /// The view at one index of `dim`, which goes away: of a packed `[batch, token, 3, head, dim]` the keys are `select(2, 1)`.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or the index is not inside it.
    pub fn select(self, dim: usize, index: usize) -> Result<TensorView<'a>, ViewError> {
        let (layout, step) = self.layout.select(dim, index)?;
        Ok(TensorView { layout, offset: self.offset.wrapping_add_signed(step), ..self })
    }

    /// The view with a dimension of size 1 that becomes dimension `dim`: `[head, token, dim]` is a batch of one by `insert_dim(0)`.
    ///
    /// # Errors
    /// [`ViewError`] if there are fewer dimensions, or as many as there can be.
    pub fn insert_dim(self, dim: usize) -> Result<TensorView<'a>, ViewError> {
        Ok(TensorView { layout: self.layout.with_unit(dim)?, ..self })
    }

    /// The element at an index, as a number; truth values are 0 and 1. `None` outside the shape.
    pub fn get(&self, index: &[usize]) -> Option<f64> {
        self.span.read(self.offset.wrapping_add_signed(self.layout.offset(index)?))
    }

    /// All elements as numbers, in row-major order of the view.
    pub(crate) fn elements(&self) -> impl Iterator<Item = f64> {
        self.layout.offsets().filter_map(|step| self.span.read(self.offset.wrapping_add_signed(step)))
    }

    /// Address of the element at index 0 of every dimension. Without elements, an address that is not to be read.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.span.as_ptr().wrapping_add(self.offset * self.elem().bytes())
    }

    pub(crate) fn region(&self) -> Region<'_> {
        Region { address: self.as_ptr() as usize, width: self.elem().bytes(), layout: &self.layout }
    }
}

impl<'a> TensorViewMut<'a> {
    /// The row-major tensor of a whole slice.
    ///
    /// # Errors
    /// [`ViewError`] if the shape's element count is not the slice's length, or does not fit.
    pub fn from_slice<T: OutputElement>(data: &'a mut [T], shape: &[usize]) -> Result<TensorViewMut<'a>, ViewError> {
        let layout = exact(data.len(), shape)?;
        Ok(TensorViewMut { span: SpanMut::from_slice(data), offset: 0, layout })
    }

    /// A tensor with strides, in elements; index 0 of every dimension is the slice's first element.
    ///
    /// # Errors
    /// [`ViewError`] if the view would leave the slice, elements would coincide, or sizes do not fit.
    pub fn with_strides<T: OutputElement>(
        data: &'a mut [T],
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorViewMut<'a>, ViewError> {
        TensorViewMut::with_offset(data, 0, shape, strides)
    }

    /// A tensor with strides, in elements; index 0 of every dimension is element `offset` of the slice.
    ///
    /// # Errors
    /// [`ViewError`] if the view would leave the slice, elements would coincide, or sizes do not fit.
    pub fn with_offset<T: OutputElement>(
        data: &'a mut [T],
        offset: usize,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorViewMut<'a>, ViewError> {
        TensorViewMut::of_span(SpanMut::from_slice(data), offset, Layout::new(shape, strides)?)
    }

    /// The view of part of a span, once that is proved to be part of it and its elements distinct.
    pub(crate) fn of_span(span: SpanMut<'a>, offset: usize, layout: Layout) -> Result<TensorViewMut<'a>, ViewError> {
        if !layout.is_distinct() {
            return Err(ViewError::Repeats { shape: layout.shape().to_vec(), strides: layout.strides().to_vec() });
        }
        let offset = layout.place(offset, span.as_span().len())?;
        Ok(TensorViewMut { span, offset, layout })
    }

    /// The memory behind the view, the offset of its first element in it, and the layout.
    pub(crate) fn into_parts(self) -> (SpanMut<'a>, usize, Layout) {
        (self.span, self.offset, self.layout)
    }

    /// The view with its dimensions in another order: dimension `i` is what was dimension `order[i]`.
    ///
    /// # Errors
    /// [`ViewError::Order`] if `order` is not a permutation of the dimensions.
    pub fn permute(self, order: &[usize]) -> Result<TensorViewMut<'a>, ViewError> {
        Ok(TensorViewMut { layout: self.layout.permute(order)?, ..self })
    }

    /// The window of `len` steps along `dim` from `start`: where a cache takes its next tokens, say.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or the window is not inside it.
    pub fn narrow(self, dim: usize, start: usize, len: usize) -> Result<TensorViewMut<'a>, ViewError> {
        let (layout, step) = self.layout.narrow(dim, start, len)?;
        Ok(TensorViewMut { layout, offset: self.offset.wrapping_add_signed(step), ..self })
    }

    /// The view at one index of `dim`, which goes away.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or the index is not inside it.
    pub fn select(self, dim: usize, index: usize) -> Result<TensorViewMut<'a>, ViewError> {
        let (layout, step) = self.layout.select(dim, index)?;
        Ok(TensorViewMut { layout, offset: self.offset.wrapping_add_signed(step), ..self })
    }

    /// The view with a dimension of size 1 that becomes dimension `dim`.
    ///
    /// # Errors
    /// [`ViewError`] if there are fewer dimensions, or as many as there can be.
    pub fn insert_dim(self, dim: usize) -> Result<TensorViewMut<'a>, ViewError> {
        Ok(TensorViewMut { layout: self.layout.with_unit(dim)?, ..self })
    }

    /// Views of the parts of a dimension, from each offset to the next: of sequences that lie one after the other, by their cumulative
    /// lengths from 0 on. What is before the first offset, and after the last, is part of none.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or offsets do not ascend, or pass its end.
    pub fn split(self, dim: usize, offsets: &[usize]) -> Result<Vec<TensorViewMut<'a>>, ViewError> {
        let size = *self.shape().get(dim).ok_or(ViewError::NoDim { dim, rank: self.rank() })?;
        if !offsets.is_sorted() || offsets.last().is_some_and(|last| *last > size) {
            return Err(ViewError::Offsets { dim, offsets: offsets.to_vec(), size });
        }
        let (mut parts, mut rest, mut at) = (Vec::with_capacity(offsets.len().saturating_sub(1)), self, 0);
        for (number, offset) in offsets.iter().enumerate() {
            let (part, after) = rest.split_at(dim, offset - at)?;
            if number > 0 {
                parts.push(part);
            }
            (rest, at) = (after, *offset);
        }
        Ok(parts)
    }

    /// The same view, borrowed for shorter, so that one view serves many calls.
    pub fn reborrow(&mut self) -> TensorViewMut<'_> {
        TensorViewMut { span: self.span.reborrow(), offset: self.offset, layout: self.layout }
    }

    /// The tensor to read, for as long as it is not written.
    pub fn as_view(&self) -> TensorView<'_> {
        TensorView { span: self.span.as_span(), offset: self.offset, layout: self.layout }
    }

    /// The element at an index, as a number; truth values are 0 and 1. `None` outside the shape.
    pub fn get(&self, index: &[usize]) -> Option<f64> {
        self.as_view().get(index)
    }

    /// Stores a number at an index: rounded to the float type, truncated and saturated to the integer type, or as whether it is not 0. Whether the index is
    /// in the shape.
    pub fn set(&mut self, index: &[usize], value: f64) -> bool {
        let Some(step) = self.layout.offset(index) else { return false };
        self.span.write(self.offset.wrapping_add_signed(step), value);
        true
    }

    /// Stores numbers at all indices in row-major order of the view, as [`TensorViewMut::set`] does.
    pub(crate) fn fill_from(&mut self, values: &[f64]) {
        for (step, value) in self.layout.offsets().zip(values) {
            self.span.write(self.offset.wrapping_add_signed(step), *value);
        }
    }

    /// Address of the element at index 0 of every dimension. Without elements, an address that is not to be used.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        let bytes = self.offset * self.elem().bytes();
        self.span.as_mut_ptr().wrapping_add(bytes)
    }

    pub(crate) fn region(&self) -> Region<'_> {
        let address = self.as_view().as_ptr() as usize;
        Region { address, width: self.elem().bytes(), layout: &self.layout }
    }
}

macro_rules! accessors {
    ($($view:ident)*) => {$(
        impl $view<'_> {
            /// The element type.
            pub fn elem(&self) -> Elem {
                self.span.elem()
            }

            /// Sizes of the dimensions, outermost first.
            pub fn shape(&self) -> &[usize] {
                self.layout.shape()
            }

            /// Steps between neighbours along each dimension, in elements.
            pub fn strides(&self) -> &[isize] {
                self.layout.strides()
            }

            /// Number of dimensions.
            pub fn rank(&self) -> usize {
                self.shape().len()
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                self.layout.len()
            }

            /// Whether there is no element.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether elements follow one another in memory in row-major order.
            pub fn is_contiguous(&self) -> bool {
                self.layout.is_contiguous()
            }
        }

        impl fmt::Debug for $view<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {}{:?} strides {:?}", stringify!($view), self.elem(), self.shape(), self.strides())
            }
        }
    )*};
}
accessors!(TensorView TensorViewMut);

/// The row-major layout of a shape that has exactly `len` elements.
fn exact(len: usize, shape: &[usize]) -> Result<Layout, ViewError> {
    let layout = Layout::contiguous(shape)?;
    if layout.len() == len {
        Ok(layout)
    } else {
        Err(ViewError::Length { shape: shape.to_vec(), expected: layout.len(), found: len })
    }
}

#[cfg(test)]
mod tests;
