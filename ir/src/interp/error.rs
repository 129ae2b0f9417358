//! Why a graph can't be interpreted.

use thiserror::Error;

use crate::suggest::did_you_mean;
use crate::types::Elem;

/// The most elements that a value may have here: 2^27, a gigabyte.
pub const MAX_ELEMENTS: usize = 1 << 27;

/// Why a graph can't be interpreted on some tensors.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum InterpError {
    /// An input without a tensor.
    #[error("input `{name}` is not bound; bind a tensor of {ty}")]
    MissingInput {
        /// The input.
        name: String,
        /// Its type, printed.
        ty: String,
    },
    /// A tensor for an input that the graph does not have.
    #[error("the graph has no input `{name}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownInput {
        /// The name that was bound.
        name: String,
        /// The closest input.
        suggestion: Option<String>,
    },
    /// A tensor of the wrong element type.
    #[error("input `{name}` holds {expected}, but the tensor bound to it holds {found}")]
    ElemMismatch {
        /// The input.
        name: String,
        /// Its element type.
        expected: Elem,
        /// The tensor's.
        found: Elem,
    },
    /// A tensor with the wrong number of dimensions.
    #[error("input `{name}` is {ty}, but the tensor bound to it has shape {shape:?}: bind one length per axis")]
    RankMismatch {
        /// The input.
        name: String,
        /// Its type, printed.
        ty: String,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// A tensor whose data does not fill its shape.
    #[error("the tensor bound to `{name}` has {found} elements, but its shape {shape:?} needs {}",
        expected.map_or_else(|| "more than memory holds".to_owned(), |n| n.to_string()))]
    DataLength {
        /// The input.
        name: String,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The product of the shape, if it can be represented.
        expected: Option<usize>,
        /// Number of elements given.
        found: usize,
    },
    /// An element that the element type does not have.
    #[error("element {index} of the tensor bound to `{name}` is {value}, which is no {elem}")]
    BadElement {
        /// The input.
        name: String,
        /// Position of the element.
        index: usize,
        /// The element.
        value: f64,
        /// The element type.
        elem: Elem,
    },
    /// A tensor that disagrees with the static length of an axis.
    #[error("axis `{axis}` has length {expected}, but in the tensor bound to `{name}` it has {found}")]
    StaticLength {
        /// The axis.
        axis: String,
        /// Its length.
        expected: usize,
        /// The input.
        name: String,
        /// The length in the tensor.
        found: usize,
    },
    /// Two tensors that disagree on the length of a dynamic axis.
    #[error(
        "axis `{axis}` has length {first_length} in the tensor bound to `{first}`, but {length} in that bound to `{name}`"
    )]
    LengthClash {
        /// The axis.
        axis: String,
        /// The input that told its length first.
        first: String,
        /// That length.
        first_length: usize,
        /// The other input.
        name: String,
        /// The length there.
        length: usize,
    },
    /// An axis whose indices are no `i32`.
    #[error("axis `{axis}` has length {length} in the tensor bound to `{name}`; indices end at {}", i32::MAX)]
    AxisTooLong {
        /// The axis.
        axis: String,
        /// The input.
        name: String,
        /// The length.
        length: usize,
    },
    /// A dynamic axis that no input has.
    #[error(
        "nothing tells the length of the dynamic axis `{axis}`: give an input that axis, or a static length to the axis"
    )]
    UnknownLength {
        /// The axis.
        axis: String,
    },
    /// A value with more elements than [`MAX_ELEMENTS`].
    #[error("`{line}` would have shape {shape:?}, more than the {MAX_ELEMENTS} elements the interpreter allows")]
    TooLarge {
        /// The value, printed.
        line: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Memory that could not be had.
    #[error("{bytes} bytes for `{line}` could not be allocated; bind smaller tensors")]
    OutOfMemory {
        /// The value that it is for, printed.
        line: String,
        /// What was asked for.
        bytes: usize,
    },
    /// A scheme op: its meaning is in the plugin.
    #[error("`{line}` is a scheme op, which has no meaning of its own: lower the graph first")]
    Scheme {
        /// The op, printed.
        line: String,
    },
    /// A value of another graph.
    #[error("value {index} is not in this graph, which has {count}")]
    NoSuchValue {
        /// Its position.
        index: usize,
        /// Number of values.
        count: usize,
    },
}

crate::debug_as_display!(InterpError);
