//! Scratch memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::memory::places::pages::Pages;
use crate::memory::places::{Guard, Places};

/// Alignment of a workspace: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// Memory for a call's working data could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of working memory could not be allocated; bind shorter sequences, or use fewer threads")]
#[non_exhaustive]
pub struct OutOfMemory {
    /// What was asked for; `usize::MAX` when the size itself does not fit.
    pub bytes: usize,
}

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

/// Types of any memory.
///
/// # Safety
/// Every bit pattern is a value of the type.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: numbers have no invalid bit patterns.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}

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
    pub(crate) fn slice<T: Plain>(&self, start: usize, len: usize) -> Option<&[T]> {
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
    pub(crate) fn slice_mut<T: Plain>(&mut self, start: usize, len: usize) -> Option<&mut [T]> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(start)?;
        if end > self.bytes || !start.is_multiple_of(align_of::<T>()) {
            return None;
        }
        if len == 0 {
            return Some(&mut []);
        }
        // SAFETY: the end is inside the allocation and the start aligned, both checked above; the memory is initialised from the start
        // (`alloc_zeroed`, or pages of zeros), any bits are a `Plain` value, and the exclusive borrow of `self` makes this the only reference.
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

/// Workspaces waiting for the next call, so that a warm kernel allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Workspace>>,
    guard: Option<Guard>,
}

/// A workspace lent by a [`Pool`]; it goes back on drop.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    workspace: Workspace,
}

impl Pool {
    /// A pool of workspaces between inaccessible pages, which are not kept; or without such, if there is no guard.
    pub(crate) const fn new(guard: Option<Guard>) -> Pool {
        Pool { free: Mutex::new(Vec::new()), guard }
    }

    pub(crate) fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// A workspace for buffers that were given their places by the [`Pool::guard`].
    pub(crate) fn lease_places(&self, places: &Places) -> Result<Lease<'_>, OutOfMemory> {
        match self.guard {
            Some(_) => Ok(Lease { pool: self, workspace: places.workspace()? }),
            None => self.lease(places.bytes()),
        }
    }

    /// A workspace of at least `bytes`, the smallest of those kept that fits. Where none fits the largest makes room for a new one, so
    /// the pool keeps as many as were ever lent at once. Sizes are rounded up to four steps per doubling: a sequence that grows by a
    /// token per call seldom needs a new one.
    pub(crate) fn lease(&self, bytes: usize) -> Result<Lease<'_>, OutOfMemory> {
        if self.guard.is_some() {
            return Ok(Lease { pool: self, workspace: Places::single(self.guard, bytes)? });
        }
        let kept = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let sizes = || free.iter().map(Workspace::bytes).enumerate();
            let fit = sizes().filter(|(_, size)| *size >= bytes).min_by_key(|(_, size)| *size);
            let pick = fit.or_else(|| sizes().max_by_key(|(_, size)| *size));
            pick.map(|(index, _)| free.swap_remove(index))
        };
        let workspace = match kept {
            Some(workspace) if workspace.bytes() >= bytes => workspace,
            // What is too small is freed first.
            too_small => {
                drop(too_small);
                let step = (bytes.checked_ilog2().map_or(0, |log| 1usize << log) / 4).max(ALIGN);
                let rounded = bytes.checked_next_multiple_of(step).map(Workspace::new);
                rounded.and_then(Result::ok).ok_or(OutOfMemory { bytes })?
            }
        };
        Ok(Lease { pool: self, workspace })
    }

    /// Frees the workspaces that no call uses.
    pub(crate) fn clear(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}

impl std::ops::Deref for Lease<'_> {
    type Target = Workspace;
    fn deref(&self) -> &Workspace {
        &self.workspace
    }
}

impl std::ops::DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Workspace {
        &mut self.workspace
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let workspace = std::mem::replace(&mut self.workspace, Workspace::empty());
        if self.pool.guard.is_some() {
            return;
        }
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
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

    #[test]
    fn a_pool_reuses_what_fits() {
        let pool = Pool::new(None);
        let first = pool.lease(100).expect("memory").as_mut_ptr();
        assert_eq!(pool.lease(80).expect("memory").as_mut_ptr(), first);
        let (mut a, mut b) = (pool.lease(128).expect("memory"), pool.lease(1000).expect("memory"));
        assert_eq!((a.bytes(), b.bytes()), (128, 1024));
        assert_eq!(a.as_mut_ptr(), first);
        let second = b.as_mut_ptr();
        drop((a, b));
        assert_eq!(pool.lease(500).expect("memory").as_mut_ptr(), second);
        assert_eq!(pool.lease(100).expect("memory").as_mut_ptr(), first, "the smallest that fits");
        assert_eq!(pool.lease(2000).expect("memory").bytes(), 2048);
        assert_eq!(pool.free.lock().expect("no panic").len(), 2, "the larger of two grew");
        assert!(pool.lease(usize::MAX).is_err());
        assert_eq!(pool.lease(50).expect("still works").as_mut_ptr(), first);
        pool.clear();
        assert!(pool.free.lock().expect("no panic").is_empty());
    }
}
