//! The runtime of rhumb: tensor views, engines, kernels and the memory their code lives in.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod cache;
mod call;
mod classify;
mod error;
mod interface;
mod layout;
mod memory;
mod overlap;
mod reference;
mod threads;
mod view;

pub use cache::CacheStats;
pub use call::Call;
pub use error::{CallError, Direction, Grouping, InterfaceError, ViewError};
pub use interface::{Interface, Port};
pub use layout::MAX_RANK;
pub use memory::{CodeError, Element, OutOfMemory, OutputElement};
pub use reference::Reference;
pub use view::{TensorView, TensorViewMut};
