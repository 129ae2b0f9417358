//! What 2D RoPE is written as: what a registry tells of it, and its options from attributes and to them.

use rhumb_ir::{Attr, Attrs, Pairing};

use super::super::rope::{PAIRING, PAIRINGS};
use super::options::{Bands, Coordinates, GIVEN, LEARNED, Layout, Order, Rope2d};
use crate::attrs::{AttrInfo, AttrKind, AttrReader};
use crate::error::SchemeError;
use crate::registry::SchemeInfo;

const LAYOUTS: &[(&str, Layout)] =
    &[("blocks", Layout::Blocks), ("alternating", Layout::Alternating), ("split", Layout::Split)];
const ORDERS: &[(&str, Order)] = &[("yx", Order::Yx), ("xy", Order::Xy)];
const BANDS: &[(&str, Bands)] = &[("shared", Bands::Shared), ("alternating", Bands::Alternating)];
const COORDINATES: &[(&str, Coordinates)] =
    &[("index", Coordinates::Index), ("centres", Coordinates::Centres), ("corners", Coordinates::Corners)];
pub(super) const INFO: SchemeInfo = SchemeInfo {
    name: "rope2d",
    summary: "half of the pairs turn with the row of a patch, half with its column",
    formula: "pairs of x turn by y base^(-j/n) and x base^(-j/n), n = D/4",
    attributes: &[
        AttrInfo::new("bands", AttrKind::Name(&["shared", "alternating"]), "shared", "frequencies of the two axes"),
        AttrInfo::new("base", AttrKind::Float, "10000", "base of the frequencies"),
        AttrInfo::new(
            "coordinates",
            AttrKind::Name(&["index", "centres", "corners"]),
            "index",
            "i, 2 (i + 1/2) / n - 1, or 2 i / (n - 1) - 1",
        ),
        AttrInfo::new("frequencies", AttrKind::List, "from base", "radians per unit of each of the n pairs of an axis"),
        AttrInfo::new("height", AttrKind::IntOrValue, "", "rows of the grid; or give q_y, q_x, k_y and k_x"),
        AttrInfo::new("index_offset", AttrKind::Float, "0", "added to indices"),
        AttrInfo::new("k_x", AttrKind::Value, "from the grid", "column of each key, i32 or f32"),
        AttrInfo::new("k_y", AttrKind::Value, "from the grid", "row of each key, i32 or f32"),
        AttrInfo::new(
            "layout",
            AttrKind::Name(&["blocks", "alternating", "split"]),
            "blocks",
            "pairs of an axis: one half, every second, or those within one half of the elements",
        ),
        AttrInfo::new("order", AttrKind::Name(&["yx", "xy"]), "yx", "rows or columns first"),
        PAIRING,
        AttrInfo::new("prefix", AttrKind::Int, "0", "tokens before the grid, which are not rotated"),
        AttrInfo::new("q_x", AttrKind::Value, "from the grid", "column of each query, i32 or f32"),
        AttrInfo::new("q_y", AttrKind::Value, "from the grid", "row of each query, i32 or f32"),
        AttrInfo::new(
            "reference",
            AttrKind::List,
            "none",
            "[rows, columns] of the grid that coordinates are scaled to",
        ),
        AttrInfo::new("repeat", AttrKind::Int, "1", "how often the grid comes"),
        AttrInfo::new("scale", AttrKind::Float, "1", "factor on all angles"),
        AttrInfo::new("width", AttrKind::IntOrValue, "", "columns of the grid"),
        AttrInfo::new(
            "x_frequencies",
            AttrKind::Value,
            "none",
            "learned radians per column, over pairs and maybe heads",
        ),
        AttrInfo::new("y_frequencies", AttrKind::Value, "none", "learned radians per row, over pairs and maybe heads"),
    ],
};

