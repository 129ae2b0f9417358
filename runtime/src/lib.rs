//! The runtime of rhumb: tensor views, engines, kernels and the memory their code lives in.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod cache;
mod call;
mod classify;
mod engine;
mod error;
mod interface;
mod kernel;
mod layout;
mod memory;
mod overlap;
mod reference;
mod threads;
mod view;

pub use cache::CacheStats;
pub use call::Call;
pub use engine::{Engine, EngineBuilder, EngineError};
pub use error::{CallError, Direction, Grouping, InterfaceError, ViewError};
pub use interface::{Interface, Port};
pub use kernel::{Kernel, KernelError};
pub use layout::MAX_RANK;
pub use memory::{CodeError, Element, LoadError, OutOfMemory, OutputElement};
pub use reference::Reference;
pub use view::{TensorView, TensorViewMut};
