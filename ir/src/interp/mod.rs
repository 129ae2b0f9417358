//! The reference interpreter: the meaning of the IR, computed directly in double precision.
//!
//! It shares nothing with code generation, and every compiled kernel is held against it. `f32` values are real numbers here, computed
//! as `f64` and never rounded to single precision; `i32` values are exact and wrap. Each value is computed once, over exactly its axes,
//! and freed after its last use; values that no output needs are not computed.

mod bind;
mod eval;
mod layout;
mod scalar;

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::graph::Graph;
use crate::op::{Op, Value};
use crate::suggest::did_you_mean;
use crate::types::{Axis, Elem};
use crate::verify::Verified;

use bind::Lengths;
use eval::Eval;
use layout::{Layout, for_each_row};

/// The most elements that a value may have here: 2^27, a gigabyte.
pub const MAX_ELEMENTS: usize = 1 << 27;

/// A tensor of the interpreter: contiguous, first dimension outermost.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub elem: Elem,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// The elements; truth values are 0 and 1.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of real numbers.
    pub fn f32(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f64>>) -> Tensor {
        Tensor { elem: Elem::F32, shape: shape.into(), data: data.into() }
    }

    /// A tensor of integers.
    pub fn i32(shape: impl Into<Vec<usize>>, data: impl IntoIterator<Item = i32>) -> Tensor {
        Tensor { elem: Elem::I32, shape: shape.into(), data: data.into_iter().map(f64::from).collect() }
    }

    /// A tensor of truth values.
    pub fn bool(shape: impl Into<Vec<usize>>, data: impl IntoIterator<Item = bool>) -> Tensor {
        let data = data.into_iter().map(|x| f64::from(u8::from(x))).collect();
        Tensor { elem: Elem::Bool, shape: shape.into(), data }
    }
}

/// Memory that could not be had: so many bytes.
struct NoRoom(usize);

impl NoRoom {
    fn for_value(self, graph: &Graph, value: Value) -> InterpError {
        InterpError::OutOfMemory { line: graph.line(value), bytes: self.0 }
    }
}

/// An empty list with room for `count` elements.
fn room<T>(count: usize) -> Result<Vec<T>, NoRoom> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| NoRoom(count.saturating_mul(size_of::<T>())))?;
    Ok(list)
}

/// A list of `count` times an element.
fn filled<T: Clone>(count: usize, element: T) -> Result<Vec<T>, NoRoom> {
    let mut list = room(count)?;
    list.resize(count, element);
    Ok(list)
}

/// Tensors by input name.
pub type Bindings = BTreeMap<String, Tensor>;

/// Tensors by output name.
pub type Outputs = BTreeMap<String, Tensor>;

/// Why a graph can't be interpreted on some tensors.
#[derive(Clone, Debug, PartialEq, Error)]
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

/// Computes the outputs of a graph.
///
/// # Errors
/// [`InterpError`] where the tensors do not fit the graph's inputs, an axis has no length, a value is too large or can't be allocated, or
/// the graph has a scheme op that an output needs.
pub fn interpret(graph: &Verified, bindings: &Bindings) -> Result<Outputs, InterpError> {
    let mut results = Vec::with_capacity(graph.outputs().len());
    let roots: Vec<Root> =
        graph.outputs().iter().map(|output| Root { value: output.value, dims: output.dims.clone() }).collect();
    run(graph, bindings, &roots, &mut results)?;
    Ok(graph.outputs().iter().map(|output| output.name.clone()).zip(results).collect())
}

/// Computes one value of a graph, its dimensions in the order the graph declares axes.
///
/// # Errors
/// As [`interpret`], for what this value needs.
pub fn interpret_value(graph: &Verified, bindings: &Bindings, value: Value) -> Result<Tensor, InterpError> {
    if value.index() >= graph.nodes().len() {
        return Err(InterpError::NoSuchValue { index: value.index(), count: graph.nodes().len() });
    }
    let mut results = Vec::with_capacity(1);
    let root = Root { value, dims: graph.ty(value).axes.iter().collect() };
    run(graph, bindings, &[root], &mut results)?;
    Ok(results.swap_remove(0))
}

/// A value to hand out, with the order of its dimensions.
struct Root {
    value: Value,
    dims: Vec<Axis>,
}

/// A computed value.
struct Array<'a> {
    layout: Layout,
    data: Cow<'a, [f64]>,
}

fn run(graph: &Graph, bindings: &Bindings, roots: &[Root], results: &mut Vec<Tensor>) -> Result<(), InterpError> {
    let lengths = Lengths::bind(graph, bindings)?;
    let mut uses = count_uses(graph, roots);
    let mut arrays: Vec<Option<Array<'_>>> = Vec::new();
    arrays.resize_with(graph.nodes().len(), || None);
    for value in graph.values() {
        if uses[value.index()] == 0 {
            continue;
        }
        let op = graph.op(value);
        arrays[value.index()] = Some(Eval { graph, lengths: &lengths, bindings, arrays: &arrays }.node(value)?);
        for operand in op.operands() {
            uses[operand.index()] -= 1;
            if uses[operand.index()] == 0 {
                arrays[operand.index()] = None;
            }
        }
    }
    for root in roots {
        let array = arrays[root.value.index()].as_ref().expect("a root is used, so it was computed and kept");
        let (elem, shape) = (graph.ty(root.value).elem, lengths.shape(graph, &root.dims)?);
        let no_room = |error: NoRoom| error.for_value(graph, root.value);
        let mut data = room(array.data.len()).map_err(no_room)?;
        for_each_row(graph, &lengths, &root.dims, [&array.layout], |[base], [inner]| {
            data.extend(inner.iter().map(|offset| array.data[base + offset]));
        })
        .map_err(no_room)?;
        results.push(Tensor { elem, shape, data });
    }
    Ok(())
}

/// How often each value is used by what the roots need; the roots themselves count, and so stay.
fn count_uses(graph: &Graph, roots: &[Root]) -> Vec<usize> {
    let mut uses = vec![0usize; graph.nodes().len()];
    for root in roots {
        uses[root.value.index()] += 1;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        // A scheme op ends the run, so what it needs does not matter.
        if uses[index] == 0 || matches!(node.op, Op::Scheme { .. }) {
            continue;
        }
        for operand in node.op.operands() {
            uses[operand.index()] += 1;
        }
    }
    uses
}
