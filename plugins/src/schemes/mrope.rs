//! M-RoPE: tokens of text, images and video have a position on several axes, and each pair turns by one of them.
//!
//! Wang et al.: *Qwen2-VL* (arXiv 2409.12191). A token has the positions `p_t`, `p_h` and `p_w` in time, height and width, all the same for text,
//! where M-RoPE is RoPE. Pair `j` of the `R / 2` pairs turns by `p_a(j) base^(-2j / R)`; which axis is `a(j)` is told by `sections`, the number of
//! pairs of each axis, and by `layout`:
//!
//! | layout | axes of the pairs | sections | models |
//! |---|---|---|---|
//! | `blocks` (default) | those of the first axis, then those of the second, and so on | `16, 24, 24` | Qwen2-VL, Qwen2.5-VL; GLM-4V with neighbours as pairs and half of the head |
//! | `interleaved` | `t h w t h w ...` as far as the sections of `h` and `w` reach, else `t` | `24, 20, 20` | Qwen3-VL |
//! | `fast_space` | `h w h w ...`, and the slow pairs `t` | `h, w, t`: `22, 22, 20` | Ernie 4.5 VL, with neighbours as pairs |
//!
//! Positions are values with an axis for the axes, of the length of `sections`, in the order `t, h, w` whatever the layout: `i32[axis, q]` for
//! queries, `i32[axis, k]` for keys, or with a batch. Masks go by the order of tokens and not by these positions.
//!
//! ```text
//! %q_out = scheme mrope.query %q @0 {k_positions = %k_at, q_positions = %q_at, sections = [2.0, 1.0, 1.0]} : f32[h, q, d]
//! %k_out = scheme mrope.key %k @0 {k_positions = %k_at, q_positions = %q_at, sections = [2.0, 1.0, 1.0]} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [0.0, 0.0, 1.0, 2.0] : f32[pair]
//! %6 = cast %5 to i32 : i32[pair]
//! %7 = gather %q_at over axis at %6 : i32[q, pair]
//! %8 = table [1.0, 0.1, 0.01, 0.001] : f32[pair]
//! %9 = cast %7 to f32 : f32[q, pair]
//! %10 = mul %9, %8 : f32[q, pair]
//! %q_out = rotate %q over d by %10 over pair half : f32[h, q, d]
//! %12 = cast %5 to i32 : i32[pair]
//! %13 = gather %k_at over axis at %12 : i32[k, pair]
//! %14 = cast %13 to f32 : f32[k, pair]
//! %15 = mul %14, %8 : f32[k, pair]
//! %k_out = rotate %k over d by %15 over pair half : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Elem, Expr, Value};

use super::rope::{Block, Rotary, Rotation, check_frequencies, rotation};
use crate::attrs::{AttrRange, Choice};
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

crate::scheme! {
    /// Each pair turns by the position on one of several axes (Qwen2-VL, arXiv 2409.12191).
    ///
    /// M-RoPE: see the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct MRope: "mrope" at Query, Key = "pair j of x turns by p_a(j) base^(-2j/R)" {
        /// How many pairs turn by each axis.
        #[range(0.0.., "a list of numbers of pairs")]
        sections: Vec<f64>,
        /// The factor on what turns, as scalings have it.
        #[range(AttrRange::above(0.0))]
        attention_factor: f64 = 1.0,
        /// Radians per position of each pair.
        #[default("from base")]
        frequencies: Option<Vec<f64>> = None,
        /// Which pairs turn by which axis.
        layout: AxisLayout = AxisLayout::Blocks,
        /// What turns, and by which positions: these must be given.
        #[flatten]
        rotary: Rotary = Rotary::default(),
    }
}

/// Which pairs turn by which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisLayout {
    /// The pairs of each axis together, one axis after the other.
    Blocks,
    /// The axes in turn, as far as each has pairs; what is left goes to the first.
    Interleaved,
    /// Height and width in turn, then time.
    FastSpace,
}

impl Choice for AxisLayout {
    const NAMES: &'static [(&'static str, AxisLayout)] = &[
        ("blocks", AxisLayout::Blocks),
        ("interleaved", AxisLayout::Interleaved),
        ("fast_space", AxisLayout::FastSpace),
    ];
}

impl MRope {
    /// The whole head, half pairing, blocks of so many pairs for each axis; positions of queries and keys on all of them.
    pub fn new(sections: impl IntoIterator<Item = u32>, queries: Expr<'_>, keys: Expr<'_>) -> MRope {
        let (q_positions, k_positions) = (Some(queries.value()), Some(keys.value()));
        MRope::with_defaults(sections.into_iter().map(f64::from).collect()).with_rotary(|rotary| Rotary {
            q_positions,
            k_positions,
            ..rotary
        })
    }

    /// Which pairs turn by which axis.
    #[must_use]
    pub fn layout(self, layout: AxisLayout) -> MRope {
        MRope { layout, ..self }
    }

