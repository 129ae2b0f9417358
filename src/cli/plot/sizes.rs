//! Sizes and ranges on the command line.

use std::fmt;
use std::str::FromStr;

/// The farthest distance.
const FARTHEST: i64 = 1 << 20;

/// Distances of a query from its keys: first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distances {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Patches of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// A patch of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Pixels of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Two numbers with a sign between them.
fn pair<T: FromStr>(text: &str, sign: &str) -> Option<(T, T)> {
    let (a, b) = text.split_once(sign)?;
    Some((a.trim().parse().ok()?, b.trim().parse().ok()?))
}

impl FromStr for Distances {
    type Err = String;

    fn from_str(text: &str) -> Result<Distances, String> {
        let (from, to) = pair::<i64>(text, "..").ok_or("write two whole numbers, as in 0..128 or -64..64")?;
        if from >= to {
            return Err(format!("{from} is not less than {to}; give the lesser distance first"));
        }
        if from < -FARTHEST || to > FARTHEST {
            return Err(format!("distances go from -{FARTHEST} to {FARTHEST}"));
        }
        Ok(Distances { from, to })
    }
}

impl FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> Result<Grid, String> {
        let (rows, columns) = pair(text, "x").ok_or("write rows and columns, as in 14x14")?;
        if rows == 0 || columns == 0 {
            return Err("a grid has at least one row and one column".to_owned());
        }
        Ok(Grid { rows, columns })
    }
}

impl FromStr for Patch {
    type Err = String;

    fn from_str(text: &str) -> Result<Patch, String> {
        let (row, column) = pair(text, ",").ok_or("write a row and a column, counted from 0, as in 7,7")?;
        Ok(Patch { row, column })
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        const LEAST: (u32, u32) = (240, 160);
        const MOST: u32 = 8192;
        let (width, height) = pair(text, "x").ok_or("write width and height in pixels, as in 800x500")?;
        if width < LEAST.0 || height < LEAST.1 || width > MOST || height > MOST {
            let (least_width, least_height) = LEAST;
            return Err(format!("pictures have {least_width}x{least_height} to {MOST}x{MOST} pixels"));
        }
        Ok(Size { width, height })
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.row, self.column)
    }
}
