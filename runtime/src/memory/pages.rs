//! Pages from the system, some of them inaccessible; without the feature `guard-pages` there are none.

#[cfg(not(feature = "guard-pages"))]
pub(super) use absent::{Pages, size};
#[cfg(feature = "guard-pages")]
pub(super) use mapped::{Pages, size};

/// Pages from the system, some of them inaccessible.
#[cfg(feature = "guard-pages")]
mod mapped {
    use region::{Allocation, Protection};

    use crate::memory::alloc::OutOfMemory;

    /// Whole pages of zeros, which are freed on drop.
    pub(crate) struct Pages(Allocation);

    // SAFETY: it owns its memory as a `Box<[u8]>` does.
    unsafe impl Send for Pages {}
    // SAFETY: as above; a shared reference gives no access to the memory but through raw pointers.
    unsafe impl Sync for Pages {}

    /// Size of a page.
    pub(crate) fn size() -> usize {
        region::page::size()
    }

    impl Pages {
        /// `bytes` of memory, of which the pages that begin at `guarded` are inaccessible.
        pub(crate) fn new(bytes: usize, guarded: impl Iterator<Item = usize>) -> Result<Pages, OutOfMemory> {
            let error = |_| OutOfMemory { bytes };
            let mut memory = region::alloc(bytes, Protection::READ_WRITE).map_err(error)?;
            let base = memory.as_mut_ptr::<u8>();
            for start in guarded.filter(|start| start + size() <= bytes) {
                // SAFETY: the page is inside the allocation, which nothing has a reference to yet; `Workspace` makes none to these pages.
                unsafe { region::protect(base.wrapping_add(start), size(), Protection::NONE) }.map_err(error)?;
            }
            Ok(Pages(memory))
        }

        pub(crate) fn bytes(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn as_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }

        pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
            self.0.as_mut_ptr()
        }
    }
}

/// Without the feature there is no way to ask for pages.
#[cfg(not(feature = "guard-pages"))]
mod absent {
    use crate::memory::alloc::OutOfMemory;

    pub(crate) enum Pages {}

    pub(crate) fn size() -> usize {
        1
    }

    impl Pages {
        pub(crate) fn new(bytes: usize, _: impl Iterator<Item = usize>) -> Result<Pages, OutOfMemory> {
            Err(OutOfMemory { bytes })
        }

        pub(crate) fn bytes(&self) -> usize {
            match *self {}
        }

        pub(crate) fn as_ptr(&self) -> *const u8 {
            match *self {}
        }

        pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
            match *self {}
        }
    }
}
