//! Scratch memory.

use std::fmt;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;
use rhumb_ir::Elem;

use crate::memory::alloc::{ALIGN, OutOfMemory};
use crate::memory::pages::Pages;
use crate::memory::span::{Span, SpanMut};

/// Bytes of a large page, on most systems.
const LARGE_PAGE: usize = 2 << 20;

/// Aligned memory that is always initialised: zeros at first, later whatever was last written.
pub(crate) struct Workspace {
    memory: Memory,
}

enum Memory {
    /// Bytes of some lines.
    Lines(Vec<Line>, usize),
    /// Mapped from the system.
    Mapped(MmapMut),
    /// Part of some pages.
    Part(Pages, Range<usize>),
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

impl Default for Workspace {
    /// No memory.
    fn default() -> Workspace {
        Workspace { memory: Memory::Lines(Vec::new(), 0) }
    }
}

impl Workspace {
    pub(crate) fn new(bytes: usize) -> Result<Workspace, OutOfMemory> {
        let lines = bytemuck::allocation::try_zeroed_vec(bytes.div_ceil(ALIGN)).map_err(|()| OutOfMemory { bytes })?;
        Ok(Workspace { memory: Memory::Lines(lines, bytes) })
    }

    /// As [`Workspace::new`], for much memory that is read at random: in large pages where the system has them and is asked for them.
    pub(crate) fn in_large_pages(bytes: usize) -> Result<Workspace, OutOfMemory> {
        if bytes < LARGE_PAGE {
            return Workspace::new(bytes);
        }
        let memory = MmapMut::map_anon(bytes).map_err(|_| OutOfMemory { bytes })?;
        // A system without large pages gives small ones.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(Workspace { memory: Memory::Mapped(memory) })
    }

    /// Part of some pages; none where the part leaves them.
    ///
    /// Of what the caller asks for with [`Workspace::slice`] all must be accessible.
    pub(super) fn of_pages(pages: Pages, part: Range<usize>) -> Option<Workspace> {
        let inside = part.start <= part.end && part.end <= pages.bytes() && part.start.is_multiple_of(ALIGN);
        if inside { Some(Workspace { memory: Memory::Part(pages, part) }) } else { None }
    }

    /// The workspace of this part of its pages; any that is not of pages is as it was.
    pub(super) fn part(self, part: Range<usize>) -> Option<Workspace> {
        match self.memory {
            Memory::Part(pages, _) => Workspace::of_pages(pages, part),
            Memory::Lines(..) | Memory::Mapped(_) => Some(self),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Lines(_, bytes) => *bytes,
            Memory::Mapped(memory) => memory.len(),
            Memory::Part(_, part) => part.len(),
        }
    }

    /// The start, aligned to [`ALIGN`] unless the workspace is empty.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Lines(lines, _) => lines.as_mut_ptr().cast(),
            Memory::Mapped(memory) => memory.as_mut_ptr(),
            Memory::Part(pages, part) => pages.as_mut_ptr().wrapping_add(part.start),
        }
    }

    /// The start, aligned to [`ALIGN`] unless the workspace is empty.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        match &self.memory {
            Memory::Lines(lines, _) => lines.as_ptr().cast(),
            Memory::Mapped(memory) => memory.as_ptr(),
            Memory::Part(pages, part) => pages.as_ptr().wrapping_add(part.start),
        }
    }

    /// `len` values from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn slice<T: Pod>(&self, start: usize, len: usize) -> Option<&[T]> {
        let range = range::<T>(start, len).filter(|range| range.end <= self.bytes())?;
        let bytes = match &self.memory {
            Memory::Lines(lines, _) => &bytemuck::cast_slice(lines)[range],
            Memory::Mapped(memory) => &memory[range],
            Memory::Part(pages, part) => {
                let start = pages.as_ptr().wrapping_add(part.start + range.start);
                // SAFETY: the end is inside the part, checked above, which is inside the pages, as `of_pages` checked; these are initialised
                // with zeros and mapped as long as `self` lives, which is borrowed.
                unsafe { std::slice::from_raw_parts(start, range.len()) }
            }
        };
        bytemuck::try_cast_slice(bytes).ok()
    }

    /// `len` values from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn slice_mut<T: Pod>(&mut self, start: usize, len: usize) -> Option<&mut [T]> {
        let range = range::<T>(start, len).filter(|range| range.end <= self.bytes())?;
        let bytes = match &mut self.memory {
            Memory::Lines(lines, _) => &mut bytemuck::cast_slice_mut(lines)[range],
            Memory::Mapped(memory) => &mut memory[range],
            Memory::Part(pages, part) => {
                let start = pages.as_mut_ptr().wrapping_add(part.start + range.start);
                // SAFETY: as for `slice`, with an exclusive borrow of `self`.
                unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
            }
        };
        bytemuck::try_cast_slice_mut(bytes).ok()
    }

    /// `len` elements of a type from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn span(&self, elem: Elem, start: usize, len: usize) -> Option<Span<'_>> {
        Span::from_bytes(self.slice(start, len.checked_mul(elem.bytes())?)?, elem)
    }

    /// As [`Workspace::span`], to write.
    pub(crate) fn span_mut(&mut self, elem: Elem, start: usize, len: usize) -> Option<SpanMut<'_>> {
        SpanMut::from_bytes(self.slice_mut(start, len.checked_mul(elem.bytes())?)?, elem)
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workspace({} bytes)", self.bytes())
    }
}

