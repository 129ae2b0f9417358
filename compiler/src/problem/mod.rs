//! Problems: what a fused graph computes, in the terms of attention, for any machine.
//!
//! A [`Problem`] is recognised once. It says which tensors there are, which tables are made of them, and what is left per pair of a query
//! and a key: products, terms, masks, how scores weigh values. What it has no place for is refused here, with the op in the way.

mod error;
mod factors;
mod outputs;
mod packed;
mod places;
mod plain;
mod planner;
mod powers;
mod products;
mod pruning;
mod recognize;
mod score;
mod sums;
mod tables;

use std::collections::BTreeMap;

use rhumb_ir::{Axis, Elem, ElemKind, Value, Verified};

use crate::abi::MOST_REDUCTIONS;
use crate::rewrite::RowPlaces;
pub use error::PlanError;
pub(crate) use packed::sharing;
pub use places::Place;
pub use recognize::recognize;

/// The storage of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As users have elements of this type: of truth values bytes, 0 for false. What takes less than 32 bits is widened while it is loaded,
    /// and rounded to while it is stored.
    Of(Elem),
    /// 64-bit floats: terms that are part of no score.
    F64,
    /// 32-bit masks, all ones or 0: bool tables.
    Mask,
}

impl Storage {
    /// 32-bit floats.
    pub const F32: Storage = Storage::Of(Elem::F32);
    /// 16-bit floats of IEEE 754.
    pub(crate) const F16: Storage = Storage::Of(Elem::F16);
    /// 32-bit integers.
    pub const I32: Storage = Storage::Of(Elem::I32);

    /// The storage of a table of values, of floats in single or in double precision.
    pub(crate) fn of_table(elem: Elem, double: bool) -> Storage {
        match elem.kind() {
            ElemKind::Real if double => Storage::F64,
            ElemKind::Real => Storage::F32,
            ElemKind::Whole => Storage::I32,
            ElemKind::Truth => Storage::Mask,
        }
    }

    /// The numbers that elements are.
    pub fn kind(self) -> ElemKind {
        match self {
            Storage::Of(elem) => elem.kind(),
            Storage::F64 => ElemKind::Real,
            Storage::Mask => ElemKind::Truth,
        }
    }

    /// Whether elements are floats.
    pub(crate) fn is_float(self) -> bool {
        self.kind() == ElemKind::Real
    }

    /// Whether elements are widened to 32 bits while they are loaded.
    pub(crate) fn is_narrow(self) -> bool {
        matches!(self, Storage::Of(elem) if elem.is_stored_only())
    }

    /// Size of an element, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Storage::Of(elem) => elem.bytes(),
            Storage::F64 => size_of::<f64>(),
            Storage::Mask => size_of::<u32>(),
        }
    }

    /// The name used in printed plans.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Of(Elem::Bool) => "byte",
            Storage::Of(elem) => elem.name(),
            Storage::F64 => "f64",
            Storage::Mask => "mask",
        }
    }
}

/// Where a tensor of a plan comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Bound by the caller.
    Input(Value),
    /// Bound by the caller and written; the index of the output in the graph.
    Output(usize),
    /// A constant of the graph, kept with the kernel: row-major, in the storage of the tensor.
    Constant(Value),
    /// Made once per call, row-major.
    Table,
    /// Rows that are computed for each key tile while it is loaded: never whole.
    KeyTile,
    /// The index along its one dimension, which is read from no memory.
    Index,
}

/// A tensor that generated code reads or writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name, unique in the plan.
    pub name: String,
    /// Its origin.
    pub origin: Origin,
    /// Its dimensions, outermost first.
    pub dims: Vec<Axis>,
    /// Storage of the elements.
    pub storage: Storage,
}

/// Index into [`Problem::tensors`].
pub type TensorId = usize;

/// The content of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The value itself.
    Value(Value),
    /// A sum of values, each added or subtracted.
    Sum(Vec<Term>),
    /// The cosine of the value: an angle of a rotation.
    Cos(Value),
    /// The sine of the value; made by the step of its cosine.
    Sin(Value),
    /// The squared norm of each row of a tensor: NaN or infinite if an element of it is, or if it overflows.
    Squares {
        /// The tensor.
        tensor: TensorId,
        /// The axis of its rows.
        dim: Axis,
    },
}

/// A loop nest that computes a tensor element by element, before the attention runs or after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The tensor that is written: a table or an output.
    pub target: TensorId,
    /// The table that is made along with it: of cosines, that of sines; of the high parts of a key term, that of the low parts.
    pub second: Option<TensorId>,
    /// The content.
    pub source: Source,
    /// The innermost axis of the loop nest: that of a rotation, or the last dimension; none for a scalar. The other dimensions, in
    /// their order, make one loop that threads share.
    pub inner: Option<Axis>,
    /// Whether floats are computed in double precision (tables) or single (rows of queries, keys and values).
    pub double: bool,
    /// Whether it is computed of what the attention gives: it is made after that, not before.
    pub after: bool,
    /// Why it is computed here.
    pub reason: &'static str,
}

