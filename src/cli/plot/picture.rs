//! What is drawn, whatever it is drawn on.

use rhumb::runtime::{KeyTileClass, TileMap};

/// A picture.
#[derive(Clone, Debug)]
pub(super) enum Picture {
    Curves(Curves),
    Map(Map),
    Tiles(Tiles),
}

/// Curves over one axis.
#[derive(Clone, Debug)]
pub(super) struct Curves {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) curves: Vec<Curve>,
}

/// A curve; a point that is not finite is a gap.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Numbers over rows and columns; one that is not finite is hidden.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) title: String,
    /// What the numbers are.
    pub(super) of: &'static str,
    /// What rows and columns are.
    pub(super) axes: [&'static str; 2],
    /// The first row and column.
    pub(super) first: [usize; 2],
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f64>,
    /// A row and a column that are marked.
    pub(super) marked: Option<[usize; 2]>,
}

/// The tiles of one attention of a call.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    pub(super) title: String,
    pub(super) map: TileMap,
    /// Which of its attentions.
    pub(super) unit: usize,
}

/// The finite ones of some numbers: least and greatest, apart from one another; `None` if there are none.
pub(super) fn range(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = numbers.filter(|x| x.is_finite());
    let (least, most) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let room = 1e-9 * least.abs().max(most.abs()).max(1e-3);
    match most - least {
        span if span > room => Some((least, most)),
        span if span >= 0.0 => Some((least - 1.0, most + 1.0)),
        _ => None,
    }
}

impl Curves {
    /// What curves go from and to: along the axis, and the greatest and least of them with some room.
    pub(super) fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let (least, most) = range(points().map(|point| point.1)).unwrap_or((-1.0, 1.0));
        let room = 0.04 * (most - least);
        (range(points().map(|point| point.0)).unwrap_or((0.0, 1.0)), (least - room, most + room))
    }
}

impl Curve {
    /// The runs of finite points.
    pub(super) fn runs(&self) -> impl Iterator<Item = &[(f64, f64)]> {
        self.points.split(|point| !point.1.is_finite()).filter(|run| !run.is_empty())
    }
}

impl Map {
    /// A number; NaN where there is none.
    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.values.get(row * self.shape[1] + column).copied().unwrap_or(f64::NAN)
    }

    /// The least and the greatest number.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        range(self.values.iter().copied())
    }
}

impl Picture {
    /// The numbers of the picture, if it is of numbers.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Picture::Curves(curves) => {
                Some(curves.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).collect())
            }
            Picture::Map(map) => Some(map.values.clone()),
            Picture::Tiles(_) => None,
        }
    }
}

impl Tiles {
    /// A class with its count and its share of pairs, over all attentions of the call.
    pub(super) fn legend(&self, class: KeyTileClass) -> String {
        format!("{class} {} ({:.1} %)", self.map.count(class), 100.0 * self.map.share(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_some_width() {
        assert_eq!(range([1.0, f64::NAN, 3.0, f64::NEG_INFINITY].into_iter()), Some((1.0, 3.0)));
        assert_eq!(range([2.0, 2.0].into_iter()), Some((1.0, 3.0)));
        assert_eq!(range([f64::NAN].into_iter()), None);
        let wide = range([-f64::MAX, f64::MAX].into_iter());
        assert!(wide.is_none_or(|(least, most)| least < most));
    }

    #[test]
    fn curves_break_where_there_is_no_number() {
        let points = [1.0, f64::NEG_INFINITY, 2.0, 3.0].into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect();
        let curve = Curve { label: String::new(), points };
        assert_eq!(curve.runs().map(<[_]>::len).collect::<Vec<_>>(), [1, 2]);
    }
}
