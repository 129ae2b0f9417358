//! What 2D RoPE can be: the scheme and its options.

use rhumb_ir::{Expr, Pairing, Value};

use crate::attrs::IntOrValue;

/// Axial rotary position embedding of patches: see the [module](super).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope2d {
    pub(super) base: f64,
    pub(super) pairing: Pairing,
    pub(super) layout: Layout,
    pub(super) order: Order,
    pub(super) bands: Bands,
    pub(super) scale: f64,
    pub(super) frequencies: Option<Vec<f64>>,
    pub(super) learned: Option<[Value; 2]>,
    pub(super) height: Option<IntOrValue>,
    pub(super) width: Option<IntOrValue>,
    pub(super) prefix: i64,
    pub(super) repeat: i64,
    pub(super) coordinates: Coordinates,
    pub(super) index_offset: f64,
    pub(super) reference: Option<Vec<f64>>,
    pub(super) given: [Option<Value>; 4],
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

/// The value attributes of explicit coordinates, in the order of `Rope2d::given`.
pub(super) const GIVEN: [&str; 4] = ["q_y", "q_x", "k_y", "k_x"];
/// The value attributes of learned frequencies.
pub(super) const LEARNED: [&str; 2] = ["y_frequencies", "x_frequencies"];

impl Rope2d {
    /// A grid of `height` rows and `width` columns of patches: numbers, or `i32` values that each call tells.
    pub fn grid(height: impl Into<IntOrValue>, width: impl Into<IntOrValue>) -> Rope2d {
        Rope2d { height: Some(height.into()), width: Some(width.into()), ..Rope2d::bare() }
    }

    /// Coordinates outright, `i32` or `f32`: row and column of each query, over the query axis, and of each key, over the key axis.
    pub fn at(q_y: Expr<'_>, q_x: Expr<'_>, k_y: Expr<'_>, k_x: Expr<'_>) -> Rope2d {
        Rope2d { given: [q_y, q_x, k_y, k_x].map(|x| Some(x.value())), ..Rope2d::bare() }
    }

    pub(super) fn bare() -> Rope2d {
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
}
