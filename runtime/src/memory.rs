//! The crate's `unsafe`: memory that machine code runs from, works in and is pointed at.
//!
//! - `Code` owns machine code; it is written first and executable after, never both at once.
//! - `Workspace` is aligned memory to work in; for tests with inaccessible pages around each buffer (`Guard`).
//! - `Span` and `SpanMut` are borrowed slices of one element type behind a raw pointer, so that views of foreign memory and views of
//!   slices are one thing. Reads and writes here check their index; compiled code relies on the layouts that views prove.
//! - `Loaded` is a plan with its code, `Frame` what code knows of a call, `Invocation` the two together. What threads share of it, each share
//!   taken once, are `TableTurns` and `Tasks`; these run code (`invoke`). What tasks of the same queries and other keys came to is kept in
//!   `Partials`, until the last of them ends the queries.
#![allow(unsafe_code, reason = "the one module that calls machine code and dereferences raw pointers")]

mod alloc;
mod chunks;
mod code;
mod copy;
mod frame;
mod hand_in;
mod invocation;
mod invoke;
mod load_error;
mod loaded;
mod outer;
mod paged;
mod pages;
mod part;
mod places;
mod raw;
mod shares;
mod span;
mod workspace;

pub use alloc::OutOfMemory;
pub(crate) use alloc::reserve;
pub(crate) use chunks::{Level, Partials, Records, chunks};
pub use code::CodeError;
#[cfg(test)]
pub(crate) use frame::tests::{planned, with_tables};
pub(crate) use frame::{Frame, Placed};
pub(crate) use invocation::Invocation;
pub(crate) use invoke::{Share, TileArgs};
pub use load_error::LoadError;
pub(crate) use loaded::{FunctionId, Loaded, places_of};
pub(crate) use outer::{Outer, query_tiles};
pub(crate) use part::Part;
#[cfg(not(feature = "guard-pages"))]
pub(crate) use places::Guard;
#[cfg(feature = "guard-pages")]
pub use places::Guard;
pub(crate) use places::Places;
pub(crate) use shares::{TableTurns, TaskRange, TaskTiles, Tasks};
pub(crate) use span::{Span, SpanMut};
pub(crate) use workspace::Workspace;
