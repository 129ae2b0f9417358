//! The runtime of rhumb: tensor views, engines, kernels and the memory their code lives in, and caches of keys and values.
//!
//! ```
//! use rhumb_plugins::{Attention, Causal, Rope};
//! use rhumb_runtime::{Engine, TensorView, TensorViewMut};
//!
//! // 8 query heads on 2 key/value heads.
//! let graph = Attention::heads(8).head_dim(32).kv_heads(2).scheme(Rope::new()).scheme(Causal).build()?;
//! let engine = Engine::host()?;
//! let kernel = engine.compile(&graph)?;
//!
//! let (tokens, past) = (10, 50);
//! let q = vec![0.1f32; 8 * tokens * 32];
//! let (k, v) = (vec![0.2f32; 2 * past * 32], vec![0.3f32; 2 * past * 32]);
//! let mut out = vec![0.0f32; 8 * tokens * 32];
//! kernel
//!     .call()
//!     .input("q", TensorView::from_slice(&q, &[1, 8, tokens, 32])?)
//!     .input("k", TensorView::from_slice(&k, &[1, 2, past, 32])?)
//!     .input("v", TensorView::from_slice(&v, &[1, 2, past, 32])?)
//!     .output("out", TensorViewMut::from_slice(&mut out, &[1, 8, tokens, 32])?)
//!     .run()?;
//! assert!(out.iter().all(|x| (x - 0.3).abs() < 1e-6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`KvCache`] keeps the keys and values of many sequences in pages. New ones are appended, rotated by a kernel of their own if they
//! are to be, and a [`PagedView`] is what it holds of a sequence.
//!
//! Invariants:
//! - Every call is checked by one validator, [`Interface`]'s, before any compiled code runs; the interpreted [`Reference`] goes through
//!   the same. A refused call has written nothing.
//! - Compiled code sees only addresses, strides and lengths that views have proved.
//! - Which thread computes what never changes a result.
//! - All memory of a call is there before its first function runs: what is written is written whole.
//! - A refused operation on a cache has changed nothing that can be seen, and no page that several sequences have is written.
//! - `unsafe` is in the module `memory` alone, and no memory is writable and executable at once.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod batch;
mod cache;
mod call;
mod element;
mod engine;
mod error;
mod error_bound;
mod float8;
mod interface;
mod kernel;
mod kv;
mod layout;
mod limits;
mod memory;
mod merge;
mod overlap;
mod owned;
mod program;
mod recycle;
mod reference;
mod threads;
mod tile_map;
mod tiles;
mod view;

pub use batch::{BatchError, BatchedCall, CallBatch};
pub use cache::CacheStats;
pub use call::{Call, Operator};
pub use element::{Element, OutputElement};
pub use engine::{Engine, EngineBuilder, EngineError};
pub use error::{CallError, Direction, FirstUse, FirstUseError, Grouping, InterfaceError, ViewError};
pub use error_bound::ErrorBound;
pub use float8::f8e4m3;
/// Floats of 16 bits, of the crate `half`: what tensors of [`Elem::F16`](rhumb_ir::Elem::F16) and [`Elem::Bf16`](rhumb_ir::Elem::Bf16) hold.
pub use half::{bf16, f16};
pub use interface::{Interface, Port};
pub use kernel::{Kernel, KernelError};
pub use kv::{Append, KvCache, KvCacheBuilder, KvError, KvTensor, SequenceId};
pub use limits::{MAX_RANK, PAGE_UNIT};
#[cfg(feature = "guard-pages")]
pub use memory::Guard;
pub use memory::{CodeError, LoadError, OutOfMemory};
pub use merge::{MergeError, Partial, Whose, merge_partials};
pub use owned::OwnedTensor;
pub use reference::Reference;
pub use threads::ThreadPool;
pub use tile_map::{KeyTile, KeyTileClass, QueryTileRow, TileMap, TileUnit};
pub use view::{InputView, PagedView, PagedViewError, TensorView, TensorViewMut};
