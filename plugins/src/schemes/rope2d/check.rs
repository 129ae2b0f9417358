//! Which attributes go together, and with which attention.

use rhumb_ir::{Elem, Value};

use super::super::rope::{check_frequencies, check_positions, clash};
use super::angles::{missing, pair_axis};
use super::options::{Bands, Coordinates, GIVEN, LEARNED, Layout, Order, Rope2d};
use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

impl Rope2d {
    pub(super) fn check_all(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let head_dim = cx.head_dim()?;
        if head_dim % 4 != 0 {
            return Err(SchemeError::RotaryDim {
                what: "the head dimension".to_owned(),
                found: i64::from(head_dim),
                expected: "a multiple of 4, for pairs of two axes".to_owned(),
            });
        }
        if !(self.base > 0.0 && self.base.is_finite()) {
            return Err(SchemeError::range("base", self.base, "a finite number above 0"));
        }
        if !self.scale.is_finite() {
            return Err(SchemeError::range("scale", self.scale, "a finite number"));
        }
        if let Some(list) = &self.frequencies {
            check_frequencies("frequencies", list, head_dim / 4)?;
            if self.base != 10_000.0 {
                return Err(clash("frequencies", "base"));
            }
            if self.bands != Bands::Shared {
                return Err(clash("frequencies", "bands"));
            }
        }
        if let Some(learned) = self.learned {
            self.check_learned(cx, learned)?;
        }
        if self.given.iter().any(Option::is_some) { self.check_given(cx) } else { self.check_grid(cx) }
    }

    fn check_grid(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let mut patches = Some(self.repeat);
        for (name, size) in [("height", self.height), ("width", self.width)] {
            match size {
                None => return Err(missing(name)),
                Some(IntOrValue::Int(n)) if !(1..=i64::from(i32::MAX)).contains(&n) => {
                    return Err(SchemeError::range(name, n, format!("a number of patches from 1 to {}", i32::MAX)));
                }
                Some(IntOrValue::Int(n)) => patches = patches.and_then(|patches| patches.checked_mul(n)),
                Some(size) => {
                    let axes = [cx.query_axis(), cx.key_axis(), cx.dim_axis()];
                    cx.free_of(name, cx.int_or_value(name, size)?, &axes)?;
                }
            }
        }
        if !(0..=i64::from(i32::MAX)).contains(&self.prefix) {
            return Err(SchemeError::range(
                "prefix",
                self.prefix,
                format!("a number of tokens from 0 to {}", i32::MAX),
            ));
        }
        if self.repeat < 1 {
            return Err(SchemeError::range("repeat", self.repeat, "a number of grids from 1"));
        }
        if patches.is_none_or(|patches| patches > i64::from(i32::MAX)) {
            let grid = |size| if let Some(IntOrValue::Int(n)) = size { n.to_string() } else { "?".to_owned() };
            let what =
                format!("a grid of {} x {} patches, {} times,", grid(self.height), grid(self.width), self.repeat);
            let (message, hint) = (format!("{what} is too large"), format!("use at most {} patches in all", i32::MAX));
            return Err(SchemeError::other(message, hint));
        }
        if !self.index_offset.is_finite() {
            return Err(SchemeError::range("index_offset", self.index_offset, "a finite number"));
        }
        if let Some(list) = &self.reference {
            if self.coordinates != Coordinates::Index {
                return Err(clash("reference", "coordinates"));
            }
            if list.len() != 2 || !list.iter().all(|n| *n > 0.0 && n.is_finite()) {
                return Err(SchemeError::range("reference", format!("{list:?}"), "two finite numbers above 0"));
            }
        }
        if self.coordinates != Coordinates::Index && self.index_offset != 0.0 {
            return Err(clash("index_offset", "coordinates"));
        }
        Ok(())
    }

    /// Checks coordinates that are given outright: all four, and nothing that is of the grid.
    fn check_given(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let of_grid = [
            ("height", self.height.is_some()),
            ("width", self.width.is_some()),
            ("prefix", self.prefix != 0),
            ("repeat", self.repeat != 1),
            ("coordinates", self.coordinates != Coordinates::Index),
            ("index_offset", self.index_offset != 0.0),
            ("reference", self.reference.is_some()),
        ];
        for (i, name) in GIVEN.into_iter().enumerate() {
            if self.given[i].is_none() {
                let expected = "row and column of queries and of keys".to_owned();
                return Err(SchemeError::AttrMissing { name: name.to_owned(), expected });
            }
            let other = if i < 2 { cx.key_axis() } else { cx.query_axis() };
            check_positions(cx, name, self.given[i], other)?;
        }
        match of_grid.into_iter().find(|(_, set)| *set) {
            Some((name, _)) => Err(clash(GIVEN[0], name)),
            None => Ok(()),
        }
    }

    fn check_learned(&self, cx: &SchemeContext<'_>, learned: [Value; 2]) -> Result<(), SchemeError> {
        let own = [
            ("base", self.base != 10_000.0),
            ("frequencies", self.frequencies.is_some()),
            ("bands", self.bands != Bands::Shared),
            ("layout", self.layout != Layout::Blocks),
            ("order", self.order != Order::Yx),
        ];
        if let Some((name, _)) = own.into_iter().find(|(_, set)| *set) {
            return Err(clash(LEARNED[0], name));
        }
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
