//! Tensors that own their memory.

use std::fmt;
use std::io;

use rhumb_ir::{Elem, ElemKind};

use crate::error::ViewError;
use crate::layout::Layout;
use crate::memory::{OutOfMemory, Workspace, reserve};
use crate::view::{TensorView, TensorViewMut};

/// Bytes that are turned at once.
const TURNED: usize = 4096;

/// A row-major tensor that owns its memory, of an element type that is told at run time: what a program reads from a file, or has a call
/// write whose outputs it does not know beforehand. A program that knows the type makes a [`TensorView`] of its own slice.
///
/// ```
/// use rhumb_ir::Elem;
/// use rhumb_runtime::OwnedTensor;
///
/// let mut halves = OwnedTensor::zeros(Elem::F16, &[2, 3])?;
/// halves.fill_with(|place| place as f64 / 4.0);
/// assert_eq!(halves.view()?.get(&[1, 2]), Some(1.25));
/// assert!(halves.numbers().take(2).eq([0.0, 0.25]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OwnedTensor {
    memory: Workspace,
    elem: Elem,
    shape: Vec<usize>,
    len: usize,
}

impl OwnedTensor {
    /// A tensor of zeros, in large pages where the system has them and it fills some.
    ///
    /// # Errors
    /// [`OutOfMemory`] where no memory holds it.
    pub fn zeros(elem: Elem, shape: &[usize]) -> Result<OwnedTensor, OutOfMemory> {
        let len = shape.iter().try_fold(1usize, |len, size| len.checked_mul(*size));
        let bytes = len.and_then(|len| len.checked_mul(elem.bytes()));
        let (Some(len), Some(bytes)) = (len, bytes) else { return Err(OutOfMemory { bytes: usize::MAX }) };
        let mut own = Vec::new();
        reserve(&mut own, shape.len())?;
        own.extend_from_slice(shape);
        Ok(OwnedTensor { memory: Workspace::in_large_pages(bytes)?, elem, shape: own, len })
    }

    /// The element type.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// Sizes of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.len * self.elem.bytes()
    }

    /// To read.
    ///
    /// # Errors
    /// [`ViewError::TooManyDims`].
    pub fn view(&self) -> Result<TensorView<'_>, ViewError> {
        let layout = Layout::contiguous(&self.shape)?;
        TensorView::of_span(self.memory.span(self.elem, 0, self.len).expect("the memory that was made"), 0, layout)
    }

    /// To write.
    ///
    /// # Errors
    /// [`ViewError::TooManyDims`].
    pub fn view_mut(&mut self) -> Result<TensorViewMut<'_>, ViewError> {
        let layout = Layout::contiguous(&self.shape)?;
        let span = self.memory.span_mut(self.elem, 0, self.len).expect("the memory that was made");
        TensorViewMut::of_span(span, 0, layout)
    }

    /// The elements as numbers, in row-major order; truth values are 0 and 1.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        let span = self.memory.span(self.elem, 0, self.len).expect("the memory that was made");
        (0..self.len).filter_map(move |place| span.read(place))
    }

    /// Makes each element of its place in row-major order: a number is rounded to the nearest float of the type, truncated and saturated to
    /// an integer, or stored as whether it is not 0.
    pub fn fill_with(&mut self, mut element: impl FnMut(usize) -> f64) {
        let mut span = self.memory.span_mut(self.elem, 0, self.len).expect("the memory that was made");
        (0..self.len).for_each(|place| span.write(place, element(place)));
    }

    /// Takes elements as files have them, row-major and the least byte of each first; any byte but 0 is true. Whether they were as many as
    /// the tensor has: else nothing changes.
    #[must_use]
    pub fn read_le_bytes(&mut self, bytes: &[u8]) -> bool {
        let (own, width) = (self.bytes(), self.elem.bytes());
        let memory = self.memory.slice_mut::<u8>(0, own).expect("the memory that was made");
        if bytes.len() != own {
            return false;
        }
        memory.copy_from_slice(bytes);
        if self.elem.kind() == ElemKind::Truth {
            memory.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        turn(memory, width);
        true
    }

    /// Writes the elements as files have them: row-major, the least byte of each first.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_le_bytes(&self, file: &mut impl io::Write) -> io::Result<()> {
        let memory = self.memory.slice::<u8>(0, self.bytes()).expect("the memory that was made");
        if cfg!(target_endian = "little") {
            return file.write_all(memory);
        }
        let mut turned = [0; TURNED];
        memory.chunks(TURNED).try_for_each(|bytes| {
            let turned = &mut turned[..bytes.len()];
            turned.copy_from_slice(bytes);
            turn(turned, self.elem.bytes());
            file.write_all(turned)
        })
    }
}

/// Turns the bytes of each element round where a machine has the greatest first.
fn turn(bytes: &mut [u8], width: usize) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
}

impl fmt::Debug for OwnedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedTensor: {}{:?}", self.elem, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_to_a_file_and_back() {
        for elem in Elem::ALL {
            for len in [0, 1, 15, 17, 5000] {
                let mut tensor = OwnedTensor::zeros(elem, &[len, 1]).expect("memory");
                tensor.fill_with(|place| (place % 100) as f64 - 40.0);
                let mut file = Vec::new();
                tensor.write_le_bytes(&mut file).expect("memory");
                assert_eq!(file.len(), tensor.bytes());
                let mut again = OwnedTensor::zeros(elem, &[1, len]).expect("memory");
                assert!(again.read_le_bytes(&file) && again.numbers().eq(tensor.numbers()), "{elem} {len}");
                file.push(0);
                assert!(!again.read_le_bytes(&file) && again.numbers().eq(tensor.numbers()));
                assert_eq!(tensor.view().expect("a view").len(), len);
            }
        }
    }

    #[test]
    fn bytes_are_those_of_files() {
        let mut words = OwnedTensor::zeros(Elem::I32, &[2]).expect("memory");
        assert!(words.read_le_bytes(&[1, 2, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        assert!(words.numbers().eq([513.0, -1.0]));
        let mut truths = OwnedTensor::zeros(Elem::Bool, &[3]).expect("memory");
        assert!(truths.read_le_bytes(&[0, 1, 7]));
        let mut file = Vec::new();
        truths.write_le_bytes(&mut file).expect("memory");
        assert_eq!(file, [0, 1, 1]);
    }

    #[test]
    fn what_no_memory_holds_is_refused() {
        for shape in [&[usize::MAX, 2][..], &[usize::MAX / 2]] {
            assert!(OwnedTensor::zeros(Elem::F32, shape).is_err());
        }
    }
}
