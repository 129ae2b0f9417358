//! The key tiles that a query tile sees, by intervals of the mask's tables over ranges of keys, which are halved until they are decided.
//!
//! Trees have the intervals of a call, classes what they say of a query tile at one outer index: the segments of keys that some query
//! sees, cut into key tiles, without those that have no weight.

mod bounds;
mod classify;
mod cut;
mod key_tiles;
mod lists;
mod prune;
mod segment;
mod tree;

pub(crate) use classify::{Classes, Classifier, Queries};
pub(crate) use key_tiles::KeyTiles;
pub(crate) use lists::{Lists, Room};
pub(crate) use segment::{Segment, take_tile};
pub(crate) use tree::Trees;
