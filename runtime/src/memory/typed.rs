//! Parts of working memory as tensors of any element type.

use bytemuck::Pod;
use half::{bf16, f16};
use rhumb_ir::Elem;

use crate::memory::span::{Element, OutputElement, Span, SpanMut};
use crate::memory::workspace::Workspace;

impl Workspace {
    /// `len` elements from byte `start`; `None` where they do not fit or are not aligned.
    pub(crate) fn span(&self, elem: Elem, start: usize, len: usize) -> Option<Span<'_>> {
        fn of<T: Element + Pod>(memory: &Workspace, start: usize, len: usize) -> Option<Span<'_>> {
            memory.slice::<T>(start, len).map(Span::from_slice)
        }
        match elem {
            Elem::F32 => of::<f32>(self, start, len),
            Elem::F16 => of::<f16>(self, start, len),
            Elem::Bf16 => of::<bf16>(self, start, len),
            Elem::I32 => of::<i32>(self, start, len),
            Elem::Bool => of::<u8>(self, start, len),
        }
    }

    /// As [`Workspace::span`], to write.
    pub(crate) fn span_mut(&mut self, elem: Elem, start: usize, len: usize) -> Option<SpanMut<'_>> {
        fn of<T: OutputElement + Pod>(memory: &mut Workspace, start: usize, len: usize) -> Option<SpanMut<'_>> {
            memory.slice_mut::<T>(start, len).map(SpanMut::from_slice)
        }
        match elem {
            Elem::F32 => of::<f32>(self, start, len),
            Elem::F16 => of::<f16>(self, start, len),
            Elem::Bf16 => of::<bf16>(self, start, len),
            Elem::I32 => of::<i32>(self, start, len),
            Elem::Bool => of::<u8>(self, start, len),
        }
    }
}
