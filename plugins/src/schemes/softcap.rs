//! Softcap: scores are kept within bounds, at the place where the scheme stands.
//!
//! `c tanh(score / c)`. Gemma 2 (arXiv 2408.00118) caps scores before anything is added to them: there `Attention::softcap` does the same, ahead
//! of all schemes. As a scheme it stands in order: after a bias it caps what the bias made, as x-transformers does.
//!
//! ```text
//! %out = scheme softcap.score %score @0 {cap = 50.0} : f32[h, q, k]
//! ```
//! becomes
//! ```text
//! %3 = const 50.0 : f32
//! %4 = div %score, %3 : f32[h, q, k]
//! %5 = tanh %4 : f32[h, q, k]
//! %6 = const 50.0 : f32
//! %out = mul %5, %6 : f32[h, q, k]
//! ```

use rhumb_ir::Expr;

use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Scores are kept within bounds, with what schemes before it added (arXiv 2408.00118).
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Softcap: "softcap" at Score = "c tanh(score / c)" {
        /// c: the bound.
        #[range(AttrRange::above(0.0))]
        cap: f64,
    }
}

impl Softcap {
    /// Bounds scores by `cap`: finite, above 0.
    pub fn new(cap: f64) -> Softcap {
        Softcap::with_defaults(cap)
    }
}

impl PositionScheme for Softcap {
    fn score<'g>(&self, _: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((score / self.cap).tanh() * self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("softcap.rs"), 8, |_| Box::new(Softcap::new(50.0)));
    }
}
