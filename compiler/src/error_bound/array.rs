//! Arrays over named axes, and walks over them.

use rhumb_ir::{Axis, Graph};

use super::approx::Approx;

/// The most elements that an array may have: 2^26, a gigabyte.
pub(super) const MAX_ELEMENTS: usize = 1 << 26;

/// Elements over some axes, row-major.
#[derive(Clone, Debug)]
pub(super) struct Array {
    /// Each with its stride, outermost first.
    dims: Vec<(Axis, usize)>,
    pub(super) data: Vec<Approx>,
}

/// A graph's axes and how long each is in a call.
#[derive(Clone, Copy)]
pub(super) struct Space<'a> {
    pub(super) graph: &'a Graph,
    pub(super) lengths: &'a [usize],
}

impl Space<'_> {
    pub(super) fn length(self, axis: Axis) -> usize {
        self.lengths.get(axis.index()).copied().unwrap_or(0)
    }

    pub(super) fn shape(self, dims: &[Axis]) -> Vec<usize> {
        dims.iter().map(|axis| self.length(*axis)).collect()
    }

    /// Number of elements over some axes; none where there are too many.
    pub(super) fn count(self, dims: &[Axis]) -> Option<usize> {
        let shape = self.shape(dims);
        if shape.contains(&0) {
            return Some(0);
        }
        let count = shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length))?;
        (count <= MAX_ELEMENTS).then_some(count)
    }

    /// An array of this much memory, of one element; none where there is not as much.
    pub(super) fn filled(self, dims: &[Axis], x: Approx) -> Option<Array> {
        let count = self.count(dims)?;
        let mut data = Vec::new();
        data.try_reserve_exact(count).ok()?;
        data.resize(count, x);
        Some(self.over(dims, data))
    }

    /// The array of row-major elements.
    pub(super) fn over(self, dims: &[Axis], data: Vec<Approx>) -> Array {
        let mut stride = 1usize;
        let mut strides: Vec<(Axis, usize)> = Vec::with_capacity(dims.len());
        for &dim in dims.iter().rev() {
            strides.push((dim, stride));
            stride = stride.saturating_mul(self.length(dim).max(1));
        }
        strides.reverse();
        Array { dims: strides, data }
    }

    /// What each index of `axis` adds to the offset where an array is read at indices of the axes `all`. Of two axes of which one groups
    /// the other, the one that is among them tells the index of the one that is not: the group, or its first member.
    pub(super) fn offsets(self, array: &Array, all: &[Axis], axis: Axis) -> Vec<usize> {
        let length = self.length(axis);
        let mut offsets = vec![0; length];
        for &(dim, stride) in &array.dims {
            let absent = !all.contains(&dim);
            let (times, over) = if dim == axis {
                (1, 1)
            } else if absent && self.graph.axis(dim).groups == Some(axis) {
                (1, length / self.length(dim).max(1))
            } else if absent && self.graph.axis(axis).groups == Some(dim) {
                (self.length(dim) / length.max(1), 1)
            } else {
                continue;
            };
            for (index, offset) in offsets.iter_mut().enumerate() {
                *offset += index * times / over.max(1) * stride;
            }
        }
        offsets
    }

    /// Walks the indices of the axes `all` in row-major order, one row along the last at a time: gives for each array its offset at the
    /// row's first index, and what each index along the row adds to it.
    pub(super) fn rows(self, all: &[Axis], arrays: &[&Array], mut row: impl FnMut(&[usize], &[Vec<usize>])) {
        let Some((&last, outer)) = all.split_last() else {
            return row(&vec![0; arrays.len()], &vec![vec![0]; arrays.len()]);
        };
        if all.iter().any(|axis| self.length(*axis) == 0) {
            return;
        }
        let tables =
            |axis: Axis| -> Vec<Vec<usize>> { arrays.iter().map(|array| self.offsets(array, all, axis)).collect() };
        let inner = tables(last);
        let outer: Vec<(usize, Vec<Vec<usize>>)> =
            outer.iter().map(|axis| (self.length(*axis), tables(*axis))).collect();
        let mut index = vec![0; outer.len()];
        let mut base = vec![0; arrays.len()];
        loop {
            for (n, base) in base.iter_mut().enumerate() {
                *base = outer.iter().zip(&index).map(|((_, tables), i)| tables[n][*i]).sum();
            }
            row(&base, &inner);
            let Some(moved) = (0..index.len()).rev().find(|&i| index[i] + 1 < outer[i].0) else { return };
            index[moved] += 1;
            index[moved + 1..].fill(0);
        }
    }
}

impl Array {
    /// Distance between neighbours along `axis`; 0 if the array does not have it.
    pub(super) fn stride(&self, axis: Axis) -> usize {
        self.dims.iter().find(|(dim, _)| *dim == axis).map_or(0, |(_, stride)| *stride)
    }

    /// The slice at index 0 of `axis`, without elements: to be walked along with the array.
    pub(super) fn without(&self, axis: Axis) -> Array {
        Array { dims: self.dims.iter().copied().filter(|(dim, _)| *dim != axis).collect(), data: Vec::new() }
    }
}
