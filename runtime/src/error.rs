//! Errors of views and calls.

use std::fmt;
use std::sync::Arc;

use rhumb_compiler::codegen::CodegenError;
use rhumb_compiler::error_bound::BoundError;
use rhumb_ir::{Elem, InterpError};

use crate::element::held_by;
use crate::limits::MAX_RANK;
use crate::memory::{LoadError, OutOfMemory};

/// A view that can't be.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// More dimensions than views have.
    #[error("a view has at most {MAX_RANK} dimensions, not {rank}; merge some")]
    TooManyDims {
        /// Number of dimensions asked for.
        rank: usize,
    },
    /// An element count that no memory holds.
    #[error("shape {shape:?} has more elements than memory can hold; check its sizes, which count elements")]
    Count {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Offsets that no memory has.
    #[error(
        "shape {shape:?} with strides {strides:?} spans more than memory can hold; check the strides, which count elements"
    )]
    Overflow {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
    /// A slice that is not as long as the shape wants.
    #[error(
        "shape {shape:?} has {expected} elements, the slice {found}; pass the tensor's elements alone, or strides that say where they are"
    )]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Its elements.
        expected: usize,
        /// The slice's elements.
        found: usize,
    },
    /// A stride too many or too few.
    #[error("shape {shape:?} has {} dimensions, strides {strides:?} have {}; give one stride per dimension", shape.len(), strides.len())]
    StrideCount {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
    /// Elements outside the slice.
    #[error(
        "shape {shape:?} with strides {strides:?} reaches elements {first} to {last} of a slice of {len}; check the strides, which count elements, or pass a longer slice"
    )]
    OutOfBounds {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
        /// The lowest element it would reach.
        first: i128,
        /// The highest.
        last: i128,
        /// The slice's elements.
        len: usize,
    },
    /// An output whose indices share elements.
    #[error(
        "strides {strides:?} put several elements of shape {shape:?} in one place; give an output strides that step over one another, none of them 0"
    )]
    Repeats {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
    /// Not an order of the dimensions.
    #[error("{order:?} is not an order of {rank} dimensions; name each from 0 to {} once", *rank as isize - 1)]
    Order {
        /// The number asked for.
        order: Vec<usize>,
        /// The view's number of dimensions.
        rank: usize,
    },
    /// A dimension that is not there.
    #[error("there is no dimension {dim} in a view of {rank}; the first is 0")]
    NoDim {
        /// The number asked for.
        dim: usize,
        /// The view's number of dimensions.
        rank: usize,
    },
    /// A window that is not inside the dimension.
    #[error("a window of {len} from {start} leaves dimension {dim}, which has {size}; shorten or move it")]
    Window {
        /// The dimension.
        dim: usize,
        /// The window's start.
        start: usize,
        /// The window's length.
        len: usize,
        /// The dimension's size.
        size: usize,
    },
    /// Offsets that do not cut a dimension.
    #[error(
        "offsets {offsets:?} do not cut dimension {dim}, which has {size}; give them in ascending order, none past the end"
    )]
    Offsets {
        /// The dimension.
        dim: usize,
        /// The offsets.
        offsets: Vec<usize>,
        /// The dimension's size.
        size: usize,
    },
    /// A null pointer.
    #[error("the pointer to the tensor's elements is null; pass the address of its first element")]
    Null,
    /// A pointer that is not aligned.
    #[error("the address {address:#x} is not aligned for {elem}; it must be a multiple of {}", elem.bytes())]
    Misaligned {
        /// The address.
        address: usize,
        /// The element type.
        elem: Elem,
    },
}

rhumb_ir::debug_as_display!(ViewError);

/// Whether a binding is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Read by the call.
    Input,
    /// Written by the call.
    Output,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Input => "input",
            Direction::Output => "output",
        })
    }
}

