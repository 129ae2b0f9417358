//! Views that slices can't give: of foreign memory, and of one tensor in parts.

use std::ptr::NonNull;

use crate::element::{Element, OutputElement};
use crate::error::ViewError;
use crate::layout::Layout;
use crate::memory::{Span, SpanMut};
use crate::view::{TensorView, TensorViewMut};

impl<'a> TensorView<'a> {
    /// A tensor in memory that Rust does not own; `ptr` is its element at index 0 of every dimension, strides count elements.
    ///
    /// # Errors
    /// [`ViewError`] if the pointer is null or not aligned (a tensor without elements may have any), or sizes do not fit.
    ///
    /// # Safety
    /// - Every element that an index of the shape reaches is initialised and readable for `'a`, all in one allocation;
    /// - nothing writes them during `'a` but calls that have them as an output too, which are refused when they read them as well.
    pub unsafe fn from_raw<T: Element>(
        ptr: *const T,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorView<'a>, ViewError> {
        let layout = Layout::new(shape, strides)?;
        let (start, offset, len) = reached(ptr.cast_mut(), &layout)?;
        // SAFETY: the caller vouches for all that the layout reaches, which is `len` elements from `start`; `reached` checked that the
        // pointer is aligned. Elements between those reached are not touched: reads and compiled code go through the layout.
        let span = unsafe { Span::from_raw(start, len) };
        TensorView::of_span(span, offset, layout)
    }
}

impl<'a> TensorViewMut<'a> {
    /// A tensor in memory that Rust does not own; `ptr` is its element at index 0 of every dimension, strides count elements.
    ///
    /// # Errors
    /// [`ViewError`] if the pointer is null or not aligned (a tensor without elements may have any), elements coincide, or sizes do
    /// not fit.
    ///
    /// # Safety
    /// - Every element that an index of the shape reaches is initialised, readable and writable for `'a`, all in one allocation;
    /// - nothing else reads or writes them during `'a` but calls they are bound to, which are refused when they have them twice.
    pub unsafe fn from_raw<T: OutputElement>(
        ptr: *mut T,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<TensorViewMut<'a>, ViewError> {
        let layout = Layout::new(shape, strides)?;
        let (start, offset, len) = reached(ptr, &layout)?;
        // SAFETY: as for `TensorView::from_raw`, with the caller's word that the elements are writable and used by nobody else.
        let span = unsafe { SpanMut::from_raw(start, len) };
        TensorViewMut::of_span(span, offset, layout)
    }

    /// Two views: the first `index` steps along `dim`, and the rest.
    ///
    /// # Errors
    /// [`ViewError`] if there is no such dimension, or it is shorter.
    pub fn split_at(self, dim: usize, index: usize) -> Result<(TensorViewMut<'a>, TensorViewMut<'a>), ViewError> {
        let size = self.shape().get(dim).copied().unwrap_or(0);
        let (span, offset, layout) = self.into_parts();
        let (left, _) = layout.narrow(dim, 0, index)?;
        let (right, step) = layout.narrow(dim, index, size - index)?;
        // SAFETY: `narrow` checked that the windows lie in the shape; they do not meet, and `of_span` proved when the view was made that
        // no two indices of the layout reach one element.
        let (left_span, right_span) = unsafe { span.duplicate() };
        let left = TensorViewMut::of_span(left_span, offset, left)?;
        Ok((left, TensorViewMut::of_span(right_span, offset.wrapping_add_signed(step), right)?))
    }
}

