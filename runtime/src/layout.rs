//! Shapes and strides, and the proofs that they stay inside memory.

use crate::error::ViewError;
use crate::limits::MAX_RANK;

/// A shape and strides in elements, kept inline so that views are plain values.
///
/// The product of all sizes that are not 0, times 8 bytes, fits `isize`, and so does every sum of offsets: the constructor proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    rank: u8,
    shape: [usize; MAX_RANK],
    strides: [isize; MAX_RANK],
}

/// The offsets that a layout reaches, both ends included; `None` for a layout without elements.
pub(crate) type Reach = Option<(isize, isize)>;

impl Layout {
    /// The row-major layout of a shape.
    pub(crate) fn contiguous(shape: &[usize]) -> Result<Layout, ViewError> {
        check_count(shape)?;
        let mut strides = [0; MAX_RANK];
        let mut step = 1isize;
        for (dim, &size) in shape.iter().enumerate().rev() {
            strides[dim] = step;
            step *= size.max(1) as isize;
        }
        Layout::new(shape, &strides[..shape.len()])
    }

    pub(crate) fn new(shape: &[usize], strides: &[isize]) -> Result<Layout, ViewError> {
        if shape.len() != strides.len() {
            return Err(ViewError::StrideCount { shape: shape.to_vec(), strides: strides.to_vec() });
        }
        check_count(shape)?;
        let mut layout = Layout { rank: shape.len() as u8, shape: [0; MAX_RANK], strides: [0; MAX_RANK] };
        layout.shape[..shape.len()].copy_from_slice(shape);
        layout.strides[..strides.len()].copy_from_slice(strides);
        if layout.reach_checked().is_none() {
            return Err(ViewError::Overflow { shape: shape.to_vec(), strides: strides.to_vec() });
        }
        Ok(layout)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..usize::from(self.rank)]
    }

    pub(crate) fn strides(&self) -> &[isize] {
        &self.strides[..usize::from(self.rank)]
    }

    /// Sizes and strides, outermost first.
    pub(crate) fn dims(&self) -> impl DoubleEndedIterator<Item = (usize, isize)> {
        self.shape().iter().copied().zip(self.strides().iter().copied())
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        let mut step = 1;
        self.len() == 0
            || self.dims().rev().all(|(size, stride)| {
                let fits = size == 1 || stride == step;
                step *= size as isize;
                fits
            })
    }

    /// Whether different indices always stand for different elements. Sufficient, and true of all layouts whose strides nest: sorted by
    /// stride, each step passes over all that the smaller ones reach.
    pub(crate) fn is_distinct(&self) -> bool {
        let mut dims = self.dims().filter(|(size, _)| *size > 1).collect::<smallvec::SmallVec<[_; MAX_RANK]>>();
        dims.sort_unstable_by_key(|(_, stride)| stride.unsigned_abs());
        let mut reach = 0;
        self.len() == 0
            || dims.iter().all(|(size, stride)| {
                let fits = stride.unsigned_abs() > reach;
                reach += stride.unsigned_abs() * (size - 1);
                fits
            })
    }

    /// The lowest and highest offset from that of the first element.
    pub(crate) fn reach(&self) -> Reach {
        self.reach_checked().flatten()
    }

    /// `None` where offsets do not fit; kept apart from that, `Some(None)` where there is no element.
    fn reach_checked(&self) -> Option<Reach> {
        if self.len() == 0 {
            return Some(None);
        }
        let (mut low, mut high) = (0isize, 0isize);
        for (size, stride) in self.dims() {
            let last = stride.checked_mul(isize::try_from(size - 1).ok()?)?;
            let end = if last < 0 { &mut low } else { &mut high };
            *end = end.checked_add(last)?;
        }
        let span = high.checked_sub(low)?.checked_add(1)?;
        span.checked_mul(8).map(|_| Some((low, high)))
    }

    /// Proves that from `offset` the layout stays inside `len` elements, and gives the offset, 0 if there is nothing to reach.
    pub(crate) fn place(&self, offset: usize, len: usize) -> Result<usize, ViewError> {
        let Some((low, high)) = self.reach() else { return Ok(0) };
        let inside = isize::try_from(offset).ok().and_then(|offset| {
            let (first, last) = (offset.checked_add(low)?, offset.checked_add(high)?);
            (first >= 0 && (last as usize) < len).then_some(())
        });
        match inside {
            Some(()) => Ok(offset),
            None => Err(ViewError::OutOfBounds {
                shape: self.shape().to_vec(),
                strides: self.strides().to_vec(),
                first: offset as i128 + low as i128,
                last: offset as i128 + high as i128,
                len,
            }),
        }
    }

    /// The offset of an element from that of the first; `None` where the index is not in the shape.
    pub(crate) fn offset(&self, index: &[usize]) -> Option<isize> {
        let inside = index.len() == self.shape().len() && index.iter().zip(self.shape()).all(|(i, size)| i < size);
        // Inside the shape every term and sum is inside the reach, which fits.
        inside.then(|| index.iter().zip(self.strides()).map(|(i, stride)| *i as isize * stride).sum())
    }

    /// The offsets of all elements from that of the first, in row-major order.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = isize> {
        let layout = *self;
        let mut index = [0usize; MAX_RANK];
        (0..layout.len()).map(move |_| {
            let offset = layout.strides().iter().zip(index).map(|(stride, i)| stride * i as isize).sum();
            for (i, size) in index.iter_mut().zip(layout.shape()).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
            offset
        })
    }

    pub(crate) fn permute(&self, order: &[usize]) -> Result<Layout, ViewError> {
        let mut seen = [false; MAX_RANK];
        let rank = self.shape().len();
        let is_permutation =
            order.len() == rank && order.iter().all(|&dim| dim < rank && !std::mem::replace(&mut seen[dim], true));
        if !is_permutation {
            return Err(ViewError::Order { order: order.to_vec(), rank });
        }
        let mut layout = *self;
        for (to, &from) in order.iter().enumerate() {
            layout.shape[to] = self.shape[from];
            layout.strides[to] = self.strides[from];
        }
        Ok(layout)
    }

    /// The layout of `len` steps along `dim` from `start`, and the offset of its first element.
    pub(crate) fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<(Layout, isize), ViewError> {
        let size = self.size(dim)?;
        if start.checked_add(len).is_none_or(|end| end > size) {
            return Err(ViewError::Window { dim, start, len, size });
        }
        let mut layout = *self;
        layout.shape[dim] = len;
        let offset = if layout.len() == 0 { 0 } else { self.strides[dim] * start as isize };
        Ok((layout, offset))
    }

    /// The layout without `dim`, held at `index`, and the offset of its first element.
    pub(crate) fn select(&self, dim: usize, index: usize) -> Result<(Layout, isize), ViewError> {
        let (layout, offset) = self.narrow(dim, index, 1)?;
        Ok((layout.without(dim)?, offset))
    }

    /// The layout of the other dimensions.
    pub(crate) fn without(&self, dim: usize) -> Result<Layout, ViewError> {
        self.size(dim)?;
        let mut layout = *self;
        layout.shape.copy_within(dim + 1.., dim);
        layout.strides.copy_within(dim + 1.., dim);
        layout.rank -= 1;
        // Of a dimension of size 0, the others were not held to anything.
        match layout.reach_checked() {
            Some(_) => Ok(layout),
            None => Err(ViewError::Overflow { shape: layout.shape().to_vec(), strides: layout.strides().to_vec() }),
        }
    }

    /// The layout with a dimension of size 1 before `dim`.
    pub(crate) fn with_unit(&self, dim: usize) -> Result<Layout, ViewError> {
        let rank = self.shape().len();
        if rank == MAX_RANK {
            return Err(ViewError::TooManyDims { rank: rank + 1 });
        }
        if dim > rank {
            return Err(ViewError::NoDim { dim, rank: rank + 1 });
        }
        let mut layout = *self;
        layout.rank += 1;
        layout.shape.copy_within(dim..rank, dim + 1);
        layout.strides.copy_within(dim..rank, dim + 1);
        (layout.shape[dim], layout.strides[dim]) = (1, 0);
        Ok(layout)
    }

    fn size(&self, dim: usize) -> Result<usize, ViewError> {
        self.shape().get(dim).copied().ok_or(ViewError::NoDim { dim, rank: self.shape().len() })
    }
}

/// Checks that a shape's elements can be counted, where lengths of 0 count as 1: so products of any of the lengths fit.
fn check_count(shape: &[usize]) -> Result<(), ViewError> {
    if shape.len() > MAX_RANK {
        return Err(ViewError::TooManyDims { rank: shape.len() });
    }
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul((*size).max(1)));
    match count {
        Some(count) if count <= isize::MAX as usize / 8 => Ok(()),
        _ => Err(ViewError::Count { shape: shape.to_vec() }),
    }
}