    /// Radians per position of each pair, in place of powers of the base: those of a scaling, for one.
    #[must_use]
    pub fn frequencies(self, frequencies: impl Into<Vec<f64>>) -> MRope {
        MRope { frequencies: Some(frequencies.into()), ..self }
    }

    /// A factor on what turns, as scalings have it: above 0.
    #[must_use]
    pub fn attention_factor(self, factor: f64) -> MRope {
        MRope { attention_factor: factor, ..self }
    }

    /// The axis that each of so many pairs turns by.
    fn axis_of_pairs(&self, pairs: u32) -> Vec<f64> {
        let sections: Vec<u32> = self.sections.iter().map(|n| *n as u32).collect();
        let axes = sections.len() as u32;
        let of_pair = |j: u32| match self.layout {
            AxisLayout::Blocks => {
                let mut end = 0;
                sections
                    .iter()
                    .take_while(|section| {
                        end += **section;
                        end <= j
                    })
                    .count() as u32
            }
            AxisLayout::Interleaved => {
                let axis = j % axes;
                if axis > 0 && j < axes * sections[axis as usize] { axis } else { 0 }
            }
            AxisLayout::FastSpace if j < sections[0] + sections[1] => 1 + j % 2,
            AxisLayout::FastSpace => 0,
        };
        (0..pairs).map(|j| f64::from(of_pair(j))).collect()
    }

    /// The axis over which positions have one for each axis.
    fn components(&self, cx: &SchemeContext<'_>, name: &str, positions: Expr<'_>) -> Result<Axis, SchemeError> {
        let count = self.sections.len() as u32;
        let is_one = |axis: &Axis| {
            let outer = [cx.query_axis(), cx.key_axis(), cx.dim_axis()].contains(axis) || cx.site().head == Some(*axis);
            !outer && cx.length_of(*axis) == Ok(count)
        };
        let axes = positions.ty().axes;
        let mut found = axes.iter().filter(is_one);
        match (found.next(), found.next()) {
            (Some(axis), None) => Ok(axis),
            _ => {
                let expected =
                    format!("positions over one axis of {count}, as many as `sections` has, and over tokens");
                let count = axes.iter().count();
                Err(SchemeError::AttrValue { name: name.to_owned(), found: format!("over {count} axes"), expected })
            }
        }
    }

    fn given(&self, name: &str, positions: Option<Value>) -> Result<Value, SchemeError> {
        let expected = "the positions of tokens on each axis, a value of the graph".to_owned();
        positions.ok_or_else(|| SchemeError::AttrMissing { name: name.to_owned(), expected })
    }
}

impl Rotation for MRope {
    fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    fn check_scaling(&self, cx: &SchemeContext<'_>, block: &Block) -> Result<(), SchemeError> {
        let sum: f64 = self.sections.iter().sum();
        if sum != f64::from(block.pairs()) || self.sections.iter().any(|n| n.fract() != 0.0) {
            let found = format!("{:?}", self.sections);
            let expected = format!("whole numbers that add up to {}, the pairs that turn", block.pairs());
            return Err(SchemeError::range("sections", found, expected));
        }
        if self.layout == AxisLayout::FastSpace && (self.sections.len() != 3 || self.sections[0] != self.sections[1]) {
            let expected = "three numbers for this layout: as many pairs of height as of width, then those of time";
            return Err(SchemeError::range("sections", format!("{:?}", self.sections), expected));
        }
        if let Some(list) = &self.frequencies {
            check_frequencies("frequencies", list, block.pairs())?;
        }
        for (name, positions) in [("q_positions", self.rotary.q_positions), ("k_positions", self.rotary.k_positions)] {
            let positions = cx.value(name, self.given(name, positions)?)?;
            self.components(cx, name, positions)?;
        }
        Ok(())
    }

    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError> {
        let list = self.frequencies.clone().unwrap_or_else(|| self.rotary.powers(block.dim));
        Ok(cx.table(&[pair], list))
    }

    fn amplitude(&self) -> f64 {
        self.attention_factor
    }

    fn angle<'g>(
        &self,
        cx: &SchemeContext<'g>,
        positions: Expr<'g>,
        pair: Axis,
        block: &Block,
    ) -> Result<Expr<'g>, SchemeError> {
        let axis = self.components(cx, "positions", positions)?;
        let of_pair = cx.table(&[pair], self.axis_of_pairs(block.pairs())).cast(Elem::I32);
        Ok(positions.gather(axis, of_pair) * self.theta(cx, pair, block)?)
    }
}

rotation!(MRope);

#[cfg(test)]
mod tests {
    use rhumb_ir::Elem;

    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("mrope.rs"), 8, |cx| {
            let axis = cx.builder().axis_of("axis", 3);
            let at = |name, tokens| cx.builder().input(name, Elem::I32, [axis, tokens]);
            Box::new(MRope::new([2, 1, 1], at("q_at", cx.query_axis()), at("k_at", cx.key_axis())))
        });
    }
}
