//! Decomposed: a query meets a learned vector for the rows between two patches, and one for the columns.
//!
//! MViTv2 (arXiv 2112.01526), ViTDet (arXiv 2203.16527) and SAM. In a grid of `h x w` patches in row order the bias is
//! `q . rows[y_q - y_k + h - 1] + q . columns[x_q - x_k + w - 1]`, of `2h - 1` and `2w - 1` vectors. The query is not scaled. Tables of another
//! grid are resized by the caller.
//!
//! Queries meet the tables once, and a pair of query and key reads two products.
//!
//! ```text
//! %out = scheme decomposed.score %score @0 {columns = %columns, height = 14, queries = %queries, rows = %rows, width = 14} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %8 = const 14 : i32
//! %9 = div %i, %8 : i32[q]
//! %10 = const 14 : i32
//! %11 = mod %i, %10 : i32[q]
//! %12 = const 14 : i32
//! %13 = div %j, %12 : i32[k]
//! %14 = const 14 : i32
//! %15 = mod %j, %14 : i32[k]
//! %16 = dot %queries, %rows over d : f32[h, q, rows]
//! %17 = const 13 : i32
//! %18 = add %9, %17 : i32[q]
//! %19 = sub %18, %13 : i32[q, k]
//! %20 = gather %16 over rows at %19 : f32[h, q, k]
//! %21 = add %score, %20 : f32[h, q, k]
//! %22 = dot %queries, %columns over d : f32[h, q, columns]
//! %23 = const 13 : i32
//! %24 = add %11, %23 : i32[q]
//! %25 = sub %24, %15 : i32[q, k]
//! %26 = gather %22 over columns at %25 : f32[h, q, k]
//! %out = add %21, %26 : f32[h, q, k]
//! ```

use rhumb_ir::{Expr, Value};

use super::shared::{cell, learned_along, rows};
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A query meets a learned vector for the rows between two patches, and one for the columns (SAM, ViTDet).
    ///
    /// Decomposed relative positions (arXiv 2112.01526): see the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Decomposed: "decomposed" at Score = "score + q . rows[y_q - y_k] + q . columns[x_q - x_k]" {
        /// The queries: f32 over queries and elements.
        queries: Value,
        /// Vectors of rows: f32 over an axis of 2 height - 1 and the elements, and maybe the heads.
        rows: Value,
        /// Vectors of columns: f32 over an axis of 2 width - 1 and the elements, and maybe the heads.
        columns: Value,
        /// Rows of the patch grid.
        #[range(1..=500_000, "a number of rows")]
        height: i32,
        /// Columns of the patch grid.
        #[range(1..=500_000, "a number of columns")]
        width: i32,
        /// Factor on the products.
        scale: f64 = 1.0,
    }
}

impl Decomposed {
    /// In a grid of `height` by `width` patches, vectors over axes of `2 height - 1` and `2 width - 1` and the elements, and the queries that
    /// meet them, such as [`query`](crate::AttentionParts::query) of an attention.
    pub fn new(queries: Expr<'_>, rows: Expr<'_>, columns: Expr<'_>, [height, width]: [i32; 2]) -> Decomposed {
        Decomposed::with_defaults(queries.value(), rows.value(), columns.value(), height, width)
    }

    /// A factor on the products, for queries that are to be scaled.
    #[must_use]
    pub fn scale(self, scale: f64) -> Decomposed {
        Decomposed { scale, ..self }
    }

    /// Name, value and length of each table.
    fn tables(&self) -> [(&'static str, Value, u32); 2] {
        [("rows", self.rows, 2 * self.height as u32 - 1), ("columns", self.columns, 2 * self.width as u32 - 1)]
    }
}

impl PositionScheme for Decomposed {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        rows(cx, "queries", self.queries, cx.query_axis())?;
        for (name, value, length) in self.tables() {
            learned_along(cx, name, value, (&[cx.dim_axis()], Some(length)))?;
        }
        Ok(())
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, mut score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let queries = cx.value("queries", self.queries)?;
        let (q, k) = (cell(cx.q_index(), self.width, 0), cell(cx.k_index(), self.width, 0));
        for ((name, value, length), (q, k)) in self.tables().into_iter().zip(q.into_iter().zip(k)) {
            let (table, offset) = learned_along(cx, name, value, (&[cx.dim_axis()], Some(length)))?;
            let products = queries.dot(table, cx.dim_axis());
            let products = if self.scale == 1.0 { products } else { products * self.scale };
            score = score + products.gather(offset, (q + length as i32 / 2) - k);
        }
        Ok(score)
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("decomposed.rs"), 8, |cx| {
            let (heads, dim, builder) = (cx.head_axis().expect("heads"), cx.dim_axis(), cx.builder());
            let queries = builder.input("queries", Elem::F32, [heads, cx.query_axis(), dim]);
            let table = |name| builder.input(name, Elem::F32, [builder.axis_of(name, 27), dim]);
            Box::new(Decomposed::new(queries, table("rows"), table("columns"), [14, 14]))
        });
    }
}
