//! Numbers of a type in large pages.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;

use bytemuck::{NoUninit, Pod};
use half::{bf16, f16};
use memmap2::MmapMut;
use rhumb::prelude::{TensorView, TensorViewMut};

use crate::Failure;
use crate::case::Elem;

/// Numbers in large pages, where the system has them: numpy, whose memory the peers read, asks for such too.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    memory: MmapMut,
    count: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Numbers<T> {
    /// So many zeros.
    pub(crate) fn zeros(count: usize) -> io::Result<Numbers<T>> {
        // There is no mapping of no bytes.
        let memory = MmapMut::map_anon((count * size_of::<T>()).max(1).next_multiple_of(size_of::<T>()))?;
        #[cfg(target_os = "linux")]
        {
            // A system without large pages gives small ones.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        Ok(Numbers { memory, count, of: PhantomData })
    }

    /// What `of` makes of other numbers.
    fn of<U>(numbers: &[U], of: impl Fn(&U) -> T) -> io::Result<Numbers<T>> {
        let mut made = Numbers::zeros(numbers.len())?;
        made.all_mut().iter_mut().zip(numbers).for_each(|(made, number)| *made = of(number));
        Ok(made)
    }

    /// Reads numbers of `N` bytes from a file that has so many of them and no others.
    pub(crate) fn read<const N: usize>(
        path: &Path,
        count: usize,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<Numbers<T>, Failure> {
        let bytes = fs::read(path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        let (found, wanted) = (bytes.len(), N * count);
        if found != wanted {
            return Err(Failure(format!("{} has {found} bytes; the case needs {wanted}", path.display())));
        }
        let read = Numbers::of(bytes.as_chunks::<N>().0, |bytes| from(*bytes));
        read.map_err(|error| Failure(format!("{}: {error}", path.display())))
    }

    /// All of them, to write.
    pub(crate) fn all_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[..self.count]
    }
}

impl<T: Pod> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.memory)[..self.count]
    }
}

/// Numbers of one of the types that rows have.
#[derive(Debug)]
pub(crate) enum Stored {
    F32(Numbers<f32>),
    F16(Numbers<f16>),
    Bf16(Numbers<bf16>),
    I8(Numbers<i8>),
}

impl Stored {
    /// So many zeros.
    pub(crate) fn zeros(elem: Elem, count: usize) -> Result<Stored, Failure> {
        Ok(match elem {
            Elem::F32 => Stored::F32(Numbers::zeros(count)?),
            Elem::F16 => Stored::F16(Numbers::zeros(count)?),
            Elem::Bf16 => Stored::Bf16(Numbers::zeros(count)?),
            Elem::I8 => Stored::I8(Numbers::zeros(count)?),
        })
    }

    /// A copy of numbers that the type holds, each of them exactly.
    pub(crate) fn of(elem: Elem, numbers: &[f32]) -> Result<Stored, Failure> {
        Ok(match elem {
            Elem::F32 => Stored::F32(Numbers::of(numbers, |x| *x)?),
            Elem::F16 => Stored::F16(Numbers::of(numbers, |x| f16::from_f32(*x))?),
            Elem::Bf16 => Stored::Bf16(Numbers::of(numbers, |x| bf16::from_f32(*x))?),
            Elem::I8 => return Err(Failure("queries and outputs have no scales that 8 bits could have".to_owned())),
        })
    }

    /// Reads so many numbers that were quantised.
    pub(crate) fn read_codes(path: &Path, count: usize) -> Result<Stored, Failure> {
        Ok(Stored::I8(Numbers::read(path, count, i8::from_le_bytes)?))
    }

    /// The numbers in words of 32 bits, as they lie.
    pub(crate) fn words(&self) -> &[u32] {
        fn words<T: NoUninit>(numbers: &[T]) -> &[u32] {
            bytemuck::cast_slice(numbers)
        }
        match self {
            Stored::F32(numbers) => words(numbers),
            Stored::F16(numbers) => words(numbers),
            Stored::Bf16(numbers) => words(numbers),
            Stored::I8(numbers) => words(numbers),
        }
    }

    /// A contiguous view.
    pub(crate) fn view(&self, shape: &[usize]) -> Result<TensorView<'_>, Failure> {
        Ok(match self {
            Stored::F32(numbers) => TensorView::from_slice(numbers, shape)?,
            Stored::F16(numbers) => TensorView::from_slice(numbers, shape)?,
            Stored::Bf16(numbers) => TensorView::from_slice(numbers, shape)?,
            Stored::I8(numbers) => TensorView::from_slice(numbers, shape)?,
        })
    }

    /// The same to write to.
    pub(crate) fn view_mut(&mut self, shape: &[usize]) -> Result<TensorViewMut<'_>, Failure> {
        Ok(match self {
            Stored::F32(numbers) => TensorViewMut::from_slice(numbers.all_mut(), shape)?,
            Stored::F16(numbers) => TensorViewMut::from_slice(numbers.all_mut(), shape)?,
            Stored::Bf16(numbers) => TensorViewMut::from_slice(numbers.all_mut(), shape)?,
            Stored::I8(numbers) => TensorViewMut::from_slice(numbers.all_mut(), shape)?,
        })
    }

    /// As numbers of single precision.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self {
            Stored::F32(numbers) => numbers.to_vec(),
            Stored::F16(numbers) => numbers.iter().map(|x| x.to_f32()).collect(),
            Stored::Bf16(numbers) => numbers.iter().map(|x| x.to_f32()).collect(),
            Stored::I8(numbers) => numbers.iter().map(|x| f32::from(*x)).collect(),
        }
    }
}
