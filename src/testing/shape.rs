//! Sizes and positions that schemes are tried at.

use std::fmt;

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

/// Which positions tokens have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Inputs, which are nothing like the indices and differ between the sequences of the batch.
    Given,
    /// The indices of the tokens, as in an attention that is given no positions.
    Indices,
}

/// What a scheme is tried at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) shape: Shape,
    pub(super) positions: Positions,
}

/// Sequences of the batch.
pub(super) const BATCH: usize = 2;

const fn shape(heads: u32, kv_heads: u32, head_dim: u32, queries: usize, keys: usize) -> Shape {
    Shape { heads, kv_heads, head_dim, queries, keys }
}

/// Heads that are powers of two and not, that share keys and that do not; one query, odd numbers of tokens, more queries than keys, nothing at
/// all, long rows, several tiles. What is compiled depends on heads and elements alone: four graphs.
pub(super) const SHAPES: [Shape; 9] = [
    shape(3, 3, 8, 1, 1),
    shape(3, 3, 8, 5, 5),
    shape(3, 3, 8, 0, 3),
    shape(8, 2, 16, 7, 13),
    shape(8, 2, 16, 4, 3),
    shape(8, 2, 16, 3, 0),
    shape(12, 4, 8, 1, 9),
    shape(12, 4, 8, 2, 700),
    shape(6, 1, 24, 38, 131),
];

impl Shape {
    /// The number of queries, keys and heads in which a query and a key can change places.
    pub(super) fn square(&self) -> Shape {
        let tokens = self.queries.max(self.keys);
        Shape { kv_heads: self.heads, queries: tokens, keys: tokens, ..*self }
    }

    /// The same with another number of heads, of which as many share keys where that goes.
    pub(super) fn with_heads(&self, heads: u32) -> Shape {
        let shared = self.heads / self.kv_heads.max(1);
        let kv_heads = if shared > 0 && heads.is_multiple_of(shared) { heads / shared } else { heads };
        Shape { heads, kv_heads, ..*self }
    }

    pub(super) fn first_query(&self) -> i64 {
        self.keys as i64 - self.queries as i64
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / f64::from(self.head_dim).sqrt()
    }

    /// The number of scores.
    pub(super) fn scores(&self) -> usize {
        BATCH * self.heads as usize * self.queries * self.keys
    }

    pub(super) fn query_shape(&self) -> [usize; 4] {
        [BATCH, self.heads as usize, self.queries, self.head_dim as usize]
    }

    pub(super) fn key_shape(&self) -> [usize; 4] {
        [BATCH, self.kv_heads as usize, self.keys, self.head_dim as usize]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { heads, kv_heads, head_dim, queries, keys } = self;
        write!(f, "heads {heads} on {kv_heads}, elements {head_dim}, queries {queries}, keys {keys}")
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Positions::Given => "positions unlike indices",
            Positions::Indices => "positions that are the indices",
        })
    }
}

impl Trial {
    /// The position of a token. Those that are given are no indices, spread out in one sequence, and backwards in the other, so that neither
    /// a difference nor an order of positions is that of the indices.
    pub(super) fn position(&self, batch: usize, index: i64) -> i64 {
        match (self.positions, batch) {
            (Positions::Indices, _) => index,
            (Positions::Given, 0) => 3 * index + 5,
            (Positions::Given, _) => 7 - 4 * index,
        }
    }
}
