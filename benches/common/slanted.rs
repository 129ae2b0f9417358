//! ALiBi once more, for eight heads: a scheme that is no part of the library.

use rhumb::prelude::*;

scheme! {
    /// ALiBi once more, for eight heads.
    #[derive(Debug)]
    pub(crate) struct Slanted: "slanted" at Score = "score - 2^-h (p_q - p_k)";
}

impl PositionScheme for Slanted {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let slopes = (1..=8).map(|head| (-f64::from(head)).exp2());
        Ok(score + cx.per_head(slopes.collect::<Vec<_>>())? * (cx.k_pos() - cx.q_pos()))
    }
}