/// A graph whose tensors can't be bound.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// An axis whose length no tensor tells.
    #[error(
        "axis `{axis}` of graph `{graph}` is dynamic, but no input or output has it as a dimension to tell its length; give it a static length, or an input that has it"
    )]
    UnboundAxis {
        /// The graph.
        graph: String,
        /// The axis.
        axis: String,
    },
    /// A tensor of more dimensions than views have.
    #[error("{direction} `{name}` has {rank} dimensions, a view at most {MAX_RANK}; merge some")]
    TooManyDims {
        /// Input or output.
        direction: Direction,
        /// The tensor.
        name: String,
        /// Its number of dimensions.
        rank: usize,
    },
}

rhumb_ir::debug_as_display!(InterfaceError);

/// A call that can't be made. Nothing was run or written.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// A binding the graph does not have.
    #[error("there is no {direction} `{name}`{}", unknown_hint(*.direction, .suggestion.as_deref(), .known))]
    Unknown {
        /// Input or output.
        direction: Direction,
        /// What was bound.
        name: Box<str>,
        /// A name like it.
        suggestion: Option<Box<str>>,
        /// All there are.
        known: Box<[Box<str>]>,
    },
    /// An input bound as an output, or the other way round.
    #[error("`{name}` is an {is}; bind it with `.{is}(...)`")]
    Direction {
        /// What was bound.
        name: Box<str>,
        /// What it is.
        is: Direction,
    },
    /// A name bound twice.
    #[error("{direction} `{name}` is bound twice; bind it once")]
    Duplicate {
        /// Input or output.
        direction: Direction,
        /// The name.
        name: Box<str>,
    },
    /// A tensor that was not bound.
    #[error("{direction} `{name}` is not bound; add `.{direction}(\"{name}\", ...)` with a tensor {expected}")]
    Missing {
        /// Input or output.
        direction: Direction,
        /// The name.
        name: Box<str>,
        /// Its type, printed.
        expected: Box<str>,
    },
    /// A tensor of the wrong element type.
    #[error("{direction} `{name}` holds {found}, but the graph wants {expected}; {}", elem_hint(*.wanted))]
    Elem {
        /// Input or output.
        direction: Direction,
        /// The name.
        name: Box<str>,
        /// Its type, printed.
        expected: Box<str>,
        /// Its element type.
        wanted: Elem,
        /// The element type bound.
        found: Elem,
    },
    /// A tensor with too many or too few dimensions.
    #[error(
        "{direction} `{name}` has shape {found:?}, but the graph wants {rank} dimensions, {expected}; give one size per axis, 1 where there is but one"
    )]
    Rank {
        /// Input or output.
        direction: Direction,
        /// The name.
        name: Box<str>,
        /// Its type, printed.
        expected: Box<str>,
        /// Its number of dimensions.
        rank: usize,
        /// The shape bound.
        found: Box<[usize]>,
    },
    /// A dimension that is not as long as the graph says.
    #[error(
        "{direction} `{name}` has shape {shape:?}, but axis `{axis}` (dimension {dim} of {expected}) is {wanted} long in the graph; {}",
        extent_hint(.grouping.as_deref(), .order.as_deref())
    )]
    Extent {
        /// Input or output.
        direction: Direction,
        /// The name.
        name: Box<str>,
        /// Its type, printed.
        expected: Box<str>,
        /// The shape bound.
        shape: Box<[usize]>,
        /// The axis.
        axis: Box<str>,
        /// Its position in the shape.
        dim: usize,
        /// Its length in the graph.
        wanted: u32,
        /// The relation of the axis to another.
        grouping: Option<Box<Grouping>>,
        /// A permutation of the dimensions that would fit.
        order: Option<Box<[usize]>>,
    },
    /// Two tensors that disagree on an axis.
    #[error(
        "axis `{axis}` is {first_length} long in {first_direction} `{first}` (dimension {first_dim}) but {second_length} in {second_direction} `{second}` (dimension {second_dim}); bind tensors of one length, or narrow the longer"
    )]
    Clash {
        /// The axis.
        axis: Box<str>,
        /// Whether the first is an input.
        first_direction: Direction,
        /// The tensor that set the length.
        first: Box<str>,
        /// The axis' position in it.
        first_dim: usize,
        /// Its length there.
        first_length: usize,
        /// Whether the second is an input.
        second_direction: Direction,
        /// The tensor that disagrees.
        second: Box<str>,
        /// The axis' position in it.
        second_dim: usize,
        /// Its length there.
        second_length: usize,
    },
    /// An axis that indices can't count.
    #[error(
        "axis `{axis}` is {length} long in {direction} `{name}`; indices are 32-bit, so {} is the most: split it",
        i32::MAX
    )]
    TooLong {
        /// Input or output.
        direction: Direction,
        /// The tensor.
        name: Box<str>,
        /// The axis.
        axis: Box<str>,
        /// Its length.
        length: usize,
    },
    /// An output in memory that the call uses otherwise.
    #[error("output `{output}` shares memory with {other_direction} `{other}`; give it memory of its own")]
    Overlap {
        /// The output.
        output: Box<str>,
        /// Whether the other is read or written.
        other_direction: Direction,
        /// The other tensor.
        other: Box<str>,
    },
    /// The memory of the tables, which the kernel computes first, could not be had.
    #[error(
        "the tables of this call take {total} bytes, which could not be allocated; the largest, `{table}` of shape {shape:?}, takes {bytes}: bind shorter sequences, or fewer batches"
    )]
    Tables {
        /// Bytes of all tables, padding included.
        total: u128,
        /// The largest table.
        table: Box<str>,
        /// Its shape.
        shape: Box<[usize]>,
        /// Its bytes, padding included.
        bytes: u128,
    },
    /// Working memory could not be had.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The interpreter refused the graph or its sizes.
    #[error(transparent)]
    Reference(Box<InterpError>),
    /// The kernel for calls of few queries could not be made.
    #[error("the kernel for calls of few queries could not be made: {0}")]
    FirstUse(FirstUse),
    /// No bound on errors can be computed of these tensors.
    #[error(transparent)]
    ErrorBound(Box<BoundError>),
}

