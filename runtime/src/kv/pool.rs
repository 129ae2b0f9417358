//! The memory of all pages.

use rhumb_ir::{Elem, ElemKind};

use crate::element::{Held, with_held};
use crate::kv::error::{KvError, KvTensor};
use crate::kv::quantised::Numbers;
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
    /// Scales of rows of integers.
    numbers: Option<Numbers>,
    /// A row before it is stored in 8 bits.
    row: Vec<f32>,
    /// Rows of a page, as a kernel makes them, before they are.
    page: Option<Workspace>,
}

impl Pool {
    /// Zeros for so many pages, heads, tokens of a page and elements of a head.
    pub(super) fn new(
        shape @ [pages, heads, tokens, dim]: [usize; 4],
        elem: Elem,
        zero_points: bool,
    ) -> Result<Pool, KvError> {
        let layout = Layout::contiguous(&[pages, 1, heads, tokens, dim]).map_err(|_| KvError::TooLarge { shape })?;
        let memory = Workspace::in_large_pages(layout.len() * elem.bytes())?;
        let count = pages.saturating_mul(heads);
        let mut norms = Vec::new();
        reserve(&mut norms, count)?;
        norms.resize(count, 0.0);
        let numbers = if elem == Elem::I8 { Some(Numbers::new(shape, zero_points)?) } else { None };
        let mut pool = Pool { memory, elem, layout, norms, numbers, row: Vec::new(), page: None };
        if pool.is_narrow() {
            reserve(&mut pool.row, dim)?;
            let page = heads.saturating_mul(tokens).saturating_mul(dim).saturating_mul(size_of::<f32>());
            pool.page = Some(Workspace::new(page)?);
        }
        Ok(pool)
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

    /// Whether rows are stored in 8 bits.
    fn is_narrow(&self) -> bool {
        self.elem.is_input_only()
    }

    /// Scales of rows, and zero points, where it has such.
    pub(super) fn numbers(&self) -> Option<&Numbers> {
        self.numbers.as_ref()
    }

    /// Checks that new rows, `[head, token, element]`, are of numbers that it can store.
    pub(super) fn check(&self, tensor: KvTensor, rows: &TensorView<'_>) -> Result<(), KvError> {
        let (found, expected) = (rows.elem(), self.elem);
        if !self.is_narrow() {
            return if found == expected { Ok(()) } else { Err(KvError::Elem { tensor, found, expected }) };
        }
        if !Elem::FLOATS.contains(&found) {
            return Err(KvError::Unquantised { tensor, found, expected });
        }
        self.check_numbers(tensor, rows)
    }

    fn check_numbers(&self, tensor: KvTensor, rows: &TensorView<'_>) -> Result<(), KvError> {
        let expected = self.elem;
        let misfit = |x: f64| !x.is_finite() || expected.rounded(x).is_nan();
        let Some((place, found)) = rows.elements().enumerate().find(|(_, x)| misfit(*x)) else { return Ok(()) };
        let [.., tokens, dim] = *rows.shape() else { return Ok(()) };
        let index = [place / dim / tokens, place / dim % tokens, place % dim];
        Err(KvError::Number { tensor, index, found, expected })
    }

    /// Writes rows that were checked, `[1, head, token, element]`, to tokens of a page from `start` on.
    pub(super) fn write(&mut self, page: u32, start: usize, rows: &TensorView<'_>) {
        if !self.is_narrow() {
            let copied = self.rows(page, start, rows.shape()[2]).copy_from(rows);
            debug_assert!(copied, "{rows:?} does not fit");
            return;
        }
        let [_, _, heads, tokens, dim] = *self.layout.shape() else { return };
        let count = rows.shape()[2];
        let mut elements = rows.elements();
        for head in 0..heads {
            for token in 0..count {
                self.row.clear();
                // Single precision holds all of them.
                self.row.extend(elements.by_ref().take(dim).map(|x| x as f32));
                let place = (page as usize * heads + head) * tokens + start + token;
                match &mut self.numbers {
                    Some(numbers) => {
                        let stored = self.memory.slice_mut(place * dim, dim).expect("a row of a page");
                        numbers.quantise(place, &self.row, stored);
                    }
                    None => with_held!(self.elem, Type => {
                        let start = place * dim * self.elem.bytes();
                        let stored: &mut [<Type as Held>::Bits] =
                            self.memory.slice_mut(start, dim).expect("a row of a page");
                        stored.iter_mut().zip(&self.row).for_each(|(bits, x)| *bits = Type::stored((*x).into()).bits());
                    }),
                }
            }
        }
    }

    /// Has rows made for tokens of a page from `start` on, by what is given a place for them, `[1, head, token, element]`, of the element
    /// type of the cache, and of `f32` where that is of 8 bits.
    pub(super) fn write_made<E: From<KvError>>(
        &mut self,
        (page, start, len): (u32, usize, usize),
        tensor: KvTensor,
        make: impl FnOnce(TensorViewMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut made) = self.page.take() else { return make(self.rows(page, start, len)) };
        let written = self.make_narrow(&mut made, (page, start, len), tensor, make);
        self.page = Some(made);
        written
    }

    fn make_narrow<E: From<KvError>>(
        &mut self,
        made: &mut Workspace,
        (page, start, len): (u32, usize, usize),
        tensor: KvTensor,
        make: impl FnOnce(TensorViewMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let shape = [1, self.heads(), len, self.dim()];
        let count = shape.iter().product();
        let rows = made.slice_mut::<f32>(0, count).expect("the memory that was made");
        make(TensorViewMut::from_slice(rows, &shape).expect("as many elements"))?;
        let rows = made.slice::<f32>(0, count).expect("the memory that was made");
        let rows = TensorView::from_slice(rows, &shape).expect("as many elements");
        self.check_numbers(tensor, &rows)?;
        self.write(page, start, &rows);
        Ok(())
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
            let norm = match &self.numbers {
                Some(numbers) => self.memory.slice(place, count).map(|rows: &[i8]| {
                    let rows = rows.chunks(dim).zip(first / dim..);
                    greatest(rows.map(|(row, place)| numbers.square(place, row)))
                }),
                None if self.elem.kind() != ElemKind::Real => None,
                None => with_held!(self.elem, Type => {
                    self.memory.slice(place, count).map(|rows| greatest_norm::<Type>(rows, dim))
                }),
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
        if let Some(numbers) = &mut self.numbers {
            numbers.copy(from, to, tokens);
        }
        self.norms.copy_within(from as usize * heads..(from as usize + 1) * heads, to as usize * heads);
        for head in 0..heads {
            memory.copy_within(start(from, head)..start(from, head) + len, start(to, head));
        }
    }
}

/// A number that the norm of no row of some elements is above; `inf` if one holds NaN or is that large.
fn greatest_norm<T: Held>(rows: &[T::Bits], dim: usize) -> f32 {
    let square = |row: &[T::Bits]| row.iter().map(|bits| T::of_bits(*bits).number().powi(2)).sum::<f64>();
    greatest(rows.chunks(dim.max(1)).map(square))
}

/// A number that the root of no square is above; `inf` if one is NaN or that large.
fn greatest(squares: impl Iterator<Item = f64>) -> f32 {
    // `max` would pass NaN by.
    let greatest = squares.fold(0.0, |most: f64, x| if most.is_nan() || x <= most { most } else { x });
    let norm = (greatest.sqrt() as f32).next_up();
    if norm.is_finite() { norm } else { f32::INFINITY }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn norms_are_not_below_those_of_rows() {
        let norm = greatest_norm::<f32>(&[3.0, 4.0, 1.0, -1.0, 0.0, 0.0], 2);
        assert!((5.0..5.00001).contains(&norm), "{norm}");
        assert_eq!(greatest_norm::<f32>(&[f32::NAN, 0.0, 9.0, 9.0], 2), f32::INFINITY);
        assert_eq!(greatest_norm::<f32>(&[9.0, 9.0, 0.0, f32::NEG_INFINITY], 2), f32::INFINITY);
        assert_eq!(greatest_norm::<f32>(&[3e38, 3e38], 2), f32::INFINITY);
        assert!(greatest_norm::<f32>(&[], 4) < 1e-40);
        assert_eq!(greatest_norm::<f16>(&[f16::NAN], 1), f32::INFINITY);
    }
}