/// The bytes of `len` values from byte `start`; `None` where they can't be counted or are not aligned.
fn range<T>(start: usize, len: usize) -> Option<Range<usize>> {
    let end = len.checked_mul(size_of::<T>())?.checked_add(start)?;
    start.is_multiple_of(align_of::<T>()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_aligned_and_checked() {
        let mut workspace = Workspace::new(130).expect("memory");
        assert_eq!(workspace.as_mut_ptr() as usize % ALIGN, 0);
        assert_eq!(workspace.slice::<u8>(0, 130), Some(&[0; 130][..]));
        workspace.slice_mut::<f32>(64, 16).expect("fits").fill(1.5);
        assert_eq!(workspace.slice_mut::<f32>(60, 3), Some(&mut [0.0, 1.5, 1.5][..]));
        assert_eq!(workspace.slice::<f32>(60, 3), Some(&[0.0, 1.5, 1.5][..]));
        assert_eq!(workspace.slice_mut::<u8>(130, 0), Some(&mut [][..]));
        assert!(workspace.slice_mut::<f32>(128, 1).is_none(), "past the end");
        assert!(workspace.slice::<f32>(128, 1).is_none(), "past the end");
        assert!(workspace.slice_mut::<f32>(2, 1).is_none(), "not aligned");
        assert!(workspace.slice_mut::<u64>(8, usize::MAX / 8).is_none(), "overflow");
        assert!(workspace.slice_mut::<u64>(8, usize::MAX).is_none(), "overflow");
    }

    #[test]
    fn elements_are_aligned_and_checked() {
        let mut workspace = Workspace::new(130).expect("memory");
        for elem in [Elem::F32, Elem::F16, Elem::Bf16, Elem::I32, Elem::Bool] {
            let bytes = elem.bytes();
            let mut span = workspace.span_mut(elem, 128 - 2 * bytes, 2).expect("fits");
            (0..3).for_each(|index| span.write(index, 1.0));
            let span = workspace.span(elem, 128 - 2 * bytes, 2).expect("fits");
            let read = [0, 1, 2].map(|index| span.read(index));
            assert_eq!((span.elem(), read), (elem, [Some(1.0), Some(1.0), None]));
            for (start, len) in [(0, 130 / bytes + 1), (0, usize::MAX), (usize::MAX, 1)] {
                assert!(workspace.span(elem, start, len).is_none() && workspace.span_mut(elem, start, len).is_none());
            }
            assert_eq!(workspace.span(elem, 1, 1).is_some(), bytes == 1, "aligned");
        }
    }

    #[test]
    fn memory_in_large_pages_is_as_any() {
        for bytes in [0, 130, LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 17] {
            let mut workspace = Workspace::in_large_pages(bytes).expect("memory");
            assert_eq!((workspace.bytes(), workspace.as_mut_ptr() as usize % ALIGN), (bytes, 0));
            assert!(workspace.slice::<u8>(0, bytes).is_some_and(|all| all.iter().all(|byte| *byte == 0)));
            assert!(workspace.slice::<u8>(0, bytes + 1).is_none() && workspace.slice_mut::<u8>(bytes, 1).is_none());
            if bytes >= 8 {
                workspace.slice_mut::<u32>(4, 1).expect("fits")[0] = 7;
                assert_eq!(workspace.slice::<u32>(0, 2), Some(&[0, 7][..]));
            }
        }
        assert!(Workspace::in_large_pages(usize::MAX).is_err());
    }

    #[test]
    fn empty_and_impossible_sizes() {
        assert_eq!(Workspace::new(0).map(|workspace| workspace.bytes()), Ok(0));
        for bytes in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 100] {
            assert_eq!(Workspace::new(bytes).err(), Some(OutOfMemory { bytes }));
        }
    }
}
