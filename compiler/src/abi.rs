//! The contract of generated code and runtime: what lies where in the memory that they share.
//!
//! Every function is called as `fn(frame: *const u64, scratch: *mut u8)`. The **frame** is read by all threads of a call: the lengths of
//! the graph's axes, the addresses and strides of the plan's tensors ([`FrameLayout`]). The **scratch memory** belongs to one thread
//! ([`ScratchLayout`]): what the function is called for, what query tiles keep, and the constants of vector code. Code takes the offsets
//! of fields from the types here, and the runtime fills the fields.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

pub use crate::machine::{LANE_BYTES, MOST_LANES};

/// The call record of a function of the tile kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TileCall {
    /// First query of the tile, counted with the heads that are packed.
    pub first_query: u64,
    /// Number of queries.
    pub queries: u64,
    /// First key of the key tile; of a decode kernel, of successive key tiles whose rows lie at even distances.
    pub first_key: u64,
    /// End of the keys of the key tile, or of the key tiles.
    pub end_key: u64,
    /// Offset of the query tile's state in the scratch memory.
    pub state: u64,
    /// First key of the key tile that comes next, after all those of the call.
    pub next_key: u64,
    /// End of the keys of the key tile that comes next.
    pub next_end: u64,
    /// Whether keys and values are thought to come from memory and not from a cache: 0 if not.
    pub far: u64,
    /// Address of the key tile's first row of keys, its element 0, for each product of the score; what others hold is not read.
    pub keys: [u64; MOST_PRODUCTS],
    /// Address of the key tile's first row of values of the first reduction, its element 0; not read where there is none.
    pub values: u64,
    /// As `keys`, of the key tile that comes next.
    pub next_keys: [u64; MOST_PRODUCTS],
    /// As `values`, of the key tile that comes next.
    pub next_values: u64,
    /// Share of that key tile that is prefetched, in parts of [`SHARES`]: from.
    pub share_from: u64,
    /// As `share_from`: to.
    pub share_to: u64,
    /// Written by the scan of values ([`Role::Scan`](crate::codegen::Role::Scan)): 0 if all values of the key tile are finite.
    pub not_finite: u64,
    /// As `values`, of the reductions after the first.
    pub more_values: [u64; MOST_REDUCTIONS - 1],
    /// As `next_values`, of the reductions after the first.
    pub more_next_values: [u64; MOST_REDUCTIONS - 1],
}

impl TileCall {
    /// The addresses of a reduction's values: of the key tile, and of the one that comes next.
    ///
    /// # Panics
    /// If it is not less than [`MOST_REDUCTIONS`].
    pub fn values_mut(&mut self, reduction: usize) -> (&mut u64, &mut u64) {
        match reduction.checked_sub(1) {
            None => (&mut self.values, &mut self.next_values),
            Some(more) => (&mut self.more_values[more], &mut self.more_next_values[more]),
        }
    }

    /// The offset of the address of a product's keys.
    pub(crate) fn keys_of(product: usize) -> usize {
        offset_of!(TileCall, keys) + WORD_BYTES * product
    }

    /// As [`TileCall::keys_of`], of the key tile that comes next.
    pub(crate) fn next_keys_of(product: usize) -> usize {
        offset_of!(TileCall, next_keys) + WORD_BYTES * product
    }

    /// The offset of the address of a reduction's values.
    pub(crate) fn values_of(reduction: usize) -> usize {
        match reduction.checked_sub(1) {
            None => offset_of!(TileCall, values),
            Some(more) => offset_of!(TileCall, more_values) + WORD_BYTES * more,
        }
    }

    /// As [`TileCall::values_of`], of the key tile that comes next.
    pub(crate) fn next_values_of(reduction: usize) -> usize {
        match reduction.checked_sub(1) {
            None => offset_of!(TileCall, next_values),
            Some(more) => offset_of!(TileCall, more_next_values) + WORD_BYTES * more,
        }
    }
}

/// The call record of a function that makes a table: iterations of its outermost loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TableCall {
    /// The first.
    pub first: u64,
    /// The end of them.
    pub end: u64,
}

/// What a key tile's hinges of the score have in common, in the scratch memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct HingeTile {
    /// The first query, counted from that of the call record, of those that tell which hinges bend.
    pub first_query: u64,
    /// The end of them.
    pub end_query: u64,
    /// Written by code: bytes of the units that bend.
    pub bent: u64,
    /// Written by code: the slope of the line that all others are.
    pub rise: f32,
    /// Written by code: where that line starts.
    pub start: f32,
}

/// A hinge of the score, `weight max(slope x + shift, other)`, in the scratch memory of a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HingeUnit {
    /// The factor of `x`.
    pub slope: f32,
    /// What is added to it.
    pub shift: f32,
    /// What it is compared with.
    pub other: f32,
    /// The factor of the greater of both.
    pub weight: f32,
    /// As `other`; NaN where `rise`, `start` or `level` is too large, or not finite.
    pub bound: f32,
    /// `weight slope`.
    pub rise: f64,
    /// `weight shift`.
    pub start: f64,
    /// `weight other`.
    pub level: f64,
}

/// The most products of queries and keys that a score sums up.
pub const MOST_PRODUCTS: usize = 4;

/// The most reductions of one pass over keys: sums of values that the same scores weigh.
pub const MOST_REDUCTIONS: usize = 3;

/// Shares of a key tile that is prefetched are counted in parts of this number, a power of 2.
pub const SHARES: usize = 256;

/// Bytes of each constant of vector code: the constant, repeated to the widest vector.
pub const CONSTANT_BYTES: usize = MOST_LANES * LANE_BYTES;

/// Bytes of a word of the frame and of the records of calls: an address, a length, an index.
pub const WORD_BYTES: usize = size_of::<u64>();

