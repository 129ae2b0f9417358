//! Window table: a learned number for each offset of two patches of a window, by head.
//!
//! Swin (arXiv 2103.14030): in a window of `h x w` patches in row order the bias is `table[(y_q - y_k + h - 1)(2w - 1) + x_q - x_k + w - 1]`,
//! of `(2h - 1)(2w - 1)` rows. BEiT (arXiv 2106.08254) has one class token before the patches, and three more rows at the end: for the class
//! token's view of a patch, a patch's view of it, and its view of itself (`class_token`).
//!
//! Windows are entries of the batch. Row and column make one number for a query and one for a key, so that a pair computes one difference and
//! reads one element.
//!
//! ```text
//! %out = scheme window_table.score %score @0 {height = 7, table = %table, width = 7} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %6 = const 7 : i32
//! %7 = div %i, %6 : i32[q]
//! %8 = const 7 : i32
//! %9 = mod %i, %8 : i32[q]
//! %10 = const 13 : i32
//! %11 = mul %7, %10 : i32[q]
//! %12 = add %11, %9 : i32[q]
//! %13 = const 84 : i32
//! %14 = add %12, %13 : i32[q]
//! %15 = const 7 : i32
//! %16 = div %j, %15 : i32[k]
//! %17 = const 7 : i32
//! %18 = mod %j, %17 : i32[k]
//! %19 = const 13 : i32
//! %20 = mul %16, %19 : i32[k]
//! %21 = add %20, %18 : i32[k]
//! %22 = sub %14, %21 : i32[q, k]
//! %23 = gather %table over offset at %22 : f32[h, q, k]
//! %out = add %score, %23 : f32[h, q, k]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::{learned_along, window_offsets};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A learned number for each offset of two patches of a window (Swin, arXiv 2103.14030; BEiT, 2106.08254).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct WindowTable: "window_table" at Score = "score + table[(y_q - y_k, x_q - x_k), h]" {
        /// The learned numbers: f32 over an axis of offsets, and maybe the heads.
        table: Value,
        /// h: rows of the window.
        #[range(1..=500, "a number of rows")]
        height: i32,
        /// w: columns of the window.
        #[range(1..=500, "a number of columns")]
        width: i32,
        /// Token 0 is a class token, with three rows of its own at the end of the table.
        class_token: bool = false,
    }
}

impl WindowTable {
    /// Swin's: a window of `height` by `width` patches, and a table over an axis of `(2 height - 1)(2 width - 1)` offsets, and maybe the
    /// heads.
    pub fn new(table: Expr<'_>, height: i32, width: i32) -> WindowTable {
        WindowTable::with_defaults(table.value(), height, width)
    }

    /// With a class token before the patches, as in BEiT: the table has three rows more.
    #[must_use]
    pub fn class_token(self) -> WindowTable {
        WindowTable { class_token: true, ..self }
    }

    /// The rows that the table has.
    fn rows(&self) -> i32 {
        // Below two million, by the ranges.
        (2 * self.height - 1) * (2 * self.width - 1) + if self.class_token { 3 } else { 0 }
    }
}

impl PositionScheme for WindowTable {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        learned_along(cx, "table", self.table, (&[], Some(self.rows() as u32))).map(|_| ())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let rows = self.rows();
        let (table, offset) = learned_along(cx, "table", self.table, (&[], Some(rows as u32)))?;
        let offsets = window_offsets(cx, self.height, self.width, u32::from(self.class_token));
        let index = if self.class_token {
            let (q_class, k_class) = (cx.q_index().eq(0), cx.k_index().eq(0));
            let of_class = k_class.select(rows - 1, cx.int(rows - 3));
            q_class.select(of_class, k_class.select(rows - 2, offsets))
        } else {
            offsets
        };
        Ok(score + table.gather(offset, index))
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("window_table.rs"), 8, |cx| {
            let offsets = cx.builder().axis_of("offset", 169);
            let table = cx.builder().input("table", Elem::F32, [offsets, cx.head_axis().expect("heads")]);
            Box::new(WindowTable::new(table, 7, 7))
        });
    }
}