/// The lowest element that a layout reaches from `ptr`, the offset of `ptr` from it, and the number of elements to the highest.
fn reached<T: Element>(ptr: *mut T, layout: &Layout) -> Result<(NonNull<T>, usize, usize), ViewError> {
    let Some((low, high)) = layout.reach() else { return Ok((NonNull::dangling(), 0, 0)) };
    if !ptr.is_aligned() {
        return Err(ViewError::Misaligned { address: ptr as usize, elem: T::ELEM });
    }
    if ptr.is_null() {
        return Err(ViewError::Null);
    }
    // `low` is not above 0, and `high - low + 1` fits: the layout proves it.
    let start = NonNull::new(ptr.wrapping_offset(low)).ok_or(ViewError::Null)?;
    Ok((start, low.unsigned_abs(), (high - low) as usize + 1))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use rhumb_ir::{Elem, GraphBuilder};

    use super::*;
    use crate::interface::{Bindings, Interface};
    use crate::reference::Reference;

    #[test]
    fn foreign_memory_is_checked_as_far_as_it_can_be() {
        let mut data: Vec<i32> = (0..6).collect();
        let start = data.as_mut_ptr();
        // SAFETY: the view reaches elements 5 to 0 of the live vector; the refused ones reach nothing.
        unsafe {
            let reversed = TensorView::from_raw(start.add(5), &[6], &[-1]).expect("a view");
            assert_eq!((reversed.get(&[0]), reversed.get(&[5])), (Some(5.0), Some(0.0)));
            let mut odd = TensorViewMut::from_raw(start.add(1), &[3], &[2]).expect("a view");
            assert!(odd.set(&[2], 50.0));
            let null = TensorView::from_raw(std::ptr::null::<i32>(), &[2], &[1]);
            assert_eq!(null.err(), Some(ViewError::Null));
            assert!(TensorView::from_raw(std::ptr::null::<i32>(), &[0], &[1]).is_ok());
            let address = start.wrapping_byte_add(2);
            let expected = ViewError::Misaligned { address: address as usize, elem: rhumb_ir::Elem::I32 };
            assert_eq!(TensorView::from_raw(address, &[2], &[1]).err(), Some(expected));
            assert!(matches!(TensorViewMut::from_raw(start, &[6], &[0]), Err(ViewError::Repeats { .. })));
        }
        assert_eq!(data, [0, 1, 2, 3, 4, 50]);
    }
    /// `y = x + x`, bound to one buffer: `x` at one element, `y` at another, every `stride`-th element of it.
    fn bind_in_one_buffer(x_at: usize, y_at: usize, stride: isize) -> Result<(), String> {
        let builder = GraphBuilder::new("double");
        let n = builder.axis("n");
        let x = builder.input("x", Elem::F32, [n]);
        builder.output("y", x + x, [n]);
        let interface = Interface::of(&builder.finish().expect("a graph")).expect("an interface");
        let mut data = vec![0.0f32; 100];
        let start = data.as_mut_ptr();
        let mut bindings = Bindings::default();
        // SAFETY: ten elements at strides up to 8 from an offset up to 20 are inside the live vector, and nothing else uses it.
        unsafe {
            bindings.input("x", TensorView::from_raw(start.add(x_at), &[10], &[stride]).expect("x"));
            bindings.output("y", TensorViewMut::from_raw(start.add(y_at), &[10], &[stride]).expect("y"));
        }
        interface.bind(&mut bindings).map(|_| ()).map_err(|error| error.to_string())
    }

    /// What one call of a batch writes another reads: each by itself could run.
    #[test]
    fn outputs_of_a_batch_keep_apart() {
        let builder = GraphBuilder::new("double");
        let n = builder.axis("n");
        let x = builder.input("x", Elem::F32, [n]);
        builder.output("y", x + x, [n]);
        let reference = Reference::of(builder.finish().expect("a graph")).expect("a reference");
        let mut data = vec![1.0f32; 100];
        let start = data.as_mut_ptr();
        // Each call reads and writes ten elements, from these on.
        let run = |calls: &[(usize, usize)]| {
            let mut batch = reference.batch();
            for &(x, y) in calls {
                // SAFETY: ten elements from an offset up to 90 are inside the live vector, and nothing else uses it.
                let (x, y) = unsafe {
                    let x = TensorView::from_raw(start.add(x).cast_const(), &[10], &[1]).expect("x");
                    (x, TensorViewMut::from_raw(start.add(y), &[10], &[1]).expect("y"))
                };
                batch.add().input("x", x).output("y", y);
            }
            batch.run().map_err(|error| error.to_string())
        };
        assert_snapshot!(
            run(&[(0, 40), (60, 5)]).expect_err("refused"),
            @"output `y` of call 1 of the batch shares memory with input `x` of call 0; calls of a batch run at the same time: give each output memory of its own"
        );
        assert_snapshot!(
            run(&[(0, 40), (0, 20), (0, 49)]).expect_err("refused"),
            @"output `y` of call 0 of the batch shares memory with output `y` of call 2; calls of a batch run at the same time: give each output memory of its own"
        );
        assert_eq!(run(&[(0, 40), (0, 50), (5, 60)]), Ok(()));
        assert_eq!(data[..40], [1.0; 40], "what is refused has written nothing");
        assert_eq!(data[40..70], [2.0; 30]);
    }

    #[test]
    fn outputs_keep_apart() {
        assert_snapshot!(bind_in_one_buffer(0, 0, 1).expect_err("refused"), @"output `y` shares memory with input `x`; give it memory of its own");
        assert!(bind_in_one_buffer(0, 9, 1).is_err());
        assert_eq!(bind_in_one_buffer(0, 10, 1), Ok(()));
        assert_eq!(bind_in_one_buffer(3, 0, 2), Ok(()), "interleaved");
        assert!(bind_in_one_buffer(16, 0, 8).is_err());
    }
}
