//! Which attributes go together, and with which attention.

use rhumb_ir::{Elem, Value};

use super::super::rope::{check_excluded, check_frequencies, check_positions};
use super::angles::{missing, pair_axis};
use super::options::{Coordinates, GIVEN, LEARNED, Rope2d};
use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

impl Rope2d {
    pub(super) fn check_all(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let head_dim = cx.head_dim()?;
        if head_dim % 4 != 0 {
            return Err(SchemeError::RotaryDim {
                what: "the head dimension".to_owned(),
                found: head_dim,
                expected: "a multiple of 4, for pairs of two axes".to_owned(),
            });
        }
        if let Some(list) = &self.frequencies {
            check_frequencies("frequencies", list, head_dim / 4)?;
            check_excluded(self, "frequencies", &["base", "bands"])?;
        }
        self.check_learned(cx)?;
        if self.given().iter().any(Option::is_some) { self.check_given(cx) } else { self.check_grid(cx) }
    }

    fn check_grid(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let mut patches = Some(i64::from(self.repeat));
        for (name, size) in [("height", self.height), ("width", self.width)] {
            match size {
                None => return Err(missing(name)),
                Some(IntOrValue::Int(n)) => patches = patches.and_then(|patches| patches.checked_mul(i64::from(n))),
                Some(size) => {
                    let axes = [cx.query_axis(), cx.key_axis(), cx.dim_axis()];
                    cx.free_of(name, cx.int_or_value(name, size)?, &axes)?;
                }
            }
        }
        if patches.is_none_or(|patches| patches > i64::from(i32::MAX)) {
            let grid = |size| if let Some(IntOrValue::Int(n)) = size { n.to_string() } else { "?".to_owned() };
            let what =
                format!("a grid of {} x {} patches, {} times,", grid(self.height), grid(self.width), self.repeat);
            let (message, hint) = (format!("{what} is too large"), format!("use at most {} patches in all", i32::MAX));
            return Err(SchemeError::other(message, hint));
        }
        if self.coordinates == Coordinates::Index {
            return Ok(());
        }
        check_excluded(self, "coordinates", &["reference", "index_offset"])
    }

    /// Checks coordinates that are given outright: all four, and nothing that is of the grid.
    fn check_given(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        for (i, (name, given)) in GIVEN.into_iter().zip(self.given()).enumerate() {
            if given.is_none() {
                let expected = "row and column of queries and of keys".to_owned();
                return Err(SchemeError::AttrMissing { name: name.to_owned(), expected });
            }
            let other = if i < 2 { cx.key_axis() } else { cx.query_axis() };
            check_positions(cx, name, given, other)?;
        }
        let of_grid = ["height", "width", "prefix", "repeat", "coordinates", "index_offset", "reference"];
        check_excluded(self, GIVEN[0], &of_grid)
    }

    /// Checks learned frequencies: those of both axes or of none, over the same pairs.
    fn check_learned(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let learned: [Value; 2] = match self.learned_values() {
            [Some(y), Some(x)] => [y, x],
            [None, None] => return Ok(()),
            [y, _] => {
                let name = if y.is_none() { LEARNED[0] } else { LEARNED[1] };
                let expected = "learned frequencies of both axes".to_owned();
                return Err(SchemeError::AttrMissing { name: name.to_owned(), expected });
            }
        };
        check_excluded(self, LEARNED[0], &["base", "frequencies", "bands", "layout", "order"])?;
        let mut axes = [None; 2];
        for ((axis, name), value) in axes.iter_mut().zip(LEARNED).zip(learned) {
            let x = cx.value(name, value)?;
            let pair = pair_axis(cx, name, x)?;
            if x.ty().elem != Elem::F32 || cx.length_of(pair)? != cx.head_dim()? / 2 {
                return Err(cx.bad_value(name, x, format!("f32 over an axis of {} pairs", cx.head_dim()? / 2)));
            }
            *axis = Some(pair);
        }
        if axes[0] == axes[1] {
            return Ok(());
        }
        let columns = cx.value(LEARNED[1], learned[1])?;
        Err(cx.bad_value(LEARNED[1], columns, format!("a value over the same pairs as `{}`", LEARNED[0])))
    }
}
