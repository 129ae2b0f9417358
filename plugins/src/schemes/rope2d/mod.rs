//! 2D RoPE for images: a part of the pairs turns with the row of a patch, the rest with its column.
//!
//! With `D` elements per head, `n = D / 4` frequencies per axis, `theta_j = base^(-j / n)`, and `(y, x)` the coordinates of a token:
//! one axis' pairs turn by `y theta_j`, the other's by `x theta_j`. Sources: EVA-02 (arXiv 2303.11331), RoPE-ViT (2403.13298), Qwen2-VL
//! (2409.12191), Pixtral (2410.07073), DINOv3 (2508.10104), SAM 2 (2408.00714).
//!
//! Coordinates come from a patch grid of `height` rows and `width` columns, in row order by token index; or outright, as values. Tokens
//! before the grid (`prefix`: class and register tokens) and after it are not rotated. With `repeat` the grid comes several times, as
//! the memory frames of SAM 2.
//!
//! How models differ, with what to set:
//!
//! | model | attributes beside the grid |
//! |---|---|
//! | EVA-02 | `pairing = "interleaved"`, `reference = [16, 16]`, `prefix = 1` |
//! | Pixtral | `bands = "alternating"`; `pairing = "interleaved"` for the weights of `mistral-inference` |
//! | Qwen2-VL vision | positions as values: its tokens are not in row order |
//! | Llama 4 vision | `pairing = "interleaved"`, `order = "xy"`, `index_offset = 1`; its class token is the last |
//! | DINOv3 | `base = 100`, `coordinates = "centres"`, `scale = 2 pi`, `prefix = 5` |
//! | SAM 2, RoPE-ViT axial | `pairing = "interleaved"`, `order = "xy"`; `repeat` in SAM 2 |
//! | Gemma 4 vision | `base = 100`, `layout = "split"` |
//! | timm, pixel bands | `pairing = "interleaved"`, `coordinates = "corners"`, `frequencies` |
//! | RoPE-Mixed, LightGlue | `y_frequencies` and `x_frequencies`, learned |
//! | latitude and longitude | positions as `f32` values |
//!
//! ```text
//! %q_out = scheme rope2d.query %q @0 {height = 14, prefix = 1, width = 14} : f32[h, q, d]
//! %k_out = scheme rope2d.key %k @0 {height = 14, prefix = 1, width = 14} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = const 14 : i32
//! %6 = const 1 : i32
//! %7 = sub %i, %6 : i32[q]
//! %8 = const 196 : i32
//! %9 = const 0 : i32
//! %10 = ge %7, %9 : bool[q]
//! %11 = lt %7, %8 : bool[q]
//! %12 = and %10, %11 : bool[q]
//! %13 = div %7, %5 : i32[q]
//! %14 = cast %13 to f32 : f32[q]
//! %15 = const 0.0 : f32
//! %16 = select %12, %14, %15 : f32[q]
//! %17 = mod %7, %5 : i32[q]
//! %18 = cast %17 to f32 : f32[q]
//! %19 = const 0.0 : f32
//! %20 = select %12, %18, %19 : f32[q]
//! %21 = table [1.0, 0.01, 0.0, 0.0] : f32[pair]
//! %22 = mul %16, %21 : f32[q, pair]
//! %23 = table [0.0, 0.0, 1.0, 0.01] : f32[pair]
//! %24 = mul %20, %23 : f32[q, pair]
//! %25 = add %22, %24 : f32[q, pair]
//! %q_out = rotate %q over d by %25 over pair half : f32[h, q, d]
//! %27 = const 14 : i32
//! %28 = const 1 : i32
//! %29 = sub %j, %28 : i32[k]
//! %30 = const 196 : i32
//! %31 = const 0 : i32
//! %32 = ge %29, %31 : bool[k]
//! %33 = lt %29, %30 : bool[k]
//! %34 = and %32, %33 : bool[k]
//! %35 = div %29, %27 : i32[k]
//! %36 = cast %35 to f32 : f32[k]
//! %37 = const 0.0 : f32
//! %38 = select %34, %36, %37 : f32[k]
//! %39 = mod %29, %27 : i32[k]
//! %40 = cast %39 to f32 : f32[k]
//! %41 = const 0.0 : f32
//! %42 = select %34, %40, %41 : f32[k]
//! %43 = mul %38, %21 : f32[k, pair]
//! %44 = mul %42, %23 : f32[k, pair]
//! %45 = add %43, %44 : f32[k, pair]
//! %k_out = rotate %k over d by %45 over pair half : f32[h, k, d]
//! ```

