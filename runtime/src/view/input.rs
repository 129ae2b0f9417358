//! What a call reads: a tensor in one piece, or in pages.

use rhumb_ir::Elem;

use super::{PagedView, TensorView};
use crate::overlap::{Region, bytes, overlap};

/// A borrowed tensor that a call reads: in one piece, or one whose tokens lie in pages. Both views convert to it.
#[derive(Clone, Copy, Debug)]
pub enum InputView<'a> {
    /// In one piece.
    Dense(TensorView<'a>),
    /// In pages.
    Paged(PagedView<'a>),
}

impl<'a> From<TensorView<'a>> for InputView<'a> {
    fn from(view: TensorView<'a>) -> InputView<'a> {
        InputView::Dense(view)
    }
}

impl<'a> From<PagedView<'a>> for InputView<'a> {
    fn from(view: PagedView<'a>) -> InputView<'a> {
        InputView::Paged(view)
    }
}

impl InputView<'_> {
    /// The element type.
    pub fn elem(&self) -> Elem {
        match self {
            InputView::Dense(view) => view.elem(),
            InputView::Paged(view) => view.elem(),
        }
    }

    /// Sizes of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            InputView::Dense(view) => view.shape(),
            InputView::Paged(view) => view.shape(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index, as a number; truth values are 0 and 1. `None` outside the shape.
    pub fn get(&self, index: &[usize]) -> Option<f64> {
        match self {
            InputView::Dense(view) => view.get(index),
            InputView::Paged(view) => view.get(index),
        }
    }

    /// All elements as numbers, in row-major order of the view.
    pub(crate) fn elements(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            InputView::Dense(view) => Box::new(view.elements()),
            InputView::Paged(view) => Box::new(view.elements()),
        }
    }

    /// Whether an element shares a byte with a region.
    pub(crate) fn overlaps(&self, region: Region<'_>) -> bool {
        match self {
            InputView::Dense(view) => overlap(view.region(), region),
            InputView::Paged(view) => view.overlaps(region),
        }
    }

    /// The first and the last byte that it reaches; `None` without elements.
    pub(crate) fn bytes(&self) -> Option<(i128, i128)> {
        match self {
            InputView::Dense(view) => bytes(view.region()),
            InputView::Paged(view) => {
                let pages = view.pages().filter_map(|page| bytes(page.region()));
                pages.reduce(|all, page| (all.0.min(page.0), all.1.max(page.1)))
            }
        }
    }
}