impl Rope2d {
    /// The options that attributes tell.
    pub(super) fn read(attrs: AttrReader<'_>) -> Result<Rope2d, SchemeError> {
        let learned = match (attrs.value(LEARNED[0])?, attrs.value(LEARNED[1])?) {
            (Some(y), Some(x)) => Some([y, x]),
            (None, None) => None,
            (y, _) => {
                let name = if y.is_none() { LEARNED[0] } else { LEARNED[1] };
                let expected = "learned frequencies of both axes".to_owned();
                return Err(SchemeError::AttrMissing { name: name.to_owned(), expected });
            }
        };
        let mut given = [None; 4];
        for (slot, name) in given.iter_mut().zip(GIVEN) {
            *slot = attrs.value(name)?;
        }
        Ok(Rope2d {
            base: attrs.float("base")?.unwrap_or(10_000.0),
            pairing: attrs.name("pairing", PAIRINGS)?.unwrap_or(Pairing::Half),
            layout: attrs.name("layout", LAYOUTS)?.unwrap_or_default(),
            order: attrs.name("order", ORDERS)?.unwrap_or_default(),
            bands: attrs.name("bands", BANDS)?.unwrap_or_default(),
            scale: attrs.float("scale")?.unwrap_or(1.0),
            frequencies: attrs.list("frequencies")?.map(<[f64]>::to_vec),
            learned,
            height: attrs.int_or_value("height")?,
            width: attrs.int_or_value("width")?,
            prefix: attrs.int("prefix")?.unwrap_or(0),
            repeat: attrs.int("repeat")?.unwrap_or(1),
            coordinates: attrs.name("coordinates", COORDINATES)?.unwrap_or_default(),
            index_offset: attrs.float("index_offset")?.unwrap_or(0.0),
            reference: attrs.list("reference")?.map(<[f64]>::to_vec),
            given,
        })
    }

    /// The options that are not as they are by themselves.
    pub(super) fn written(&self) -> Attrs {
        let plain = Rope2d::bare();
        let mut attrs = Attrs::new();
        let mut set = |name: &str, differs: bool, attr: Attr| {
            if differs {
                attrs.insert(name.to_owned(), attr);
            }
        };
        set("base", self.base != plain.base, Attr::Float(self.base));
        set("pairing", self.pairing != plain.pairing, name_of(PAIRINGS, &self.pairing));
        set("layout", self.layout != plain.layout, name_of(LAYOUTS, &self.layout));
        set("order", self.order != plain.order, name_of(ORDERS, &self.order));
        set("bands", self.bands != plain.bands, name_of(BANDS, &self.bands));
        set("scale", self.scale != plain.scale, Attr::Float(self.scale));
        set("prefix", self.prefix != plain.prefix, Attr::Int(self.prefix));
        set("repeat", self.repeat != plain.repeat, Attr::Int(self.repeat));
        set("coordinates", self.coordinates != plain.coordinates, name_of(COORDINATES, &self.coordinates));
        set("index_offset", self.index_offset != plain.index_offset, Attr::Float(self.index_offset));
        for (name, size) in [("height", self.height), ("width", self.width)] {
            attrs.extend(size.map(|size| (name.to_owned(), size.attr())));
        }
        for (name, list) in [("frequencies", &self.frequencies), ("reference", &self.reference)] {
            attrs.extend(list.clone().map(|list| (name.to_owned(), Attr::List(list))));
        }
        for (name, value) in GIVEN.into_iter().zip(self.given) {
            attrs.extend(value.map(|value| (name.to_owned(), Attr::Value(value))));
        }
        for (name, value) in LEARNED.into_iter().zip(self.learned.into_iter().flatten()) {
            attrs.insert(name.to_owned(), Attr::Value(value));
        }
        attrs
    }
}

/// The text of an enum attribute.
fn name_of<T: PartialEq>(choices: &[(&str, T)], x: &T) -> Attr {
    Attr::Str(choices.iter().find(|(_, choice)| choice == x).map_or("", |(name, _)| name).to_owned())
}
