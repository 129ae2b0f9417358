//! Borrowed memory of one element type.

use std::marker::PhantomData;
use std::ptr::NonNull;

use half::{bf16, f16};
use rhumb_ir::Elem;

use crate::float8::f8e4m3;

/// A Rust type that tensors can hold: `f32`, [`f16`](half::f16), [`bf16`](half::bf16), [`f8e4m3`](crate::f8e4m3), `i8`, `i32`, and for truth values `bool` or `u8`, where any byte but 0 is true.
///
/// Tensors of any other are converted first; `f64` and `i64`, which other libraries like, are no exception:
///
/// ```compile_fail,E0277
/// let data = vec![0.5f64; 4];
/// let view = rhumb_runtime::TensorView::from_slice(&data, &[2, 2]);
/// ```
///
/// ```
/// let data = vec![0.5f64; 4];
/// let data: Vec<f32> = data.iter().map(|x| *x as f32).collect();
/// let view = rhumb_runtime::TensorView::from_slice(&data, &[2, 2])?;
/// # Ok::<(), rhumb_runtime::ViewError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a tensor can't hold `{Self}`",
    label = "a tensor holds `f32`, `f16`, `bf16`, `f8e4m3`, `i8`, `i32` or, for truth values, `bool` or `u8`",
    note = "convert the elements first, real numbers by `.map(|x| *x as f32)`, positions and ids by `i32::try_from`"
)]
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// The element type of a view of such values.
    const ELEM: Elem;
}

/// An [`Element`] that kernels may write: all but `bool`, whose bytes Rust wants to be 0 or 1 whoever writes them; use `u8`.
#[diagnostic::on_unimplemented(
    message = "a kernel can't write `{Self}`",
    label = "a kernel writes `f32`, `f16`, `bf16`, `i32` or, for truth values, `u8`",
    note = "give it a slice of one of these, and convert afterwards"
)]
pub trait OutputElement: Element {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for crate::float8::f8e4m3 {}
    impl Sealed for i8 {}
    impl Sealed for i32 {}
    impl Sealed for u8 {}
    impl Sealed for bool {}
}

impl Element for f32 {
    const ELEM: Elem = Elem::F32;
}
impl Element for f16 {
    const ELEM: Elem = Elem::F16;
}
impl Element for bf16 {
    const ELEM: Elem = Elem::Bf16;
}
impl Element for f8e4m3 {
    const ELEM: Elem = Elem::F8e4m3;
}
impl Element for i8 {
    const ELEM: Elem = Elem::I8;
}
impl Element for i32 {
    const ELEM: Elem = Elem::I32;
}
impl Element for u8 {
    const ELEM: Elem = Elem::Bool;
}
impl Element for bool {
    const ELEM: Elem = Elem::Bool;
}
impl OutputElement for f32 {}
impl OutputElement for f16 {}
impl OutputElement for bf16 {}
impl OutputElement for f8e4m3 {}
impl OutputElement for i8 {}
impl OutputElement for i32 {}
impl OutputElement for u8 {}

/// `len` elements at `ptr`, readable for `'a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    ptr: NonNull<u8>,
    len: usize,
    elem: Elem,
    borrow: PhantomData<&'a [u8]>,
}

// SAFETY: a `Span` is a `&[f32]`, `&[f16]`, `&[bf16]`, `&[f8e4m3]`, `&[i8]`, `&[i32]` or `&[u8]`, bytes that can be read as one of these, or memory that `Span::from_raw`'s caller vouched for as such.
unsafe impl Send for Span<'_> {}
// SAFETY: as above; a shared span only reads.
unsafe impl Sync for Span<'_> {}

