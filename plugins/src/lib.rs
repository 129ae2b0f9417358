//! rhumb plugins.

pub mod schemes;
pub mod testing;

mod attention;
mod attrs;
mod error;
mod lower;
mod registry;
mod scheme;

pub use attention::{Attention, AttentionParts, Batch, BuildError};
pub use attrs::{AttrInfo, AttrKind, AttrReader, IntOrValue, required};
pub use error::SchemeError;
pub use lower::{LowerError, lower};
pub use registry::{Entry, Registry, RegistryError, SchemeInfo};
pub use scheme::{Cx, PositionScheme};
pub use schemes::{
    Alibi, AlibiForm, Causal, Chunked, Dilated, Documents, DynamicAlibi, KeyLengths, PrefixLm, Rope, Rope2d,
    SlidingWindow,
};
