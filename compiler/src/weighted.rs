//! Sums of values weighed by scores without a softmax.

use rhumb_ir::{Axis, Graph, Op, Value};

/// `dot(weights, values)` over keys, where the weights are made, element by element, of a product of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightedSum {
    pub(crate) weights: Value,
    pub(crate) values: Value,
    /// The axis of keys.
    pub(crate) key: Axis,
}

impl WeightedSum {
    /// Takes a value for such a sum, if it is one.
    pub(crate) fn of(graph: &Graph, value: Value) -> Option<WeightedSum> {
        let Op::Dot { a, b, axis: key } = *graph.op(value) else { return None };
        let (weights, values) = [(a, b), (b, a)].into_iter().find(|(weights, _)| has_product(graph, *weights, key))?;
        Some(WeightedSum { weights, values, key })
    }
}

/// Whether a value is made, element by element, of a product that has keys on one side.
fn has_product(graph: &Graph, value: Value, key: Axis) -> bool {
    let keyed = |value: Value| graph.varies(graph.ty(value).axes, key);
    let elementwise = |value: Value| {
        let op = graph.op(value);
        keyed(value)
            && matches!(op, Op::Unary(..) | Op::Binary(..) | Op::Compare(..) | Op::Select { .. } | Op::Cast(..))
    };
    let is_product = |value: Value| matches!(graph.op(value), Op::Dot { a, b, .. } if keyed(*a) != keyed(*b));
    graph.below([value], elementwise).any(|value| keyed(value) && is_product(value))
}
