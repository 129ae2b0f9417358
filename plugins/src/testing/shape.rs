//! Sizes and positions that schemes are tried at.

/// Sizes of an attention that a scheme is tried at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Queries; their indices are those of the last keys.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
}

impl Shape {
    pub(super) fn first_query(&self) -> i64 {
        self.keys as i64 - self.queries as i64
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / f64::from(self.head_dim).sqrt()
    }
}

/// The position of a token: no index, spread out in one sequence, and backwards in the other, so that neither a difference nor an order
/// of positions is that of the indices.
pub(super) fn position(batch: usize, index: i64) -> i64 {
    if batch == 0 { 3 * index + 5 } else { 7 - 4 * index }
}
