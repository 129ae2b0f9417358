//! Where the element of an index lies.

use crate::graph::Graph;
use crate::types::Axis;

use super::bind::Lengths;
use super::memory::{NoRoom, filled};

/// The axes of an array with their strides, outermost first.
pub(super) struct Layout {
    dims: Vec<(Axis, usize)>,
}

impl Layout {
    /// A contiguous array. Where an axis is empty, strides may be of no use, and may saturate: nothing is read.
    pub(super) fn contiguous(lengths: &Lengths, dims: &[Axis]) -> Layout {
        let mut stride = 1;
        let mut dims: Vec<(Axis, usize)> = dims
            .iter()
            .rev()
            .map(|&dim| {
                let this = stride;
                stride = usize::saturating_mul(stride, lengths.of(dim).max(1));
                (dim, this)
            })
            .collect();
        dims.reverse();
        Layout { dims }
    }

    /// The layout of the slice at index 0 of `axis`.
    pub(super) fn without(&self, axis: Axis) -> Layout {
        Layout { dims: self.dims.iter().copied().filter(|(dim, _)| *dim != axis).collect() }
    }

    /// Distance between neighbours along `axis`; 0 if the array does not have it.
    pub(super) fn stride(&self, axis: Axis) -> usize {
        self.dims.iter().find(|(dim, _)| *dim == axis).map_or(0, |(_, stride)| *stride)
    }

    /// What each index of `axis` adds to the offset, when an array of this layout is read at indices of the axes `all`.
    ///
    /// Where the array has a coarser axis `g` and `all` only the finer `h` that `g` groups, index `i` of `h` reads group `i / (h / g)`.
    fn offsets(&self, graph: &Graph, lengths: &Lengths, all: &[Axis], axis: Axis) -> Result<Vec<usize>, NoRoom> {
        let length = lengths.of(axis);
        let mut offsets = filled(length, 0)?;
        for &(dim, stride) in &self.dims {
            let ratio = if dim == axis {
                1
            } else if graph.axis(dim).groups == Some(axis) && !all.contains(&dim) {
                length / lengths.of(dim).max(1)
            } else {
                continue;
            };
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset += i / ratio.max(1) * stride;
            }
        }
        Ok(offsets)
    }
}

/// Walks the indices of the axes `all` in row-major order, one row along the last axis at a time, and gives for each array its offset at
/// the row's first index and what each index along the row adds to it.
///
/// Without axes there is one row of one index; where an axis is empty there is no row.
pub(super) fn for_each_row<const N: usize>(
    graph: &Graph,
    lengths: &Lengths,
    all: &[Axis],
    arrays: [&Layout; N],
    mut row: impl FnMut([usize; N], [&[usize]; N]),
) -> Result<(), NoRoom> {
    let Some((&last, outer)) = all.split_last() else {
        row([0; N], [&[0]; N]);
        return Ok(());
    };
    if all.iter().any(|axis| lengths.of(*axis) == 0) {
        return Ok(());
    }
    let tables = |axis: Axis| {
        let mut tables = [const { Vec::new() }; N];
        for (table, array) in tables.iter_mut().zip(arrays) {
            *table = array.offsets(graph, lengths, all, axis)?;
        }
        Ok::<_, NoRoom>(tables)
    };
    let inner = tables(last)?;
    let outer: Vec<[Vec<usize>; N]> = outer.iter().map(|axis| tables(*axis)).collect::<Result<_, _>>()?;
    let counts: Vec<usize> = all[..outer.len()].iter().map(|axis| lengths.of(*axis)).collect();
    let mut index = vec![0; outer.len()];
    loop {
        let base = std::array::from_fn(|n| outer.iter().zip(&index).map(|(tables, i)| tables[n][*i]).sum());
        row(base, std::array::from_fn(|n| inner[n].as_slice()));
        // The next index, innermost first.
        let Some(moved) = (0..index.len()).rev().find(|&i| index[i] + 1 < counts[i]) else { return Ok(()) };
        index[moved] += 1;
        index[moved + 1..].fill(0);
    }
}
