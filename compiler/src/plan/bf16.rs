//! Products of pairs of `bf16`, by the instruction that multiplies and sums them up in single precision: twice as many a cycle.
//!
//! # Where they are taken
//! By the types that a user gives.
//!
//! - Queries and keys of `bf16` that are multiplied as they are: products are those of the same numbers in single precision, added in another
//!   order, but for subnormal numbers, which count as 0. A constant factor of the queries is moved behind the sum.
//! - In prefill, values of `bf16` whose averages are stored as `bf16` too: weights are rounded to the digits that these have, as PyTorch and others do. Their
//!   sum is that of weights that are not.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rhumb_ir::{Binary, Elem, Op, Scalar, Value};

use super::{Combiner, Origin, Problem, Source, Storage, TensorId};
use crate::machine::Machine;

/// Factors that are moved behind a sum: with others it may overflow where the products of the graph do not, or squares of them do.
const FACTORS: RangeInclusive<f64> = 1.0 / (1u64 << 32) as f64..=(1u64 << 32) as f64;

/// How rows lie that are multiplied by pairs.
const BF16: Storage = Storage::Of(Elem::Bf16);

/// What of an attention is computed by pairs of `bf16`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bf16Pairs {
    /// The factor of sums of queries and keys, if these are multiplied by pairs.
    pub factor: Option<f64>,
    /// Whether values are, and weights are rounded for them.
    pub values: bool,
}

impl Bf16Pairs {
    /// Elements that products of queries and keys, and sums of values, take at once.
    pub(crate) fn at_once(self) -> (f64, f64) {
        let elements = |pairs: bool| if pairs { 2.0 } else { 1.0 };
        (elements(self.factor.is_some()), elements(self.values))
    }

    /// The factor that sums of queries and keys by pairs have yet to be multiplied with.
    pub(crate) fn outside(self) -> Option<f64> {
        self.factor.filter(|factor| *factor != 1.0)
    }

    /// As [`Bf16Pairs::of`], for a problem whose rows of keys are read as they lie already. Values are averaged in single precision.
    pub(super) fn of_decode(own: &mut Problem, machine: Machine) -> Bf16Pairs {
        let Some([product]) = own.attention.as_ref().map(|attention| attention.products.as_slice()) else {
            return Bf16Pairs::default();
        };
        let key = &own.tensors[product.key];
        let is_input = matches!(key.origin, Origin::Input(_)) && key.storage == BF16;
        let scaled = scaled(own, product.query).filter(|_| machine.dot_bf16 && is_input && product.scaled.is_none());
        let Some((query, factor)) = scaled else { return Bf16Pairs::default() };
        let products = own.attention.iter_mut().flat_map(|attention| &mut attention.products);
        products.for_each(|product| product.query = query);
        Bf16Pairs { factor: Some(factor), values: false }
    }

    /// What `problem` can compute by pairs on a machine, and the problem that reads its rows as they lie.
    pub(super) fn of(problem: &Arc<Problem>, machine: Machine) -> (Arc<Problem>, Bf16Pairs) {
        let none = (problem.clone(), Bf16Pairs::default());
        if !machine.dot_bf16 {
            return none;
        }
        let mut own = Problem::clone(problem);
        let mut replaced = Vec::new();
        let factor = read_products(&mut own, &mut replaced);
        let values = read_values(&mut own, &mut replaced);
        if replaced.is_empty() {
            return none;
        }
        drop_unread(&mut own, &replaced);
        (Arc::new(own), Bf16Pairs { factor, values })
    }
}

/// Makes the product of queries and keys read both as they lie, if it is one of `bf16`: the factor of its sum. Notes the table that it read.
fn read_products(own: &mut Problem, replaced: &mut Vec<TensorId>) -> Option<f64> {
    let [product] = own.attention.as_ref()?.products.as_slice() else { return None };
    let input = stored(own, product.key)?;
    let (query, factor) = scaled(own, product.query)?;
    if product.scaled.is_some() || !product.length.is_multiple_of(2) {
        return None;
    }
    let table = product.key;
    let product = own.attention.as_mut()?.products.first_mut()?;
    (product.query, product.key) = (query, input);
    squares_of(own, table, input);
    replaced.push(table);
    Some(factor)
}

/// Makes averages read values as they lie, if all are of `bf16` and are stored so. Notes the tables that they read.
fn read_values(own: &mut Problem, replaced: &mut Vec<TensorId>) -> bool {
    let Some(attention) = &own.attention else { return false };
    let is_stored = |output: TensorId| {
        let tensor = &own.tensors[output];
        tensor.storage == BF16 && matches!(tensor.origin, Origin::Output(_))
    };
    let of = |reduction: &super::Reduction| {
        let input = stored(own, reduction.value).filter(|_| reduction.scaled.is_none());
        input.filter(|_| is_stored(reduction.output)).map(|input| (reduction.value, input))
    };
    let inputs: Option<Vec<(TensorId, TensorId)>> = attention.reductions.iter().map(of).collect();
    let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty() && attention.combiner != Combiner::Sum) else {
        return false;
    };
    if let Some(attention) = &mut own.attention {
        attention.reductions.iter_mut().zip(&inputs).for_each(|(reduction, (_, input))| reduction.value = *input);
    }
    for (table, input) in inputs {
        squares_of(own, table, input);
        replaced.push(table);
    }
    true
}