/// Rows that are stored in fewer bits, and what is the same for all elements of each: `(stored + shift) scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The rows, as the graph has them.
    pub rows: Value,
    /// The factor.
    pub scale: Option<Value>,
    /// What is added before: a zero point, subtracted.
    pub shift: Option<Term>,
}

/// A product that the score is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The dot in the graph.
    pub dot: Value,
    /// The axis it contracts.
    pub dim: Axis,
    /// Its place among the products, which is that of its addresses in the call record.
    pub index: usize,
    /// The elements of queries that those of other products take before it.
    pub first: u32,
    /// Its length.
    pub length: u32,
    /// The query side: computed row by row while a query tile is loaded.
    pub query: Value,
    /// The key side, read in its own layout.
    pub key: TensorId,
    /// What is made of the rows of `key` beside the product.
    pub scaled: Option<Scaled>,
}

/// Values that are summed up, each weighed by its key's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduction {
    /// Its place among the reductions, which is that of its address in the call record.
    pub index: usize,
    /// The elements that those of other reductions take before it.
    pub first: u32,
    /// The values, read in their own layout.
    pub value: TensorId,
    /// What is made of the rows of `value` beside the sum.
    pub scaled: Option<Scaled>,
    /// The axis of the values' elements, which goes to the result.
    pub dim: Axis,
    /// Its length.
    pub length: u32,
    /// Where the result is written: an output, or a tensor that tables after the attention read.
    pub output: TensorId,
}

/// The log-sum-exp output.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSum {
    /// The `logsumexp` op: a leaf of `value`.
    pub leaf: Value,
    /// The output's value, computed in double precision.
    pub value: Value,
    /// Sum of the terms of its score that vary over queries alone, in double precision. Those of the average can lack some of them.
    pub query_term: Option<TensorId>,
    /// Where it is written.
    pub output: TensorId,
}

/// A term of the score that varies over keys alone: its values in double precision, each as the sum of two of single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTerm {
    /// The values, rounded.
    pub high: TensorId,
    /// The rounding error of `high`.
    pub low: TensorId,
}

/// A term of the score and whether it is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// The value.
    pub value: Value,
    /// Whether it is subtracted; of a mask, whether it is inverted.
    pub negative: bool,
}

/// Heads that share keys and values (GQA), computed together: a tile's queries are those of each position and each of these heads, heads
/// innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The axis of heads, one of the outer axes: its loop steps by groups.
    pub axis: Axis,
    /// Heads of a group.
    pub heads: u32,
}

/// Tables by which key tiles are pruned: a key tile whose greatest possible score leaves its keys without weight for a whole query tile is
/// skipped. Calls of fewer than [`Pruning::QUERIES`] queries or [`Pruning::KEYS`] keys prune nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// The squared norms of keys, if the score has a product of queries and keys.
    pub keys: Option<TensorId>,
    /// The squared norms of the values of each reduction. A value that is not finite makes NaN of a weight of 0: its key tile is never
    /// pruned.
    pub values: [Option<TensorId>; MOST_REDUCTIONS],
}

impl Pruning {
    /// All tables of squared norms.
    pub fn squares(&self) -> impl Iterator<Item = TensorId> + use<> {
        self.keys.into_iter().chain(self.values.into_iter().flatten())
    }

    /// A score this far below the base of weights, in powers of 2, has no weight.
    pub const BELOW: f64 = 100.0;
    /// The least number of queries: with fewer, the norms of keys and values take more work than they save.
    pub const QUERIES: usize = 128;
    /// The least number of keys: with fewer, there are no far ones.
    pub const KEYS: usize = 128;
}

/// What the weight of a key is made of, and what becomes of all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Combiner {
    /// `2^score`, normalised to a sum of 1 over the keys that a query sees.
    OnlineSoftmax {
        /// The sink, in double precision.
        sink: Option<TensorId>,
        /// The log-sum-exp, if it is asked for.
        log_sum: Option<LogSum>,
    },
    /// The score itself: the weight of a key that a query does not see is 0, and nothing is normalised.
    Sum,
}

