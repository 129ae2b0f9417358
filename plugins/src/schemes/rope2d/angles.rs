//! Coordinates of tokens, and the angles that pairs turn by.

use rhumb_ir::{Axis, Elem, Expr};

use super::options::{Bands, Coordinates, GIVEN, LEARNED, Layout, Order, Rope2d};
use crate::attrs::IntOrValue;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

impl Rope2d {
    /// Row and column of each token on one side: 0 for tokens outside the grid.
    pub(super) fn coordinates_of<'g>(
        &self,
        cx: &SchemeContext<'g>,
        given: usize,
        index: Expr<'g>,
    ) -> Result<[Expr<'g>; 2], SchemeError> {
        if let (Some(y), Some(x)) = (self.given()[given], self.given()[given + 1]) {
            return Ok([cx.value(GIVEN[given], y)?, cx.value(GIVEN[given + 1], x)?]);
        }
        let (Some(rows), Some(columns)) = (self.height, self.width) else { return Err(missing("height")) };
        let (height, width) = (cx.int_or_value("height", rows)?, cx.int_or_value("width", columns)?);
        let token = if self.prefix == 0 { index } else { index - self.prefix as i32 };
        let patches = |times: u32| match (rows, columns) {
            // At most `i32::MAX`, by `check_grid`.
            (IntOrValue::Int(rows), IntOrValue::Int(columns)) => cx.int(rows * columns * times as i32),
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
        let reference = |i: usize| self.reference.map(|reference| reference[i]);
        Ok([coordinate(patch / width, height, reference(0)), coordinate(patch % width, width, reference(1))])
    }

    pub(super) fn rotate<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        [row, column]: [Expr<'g>; 2],
    ) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.dim_axis();
        if let [Some(rows), Some(columns)] = self.learned_values() {
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
pub(super) fn pair_axis(cx: &SchemeContext<'_>, name: &str, frequencies: Expr<'_>) -> Result<Axis, SchemeError> {
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

/// The error for a grid without its sizes.
pub(super) fn missing(name: &str) -> SchemeError {
    let expected = "`height` and `width` of the grid, or `q_y`, `q_x`, `k_y` and `k_x`".to_owned();
    SchemeError::AttrMissing { name: name.to_owned(), expected }
}
