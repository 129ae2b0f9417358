//! The crate's `unsafe`: memory that machine code runs from, works in and is pointed at.
//!
//! - `Code` owns machine code; it is written first and executable after, never both at once.
//! - `Workspace` is aligned scratch memory, kept warm in a `Pool`; for tests with inaccessible pages around each buffer (`Guard`).
//! - `Span` and `SpanMut` are borrowed slices of one element type behind a raw pointer, so that views of foreign memory and views of
//!   slices are one thing. Reads and writes here check their index; compiled code relies on the layouts that views prove.
#![allow(unsafe_code, reason = "the one module that calls machine code and dereferences raw pointers")]

mod alloc;
mod code;
mod exec;
mod frame;
mod pages;
mod places;
mod pool;
mod raw;
mod span;
mod workspace;

pub use alloc::OutOfMemory;
pub use code::CodeError;
pub(crate) use code::{Code, Function};
pub use exec::LoadError;
pub(crate) use exec::Program;
pub(crate) use frame::{Constants, Frame};
#[cfg(not(feature = "guard-pages"))]
pub(crate) use places::Guard;
#[cfg(feature = "guard-pages")]
pub use places::Guard;
pub(crate) use pool::{Lease, Pool};
pub use span::{Element, OutputElement};
pub(crate) use span::{Span, SpanMut};
pub(crate) use workspace::Workspace;
