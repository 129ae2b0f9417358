//! Learned positions: a learned vector of each position is added to queries and to keys.
//!
//! BERT, GPT-2 and ViT add a table of positions to the embeddings, ahead of all projections. Within attention the same is a table for queries and one
//! for keys, the embeddings times the projections, and one for values, which is the caller's. Positions past the ends of a table take the nearest.
//!
//! ```text
//! %q_out = scheme learned_positions.query %q @0 {k_table = %k_table, q_table = %q_table} : f32[h, q, d]
//! %k_out = scheme learned_positions.key %k @0 {k_table = %k_table, q_table = %q_table} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %7 = gather %q_table over position at %i : f32[q, d]
//! %q_out = add %q, %7 : f32[h, q, d]
//! %9 = gather %k_table over position at %j : f32[k, d]
//! %k_out = add %k, %9 : f32[h, k, d]
//! ```

use rhumb_ir::{Elem, Expr, Value};

use super::shared::learned_along;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// A learned vector of each position is added to queries and to keys (BERT, GPT-2).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct LearnedPositions: "learned_positions" at Query, Key = "q + q_table[p_q]; k + k_table[p_k]" {
        /// What is added to queries: f32 over an axis of positions and the elements, and maybe the heads.
        q_table: Value,
        /// What is added to keys: f32 over an axis of positions and the elements, and maybe the heads.
        k_table: Value,
    }
}

impl LearnedPositions {
    /// Tables for queries and for keys: `f32` over an axis of positions and the elements, and maybe the heads.
    pub fn new(q_table: Expr<'_>, k_table: Expr<'_>) -> LearnedPositions {
        LearnedPositions::with_defaults(q_table.value(), k_table.value())
    }

    fn added<'g>(
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        (name, table): (&str, Value),
        position: Expr<'g>,
    ) -> Result<Expr<'g>, SchemeError> {
        let (table, axis) = learned_along(cx, name, table, (&[cx.dim_axis()], None))?;
        Ok(x + table.gather(axis, position))
    }
}

impl PositionScheme for LearnedPositions {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if cx.q_pos().ty().elem != Elem::I32 || cx.k_pos().ty().elem != Elem::I32 {
            let message = "positions are f32, and the scheme looks them up in a table";
            return Err(SchemeError::other(message, "give i32 positions"));
        }
        for (name, table) in [("q_table", self.q_table), ("k_table", self.k_table)] {
            learned_along(cx, name, table, (&[cx.dim_axis()], None))?;
        }
        Ok(())
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        LearnedPositions::added(cx, x, ("q_table", self.q_table), cx.q_pos())
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        LearnedPositions::added(cx, x, ("k_table", self.k_table), cx.k_pos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("learned_positions.rs"), 8, |cx| {
            let (position, dim) = (cx.builder().axis_of("position", 512), cx.dim_axis());
            let [q, k] = ["q_table", "k_table"].map(|name| cx.builder().input(name, Elem::F32, [position, dim]));
            Box::new(LearnedPositions::new(q, k))
        });
    }
}
