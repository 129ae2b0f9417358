//! Copies of views, byte by byte.

use crate::layout::Layout;
use crate::view::{TensorView, TensorViewMut};

impl TensorViewMut<'_> {
    /// Copies all elements of a view of the same shape and element type, to the bit; nothing where these differ. Whether it did.
    #[must_use]
    pub(crate) fn copy_from(&mut self, from: &TensorView<'_>) -> bool {
        if self.shape() != from.shape() || self.elem() != from.elem() {
            return false;
        }
        if self.is_empty() {
            return true;
        }
        let bytes = self.elem().bytes();
        let (to_layout, from_layout) = (*self.region().layout, *from.region().layout);
        let (outer, len) = runs(&to_layout, &from_layout);
        let (to_starts, from_starts) = (starts(to_layout, outer), starts(from_layout, outer));
        let (to, from) = (self.as_mut_ptr(), from.as_ptr());
        for (to_start, from_start) in to_starts.offsets().zip(from_starts.offsets()) {
            let to = to.wrapping_offset(to_start * bytes as isize);
            let from = from.wrapping_offset(from_start * bytes as isize);
            // SAFETY: each view proved that its layout stays inside its memory, readable or writable, and both step over the `len` elements of a
            // run one by one (`runs`). All bytes are initialised, and those of any element of a type are elements of it.
            unsafe { std::ptr::copy(from, to, len * bytes) };
        }
        true
    }
}

/// Number of outer dimensions, inside of which the elements of both layouts of one shape follow one another; and how many these are.
fn runs(a: &Layout, b: &Layout) -> (usize, usize) {
    let (mut outer, mut len) = (a.shape().len(), 1);
    for ((size, a), (_, b)) in a.dims().rev().zip(b.dims().rev()) {
        if size != 1 && (a != len as isize || b != len as isize) {
            break;
        }
        (outer, len) = (outer - 1, len * size);
    }
    (outer, len)
}

/// The layout of the first elements of all runs: inner dimensions are of size 1.
fn starts(layout: Layout, outer: usize) -> Layout {
    let inner = outer..layout.shape().len();
    inner.fold(layout, |layout, dim| layout.narrow(dim, 0, 1).map_or(layout, |(narrowed, _)| narrowed))
}

#[cfg(test)]
mod tests {
    use rhumb_random::Rng;

    use super::*;

    /// Strides of a shape whose dimensions lie in any order, with gaps; the elements that they span.
    fn strides(rng: &mut Rng, shape: &[usize]) -> (Vec<isize>, usize) {
        let mut strides = vec![0; shape.len()];
        let mut step = 1 + rng.below(2);
        let natural = rng.one_in(2);
        let order: Vec<usize> = (0..shape.len()).rev().collect();
        for dim in if natural { order } else { rng.shuffled(order) } {
            strides[dim] = step as isize;
            step = step * shape[dim] + if rng.one_in(3) { rng.below(3) } else { 0 };
        }
        (strides, step)
    }

    #[test]
    fn copies_agree_with_elements_one_by_one() {
        for seed in rhumb_random::seeds(0, 500) {
            let rng = &mut Rng::new(seed);
            let shape: Vec<usize> = (0..rng.below(5)).map(|_| rng.pick(&[0, 1, 1, 2, 3, 4])).collect();
            let ((to_strides, to_len), (from_strides, from_len)) = (strides(rng, &shape), strides(rng, &shape));
            let data: Vec<i32> = (1..=from_len as i32 + 1).collect();
            let from = TensorView::with_strides(&data, &shape, &from_strides).expect("a view");
            let (mut copied, mut expected) = (vec![0i32; to_len + 1], vec![0i32; to_len + 1]);
            let mut to = TensorViewMut::with_strides(&mut expected, &shape, &to_strides).expect("a view");
            to.fill_from(&from.elements().collect::<Vec<_>>());
            let mut to = TensorViewMut::with_strides(&mut copied, &shape, &to_strides).expect("a view");
            assert!(to.copy_from(&from));
            assert_eq!(copied, expected, "seed {seed}: {shape:?} {from_strides:?} to {to_strides:?}");
        }
    }

    #[test]
    fn bits_are_kept_and_strides_may_repeat_and_walk_backwards() {
        let odd = [f32::from_bits(0x7f80_0001), -0.0, f32::from_bits(1), f32::NEG_INFINITY];
        let mut copied = [0.0f32; 8];
        let mut to = TensorViewMut::from_slice(&mut copied, &[2, 4]).expect("a view");
        assert!(to.copy_from(&TensorView::with_offset(&odd, 3, &[2, 4], &[0, -1]).expect("a view")));
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let backwards: Vec<f32> = odd.iter().rev().copied().collect();
        assert_eq!(bits(&copied), bits(&[&backwards[..], &backwards[..]].concat()));
    }

    #[test]
    fn other_shapes_and_types_are_left_alone() {
        let mut data = [1.0f32; 6];
        let mut to = TensorViewMut::from_slice(&mut data, &[2, 3]).expect("a view");
        assert!(!to.copy_from(&TensorView::from_slice(&[2.0f32; 6], &[3, 2]).expect("a view")));
        assert!(!to.copy_from(&TensorView::from_slice(&[2i32; 6], &[2, 3]).expect("a view")));
        assert_eq!(data, [1.0; 6]);
    }
}
