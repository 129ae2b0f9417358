//! The usual attention graph, by standard names.
//!
//! `options` says what an attention consists of, `build` makes the graph of it by the `steps`, and `parts` has its pieces, for graphs of one's own.

mod build;
mod cached;
mod error;
mod options;
mod parts;
mod quantised;
mod steps;

pub use error::BuildError;
pub use options::{Attention, Batch, Heads};
pub use parts::AttentionParts;
pub use quantised::Scales;
