//! Attributes of schemes: what is declared of each, and which types of Rust stand for them.

mod info;
mod range;
mod types;

pub use info::{AttrInfo, AttrKind};
pub use range::AttrRange;
pub use types::{AttrType, Choice, IntOrValue, ListOrValue};

pub(crate) use info::{attr_text, attr_words};
pub(crate) use types::same_bits;