rhumb_ir::debug_as_display!(CallError);

/// Why a kernel could not be made when it was first called for.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FirstUseError {
    /// Code could not be generated.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// The machine code could not be put in memory.
    #[error(transparent)]
    Load(#[from] LoadError),
}

rhumb_ir::debug_as_display!(FirstUseError);

/// A [`FirstUseError`], the same for all calls that ask for the kernel.
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct FirstUse(pub Arc<FirstUseError>);

rhumb_ir::debug_as_display!(FirstUse);

impl PartialEq for FirstUse {
    fn eq(&self, other: &FirstUse) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The tie between an axis and one that groups it: `each` of `fine` share one of `coarse`, as query heads share key/value heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The axis of groups.
    pub coarse: String,
    /// The axis that is grouped.
    pub fine: String,
    /// Members of a group.
    pub each: u32,
}

fn unknown_hint(direction: Direction, suggestion: Option<&str>, known: &[Box<str>]) -> String {
    match (suggestion, known) {
        (Some(name), _) => format!("; did you mean `{name}`?"),
        (None, []) => format!("; the graph has no {direction}s"),
        (None, known) => format!("; the graph's {direction}s are `{}`", known.join("`, `")),
    }
}

fn elem_hint(wanted: Elem) -> String {
    format!("make the view from a slice of {}", held_by(wanted))
}

fn extent_hint(grouping: Option<&Grouping>, order: Option<&[usize]>) -> String {
    match (order, grouping) {
        (Some(order), _) => format!("`.permute(&{order:?})` makes the view fit"),
        (None, Some(Grouping { coarse, fine, each })) => {
            format!(
                "each step of `{coarse}` serves {each} of `{fine}`: bind it without repeats, or build the graph for this length"
            )
        }
        (None, None) => "bind a tensor of that length, or build the graph for this one".to_owned(),
    }
}
