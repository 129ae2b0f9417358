//! Parts of the state of a query tile.

/// A part of the state of a query tile that is read and written here too: a number for each query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bases,
    Limits,
    Sums,
    References,
    Squares,
}