/// Words of the frame: the length of each axis, then for each tensor its address and its strides in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// Word of the address of each tensor, and the end of all: the first follows the lengths of the axes.
    tensors: Vec<usize>,
}

impl FrameLayout {
    /// The frame of some axes and of tensors with some numbers of dimensions.
    pub(crate) fn new(axes: usize, ranks: impl Iterator<Item = usize>) -> FrameLayout {
        let mut tensors = vec![axes];
        let mut end = axes;
        for rank in ranks {
            end += 1 + rank;
            tensors.push(end);
        }
        FrameLayout { tensors }
    }

    /// The words of the lengths of the axes, in order.
    pub fn lengths(&self) -> std::ops::Range<usize> {
        0..self.tensors[0]
    }

    /// The word of a tensor's address.
    pub fn address(&self, tensor: usize) -> usize {
        self.tensors[tensor]
    }

    /// The words of a tensor's strides, in the order of its dimensions.
    pub fn strides(&self, tensor: usize) -> std::ops::Range<usize> {
        self.tensors[tensor] + 1..self.tensors[tensor + 1]
    }

    /// The number of words.
    pub fn words(&self) -> usize {
        self.tensors[self.tensors.len() - 1]
    }
}

/// Byte offsets into the scratch memory of a thread.
///
/// What a query tile keeps from key tile to key tile is its state; the memory holds the states of several, one after the other. All parts
/// of a state hold rows of 4 bytes for each query, so that one that begins some queries later is that of the queries from there on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScratchLayout {
    /// Index along each outer axis: one word each.
    pub outer: usize,
    /// The call record: a [`TileCall`], or a [`TableCall`].
    pub call: usize,
    /// Scores and weights: `[keys][queries]` in prefill, `[queries][keys]` in decode.
    pub scores: usize,
    /// Maximum of each query with the current key tile.
    pub tile_maxima: usize,
    /// The factor of each query's accumulators when its base grows.
    pub rescale: usize,
    /// In prefill. The positions of queries that a vector of distances is computed for: 32 bits each.
    pub distance_lanes: usize,
    /// In prefill. Values of the score by the distance of query and key, from the greatest distance of the key tile's last key down.
    pub distances: usize,
    /// In prefill. Bytes from one such value to the next.
    pub distance_bytes: usize,
    /// In prefill. Values of the score by the distance of a run of queries and a run of keys, after a vector that may hold anything.
    pub runs: usize,
    /// In prefill. Bytes from one such value to the next.
    pub run_bytes: usize,
    /// In prefill. The same values for each pair of the key tile: `[keys][queries]`.
    pub pairs: usize,
    /// In prefill. Bytes from one such value to the next.
    pub pair_bytes: usize,
    /// In prefill. Hinges of the score: a [`HingeTile`], the [`HingeUnit`] of each, and the numbers of those that bend within the key tile.
    pub hinges: usize,
    /// In decode. Index of each key of the key tile, clamped to its last: 32 bits each.
    pub key_lanes: usize,
    /// In decode. Key terms of the key tile for one row, where they are computed for it: the high parts, then the low ones.
    pub key_terms: usize,
    /// In decode. Rows of keys that are computed, or copied where they are not contiguous: `[keys][elements of all products]`. Before the
    /// attention, what tables of angles are made of.
    pub key_rows: usize,
    /// As `key_rows`, of values.
    pub value_rows: usize,
    /// In decode. Scales of rows of keys that are stored in fewer bits, then what is added to their elements before: one of each for each
    /// key, of each such product.
    pub key_numbers: usize,
    /// As `key_numbers`, of values.
    pub value_numbers: usize,
    /// In prefill. Rows of keys and values that are computed for each key tile, those of one tensor after those of another: `[keys][elements]`,
    /// each row up to the end of a vector.
    pub loaded_rows: usize,
    /// In decode. The scales of weights that are integers, one of each query.
    pub weight_scales: usize,
    /// In decode. Whether weights of a query are not integers though others may be: not 0 then, 32 bits each.
    pub odd_weights: usize,
    /// The first state.
    pub states: usize,
    /// Bytes from one state to the next.
    pub state_bytes: usize,
    /// In the state. Queries: `[dim][queries]` in prefill, `[queries][dim]` in decode.
    pub queries: usize,
    /// In the state. Output accumulators: `[value dim][queries]` in prefill, `[queries][value dim]` in decode.
    pub accumulators: usize,
    /// In the state. What scores are measured from: a maximum of each query so far, 0 as long as there is none.
    pub bases: usize,
    /// In the state. From here on a score makes for a new base.
    pub limits: usize,
    /// In the state. Running sum of each query.
    pub sums: usize,
    /// In the state. The negated reference of each query's key terms, where there are such; not negated until all keys are looked at.
    pub references: usize,
    /// In the state. Squared norm of each query, where keys may be pruned.
    pub squares: usize,
    /// In the state. Position of each query, clamped to the last: 32 bits each.
    pub lanes: usize,
    /// In the state, in decode. Queries as pairs of integers of 16 bits: `[queries][pairs]`.
    pub query_pairs: usize,
    /// In the state, in decode. The scale of each such query: NaN where it is multiplied in single precision.
    pub query_scales: usize,
    /// Constants of vector code: the last part, 64 bytes for each.
    pub constants: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_frame_follow_one_another() {
        let layout = FrameLayout::new(3, [2, 0, 4].into_iter());
        assert_eq!(layout.lengths(), 0..3);
        assert_eq!([0, 1, 2].map(|tensor| layout.address(tensor)), [3, 6, 7]);
        assert_eq!([0, 1, 2].map(|tensor| layout.strides(tensor)), [4..6, 7..7, 8..12]);
        assert_eq!(layout.words(), 12);
    }
}
