//! Rows of keys and values in 8 bits, whose scales and zero points are moved out of the products, as the rule `dot-descale` moves them: what
//! lies in memory is all that is read of a row, and what is the same for all its elements meets the score, or the weight, of its key.

use rhumb_ir::{Axis, AxisSet, Binary, Elem, Op, Value, Walk};

use super::{Origin, Problem, Scaled, Source, TensorId, Term};
use crate::expr::Node;

/// Rows that are read as they lie in place of a table.
struct Found {
    table: TensorId,
    input: TensorId,
    scaled: Scaled,
}

/// Makes products and sums read rows of fewer bits as they lie, scaled or not: no table of them is made.
pub(super) fn read_scaled(own: &mut Problem) {
    let Some(attention) = &own.attention else { return };
    let keys = attention.products.iter().map(|product| (product.key, product.dim));
    let values = attention.reductions.iter().map(|reduction| (reduction.value, reduction.dim));
    let mut found: Vec<Found> = Vec::new();
    for (table, dim) in keys.chain(values) {
        if found.iter().all(|known| known.table != table) {
            found.extend(of_table(own, table, dim));
        }
    }
    let Some(attention) = &mut own.attention else { return };
    let of = |tensor: TensorId| found.iter().find(|known| known.table == tensor);
    for product in &mut attention.products {
        if let Some(Found { input, scaled, .. }) = of(product.key) {
            (product.key, product.scaled) = (*input, Some(*scaled));
        }
    }
    for reduction in &mut attention.reductions {
        if let Some(Found { input, scaled, .. }) = of(reduction.value) {
            (reduction.value, reduction.scaled) = (*input, Some(*scaled));
        }
    }
    for Found { table, scaled, .. } in found {
        own.tables.retain(|step| step.target != table);
        own.table_of.remove(&Source::Value(scaled.rows));
        // It has neither memory nor an address.
        own.tensors[table].origin = Origin::KeyTile;
    }
}

/// What the rows of a table along an axis are, if they are an input of fewer bits, scaled.
fn of_table(own: &Problem, table: TensorId, dim: Axis) -> Option<Found> {
    let step = own.tables.iter().find(|step| step.target == table && step.second.is_none() && !step.double)?;
    let Source::Value(rows) = step.source else { return None };
    // Lookups by an index for each lane take a table.
    let gathered = own.graph.nodes().iter().any(|node| matches!(node.op, Op::Gather { table, .. } if table == rows));
    let (mut value, mut scaled) = (rows, Scaled { rows, scale: None, shift: None });
    let per_row = |value: Value| is_per_row(own, value, dim);
    if let Op::Binary(Binary::Mul, a, b) = *own.graph.op(value) {
        let (of_elements, scale) = if per_row(b) { (a, b) } else { (b, a) };
        (value, scaled.scale) = (of_elements, Some(scale));
    }
    if let Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) = *own.graph.op(value) {
        let shift = Term { value: b, negative: op == Binary::Sub };
        (value, scaled.shift) = (a, Some(shift));
    }
    if let Op::Cast(Elem::F32, x) = *own.graph.op(value) {
        value = x;
    }
    let input = own.input(value).filter(|input| own.tensors[*input].storage.is_narrow())?;
    let axes: AxisSet = own.tensors[input].dims.iter().copied().collect();
    let fits = |value: Value| per_row(value) && own.graph.ty(value).axes.is_subset(axes);
    let numbers = scaled.scale.into_iter().chain(scaled.shift.map(|shift| shift.value));
    let all = !gathered && axes == own.graph.ty(rows).axes && numbers.into_iter().all(fits);
    all.then_some(Found { table, input, scaled })
}

/// Whether a value is the same for all elements of a row, and is computed element by element of inputs and constants.
fn is_per_row(own: &Problem, value: Value, dim: Axis) -> bool {
    let mut walk = Walk::of([value]);
    while let Some(value) = walk.next() {
        match own.node(value, |_| true) {
            Node::Table(_) | Node::Input(_) | Node::Const(_) => {}
            node @ (Node::Unary(..) | Node::Binary(..) | Node::Cast(..)) => walk.enter(node.operands()),
            _ => return false,
        }
    }
    !own.graph.varies(own.graph.ty(value).axes, dim)
}
