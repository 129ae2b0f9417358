//! The memory of all pages.

use half::{bf16, f16};
use rhumb_ir::Elem;

use crate::kv::error::KvError;
use crate::layout::Layout;
use crate::memory::{Workspace, reserve};
use crate::view::{TensorView, TensorViewMut};

/// Rows of all tokens, of keys or of values: `[page, 1, head, token, element]`. The 1 is the batch of the sequence that is viewed.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Workspace,
    elem: Elem,
    layout: Layout,
    /// For each page and head a number that the norm of no row there is above.
    norms: Vec<f32>,
}

impl Pool {
    /// Zeros for so many pages, heads, tokens of a page and elements of a head.
    pub(super) fn new(shape @ [pages, heads, tokens, dim]: [usize; 4], elem: Elem) -> Result<Pool, KvError> {
        let layout = Layout::contiguous(&[pages, 1, heads, tokens, dim]).map_err(|_| KvError::TooLarge { shape })?;
        let memory = Workspace::in_large_pages(layout.len() * elem.bytes())?;
        let count = pages.saturating_mul(heads);
        let mut norms = Vec::new();
        reserve(&mut norms, count)?;
        norms.resize(count, 0.0);
        Ok(Pool { memory, elem, layout, norms })
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
        let span = self.memory.span(self.elem, 0, self.layout.len()).expect("the memory that was made");
        TensorView::of_span(span, 0, self.layout).expect("the layout that the memory was made for")
    }

    /// Some tokens of a page, `[1, head, token, element]`.
    pub(super) fn rows(&mut self, page: u32, start: usize, len: usize) -> TensorViewMut<'_> {
        let layout = self.layout;
        let span = self.memory.span_mut(self.elem, 0, layout.len()).expect("the memory that was made");
        let view = TensorViewMut::of_span(span, 0, layout);
        let rows = view.and_then(|view| view.select(0, page as usize)?.narrow(2, start, len));
        rows.expect("tokens of a page")
    }

    /// For each page and head a number that the norm of no row there is above.
    pub(super) fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// Notes the norms of rows that were written: of some tokens of a page, which are the first of it, or come after those that it has.
    pub(super) fn note(&mut self, page: u32, start: usize, len: usize) {
        let [_, _, heads, tokens, dim] = *self.layout.shape() else { return };
        for head in 0..heads {
            let first = ((page as usize * heads + head) * tokens + start) * dim;
            let (place, count) = (self.elem.bytes() * first, len * dim);
            let norm = match self.elem {
                Elem::F32 => self.memory.slice(place, count).map(|rows: &[f32]| greatest_norm(rows, dim)),
                Elem::F16 => self.memory.slice(place, count).map(|rows: &[f16]| greatest_norm(rows, dim)),
                Elem::Bf16 => self.memory.slice(place, count).map(|rows: &[bf16]| greatest_norm(rows, dim)),
                Elem::I8 => self.memory.slice(place, count).map(|rows: &[i8]| greatest_norm(rows, dim)),
                Elem::F8e4m3 | Elem::I32 | Elem::Bool => None,
            };
            let norm = norm.unwrap_or(f32::INFINITY);
            let noted = &mut self.norms[page as usize * heads + head];
            *noted = if start == 0 { norm } else { noted.max(norm) };
        }
    }

    /// Copies the first tokens of a page to another.
    pub(super) fn copy(&mut self, from: u32, to: u32, tokens: usize) {
        let bytes = self.elem.bytes();
        let [_, _, heads, page_size, dim] = *self.layout.shape() else { return };
        let len = tokens * dim * bytes;
        let start = |page: u32, head: usize| (page as usize * heads + head) * page_size * dim * bytes;
        let all = self.layout.len() * bytes;
        let memory = self.memory.slice_mut::<u8>(0, all).expect("the memory that was made");
        self.norms.copy_within(from as usize * heads..(from as usize + 1) * heads, to as usize * heads);
        for head in 0..heads {
            memory.copy_within(start(from, head)..start(from, head) + len, start(to, head));
        }
    }
}

/// A number that the norm of no row of some elements is above; `inf` if one holds NaN or is that large.
fn greatest_norm<T: Copy + Into<f64>>(rows: &[T], dim: usize) -> f32 {
    let square = |row: &[T]| row.iter().map(|x| (*x).into() * (*x).into()).sum::<f64>();
    // `max` would pass NaN by.
    let greatest =
        rows.chunks(dim.max(1)).map(square).fold(0.0, |most: f64, x| if most.is_nan() || x <= most { most } else { x });
    let norm = (greatest.sqrt() as f32).next_up();
    if norm.is_finite() { norm } else { f32::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_not_below_those_of_rows() {
        let norm = greatest_norm(&[3.0, 4.0, 1.0, -1.0, 0.0, 0.0], 2);
        assert!((5.0..5.00001).contains(&norm), "{norm}");
        assert_eq!(greatest_norm(&[f32::NAN, 0.0, 9.0, 9.0], 2), f32::INFINITY);
        assert_eq!(greatest_norm(&[9.0, 9.0, 0.0, f32::NEG_INFINITY], 2), f32::INFINITY);
        assert_eq!(greatest_norm(&[3e38, 3e38], 2), f32::INFINITY);
        assert!(greatest_norm::<f32>(&[], 4) < 1e-40);
        assert_eq!(greatest_norm(&[f16::NAN], 1), f32::INFINITY);
    }
}
