//! The memory of all pages.

use rhumb_ir::Elem;

use crate::kv::error::KvError;
use crate::layout::Layout;
use crate::memory::{Element, OutputElement, Span, SpanMut, Workspace};
use crate::view::{TensorView, TensorViewMut};

/// Rows of all tokens, of keys or of values: `[page, 1, head, token, element]`. The 1 is the batch of the sequence that is viewed.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Workspace,
    elem: Elem,
    layout: Layout,
}

impl Pool {
    /// Zeros for so many pages, heads, tokens of a page and elements of a head.
    pub(super) fn new(shape @ [pages, heads, tokens, dim]: [usize; 4], elem: Elem) -> Result<Pool, KvError> {
        let layout = Layout::contiguous(&[pages, 1, heads, tokens, dim]).map_err(|_| KvError::TooLarge { shape })?;
        let memory = Workspace::new(layout.len() * elem.bytes())?;
        Ok(Pool { memory, elem, layout })
    }

    pub(super) fn elem(&self) -> Elem {
        self.elem
    }

    pub(super) fn heads(&self) -> usize {
        self.layout.shape()[2]
    }

    /// Elements of a head.
    pub(super) fn dim(&self) -> usize {
        self.layout.shape()[4]
    }

    /// All of it.
    pub(super) fn view(&self) -> TensorView<'_> {
        let span = match self.elem {
            Elem::F32 => self.span::<f32>(),
            Elem::I32 => self.span::<i32>(),
            Elem::Bool => self.span::<u8>(),
        };
        TensorView::of_span(span, 0, self.layout).expect("the layout that the memory was made for")
    }

    /// Some tokens of a page, `[1, head, token, element]`.
    pub(super) fn rows(&mut self, page: u32, start: usize, len: usize) -> TensorViewMut<'_> {
        let layout = self.layout;
        let span = match self.elem {
            Elem::F32 => self.span_mut::<f32>(),
            Elem::I32 => self.span_mut::<i32>(),
            Elem::Bool => self.span_mut::<u8>(),
        };
        let view = TensorViewMut::of_span(span, 0, layout);
        let rows = view.and_then(|view| view.select(0, page as usize)?.narrow(2, start, len));
        rows.expect("tokens of a page")
    }

    /// Copies the first tokens of a page to another.
    pub(super) fn copy(&mut self, from: u32, to: u32, tokens: usize) {
        let bytes = self.elem.bytes();
        let [_, _, heads, page_size, dim] = *self.layout.shape() else { return };
        let len = tokens * dim * bytes;
        let start = |page: u32, head: usize| (page as usize * heads + head) * page_size * dim * bytes;
        let all = self.layout.len() * bytes;
        let memory = self.memory.slice_mut::<u8>(0, all).expect("the memory that was made");
        for head in 0..heads {
            memory.copy_within(start(from, head)..start(from, head) + len, start(to, head));
        }
    }

    fn span<T: Element + bytemuck::Pod>(&self) -> Span<'_> {
        Span::from_slice(self.memory.slice::<T>(0, self.layout.len()).expect("the memory that was made"))
    }

    fn span_mut<T: OutputElement + bytemuck::Pod>(&mut self) -> SpanMut<'_> {
        let len = self.layout.len();
        SpanMut::from_slice(self.memory.slice_mut::<T>(0, len).expect("the memory that was made"))
    }
}
