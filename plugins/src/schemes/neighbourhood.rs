//! Neighbourhood: a patch of an image sees the patches around it, and as many at the edges.
//!
//! Neighbourhood attention (NATTEN, arXiv 2204.07143). A query at row `y` and column `x` of a grid sees the patches at most `n / 2` (rounded
//! down) rows and columns from the centre, which is the query's own place, moved inside where the window would pass an edge: always `n x n`
//! keys. Patches are in row order by token index.
//!
//! ```text
//! %mask = scheme neighbourhood.mask @0 {height = 14, width = 14, window = 7} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = const 14 : i32
//! %6 = div %i, %5 : i32[q]
//! %7 = const 14 : i32
//! %8 = mod %i, %7 : i32[q]
//! %9 = const 14 : i32
//! %10 = div %j, %9 : i32[k]
//! %11 = const 14 : i32
//! %12 = mod %j, %11 : i32[k]
//! %13 = const 3 : i32
//! %14 = max %6, %13 : i32[q]
//! %15 = const 10 : i32
//! %16 = min %14, %15 : i32[q]
//! %17 = sub %16, %10 : i32[q, k]
//! %18 = abs %17 : i32[q, k]
//! %19 = const 3 : i32
//! %20 = le %18, %19 : bool[q, k]
//! %21 = const 3 : i32
//! %22 = max %8, %21 : i32[q]
//! %23 = const 10 : i32
//! %24 = min %22, %23 : i32[q]
//! %25 = sub %24, %12 : i32[q, k]
//! %26 = abs %25 : i32[q, k]
//! %27 = const 3 : i32
//! %28 = le %26, %27 : bool[q, k]
//! %mask = and %20, %28 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use super::shared::cell;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A patch of an image sees the patches around it, and as many at the edges (arXiv 2204.07143).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Neighbourhood: "neighbourhood" at Mask = "|y_j - c_y| <= n/2 and |x_j - c_x| <= n/2, c = (y_i, x_i) moved inside" {
        /// Rows of the patch grid.
        #[range(1..=1_000_000, "a number of rows")]
        height: i32,
        /// Columns of the patch grid.
        #[range(1..=1_000_000, "a number of columns")]
        width: i32,
        /// n: rows and columns seen, an odd number that fits the grid.
        #[range(1.., "an odd number of patches")]
        window: i32,
    }
}

impl Neighbourhood {
    /// In a grid of `height` rows and `width` columns, `window` rows and columns around the query: an odd number, within the grid.
    pub fn new(height: i32, width: i32, window: i32) -> Neighbourhood {
        Neighbourhood::with_defaults(height, width, window)
    }
}

impl PositionScheme for Neighbourhood {
    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let least = self.height.min(self.width);
        if self.window % 2 == 1 && self.window <= least {
            return Ok(());
        }
        Err(SchemeError::range("window", self.window, format!("an odd number of patches from 1 to {least}")))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let reach = self.window / 2;
        let ([q_y, q_x], [k_y, k_x]) = (cell(cx.q_index(), self.width, 0), cell(cx.k_index(), self.width, 0));
        let sees = |q: Expr<'g>, k: Expr<'g>, n: i32| (q.max(reach).min(n - 1 - reach) - k).abs().le(reach);
        Ok(sees(q_y, k_y, self.height) & sees(q_x, k_x, self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("neighbourhood.rs"), 8, |_| {
            Box::new(Neighbourhood::new(14, 14, 7))
        });
    }
}