impl<'a> Span<'a> {
    pub(crate) fn from_slice<T: Element>(data: &'a [T]) -> Span<'a> {
        Span { ptr: NonNull::from(data).cast(), len: data.len(), elem: T::ELEM, borrow: PhantomData }
    }

    /// Bytes as elements of a type; `None` where they are not whole elements, or not aligned.
    pub(crate) fn from_bytes(bytes: &'a [u8], elem: Elem) -> Option<Span<'a>> {
        let len = elements(bytes, elem)?;
        Some(Span { ptr: NonNull::from(bytes).cast(), len, elem, borrow: PhantomData })
    }

    /// # Safety
    /// - `ptr` is aligned for `T`, and `len` initialised elements of `T` from it are readable for `'a`;
    /// - nothing writes them during `'a`, except a call that got them as an output (the validator refuses such a call when it also
    ///   reads them).
    pub(crate) unsafe fn from_raw<T: Element>(ptr: NonNull<T>, len: usize) -> Span<'a> {
        Span { ptr: ptr.cast(), len, elem: T::ELEM, borrow: PhantomData }
    }

    pub(crate) fn elem(&self) -> Elem {
        self.elem
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// The element at `index` as a number, truth values as 0 and 1; `None` past the end.
    pub(crate) fn read(&self, index: usize) -> Option<f64> {
        if index >= self.len {
            return None;
        }
        // SAFETY: `index < len` was checked above, and the constructors were given `len` aligned, readable elements of `elem`.
        Some(unsafe {
            match self.elem {
                Elem::F32 => f64::from(self.ptr.cast::<f32>().add(index).read()),
                Elem::F16 => f64::from(self.ptr.cast::<f16>().add(index).read()),
                Elem::Bf16 => f64::from(self.ptr.cast::<bf16>().add(index).read()),
                Elem::F8e4m3 => f64::from(self.ptr.cast::<f8e4m3>().add(index).read()),
                Elem::I8 => f64::from(self.ptr.cast::<i8>().add(index).read()),
                Elem::I32 => f64::from(self.ptr.cast::<i32>().add(index).read()),
                Elem::Bool => f64::from(u8::from(self.ptr.add(index).read() != 0)),
            }
        })
    }
}

/// `len` elements at `ptr`, readable and writable for `'a` through this span alone.
#[derive(Debug)]
pub(crate) struct SpanMut<'a> {
    ptr: NonNull<u8>,
    len: usize,
    elem: Elem,
    borrow: PhantomData<&'a mut [u8]>,
}

// SAFETY: a `SpanMut` is a `&mut` slice of `f32`, `f16`, `bf16`, `f8e4m3`, `i8`, `i32` or `u8`, a part of one, bytes that can be used as one, or memory that
// `SpanMut::from_raw`'s caller vouched for as such.
unsafe impl Send for SpanMut<'_> {}
// SAFETY: as above; a shared reference to it only reads.
unsafe impl Sync for SpanMut<'_> {}

impl<'a> SpanMut<'a> {
    pub(crate) fn from_slice<T: OutputElement>(data: &'a mut [T]) -> SpanMut<'a> {
        let len = data.len();
        SpanMut { ptr: NonNull::from(data).cast(), len, elem: T::ELEM, borrow: PhantomData }
    }

    /// As [`Span::from_bytes`], to write.
    pub(crate) fn from_bytes(bytes: &'a mut [u8], elem: Elem) -> Option<SpanMut<'a>> {
        let len = elements(bytes, elem)?;
        Some(SpanMut { ptr: NonNull::from(bytes).cast(), len, elem, borrow: PhantomData })
    }

    /// # Safety
    /// - `ptr` is aligned for `T`, and `len` initialised elements of `T` from it are readable and writable for `'a`;
    /// - during `'a` nothing else touches those of them that the view made of the span reaches, except that other views made from raw
    ///   pointers may be bound to the same call, whose validator refuses memory that is both written and used otherwise.
    pub(crate) unsafe fn from_raw<T: OutputElement>(ptr: NonNull<T>, len: usize) -> SpanMut<'a> {
        SpanMut { ptr: ptr.cast(), len, elem: T::ELEM, borrow: PhantomData }
    }

    /// The same memory, borrowed for shorter.
    pub(crate) fn reborrow(&mut self) -> SpanMut<'_> {
        SpanMut { ptr: self.ptr, len: self.len, elem: self.elem, borrow: PhantomData }
    }

    /// The same memory twice.
    ///
    /// # Safety
    /// The caller makes views of the two that reach no element in common.
    pub(crate) unsafe fn duplicate(self) -> (SpanMut<'a>, SpanMut<'a>) {
        (SpanMut { ptr: self.ptr, len: self.len, elem: self.elem, borrow: PhantomData }, self)
    }

    pub(crate) fn as_span(&self) -> Span<'_> {
        Span { ptr: self.ptr, len: self.len, elem: self.elem, borrow: PhantomData }
    }

    pub(crate) fn elem(&self) -> Elem {
        self.elem
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Stores a number at `index`: rounded to the float type, truncated and saturated to the integer type, or as whether it is not 0. Nothing past the end.
    pub(crate) fn write(&mut self, index: usize, value: f64) {
        if index >= self.len {
            return;
        }
        // Of 16 bits first: to single precision in between might round twice.
        let near = self.elem.rounded(value) as f32;
        // SAFETY: `index < len` was checked above, and the constructors were given `len` aligned, writable elements of `elem`.
        unsafe {
            match self.elem {
                Elem::F32 => self.ptr.cast::<f32>().add(index).write(near),
                Elem::F16 => self.ptr.cast::<f16>().add(index).write(f16::from_f32(near)),
                Elem::Bf16 => self.ptr.cast::<bf16>().add(index).write(bf16::from_f32(near)),
                Elem::F8e4m3 => self.ptr.cast::<f8e4m3>().add(index).write(f8e4m3::from_f32(near)),
                Elem::I8 => self.ptr.cast::<i8>().add(index).write(value as i8),
                Elem::I32 => self.ptr.cast::<i32>().add(index).write(value as i32),
                Elem::Bool => self.ptr.add(index).write(u8::from(value != 0.0)),
            }
        }
    }
}

/// How many elements of a type some bytes are; `None` where they are not whole elements, or not aligned. Any bytes are values of every type.
fn elements(bytes: &[u8], elem: Elem) -> Option<usize> {
    // Each type is aligned to its size.
    let fits = bytes.len().is_multiple_of(elem.bytes()) && bytes.as_ptr().addr().is_multiple_of(elem.bytes());
    fits.then_some(bytes.len() / elem.bytes())
}
