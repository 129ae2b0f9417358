//! Products of a score that depend on the distance of query and key alone.
//!
//! Of rows that do not vary by token, turned by angles in proportion to the index of query and key, the product is that of one of them and of
//! the other turned by the difference of both angles: a sum of cosines of the distance. It is computed for each distance of a key tile, from a
//! few of the rows that there are.

use rhumb_ir::{Binary, Elem, Op, Pairing, Value};

use super::distance::{Dependence, Search};
use super::{Attention, LONGEST_SUM, Problem, Product};

/// The most elements of such a product: code for all parts of its sum is written out.
const MOST_ELEMENTS: usize = 16 * LONGEST_SUM;

/// A rotation of rows by angles in proportion to an index.
#[derive(PartialEq)]
struct Turn {
    pairing: Pairing,
    start: u32,
    /// What the angle grows by from index to index, but for `factor`.
    frequencies: Value,
    factor: i64,
}

/// The places of such products among all: there is at least one other beside them.
pub(super) fn products_by_distance(problem: &Problem) -> Vec<usize> {
    let Some(search) = Search::new(problem) else { return Vec::new() };
    let Attention { products, masks, .. } = search.attention;
    // Which query and key stand for others is told by the tiles that there are: what a call's tensors hold must not change that.
    if masks.iter().any(|mask| reads_input(problem, mask.value)) {
        return Vec::new();
    }
    let found = products.iter().filter(|product| is_by_distance(&search, product)).map(|product| product.index);
    let found: Vec<usize> = found.collect();
    if found.len() < products.len() { found } else { Vec::new() }
}

/// Whether a value is computed of what a call gives.
pub(super) fn reads_input(problem: &Problem, root: Value) -> bool {
    let graph = &problem.graph;
    graph.below([root], |_| true).any(|value| matches!(graph.op(value), Op::Input { .. }))
}

fn is_by_distance(search: &Search<'_>, product: &Product) -> bool {
    let Op::Dot { a, b, axis: _ } = *search.problem.graph.op(product.dot) else { return false };
    let keys = if a == product.query { b } else { a };
    let [of_queries, of_keys] = [(product.query, true), (keys, false)].map(|side| turn(search, product, side));
    product.length as usize <= MOST_ELEMENTS && of_queries.is_some() && of_queries == of_keys
}

/// How rows of queries or of keys turn that vary with their index in no other way.
fn turn(search: &Search<'_>, product: &Product, (rows, of_queries): (Value, bool)) -> Option<Turn> {
    let graph = &search.problem.graph;
    let is_free = |value: Value| search.dependence(value) == Dependence::Free;
    let mut rows = rows;
    loop {
        match *graph.op(rows) {
            // A factor of whole rows.
            Op::Binary(Binary::Mul, a, b) => {
                let is_factor = |x: Value| is_free(x) && !graph.varies(graph.ty(x).axes, product.dim);
                rows = if is_factor(a) { b } else { Some(a).filter(|_| is_factor(b))? };
            }
            Op::Rotate { x, angle, dim, pair: _, pairing, start } if dim == product.dim && is_free(x) => {
                let Op::Binary(Binary::Mul, a, b) = *graph.op(angle) else { return None };
                let (position, frequencies) = if is_free(b) { (a, b) } else { Some((b, a)).filter(|_| is_free(a))? };
                let Op::Cast(Elem::F32, index) = *graph.op(position) else { return None };
                let Dependence::Affine { query, key, anywhere: true } = search.dependence(index) else { return None };
                let factor = match (of_queries, query, key) {
                    (true, factor, 0) | (false, 0, factor) if factor != 0 => factor,
                    _ => return None,
                };
                return Some(Turn { pairing, start, frequencies, factor });
            }
            _ => return None,
        }
    }
}