/// An attention: keys are weighed by scores, and values summed up by their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// The axis of queries: lanes.
    pub query: Axis,
    /// The axis of keys: normalised over.
    pub key: Axis,
    /// The axes of independent attentions, outermost first: with the query tiles, the parallel loop.
    pub outer: Vec<Axis>,
    /// Heads whose queries share tiles.
    pub packed: Option<Packed>,
    /// The dots of query and key.
    pub products: Vec<Product>,
    /// The sum of the products: a leaf of the score expression, if it has products. Of several it can be the first, which then stands for
    /// all of them.
    pub dot: Option<Value>,
    /// Terms of the score that vary over queries and keys, evaluated per element.
    pub terms: Vec<Term>,
    /// Sum of the terms that vary over keys alone. A query's scores take it relative to a reference of the query: the greatest high part
    /// among the keys that the query sees.
    pub key_term: Option<KeyTerm>,
    /// Sum of the terms that vary over queries alone, in double precision: compared with a sink, else of no weight. `-inf` hides the whole
    /// row; NaN and `inf` make NaN of it.
    pub query_term: Option<TensorId>,
    /// The conditions under which a query sees a key: evaluated by interval for each tile, and per element in partial tiles.
    pub masks: Vec<Term>,
    /// Whether key tiles lie on a grid of [`Tiling::keys`](crate::plan::Tiling::keys), because masks read tensors that vary over queries or keys. A query's result
    /// then depends on no other query of its tile: those decide which keys the tile computes, and not where key tiles begin.
    pub on_grid: bool,
    /// Whether the score of a key that the mask shows can be `-inf` all the same: terms of it are read from inputs, or have poles.
    pub may_be_neg_inf: bool,
    /// The tables by which keys without weight are found, if there can be such keys.
    pub pruning: Option<Pruning>,
    /// How scores weigh the values.
    pub combiner: Combiner,
    /// The weighted sums or averages of values that are asked for: all of them weigh by the same scores.
    pub reductions: Vec<Reduction>,
}

impl Attention {
    /// Whether a value of the graph varies over queries and keys both.
    pub(crate) fn is_per_pair(&self, graph: &Verified, value: Value) -> bool {
        let axes = graph.ty(value).axes;
        graph.varies(axes, self.query) && graph.varies(axes, self.key)
    }

    /// Queries of a tile for each position of the query axis: the heads that are packed.
    pub fn queries_per_position(&self) -> usize {
        self.packed.map_or(1, |packed| packed.heads as usize)
    }

    /// Elements of a query: of all products together.
    pub fn query_length(&self) -> usize {
        self.products.iter().map(|product| product.length as usize).sum()
    }

    /// As [`Attention::query_length`], where the elements of each product end with whole vectors of this many lanes.
    pub fn query_padded(&self, lanes: usize) -> usize {
        self.products.iter().map(|product| (product.length as usize).next_multiple_of(lanes)).sum()
    }

    /// Elements of a result: of all reductions together.
    pub fn value_length(&self) -> usize {
        self.reductions.iter().map(|reduction| reduction.length as usize).sum()
    }

    /// As [`Attention::value_length`], where the elements of each reduction end with whole vectors of this many lanes.
    pub fn value_padded(&self, lanes: usize) -> usize {
        self.reductions.iter().map(|reduction| (reduction.length as usize).next_multiple_of(lanes)).sum()
    }

    /// The sink of a softmax, if it has one.
    pub fn sink(&self) -> Option<TensorId> {
        match self.combiner {
            Combiner::OnlineSoftmax { sink, .. } => sink,
            Combiner::Sum => None,
        }
    }

    /// The log-sum-exp of a softmax, if it is asked for.
    pub fn log_sum(&self) -> Option<&LogSum> {
        match &self.combiner {
            Combiner::OnlineSoftmax { log_sum, .. } => log_sum.as_ref(),
            Combiner::Sum => None,
        }
    }

    /// Whether a key that the mask shows can be without any weight: its value must not count even if it is NaN or infinite.
    pub fn may_have_no_weight(&self) -> bool {
        self.may_be_neg_inf || self.combiner == Combiner::Sum
    }
}

/// What a fused graph computes, for any machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The fused graph.
    pub graph: Verified,
    /// The tensors: inputs, then outputs, in the order of the graph; then constants and tables.
    pub tensors: Vec<Tensor>,
    /// Tensors of the graph's inputs, in its order.
    pub inputs: Vec<TensorId>,
    /// Tensors of the graph's outputs, in its order.
    pub outputs: Vec<TensorId>,
    /// Loops that run before the attention, then those that run after it, in order: each may read the tables of those before it.
    pub tables: Vec<Table>,
    /// Table of each value that has one.
    pub table_of: BTreeMap<Source, TensorId>,
    /// The attention, if the graph has one.
    pub attention: Option<Attention>,
    /// Where rows of keys and values are best computed that products read, in calls of many queries and in those of few.
    pub(crate) row_places: RowPlaces,
}

impl Problem {
    /// The tensor of an input of the graph.
    pub fn input(&self, value: Value) -> Option<TensorId> {
        self.graph.inputs().position(|(_, input)| input == value).and_then(|index| self.inputs.get(index).copied())
    }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Registry, lower};

    use crate::machine::Machine;
    use crate::plan::{Plan, plan};
    use crate::rewrite::{RewriteOptions, fuse};

    /// The plan of an attention for 16 lanes.
    pub(super) fn planned(attention: &rhumb_plugins::Attention) -> Plan {
        let graph = attention.build().expect("a graph");
        let lowered = lower(&graph, &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        plan(fused.graph(), Machine::of(16, 32)).expect("a plan")
    }
}