/// The input of `bf16` that a table repeats in single precision.
fn stored(own: &Problem, table: TensorId) -> Option<TensorId> {
    let step = own.tables.iter().find(|step| step.target == table && step.second.is_none() && !step.double)?;
    let Source::Value(value) = step.source else { return None };
    if own.tensors[table].origin != Origin::Table {
        return None;
    }
    let axes = own.tensors[table].dims.len();
    own.input(value).filter(|input| own.tensors[*input].storage == BF16 && own.tensors[*input].dims.len() == axes)
}

/// An input of `bf16`, and the constant that it is multiplied with.
fn scaled(own: &Problem, query: Value) -> Option<(Value, f64)> {
    let is_stored = |value: Value| own.input(value).is_some_and(|input| own.tensors[input].storage == BF16);
    let constant = |value: Value| match own.graph.op(value) {
        Op::Const(Scalar::F32(x)) => Some(*x).filter(|x| FACTORS.contains(&x.abs())),
        _ => None,
    };
    match *own.graph.op(query) {
        _ if is_stored(query) => Some((query, 1.0)),
        Op::Binary(Binary::Mul, a, b) if is_stored(a) => constant(b).map(|factor| (a, factor)),
        Op::Binary(Binary::Mul, a, b) if is_stored(b) => constant(a).map(|factor| (b, factor)),
        _ => None,
    }
}

/// Makes tables of squared norms read an input in place of a table that repeats it.
fn squares_of(own: &mut Problem, table: TensorId, input: TensorId) {
    for step in &mut own.tables {
        match &mut step.source {
            Source::Squares { tensor, .. } if *tensor == table => *tensor = input,
            _ => {}
        }
    }
}

/// Removes those of the tables that nothing reads any more.
fn drop_unread(own: &mut Problem, replaced: &[TensorId]) {
    let Some(attention) = &own.attention else { return };
    let keys = attention.products.iter().map(|product| product.key);
    let read: Vec<TensorId> = keys.chain(attention.reductions.iter().map(|reduction| reduction.value)).collect();
    for table in replaced.iter().filter(|table| !read.contains(table)) {
        let Some(at) = own.tables.iter().position(|step| step.target == *table) else { continue };
        let of_squares =
            own.tables.iter().any(|step| matches!(step.source, Source::Squares { tensor, .. } if tensor == *table));
        // Lookups by an index for each lane take a table.
        let gathered =
            |op: &Op| matches!(op, Op::Gather { table, .. } if own.tables[at].source == Source::Value(*table));
        if of_squares || own.graph.nodes().iter().any(|node| gathered(&node.op)) {
            continue;
        }
        let step = own.tables.remove(at);
        own.table_of.remove(&step.source);
        // It has neither memory nor an address.
        own.tensors[step.target].origin = Origin::KeyTile;
    }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Attention, Causal, Registry, Rope, lower};

    use super::*;
    use crate::plan::{Place, Plan};
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    /// Every op has a place: the scale of the scores is on the query where that is computed, and on sums of pairs of `bf16`.
    #[test]
    fn the_factor_of_pairs_has_a_place() {
        let of = || Attention::heads(2).head_dim(8).scheme(Causal).elem(Elem::Bf16);
        let bytes = Attention::heads(2).head_dim(8).scheme(Causal).cache_elem(Elem::I8);
        for (attention, by_pairs) in
            [(of(), true), (of().scheme(Rope::new()), false), (of().scale(1.0), true), (bytes, false)]
        {
            let graph = attention.build().expect("a graph");
            let lowered = lower(&graph, &Registry::standard()).expect("lowers");
            let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
            let problem = Arc::new(recognize(fused.graph()).expect("a problem"));
            for dot_bf16 in [false, true] {
                let plan = Plan::new(&problem, Machine { dot_bf16, ..Machine::of(16, 32) }).expect("a plan");
                assert_eq!(plan.bf16_pairs.factor.is_some(), by_pairs && dot_bf16, "{plan}");
                let places = plan.places();
                let computed = plan.graph.values().filter(|value| !plan.graph.op(*value).operands().is_empty());
                for value in computed {
                    assert!(places[value.index()].is_some(), "{}\n{plan}", plan.graph.line(value));
                }
                assert_eq!(places.contains(&Some(Place::PairSum)), by_pairs && dot_bf16, "{plan}");
            }
        }
    }
}
