//! Shifted window: a patch sees the patches of its window, on a grid of windows that is moved from layer to layer.
//!
//! Swin (arXiv 2103.14030). An image of `height x width` patches in row order is rolled by `shift` rows and columns and cut into windows of
//! `window x window`. A patch sees those of its window; where rolling brought patches of opposite edges into one window, it sees those of its own
//! edge alone. Swin adds -100 to the scores of the others in place of hiding them: `penalty = 100`. Swin V2's scores can outweigh that.
//!
//! ```text
//! %mask = scheme shifted_window.mask @0 {height = 56, shift = 3, width = 56, window = 7} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 56 : i32
//! %6 = div %i, %5 : i32[q]
//! %7 = const 56 : i32
//! %8 = mod %i, %7 : i32[q]
//! %9 = const 3 : i32
//! %10 = sub %6, %9 : i32[q]
//! %11 = const 56 : i32
//! %12 = mod %10, %11 : i32[q]
//! %13 = const 3 : i32
//! %14 = sub %8, %13 : i32[q]
//! %15 = const 56 : i32
//! %16 = mod %14, %15 : i32[q]
//! %17 = const 7 : i32
//! %18 = div %12, %17 : i32[q]
//! %19 = const 8 : i32
//! %20 = mul %18, %19 : i32[q]
//! %21 = const 7 : i32
//! %22 = div %16, %21 : i32[q]
//! %23 = add %20, %22 : i32[q]
//! %24 = const 53 : i32
//! %25 = ge %12, %24 : bool[q]
//! %26 = const 0 : i32
//! %27 = const 1 : i32
//! %28 = select %25, %27, %26 : i32[q]
//! %29 = const 2 : i32
//! %30 = mul %28, %29 : i32[q]
//! %31 = const 53 : i32
//! %32 = ge %16, %31 : bool[q]
//! %33 = const 0 : i32
//! %34 = const 1 : i32
//! %35 = select %32, %34, %33 : i32[q]
//! %36 = add %30, %35 : i32[q]
//! %37 = const 4 : i32
//! %38 = mul %23, %37 : i32[q]
//! %39 = add %38, %36 : i32[q]
//! %40 = const 56 : i32
//! %41 = div %j, %40 : i32[k]
//! %42 = const 56 : i32
//! %43 = mod %j, %42 : i32[k]
//! %44 = const 3 : i32
//! %45 = sub %41, %44 : i32[k]
//! %46 = const 56 : i32
//! %47 = mod %45, %46 : i32[k]
//! %48 = const 3 : i32
//! %49 = sub %43, %48 : i32[k]
//! %50 = const 56 : i32
//! %51 = mod %49, %50 : i32[k]
//! %52 = const 7 : i32
//! %53 = div %47, %52 : i32[k]
//! %54 = const 8 : i32
//! %55 = mul %53, %54 : i32[k]
//! %56 = const 7 : i32
//! %57 = div %51, %56 : i32[k]
//! %58 = add %55, %57 : i32[k]
//! %59 = const 53 : i32
//! %60 = ge %47, %59 : bool[k]
//! %61 = const 0 : i32
//! %62 = const 1 : i32
//! %63 = select %60, %62, %61 : i32[k]
//! %64 = const 2 : i32
//! %65 = mul %63, %64 : i32[k]
//! %66 = const 53 : i32
//! %67 = ge %51, %66 : bool[k]
//! %68 = const 0 : i32
//! %69 = const 1 : i32
//! %70 = select %67, %69, %68 : i32[k]
//! %71 = add %65, %70 : i32[k]
//! %72 = const 4 : i32
//! %73 = mul %58, %72 : i32[k]
//! %74 = add %73, %71 : i32[k]
//! %mask = eq %39, %74 : bool[q, k]
//! ```

use rhumb_ir::{Expr, Hook};

use super::shared::cell;
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A patch sees the patches of its window, on a grid of windows that is moved from layer to layer (arXiv 2103.14030).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct ShiftedWindow: "shifted_window" at Score, Mask = "same window of the rolled image; other edges: hidden, or score - penalty" {
        /// Rows of the image, a multiple of the window.
        #[range(1..=30_000, "a number of rows")]
        height: i32,
        /// Columns of the image, a multiple of the window.
        #[range(1..=30_000, "a number of columns")]
        width: i32,
        /// Rows and columns of a window.
        #[range(1..=30_000, "a number of patches")]
        window: i32,
        /// Rows and columns that the image is rolled by, fewer than a window has.
        #[range(0..=30_000, "a number of patches")]
        shift: i32 = 0,
        /// Subtracted from scores of patches of another edge, which are hidden otherwise.
        #[range(AttrRange::above(0.0))]
        #[default("hidden")]
        penalty: Option<f64> = None,
    }
}

impl ShiftedWindow {
    /// An image of `height` by `width` patches in windows of `window` by `window`, not shifted.
    pub fn new(height: i32, width: i32, window: i32) -> ShiftedWindow {
        ShiftedWindow::with_defaults(height, width, window)
    }

    /// Rolls the image by so many rows and columns: half a window in Swin.
    #[must_use]
    pub fn shift(self, shift: i32) -> ShiftedWindow {
        ShiftedWindow { shift, ..self }
    }

    /// Subtracts from the scores of patches of another edge, in place of hiding them: 100 in Swin.
    #[must_use]
    pub fn penalty(self, penalty: f64) -> ShiftedWindow {
        ShiftedWindow { penalty: Some(penalty), ..self }
    }

    /// The number of a patch's window, and, of the windows that have patches of two edges, whether it is on the far side, by row and column.
    fn place<'g>(&self, index: Expr<'g>) -> (Expr<'g>, Expr<'g>) {
        let rolled = |x: Expr<'g>, n: i32| if self.shift == 0 { x } else { (x - self.shift) % n };
        let [y, x] = cell(index, self.width, 0);
        let (y, x) = (rolled(y, self.height), rolled(x, self.width));
        let number = (y / self.window) * (self.width / self.window) + x / self.window;
        let far = |x: Expr<'g>, n: i32| x.ge(n - self.shift).select(1, x.builder().int(0));
        (number, far(y, self.height) * 2 + far(x, self.width))
    }
}

impl PositionScheme for ShiftedWindow {
    fn hooks(&self) -> &[Hook] {
        if self.penalty.is_some() && self.shift > 0 { &[Hook::Score, Hook::Mask] } else { &[Hook::Mask] }
    }

    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        for (name, n) in [("height", self.height), ("width", self.width)] {
            if n % self.window != 0 {
                let expected = format!("a multiple of the window's {}: pad the image", self.window);
                return Err(SchemeError::range(name, n, expected));
            }
        }
        if self.shift < self.window {
            return Ok(());
        }
        Err(SchemeError::range("shift", self.shift, format!("fewer than the window's {}", self.window)))
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let ((_, q), (_, k)) = (self.place(cx.q_index()), self.place(cx.k_index()));
        Ok(score + q.eq(k).select(0.0, cx.scalar(-self.penalty.unwrap_or(0.0))))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let of = |index: Expr<'g>| {
            let (window, side) = self.place(index);
            if self.shift == 0 || self.penalty.is_some() { window } else { window * 4 + side }
        };
        Ok(of(cx.q_index()).eq(of(cx.k_index())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("shifted_window.rs"), 8, |_| {
            Box::new(ShiftedWindow::new(56, 56, 7).shift(3))
        });
    }
}