mod check;

use rhumb_ir::{Attr, Attrs, Axis, Elem, Expr, Hook, Pairing, Value};

use super::rope::{PAIRING, PAIRINGS};
use crate::attrs::{AttrInfo, AttrKind, AttrReader, IntOrValue};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{Cx, PositionScheme};

/// Axial rotary position embedding of patches: see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope2d {
    base: f64,
    pairing: Pairing,
    layout: Layout,
    order: Order,
    bands: Bands,
    scale: f64,
    frequencies: Option<Vec<f64>>,
    learned: Option<[Value; 2]>,
    height: Option<IntOrValue>,
    width: Option<IntOrValue>,
    prefix: i64,
    repeat: i64,
    coordinates: Coordinates,
    index_offset: f64,
    reference: Option<Vec<f64>>,
    given: [Option<Value>; 4],
}

/// Which pairs of the head turn with which axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The first half of the pairs with the first axis, the second half with the second.
    #[default]
    Blocks,
    /// Pairs by turns: first axis, second axis, first, second.
    Alternating,
    /// The first half of the *elements* with the first axis, and the second half with the second: pairs stay within their half.
    Split,
}

/// Which axis comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Rows first.
    #[default]
    Yx,
    /// Columns first.
    Xy,
}

/// How the frequencies are dealt to the two axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bands {
    /// Both axes have `base^(-j / n)`.
    #[default]
    Shared,
    /// Of `base^(-i / 2n)`, the first axis has the even ones, the second the odd ones (Pixtral).
    Alternating,
}

/// What coordinate a row or column of a grid of `n` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coordinates {
    /// Its index `i`, plus the index offset; times `reference / n` where a reference grid is given.
    #[default]
    Index,
    /// Its centre in -1 to 1: `2 (i + 1/2) / n - 1`.
    Centres,
    /// -1 for the first to 1 for the last: `2 i / (n - 1) - 1`.
    Corners,
}

const LAYOUTS: &[(&str, Layout)] =
    &[("blocks", Layout::Blocks), ("alternating", Layout::Alternating), ("split", Layout::Split)];
const ORDERS: &[(&str, Order)] = &[("yx", Order::Yx), ("xy", Order::Xy)];
const BANDS: &[(&str, Bands)] = &[("shared", Bands::Shared), ("alternating", Bands::Alternating)];
const COORDINATES: &[(&str, Coordinates)] =
    &[("index", Coordinates::Index), ("centres", Coordinates::Centres), ("corners", Coordinates::Corners)];
/// The value attributes of explicit coordinates, in the order of [`Rope2d::given`].
const GIVEN: [&str; 4] = ["q_y", "q_x", "k_y", "k_x"];
const LEARNED: [&str; 2] = ["y_frequencies", "x_frequencies"];

