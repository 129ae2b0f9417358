//! Scratch memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use bytemuck::Pod;

use crate::memory::alloc::{ALIGN, OutOfMemory};
use crate::memory::pages::Pages;

/// Aligned memory that is always initialised: zeros at first, later whatever was last written.
#[derive(Debug)]
pub(crate) struct Workspace {
    ptr: NonNull<u8>,
    bytes: usize,
    /// The pages that it is part of, if it is of such.
    pages: Option<Pages>,
}

// SAFETY: a `Workspace` owns its memory as a `Box<[u8]>` does.
unsafe impl Send for Workspace {}

// SAFETY: as above; a shared reference gives no access to the memory.
unsafe impl Sync for Workspace {}

impl Workspace {
    /// No memory.
    pub(crate) const fn empty() -> Workspace {
        Workspace { ptr: NonNull::dangling(), bytes: 0, pages: None }
    }

    pub(crate) fn new(bytes: usize) -> Result<Workspace, OutOfMemory> {
        if bytes == 0 {
            return Ok(Workspace::empty());
        }
        let layout = Layout::from_size_align(bytes, ALIGN).map_err(|_| OutOfMemory { bytes })?;
        // SAFETY: the layout's size is not 0, checked above.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory { bytes })?;
        Ok(Workspace { ptr, bytes, pages: None })
    }

    /// Part of some pages: from where, and how many bytes.
    ///
    /// Of what the caller asks for with [`Workspace::slice`] all must be accessible.
    pub(super) fn of_pages(mut pages: Pages, (start, bytes): (usize, usize)) -> Workspace {
        let ptr = NonNull::new(pages.start().wrapping_add(start)).unwrap_or(NonNull::dangling());
        Workspace { ptr, bytes, pages: Some(pages) }
    }

    /// The workspace of these bytes alone: from where, and how many. That of pages; any other is as it was.
    pub(super) fn part(mut self, (start, bytes): (usize, usize)) -> Workspace {
        let Some(pages) = self.pages.take() else { return self };
        // Nothing is left of it that it would free.
        self.bytes = 0;
        Workspace::of_pages(pages, (start, bytes))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The start, aligned to [`ALIGN`] unless the workspace is empty.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The start, aligned to [`ALIGN`] unless the workspace is empty.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// `len` values from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn slice<T: Pod>(&self, start: usize, len: usize) -> Option<&[T]> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(start)?;
        if end > self.bytes || !start.is_multiple_of(align_of::<T>()) {
            return None;
        }
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: as for `slice_mut`, with a shared borrow of `self`.
        Some(unsafe { std::slice::from_raw_parts(self.ptr.add(start).cast::<T>().as_ptr(), len) })
    }

    /// `len` values from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn slice_mut<T: Pod>(&mut self, start: usize, len: usize) -> Option<&mut [T]> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(start)?;
        if end > self.bytes || !start.is_multiple_of(align_of::<T>()) {
            return None;
        }
        if len == 0 {
            return Some(&mut []);
        }
        // SAFETY: the end is inside the allocation and the start aligned, both checked above; the memory is initialised from the start
        // (`alloc_zeroed`, or pages of zeros), any bits are a value of a `Pod` type, and the exclusive borrow of `self` makes this the only reference.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start).cast::<T>().as_ptr(), len) })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Pages free themselves.
        if let (None, 1.., Ok(layout)) = (&self.pages, self.bytes, Layout::from_size_align(self.bytes, ALIGN)) {
            // SAFETY: not empty and not of pages, so `Workspace::new` allocated it with this very layout.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_aligned_and_checked() {
        let mut workspace = Workspace::new(130).expect("memory");
        assert_eq!(workspace.as_mut_ptr() as usize % ALIGN, 0);
        workspace.slice_mut::<f32>(64, 16).expect("fits").fill(1.5);
        assert_eq!(workspace.slice_mut::<f32>(60, 3), Some(&mut [0.0, 1.5, 1.5][..]));
        assert_eq!(workspace.slice_mut::<u8>(130, 0), Some(&mut [][..]));
        assert!(workspace.slice_mut::<f32>(128, 1).is_none(), "past the end");
        assert!(workspace.slice_mut::<f32>(2, 1).is_none(), "not aligned");
        assert!(workspace.slice_mut::<u64>(8, usize::MAX / 8).is_none(), "overflow");
        assert!(workspace.slice_mut::<u64>(8, usize::MAX).is_none(), "overflow");
    }

    #[test]
    fn empty_and_impossible_sizes() {
        assert_eq!(Workspace::new(0).map(|workspace| workspace.bytes()), Ok(0));
        assert_eq!(Workspace::new(usize::MAX).err(), Some(OutOfMemory { bytes: usize::MAX }));
    }
}
