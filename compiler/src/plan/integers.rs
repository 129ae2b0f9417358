//! Products of pairs of integers of 16 bits, by the instruction that sums them up exactly in 32: rows of `i8` are widened to 16 bits as they
//! are loaded. An instruction widens, and multiplies, twice as many elements as in single precision.
//!
//! # Where they are taken
//! In decode, by the types that a user gives. What rows of `i8` are multiplied with is rounded to a fixed point: 15 bits and a sign,
//! relative to the greatest magnitude there is.
//!
//! - Queries of 16 bits and keys of `i8`: a query is rounded to `2^-16` of its greatest element.
//! - Values of `i8` whose averages are stored in 16 bits: weights of a key tile, each times the scale of its key's values, are rounded to
//!   `2^-16` of the greatest of them. Their sum is that of weights that are not.
//!
//! What is not finite, and what is so small that its scale has no digits, is multiplied in single precision: one query, or one query's weights of
//! a key tile. A query's row depends on nothing else.

use rhumb_ir::{Axis, Elem, Walk};

use super::{Combiner, Origin, Problem, Product, Reduction, Scaled, Storage, TensorId};
use crate::expr::Node;
use crate::machine::Machine;

/// What of an attention is computed by pairs of integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integers {
    /// Whether queries and keys are multiplied so.
    pub products: bool,
    /// Whether weights and values are.
    pub values: bool,
}

impl Integers {
    /// Elements that products of queries and keys, and sums of values, take at once.
    pub(crate) fn at_once(self) -> (f64, f64) {
        let elements = |pairs: bool| if pairs { 2.0 } else { 1.0 };
        (elements(self.products), elements(self.values))
    }

    /// What `problem` can compute so on a machine, where its rows of keys and values are read as they lie already.
    pub(super) fn of_decode(problem: &Problem, machine: Machine) -> Integers {
        let Some(attention) = problem.attention.as_ref().filter(|_| machine.dot_i16) else {
            return Integers::default();
        };
        let of_keys = |product: &Product| {
            is_of_bytes(problem, (product.key, product.scaled)) && has_short_queries(problem, attention.query, product)
        };
        let of_values = |reduction: &Reduction| {
            let output = &problem.tensors[reduction.output];
            let stored = matches!(output.origin, Origin::Output(_)) && is_short(output.storage);
            stored && is_of_bytes(problem, (reduction.value, reduction.scaled))
        };
        let values = match attention.reductions.as_slice() {
            [reduction] if attention.combiner != Combiner::Sum => of_values(reduction),
            _ => false,
        };
        Integers { products: matches!(attention.products.as_slice(), [product] if of_keys(product)), values }
    }
}

/// Floats of 16 bits.
fn is_short(storage: Storage) -> bool {
    matches!(storage, Storage::Of(Elem::F16 | Elem::Bf16))
}

/// Whether rows are an input of `i8`, to which nothing is added.
fn is_of_bytes(problem: &Problem, (rows, scaled): (TensorId, Option<Scaled>)) -> bool {
    let tensor = &problem.tensors[rows];
    let is_input = matches!(tensor.origin, Origin::Input(_)) && tensor.storage == Storage::Of(Elem::I8);
    is_input && scaled.is_none_or(|scaled| scaled.shift.is_none())
}

/// Whether the elements of queries are computed of inputs of 16 bits: of those over queries, and of no table over them.
fn has_short_queries(problem: &Problem, query: Axis, product: &Product) -> bool {
    let (mut walk, mut found) = (Walk::of([product.query]), false);
    while let Some(value) = walk.next() {
        let node = problem.node(value, |_| true);
        if let Node::Table(tensor) | Node::Input(tensor) = node {
            let tensor = &problem.tensors[tensor];
            let is_query = tensor.dims.contains(&product.dim) && tensor.dims.contains(&query);
            if is_query && !(matches!(node, Node::Input(_)) && is_short(tensor.storage)) {
                return false;
            }
            found |= is_query;
        }
        walk.enter(node.operands());
    }
    found
}