const INFO: SchemeInfo = SchemeInfo {
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

pub(super) fn entry() -> Entry {
    Entry::new(INFO, Rope2d::read)
}

impl Rope2d {
    /// A grid of `height` rows and `width` columns of patches: numbers, or `i32` values that each call tells.
    pub fn grid(height: impl Into<IntOrValue>, width: impl Into<IntOrValue>) -> Rope2d {
        Rope2d { height: Some(height.into()), width: Some(width.into()), ..Rope2d::bare() }
    }

    /// Coordinates outright, `i32` or `f32`: row and column of each query, over the query axis, and of each key, over the key axis.
    pub fn at(q_y: Expr<'_>, q_x: Expr<'_>, k_y: Expr<'_>, k_x: Expr<'_>) -> Rope2d {
        Rope2d { given: [q_y, q_x, k_y, k_x].map(|x| Some(x.value())), ..Rope2d::bare() }
    }

    fn bare() -> Rope2d {
        Rope2d {
            base: 10_000.0,
            pairing: Pairing::Half,
            layout: Layout::Blocks,
            order: Order::Yx,
            bands: Bands::Shared,
            scale: 1.0,
            frequencies: None,
            learned: None,
            height: None,
            width: None,
            prefix: 0,
            repeat: 1,
            coordinates: Coordinates::Index,
            index_offset: 0.0,
            reference: None,
            given: [None; 4],
        }
    }

    /// The base of the frequencies: finite, above 0.
    #[must_use]
    pub fn base(self, base: f64) -> Rope2d {
        Rope2d { base, ..self }
    }

    /// Pairs neighbours, `2j` with `2j + 1`.
    #[must_use]
    pub fn interleaved(self) -> Rope2d {
        self.pairing(Pairing::Interleaved)
    }

    /// Which elements pair up.
    #[must_use]
    pub fn pairing(self, pairing: Pairing) -> Rope2d {
        Rope2d { pairing, ..self }
    }

    /// Which pairs turn with which axis.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Rope2d {
        Rope2d { layout, ..self }
    }

    /// Which axis comes first.
    #[must_use]
    pub fn order(self, order: Order) -> Rope2d {
        Rope2d { order, ..self }
    }

    /// How the frequencies are dealt to the two axes.
    #[must_use]
    pub fn bands(self, bands: Bands) -> Rope2d {
        Rope2d { bands, ..self }
    }

    /// A factor on all angles.
    #[must_use]
    pub fn scale(self, scale: f64) -> Rope2d {
        Rope2d { scale, ..self }
    }

    /// Radians per unit of each of the `head_dim / 4` pairs of an axis, in place of powers of the base.
    #[must_use]
    pub fn frequencies(self, frequencies: impl Into<Vec<f64>>) -> Rope2d {
        Rope2d { frequencies: Some(frequencies.into()), ..self }
    }

    /// Learned frequencies, `f32` over an axis of `head_dim / 2` pairs and maybe the heads: the angle is `y fy + x fx`.
    #[must_use]
    pub fn learned(self, y_frequencies: Expr<'_>, x_frequencies: Expr<'_>) -> Rope2d {
        Rope2d { learned: Some([y_frequencies.value(), x_frequencies.value()]), ..self }
    }

    /// Tokens before the grid, such as class and register tokens, which are not rotated.
    #[must_use]
    pub fn prefix(self, tokens: u32) -> Rope2d {
        Rope2d { prefix: i64::from(tokens), ..self }
    }

    /// How often the grid comes, one after the other.
    #[must_use]
    pub fn repeat(self, times: u32) -> Rope2d {
        Rope2d { repeat: i64::from(times), ..self }
    }

    /// What coordinate a row or a column has.
    #[must_use]
    pub fn coordinates(self, coordinates: Coordinates) -> Rope2d {
        Rope2d { coordinates, ..self }
    }

    /// Added to indices of rows and columns.
    #[must_use]
    pub fn index_offset(self, offset: f64) -> Rope2d {
        Rope2d { index_offset: offset, ..self }
    }

    /// Scales coordinates to those of a grid of `rows` and `columns`, the one that was trained on: `i / n * reference`.
    #[must_use]
    pub fn reference(self, rows: f64, columns: f64) -> Rope2d {
        Rope2d { reference: Some(vec![rows, columns]), ..self }
    }

    fn read(attrs: AttrReader<'_>) -> Result<Rope2d, SchemeError> {
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

    /// Row and column of each token on one side: 0 for tokens outside the grid.
    fn coordinates_of<'g>(&self, cx: &Cx<'g>, given: usize, index: Expr<'g>) -> Result<[Expr<'g>; 2], SchemeError> {
        if let (Some(y), Some(x)) = (self.given[given], self.given[given + 1]) {
            return Ok([cx.value(GIVEN[given], y)?, cx.value(GIVEN[given + 1], x)?]);
        }
        let (Some(rows), Some(columns)) = (self.height, self.width) else { return Err(missing("height")) };
        let (height, width) = (cx.int_or_value("height", rows)?, cx.int_or_value("width", columns)?);
        let token = if self.prefix == 0 { index } else { index - self.prefix as i32 };
        let patches = |times: i64| match (rows, columns) {
            // At most `i32::MAX`, by `check_grid`.
            (IntOrValue::Int(rows), IntOrValue::Int(columns)) => cx.int((rows * columns * times) as i32),
            _ if times == 1 => height * width,
            _ => height * width * times as i32,
        };
        let patch = if self.repeat == 1 { token } else { token % patches(1) };
        let all = patches(self.repeat);
        let inside = token.ge(0) & token.lt(all);
        let coordinate = |index: Expr<'g>, n: Expr<'g>, reference: Option<f64>| {
            let coordinate = match self.coordinates {
                Coordinates::Index => {
                    let moved = if self.index_offset == 0.0 { index } else { index + self.index_offset };
                    reference.map_or(moved, |reference| moved.cast(Elem::F32) / n * reference)
                }
                Coordinates::Centres => (index * 2 + 1).cast(Elem::F32) / n - 1.0,
                // A grid of one row has it at -1.
                Coordinates::Corners => (index * 2).cast(Elem::F32) / (n - 1).max(1) - 1.0,
            };
            inside.select(coordinate.cast(Elem::F32), 0.0)
        };
        let reference = |i: usize| self.reference.as_ref().and_then(|list| list.get(i).copied());
        Ok([coordinate(patch / width, height, reference(0)), coordinate(patch % width, width, reference(1))])
    }

    fn rotate<'g>(&self, cx: &Cx<'g>, x: Expr<'g>, [row, column]: [Expr<'g>; 2]) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.dim_axis();
        if let Some([rows, columns]) = self.learned {
            let (rows, columns) = (cx.value(LEARNED[0], rows)?, cx.value(LEARNED[1], columns)?);
            let angle = row * rows + column * columns;
            let angle = if self.scale == 1.0 { angle } else { angle * self.scale };
            return Ok(x.rotate(angle, dim, pair_axis(cx, LEARNED[0], rows)?, self.pairing, 0));
        }
        let n = cx.head_dim()? / 4;
        let [first, second] = match self.order {
            Order::Yx => [row, column],
            Order::Xy => [column, row],
        };
        let (of_first, of_second) = self.thetas(n);
        if self.layout == Layout::Split {
            let pair = cx.axis("pair", n);
            let x = x.rotate(first * cx.table(&[pair], of_first), dim, pair, self.pairing, 0);
            return Ok(x.rotate(second * cx.table(&[pair], of_second), dim, pair, self.pairing, 2 * n));
        }
        // Each axis has frequency 0 in the pairs of the other.
        let place = |list: &[f64], shift: usize| {
            let mut all = vec![0.0; 2 * n as usize];
            for (j, theta) in list.iter().enumerate() {
                let pair = if self.layout == Layout::Blocks { j + shift * n as usize } else { 2 * j + shift };
                all[pair] = *theta;
            }
            all
        };
        let pair = cx.axis("pair", 2 * n);
        let angle = first * cx.table(&[pair], place(&of_first, 0)) + second * cx.table(&[pair], place(&of_second, 1));
        Ok(x.rotate(angle, dim, pair, self.pairing, 0))
    }

    /// Radians per unit of the `n` pairs of the first and of the second axis.
    fn thetas(&self, n: u32) -> (Vec<f64>, Vec<f64>) {
        if let Some(list) = &self.frequencies {
            let list: Vec<f64> = list.iter().map(|theta| theta * self.scale).collect();
            return (list.clone(), list);
        }
        let power = |exponent: f64| self.base.powf(-exponent / f64::from(n)) * self.scale;
        let list = |shift: f64| (0..n).map(|j| power(f64::from(j) + shift)).collect();
        (list(0.0), list(if self.bands == Bands::Alternating { 0.5 } else { 0.0 }))
    }
}

