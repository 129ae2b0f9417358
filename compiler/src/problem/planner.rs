//! A plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use rhumb_ir::{Axis, Op, Scalar, Value, Verified};

use super::{Origin, PlanError, Source, Storage, Table, Tensor, TensorId};
use crate::expr::Node;

/// The operands of a softmax or log-sum-exp.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Normalised {
    pub(super) score: Value,
    pub(super) key: Axis,
    pub(super) sink: Option<Value>,
}

/// Axes of length 1 that a graph was given.
#[derive(Clone, Copy, Default)]
pub(super) struct Added {
    pub(super) query: Option<Axis>,
    pub(super) element: Option<Axis>,
}

pub(super) struct Planner<'a> {
    pub(super) graph: &'a Verified,
    pub(super) tensors: Vec<Tensor>,
    pub(super) tables: Vec<Table>,
    pub(super) table_of: BTreeMap<Source, TensorId>,
    pub(super) inputs: BTreeMap<Value, TensorId>,
    pub(super) outputs: Vec<TensorId>,
    /// Names of the values.
    pub(super) names: Vec<String>,
    /// Values whose operands are prepared.
    pub(super) prepared: BTreeSet<Value>,
    /// Whether a rotation takes part in a value.
    pub(super) rotates: Vec<bool>,
    /// Whether a sum or a lookup takes part in a value.
    pub(super) reduces: Vec<bool>,
    /// Axes in the order that dimensions of tables take.
    pub(super) order: Vec<Axis>,
    /// The axis of queries that was added where every other has keys or values of its own.
    pub(super) one_query: Option<Axis>,
    /// The axis of a single element that was added for values that have none.
    pub(super) one_element: Option<Axis>,
    /// Whether each value is computed of sums or of a log-sum-exp that are kept for it.
    pub(super) of_results: Vec<bool>,
    /// With one query: whether each value is computed from the dot of query and key.
    pub(super) of_dot: Vec<bool>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(graph: &'a Verified, added: Added) -> Self {
        let mut planner = Planner {
            graph,
            tensors: Vec::new(),
            tables: Vec::new(),
            table_of: BTreeMap::new(),
            inputs: BTreeMap::new(),
            outputs: Vec::new(),
            names: graph.value_names(),
            prepared: BTreeSet::new(),
            rotates: Vec::new(),
            reduces: Vec::new(),
            order: (0..graph.axes().len()).filter_map(Axis::from_index).collect(),
            one_query: added.query,
            one_element: added.element,
            of_results: vec![false; graph.nodes().len()],
            of_dot: Vec::new(),
        };
        planner.rotates = planner.reaches(|op| matches!(op, Op::Rotate { .. }));
        planner.reduces = planner.reaches(|op| matches!(op, Op::Dot { .. } | Op::Gather { .. }));
        for (name, value) in graph.inputs() {
            let Op::Input { name: _, dims, elem } = graph.op(value) else { continue };
            let storage = Storage::Of(*elem);
            let id = planner.tensor(name.to_owned(), Origin::Input(value), dims.clone(), storage);
            planner.inputs.insert(value, id);
        }
        for (index, output) in graph.outputs().iter().enumerate() {
            let storage = Storage::Of(output.elem);
            let id = planner.tensor(output.name.clone(), Origin::Output(index), output.dims.clone(), storage);
            planner.outputs.push(id);
        }
        planner
    }

    pub(super) fn tensor(&mut self, name: String, origin: Origin, dims: Vec<Axis>, storage: Storage) -> TensorId {
        self.tensors.push(Tensor { name, origin, dims, storage });
        self.tensors.len() - 1
    }

    pub(super) fn not(&self, value: Value, reason: impl Into<String>) -> PlanError {
        PlanError::NotAttention { op: self.graph.line(value), reason: reason.into() }
    }

    /// The first op of `value`'s definition, itself included, for which `wanted` holds.
    pub(super) fn find(&self, value: Value, wanted: impl Fn(&Op) -> bool) -> Option<Value> {
        self.graph.below([value], |_| true).find(|value| wanted(self.graph.op(*value)))
    }

    /// For each value, whether such an op takes part in it.
    pub(super) fn reaches(&self, wanted: impl Fn(&Op) -> bool) -> Vec<bool> {
        let mut reached: Vec<bool> = Vec::with_capacity(self.graph.nodes().len());
        for node in self.graph.nodes() {
            let found = wanted(&node.op) || node.op.operands().iter().any(|operand| reached[operand.index()]);
            reached.push(found);
        }
        reached
    }

    /// The length of an axis that must have a fixed one.
    pub(super) fn fixed(&self, axis: Axis, reason: &'static str) -> Result<u32, PlanError> {
        let dynamic = || PlanError::DynamicAxis { axis: self.graph.axis(axis).name.clone(), reason };
        self.graph.static_extent(axis).ok_or_else(dynamic)
    }

    /// The node of a value, as far as tables are decided.
    pub(super) fn node(&self, value: Value) -> Node {
        let table = self.table_of.get(&Source::Value(value)).copied();
        Node::of(self.graph, value, table, || self.inputs.get(&value).copied())
    }

    pub(super) fn is_const(&self, value: Value, x: f64) -> bool {
        matches!(self.graph.op(value), Op::Const(Scalar::F32(c)) if *c == x)
    }
}
