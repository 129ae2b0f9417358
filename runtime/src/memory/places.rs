//! Where buffers lie in one piece of memory, and pages between them that nothing may touch.

use crate::memory::alloc::{ALIGN, OutOfMemory};
use crate::memory::pages;
use crate::memory::workspace::Workspace;

/// At which end the buffers of a kernel touch an inaccessible page: its tables, its constants, the scratch memory of each thread. There is
/// such a page at the other end too, but there may be bytes before it that are no part of the buffer.
///
/// An access outside of a buffer is a bug of the compiler, and ends the process. For tests: each call maps its memory anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "guard-pages"),
    expect(dead_code, unreachable_pub, reason = "without the feature there is no way to ask for it")
)]
pub enum Guard {
    /// Buffers begin where the page ends.
    Before,
    /// Buffers end, to 64 bytes, where the page begins.
    After,
}

/// Gives buffers their places in a [`Workspace`], each at a cache line of its own.
#[derive(Debug)]
pub(crate) struct Places {
    guard: Option<Guard>,
    end: usize,
    /// Inaccessible pages, one before each buffer.
    pages: Vec<usize>,
}

impl Places {
    pub(crate) fn new(guard: Option<Guard>) -> Places {
        Places { guard, end: 0, pages: Vec::new() }
    }

    /// The first byte of the next buffer; none where the sum of all sizes can't be told.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let bytes = bytes.checked_next_multiple_of(ALIGN)?;
        let Some(guard) = self.guard else {
            let start = self.end;
            self.end = start.checked_add(bytes)?;
            return Some(start);
        };
        let page = pages::size();
        let first = self.end.checked_add(page)?;
        let end = first.checked_add(bytes.checked_next_multiple_of(page)?)?;
        self.pages.push(self.end);
        self.end = end;
        Some(match guard {
            Guard::Before => first,
            Guard::After => end - bytes,
        })
    }

    /// The bytes of all buffers, and of what is between them.
    pub(crate) fn bytes(&self) -> usize {
        self.end
    }

    /// Memory for the buffers.
    pub(crate) fn workspace(&self) -> Result<Workspace, OutOfMemory> {
        match self.guard {
            Some(_) if self.end > 0 => {
                // The page after the last buffer.
                let last = self.end.checked_add(pages::size()).ok_or(OutOfMemory { bytes: self.end })?;
                let guarded = self.pages.iter().copied().chain([self.end]);
                let pages = pages::Pages::new(last, guarded)?;
                Workspace::of_pages(pages, 0..self.end).ok_or(OutOfMemory { bytes: last })
            }
            _ => Workspace::new(self.end),
        }
    }

    /// Memory of this many bytes with a page before and after it, or without if there is no guard.
    pub(crate) fn single(guard: Option<Guard>, bytes: usize) -> Result<Workspace, OutOfMemory> {
        let mut places = Places::new(guard);
        let start = places.take(bytes).ok_or(OutOfMemory { bytes })?;
        let workspace = places.workspace().ok().and_then(|workspace| workspace.part(start..start + bytes));
        workspace.ok_or(OutOfMemory { bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_cache_lines_of_their_own() {
        let mut places = Places::new(None);
        assert_eq!([1, 64, 0, 65].map(|bytes| places.take(bytes)), [0, 64, 128, 128].map(Some));
        assert_eq!(places.bytes(), 256);
        assert_eq!(places.take(usize::MAX - 63), None);
        assert_eq!(places.take(usize::MAX - 255), None, "the sum overflows");
        assert_eq!(places.take(64), Some(256), "what is refused takes no place");
        assert_eq!(places.workspace().expect("memory").bytes(), 320);
    }

    #[cfg(feature = "guard-pages")]
    #[test]
    fn buffers_are_flush_to_inaccessible_pages() {
        use region::Protection;

        let protection = |address: usize| region::query(address as *const u8).expect("mapped").protection();
        for guard in [Guard::Before, Guard::After] {
            let sizes = [1, pages::size(), pages::size() + 1];
            let mut places = Places::new(Some(guard));
            let starts = sizes.map(|bytes| places.take(bytes).expect("a place"));
            let mut workspace = places.workspace().expect("memory");
            let single = Places::single(Some(guard), 100).expect("memory");
            let base = workspace.as_mut_ptr() as usize;
            let buffers = starts.into_iter().zip(sizes).map(|(start, bytes)| (base + start, bytes));
            for (start, bytes) in buffers.chain([(single.as_ptr() as usize, 100)]) {
                let end = start + bytes.next_multiple_of(ALIGN);
                let beside = match guard {
                    Guard::Before => start - 1,
                    Guard::After => end,
                };
                assert_eq!(protection(beside), Protection::NONE, "{guard:?}, {bytes}");
                assert_eq!([start, end - 1].map(protection), [Protection::READ_WRITE; 2]);
                // Nor is there another buffer at the other end.
                let far = match guard {
                    Guard::Before => end.next_multiple_of(pages::size()),
                    Guard::After => start / pages::size() * pages::size() - 1,
                };
                assert_eq!(protection(far), Protection::NONE);
            }
            workspace.slice_mut::<u8>(starts[2], sizes[2]).expect("inside").fill(1);
        }
    }
}