/// The axis of pairs of learned frequencies: the one that is not the heads'.
fn pair_axis(cx: &Cx<'_>, name: &str, frequencies: Expr<'_>) -> Result<Axis, SchemeError> {
    let axes = frequencies.ty().axes;
    let axes = cx.site().head.map_or(axes, |head| axes.without(head));
    let mut axes = axes.iter();
    match (axes.next(), axes.next()) {
        (Some(pair), None) => Ok(pair),
        _ => {
            let expected = "a value over one axis of pairs, and maybe the heads".to_owned();
            let count = frequencies.ty().axes.len();
            Err(SchemeError::AttrValue { name: name.to_owned(), found: format!("over {count} axes"), expected })
        }
    }
}

fn missing(name: &str) -> SchemeError {
    let expected = "`height` and `width` of the grid, or `q_y`, `q_x`, `k_y` and `k_x`".to_owned();
    SchemeError::AttrMissing { name: name.to_owned(), expected }
}

/// The text of an enum attribute.
fn name_of<T: PartialEq>(choices: &[(&str, T)], x: &T) -> Attr {
    Attr::Str(choices.iter().find(|(_, choice)| choice == x).map_or("", |(name, _)| name).to_owned())
}

impl PositionScheme for Rope2d {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Query, Hook::Key]
    }

    fn attributes(&self) -> Attrs {
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

    fn check(&self, cx: &Cx<'_>) -> Result<(), SchemeError> {
        self.check_all(cx)
    }

    fn query<'g>(&self, cx: &Cx<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let coordinates = self.coordinates_of(cx, 0, cx.q_index())?;
        self.rotate(cx, x, coordinates)
    }

    fn key<'g>(&self, cx: &Cx<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let coordinates = self.coordinates_of(cx, 2, cx.k_index())?;
        self.rotate(cx, x, coordinates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("mod.rs"), 8, |_| Box::new(Rope2d::grid(14, 14).prefix(1)));
    }
}
