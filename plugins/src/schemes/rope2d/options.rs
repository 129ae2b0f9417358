//! What 2D RoPE can be: the scheme and its options.

use rhumb_ir::{Expr, Pairing, Value};

use crate::attrs::{AttrRange, Choice, IntOrValue};

crate::scheme! {
    /// Half of the pairs turn with the row of a patch, half with its column.
    ///
    /// Axial rotary position embedding: see the [module](super).
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rope2d: "rope2d" at Query, Key = "pairs of x turn by y base^(-j/n) and x base^(-j/n), n = D/4" {
        /// Frequencies of the two axes.
        pub(super) bands: Bands = Bands::Shared,
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        pub(super) base: f64 = 10_000.0,
        /// What coordinate row or column i of n has: i, 2 (i + 1/2) / n - 1, or 2 i / (n - 1) - 1.
        pub(super) coordinates: Coordinates = Coordinates::Index,
        /// Radians per unit of each of the n pairs of an axis.
        #[default("from base")]
        pub(super) frequencies: Option<Vec<f64>> = None,
        /// Rows of the grid.
        #[range(1.., "a number of patches")]
        #[default("none, with q_y, q_x, k_y and k_x")]
        pub(super) height: Option<IntOrValue> = None,
        /// Added to indices.
        pub(super) index_offset: f64 = 0.0,
        /// Column of each key, i32 or f32.
        #[default("from the grid")]
        pub(super) k_x: Option<Value> = None,
        /// Row of each key, i32 or f32.
        #[default("from the grid")]
        pub(super) k_y: Option<Value> = None,
        /// Pairs of an axis: one half, every second, or those within one half of the elements.
        pub(super) layout: Layout = Layout::Blocks,
        /// Rows or columns first.
        pub(super) order: Order = Order::Yx,
        /// Pairs element j with j + R/2, or 2j with 2j + 1.
        pub(super) pairing: Pairing = Pairing::Half,
        /// Tokens before the grid, which are not rotated.
        #[range(..=i32::MAX, "a number of tokens")]
        pub(super) prefix: u32 = 0,
        /// Column of each query, i32 or f32.
        #[default("from the grid")]
        pub(super) q_x: Option<Value> = None,
        /// Row of each query, i32 or f32.
        #[default("from the grid")]
        pub(super) q_y: Option<Value> = None,
        /// [rows, columns] of the grid that coordinates are scaled to.
        #[range(AttrRange::above(0.0))]
        pub(super) reference: Option<[f64; 2]> = None,
        /// How often the grid comes.
        #[range(1..=i32::MAX, "a number of grids")]
        pub(super) repeat: u32 = 1,
        /// Factor on all angles.
        pub(super) scale: f64 = 1.0,
        /// Columns of the grid.
        #[range(1.., "a number of patches")]
        #[default("none, with q_y, q_x, k_y and k_x")]
        pub(super) width: Option<IntOrValue> = None,
        /// Learned radians per column, over pairs and maybe heads.
        pub(super) x_frequencies: Option<Value> = None,
        /// Learned radians per row, over pairs and maybe heads.
        pub(super) y_frequencies: Option<Value> = None,
    }
}

/// Which pairs of the head turn with which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The first half of the pairs with the first axis, the second half with the second.
    Blocks,
    /// Pairs by turns: first axis, second axis, first, second.
    Alternating,
    /// The first half of the *elements* with the first axis, and the second half with the second: pairs stay within their half.
    Split,
}

impl Choice for Layout {
    const NAMES: &'static [(&'static str, Layout)] =
        &[("blocks", Layout::Blocks), ("alternating", Layout::Alternating), ("split", Layout::Split)];
}

/// Which axis comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Rows first.
    Yx,
    /// Columns first.
    Xy,
}

impl Choice for Order {
    const NAMES: &'static [(&'static str, Order)] = &[("yx", Order::Yx), ("xy", Order::Xy)];
}

/// How the frequencies are dealt to the two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bands {
    /// Both axes have `base^(-j / n)`.
    Shared,
    /// Of `base^(-i / 2n)`, the first axis has the even ones, the second the odd ones (Pixtral).
    Alternating,
}

impl Choice for Bands {
    const NAMES: &'static [(&'static str, Bands)] = &[("shared", Bands::Shared), ("alternating", Bands::Alternating)];
}

/// What coordinate a row or column of a grid of `n` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// Its index `i`, plus the index offset; times `reference / n` where a reference grid is given.
    Index,
    /// Its centre in -1 to 1: `2 (i + 1/2) / n - 1`.
    Centres,
    /// -1 for the first to 1 for the last: `2 i / (n - 1) - 1`.
    Corners,
}

impl Choice for Coordinates {
    const NAMES: &'static [(&'static str, Coordinates)] =
        &[("index", Coordinates::Index), ("centres", Coordinates::Centres), ("corners", Coordinates::Corners)];
}

/// The value attributes of explicit coordinates: of queries, then of keys.
pub(super) const GIVEN: [&str; 4] = ["q_y", "q_x", "k_y", "k_x"];
/// The value attributes of learned frequencies.
pub(super) const LEARNED: [&str; 2] = ["y_frequencies", "x_frequencies"];

impl Rope2d {
    /// A grid of `height` rows and `width` columns of patches: numbers, or `i32` values that each call tells.
    pub fn grid(height: impl Into<IntOrValue>, width: impl Into<IntOrValue>) -> Rope2d {
        Rope2d { height: Some(height.into()), width: Some(width.into()), ..Rope2d::default() }
    }

    /// Coordinates outright, `i32` or `f32`: row and column of each query, over the query axis, and of each key, over the key axis.
    pub fn at(q_y: Expr<'_>, q_x: Expr<'_>, k_y: Expr<'_>, k_x: Expr<'_>) -> Rope2d {
        let [q_y, q_x, k_y, k_x] = [q_y, q_x, k_y, k_x].map(|x| Some(x.value()));
        Rope2d { q_y, q_x, k_y, k_x, ..Rope2d::default() }
    }

    /// The coordinates that are given, in the order of `GIVEN`.
    pub(super) fn given(&self) -> [Option<Value>; 4] {
        [self.q_y, self.q_x, self.k_y, self.k_x]
    }

    /// The frequencies that are learned, in the order of `LEARNED`.
    pub(super) fn learned_values(&self) -> [Option<Value>; 2] {
        [self.y_frequencies, self.x_frequencies]
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
        Rope2d { y_frequencies: Some(y_frequencies.value()), x_frequencies: Some(x_frequencies.value()), ..self }
    }

    /// Tokens before the grid, such as class and register tokens, which are not rotated.
    #[must_use]
    pub fn prefix(self, tokens: u32) -> Rope2d {
        Rope2d { prefix: tokens, ..self }
    }

    /// How often the grid comes, one after the other.
    #[must_use]
    pub fn repeat(self, times: u32) -> Rope2d {
        Rope2d { repeat: times, ..self }
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
        Rope2d { reference: Some([rows, columns]), ..self }
    }
}
