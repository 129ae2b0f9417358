//! Borrowed memory of one element type.

use std::marker::PhantomData;
use std::ptr::NonNull;

use rhumb_ir::Elem;

use crate::element::{Element, Held, OutputElement, with_held};

/// `len` elements at `ptr`, readable for `'a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    ptr: NonNull<u8>,
    len: usize,
    elem: Elem,
    borrow: PhantomData<&'a [u8]>,
}

// SAFETY: a `Span` is a slice of an `Element`, which is `Send` and `Sync`, bytes that can be read as one, or memory that `Span::from_raw`'s
// caller vouched for as such.
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
        with_held!(self.elem, Type => {
            // SAFETY: `index < len` was checked above, and the constructors were given `len` aligned, readable elements of `elem`, whose bits
            // these are.
            let bits = unsafe { self.ptr.cast::<<Type as Held>::Bits>().add(index).read() };
            Some(Type::of_bits(bits).number())
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

// SAFETY: a `SpanMut` is a `&mut` slice of an `OutputElement`, which is `Send` and `Sync`, a part of one, bytes that can be used as one, or
// memory that `SpanMut::from_raw`'s caller vouched for as such.
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
        with_held!(self.elem, Type => {
            let bits = Type::stored(value).bits();
            // SAFETY: `index < len` was checked above, and the constructors were given `len` aligned, writable elements of `elem`, whose bits
            // these are.
            unsafe { self.ptr.cast::<<Type as Held>::Bits>().add(index).write(bits) }
        });
    }
}

/// How many elements of a type some bytes are; `None` where they are not whole elements, or not aligned. Any bytes are values of every type.
fn elements(bytes: &[u8], elem: Elem) -> Option<usize> {
    // Each type is aligned to its size.
    let fits = bytes.len().is_multiple_of(elem.bytes()) && bytes.as_ptr().addr().is_multiple_of(elem.bytes());
    fits.then_some(bytes.len() / elem.bytes())
}
