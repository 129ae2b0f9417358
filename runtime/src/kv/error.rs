//! Errors of caches of keys and values.

use std::fmt;

use rhumb_ir::{Elem, one_of};

use crate::error::CallError;
use crate::kv::id::SequenceId;
use crate::limits::PAGE_UNIT;
use crate::memory::OutOfMemory;

/// Which of the two a cache keeps of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvTensor {
    /// What queries are multiplied by.
    Keys,
    /// What is summed.
    Values,
}

impl fmt::Display for KvTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvTensor::Keys => "keys",
            KvTensor::Values => "values",
        })
    }
}

/// Why a cache of keys and values can't be, or refuses what it is asked for. A cache that refuses is as it was before.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// A size that can't be 0.
    #[error("{what} is 0; a cache has at least 1")]
    Zero {
        /// The size.
        what: &'static str,
    },
    /// Pages of an odd number of tokens.
    #[error("a page of {size} tokens; the number of tokens of a page is a multiple of {PAGE_UNIT}, and not 0")]
    PageSize {
        /// Tokens of a page.
        size: usize,
    },
    /// Pools that can't be counted.
    #[error("pools of shape {shape:?} have more elements than memory can hold; ask for fewer pages")]
    TooLarge {
        /// Pages, heads, tokens of a page, and elements of a head.
        shape: [usize; 4],
    },
    /// Memory could not be had.
    #[error("{bytes} bytes for a cache of keys and values could not be allocated; ask for fewer pages")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A handle of no sequence.
    #[error("there is no sequence {sequence}; it was freed, or is of another cache")]
    Stale {
        /// The handle.
        sequence: SequenceId,
    },
    /// A sequence twice in one batch.
    #[error("sequence {sequence} is twice in one batch; append all its tokens at once")]
    Repeated {
        /// The sequence.
        sequence: SequenceId,
    },
    /// Pages do not suffice.
    #[error(
        "{needed} pages are needed, but {free} of {pages} are free; free or evict sequences, or make a cache of more pages"
    )]
    OutOfPages {
        /// Pages that would be taken, those of copies among them.
        needed: usize,
        /// Pages that are free.
        free: usize,
        /// Pages of the cache.
        pages: usize,
    },
    /// New rows that don't fit.
    #[error(
        "new {tensor} have shape {found:?}, but are `[{heads}, tokens, {dim}]` in this cache: head, token, element of a head; `permute` and `select` give views of other layouts that shape"
    )]
    Shape {
        /// Keys or values.
        tensor: KvTensor,
        /// The shape given.
        found: Box<[usize]>,
        /// Heads of the cache.
        heads: usize,
        /// Elements of a head.
        dim: usize,
    },
    /// New rows of another element type.
    #[error("new {tensor} hold {found}, but the cache {expected}; convert them, or make a cache of {found}")]
    Elem {
        /// Keys or values.
        tensor: KvTensor,
        /// The element type given.
        found: Elem,
        /// That of the cache.
        expected: Elem,
    },
    /// New rows that are not quantised, nor of a type that can be.
    #[error(
        "new {tensor} hold {found}, and a cache of {expected} makes its rows of {}; give it one of these", one_of(Elem::FLOATS.map(Elem::name))
    )]
    Unquantised {
        /// Keys or values.
        tensor: KvTensor,
        /// The element type given.
        found: Elem,
        /// That of the cache.
        expected: Elem,
    },
    /// A number that the element type of a cache has no place for.
    #[error(
        "new {tensor} hold {found} at head {}, token {}, element {}, and rows of {expected} take {}; mend what makes it, or make a cache of f32",
        index[0], index[1], index[2], range_of(*expected)
    )]
    Number {
        /// Keys or values.
        tensor: KvTensor,
        /// Head, token among the new ones, and element.
        index: [usize; 3],
        /// The number.
        found: f64,
        /// The element type of the cache.
        expected: Elem,
    },
    /// What a cache does not keep.
    #[error("{tensor} of {elem} have no {what}; a cache of i8 has scales, and zero points where its builder is told")]
    NoScales {
        /// Scales or zero points.
        what: &'static str,
        /// Keys or values.
        tensor: KvTensor,
        /// The element type of the cache.
        elem: Elem,
    },
    /// Zero points of rows that are no integers.
    #[error("rows of {elem} have no zero points; make a cache of i8, or leave them out")]
    ZeroPoints {
        /// The element type of the cache.
        elem: Elem,
    },
    /// Keys and values that don't belong together.
    #[error("keys of {keys} tokens, but values of {values}; give both of each token")]
    Tokens {
        /// Tokens of the keys.
        keys: usize,
        /// Tokens of the values.
        values: usize,
    },
    /// More tokens than indices can count.
    #[error("{more} tokens behind the {len} of the sequence; positions are 32-bit, so {} is the most", i32::MAX)]
    TooLong {
        /// Tokens of the sequence.
        len: usize,
        /// Tokens to append.
        more: usize,
    },
    /// A position that is not in the sequence.
    #[error(
        "there is no position {position} in the sequence, which keeps the tokens from {first} up to {len}; give a position from {first} to {len}"
    )]
    Position {
        /// The position.
        position: usize,
        /// Position of the first token that is kept.
        first: usize,
        /// Position of the next token.
        len: usize,
    },
    /// An input of a kernel for new keys that is not of as many tokens.
    #[error(
        "input `{input}` has {found} tokens in dimension {dim}, but there are {expected} new keys; bind one for each"
    )]
    InputTokens {
        /// The input.
        input: Box<str>,
        /// The dimension of tokens.
        dim: usize,
        /// Its size.
        found: usize,
        /// Number of new keys.
        expected: usize,
    },
    /// A kernel for new keys that counts them from the first of a call.
    #[error(
        "the kernel counts new keys from the first of a call, which has those of one page alone; tell it where they stand, by `q_offset_input` or `k_positions`"
    )]
    Counted,
    /// A kernel for new keys that goes by how many of them a call has.
    #[error(
        "the kernel goes by the number of keys of a call, which has those of one page alone; tell it the length of the sequence, by `length_input`"
    )]
    ByLength,
    /// The kernel for new keys refused the call.
    #[error(transparent)]
    Call(Box<CallError>),
}

rhumb_ir::debug_as_display!(KvError);

/// The numbers that rows of an element type are made of.
fn range_of(elem: Elem) -> String {
    match elem.greatest().filter(|_| elem.is_input_only()) {
        Some(most) => format!("finite numbers, up to {most}"),
        None => "finite numbers".to_owned(),
    }
}

impl From<OutOfMemory> for KvError {
    fn from(OutOfMemory { bytes }: OutOfMemory) -> KvError {
        KvError::OutOfMemory { bytes }
    }
}
