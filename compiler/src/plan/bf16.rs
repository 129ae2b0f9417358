//! Products of pairs of `bf16`, by the instruction that multiplies and sums them up in single precision: twice as many a cycle.
//!
//! # Where they are taken
//! By the types that a user gives.
//!
//! - Queries and keys of `bf16` that are multiplied as they are: products are those of the same numbers in single precision, added in another
//!   order, so nothing is lost. A constant factor of the queries is moved behind the sum.
//! - In prefill, values of `bf16` whose averages are stored as `bf16` too: weights are rounded to the digits that these have, as PyTorch and others do. Their
//!   sum is that of weights that are not.

use std::sync::Arc;

use rhumb_ir::{Binary, Elem, Op, Scalar, Value};

use super::{Combiner, Origin, Problem, Source, Storage, TensorId};
use crate::machine::Machine;

/// How rows lie that are multiplied by pairs.
const BF16: Storage = Storage::Of(Elem::Bf16);

/// What of an attention is computed by pairs of `bf16`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bf16Pairs {
    /// The product of queries and keys, if it is, with the factor of the sum.
    pub product: Option<f64>,
    /// Whether values are, and weights are rounded for them.
    pub values: bool,
}

impl Bf16Pairs {
    /// Elements that products of queries and keys, and sums of values, take at once.
    pub(crate) fn at_once(self) -> (f64, f64) {
        let elements = |pairs: bool| if pairs { 2.0 } else { 1.0 };
        (elements(self.product.is_some()), elements(self.values))
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
        Bf16Pairs { product: Some(factor), values: false }
    }

    /// What `problem` can compute by pairs on a machine, and the problem that reads its rows as they lie.
    pub(super) fn of(problem: &Arc<Problem>, machine: Machine) -> (Arc<Problem>, Bf16Pairs) {
        let none = (problem.clone(), Bf16Pairs::default());
        if !machine.dot_bf16 {
            return none;
        }
        let mut own = Problem::clone(problem);
        let product = read_products(&mut own);
        let values = read_values(&mut own);
        if product.is_none() && !values {
            return none;
        }
        drop_unread(&mut own);
        (Arc::new(own), Bf16Pairs { product, values })
    }
}

/// Makes the product of queries and keys read both as they lie, if it is one of `bf16`: the factor of its sum.
fn read_products(own: &mut Problem) -> Option<f64> {
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
    Some(factor)
}

/// Makes averages read values as they lie, if all are of `bf16` and are stored so.
fn read_values(own: &mut Problem) -> bool {
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
    inputs.into_iter().for_each(|(table, input)| squares_of(own, table, input));
    true
}

/// The input of `bf16` that a table repeats in single precision.
fn stored(own: &Problem, table: TensorId) -> Option<TensorId> {
    let step = own.tables.iter().find(|step| step.target == table && step.second.is_none())?;
    let Source::Value(value) = step.source else { return None };
    let axes = own.tensors[table].dims.len();
    own.input(value).filter(|input| own.tensors[*input].storage == BF16 && own.tensors[*input].dims.len() == axes)
}

/// An input of `bf16`, and the constant that it is multiplied with.
fn scaled(own: &Problem, query: Value) -> Option<(Value, f64)> {
    let is_stored = |value: Value| own.input(value).is_some_and(|input| own.tensors[input].storage == BF16);
    let constant = |value: Value| match own.graph.op(value) {
        Op::Const(Scalar::F32(x)) => Some(*x),
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

/// Removes tables of inputs that nothing reads any more.
fn drop_unread(own: &mut Problem) {
    let Some(attention) = &own.attention else { return };
    let keys = attention.products.iter().map(|product| product.key);
    let read: Vec<TensorId> = keys.chain(attention.reductions.iter().map(|reduction| reduction.value)).collect();
    let repeats = |own: &Problem, table: &super::Table| match table.source {
        // Lookups by an index for each lane take a table.
        Source::Value(value) => {
            let gathered = |op: &Op| matches!(op, Op::Gather { table, .. } if *table == value);
            let of_squares = own.tables.iter().any(|step| match step.source {
                Source::Squares { tensor, .. } => tensor == table.target,
                _ => false,
            });
            stored(own, table.target).is_some()
                && !of_squares
                && !own.graph.nodes().iter().any(|node| gathered(&node.op))
        }
        _ => false,
    };
    let unread = |table: &&super::Table| !read.contains(&table.target) && repeats(own, table);
    let unread: Vec<super::Table> = own.tables.iter().filter(unread).cloned().collect();
    for table in unread {
        own.tables.retain(|step| step.target != table.target);
        own.table_of.remove(&table.source);
        // It has neither memory nor an address.
        own.tensors[table.target].origin = Origin::KeyTile;
    }
}
