//! rhumb compiles attention operators for CPUs.

pub use rhumb_compiler as compiler;
pub use rhumb_ir as ir;
pub use rhumb_plugins as plugins;
pub use rhumb_runtime as runtime;

/// What most programs need.
pub mod prelude {
    pub use rhumb_compiler::{Stage, Target};
    pub use rhumb_ir::{Axis, Elem, Expr, Graph, GraphBuilder, Hook, Pairing, Verified};
    pub use rhumb_plugins::{
        Alibi, Attention, AttrKind, Batch, Causal, Chunked, Cx, Dilated, Documents, DynamicAlibi, Entry, KeyLengths,
        PositionScheme, PrefixLm, Registry, Rope, Rope2d, SchemeError, SchemeInfo, SlidingWindow,
    };
    pub use rhumb_runtime::{Engine, Kernel, TensorView, TensorViewMut};
}
