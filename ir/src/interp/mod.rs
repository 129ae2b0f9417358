//! The reference interpreter: the meaning of the IR, computed directly in double precision.
//!
//! It shares nothing with code generation, and every compiled kernel is held against it. `f32` values are real numbers here, computed
//! as `f64` and never rounded to single precision, outputs in 16 bits alone to those; `i32` values are exact and wrap. Each value is computed once, over exactly its axes,
//! and freed after its last use; values that no output needs are not computed.

mod bind;
mod error;
mod eval;
mod layout;
mod memory;
mod scalar;
mod tensor;

use crate::graph::Graph;
use crate::op::{Op, Value};
use crate::types::{Axis, Elem, Type};
use crate::verify::Verified;

use bind::Lengths;
use eval::{Array, Eval};
use layout::for_each_row;
use memory::{NoRoom, room};

pub use error::{InterpError, MAX_ELEMENTS};
pub use tensor::{Bindings, Outputs, Tensor};

/// Computes the outputs of a graph.
///
/// # Errors
/// [`InterpError`] where the tensors do not fit the graph's inputs, an axis has no length, a value is too large or can't be allocated, or
/// the graph has a scheme op that an output needs.
pub fn interpret(graph: &Verified, bindings: &Bindings) -> Result<Outputs, InterpError> {
    let mut results = Vec::with_capacity(graph.outputs().len());
    let roots: Vec<Root> = graph
        .outputs()
        .iter()
        .map(|output| Root { value: output.value, dims: output.dims.clone(), elem: output.elem })
        .collect();
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
    let Type { elem, axes } = graph.ty(value);
    let root = Root { value, dims: axes.iter().collect(), elem };
    run(graph, bindings, &[root], &mut results)?;
    Ok(results.swap_remove(0))
}

/// A value to hand out, with the order of its dimensions.
struct Root {
    value: Value,
    dims: Vec<Axis>,
    /// What it is stored as.
    elem: Elem,
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
        let (elem, shape) = (root.elem, lengths.shape(graph, &root.dims)?);
        let no_room = |error: NoRoom| error.for_value(graph, root.value);
        let mut data = room(array.data.len()).map_err(no_room)?;
        for_each_row(graph, &lengths, &root.dims, [&array.layout], |[base], [inner]| {
            data.extend(inner.iter().map(|offset| elem.rounded(array.data[base + offset])));
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
