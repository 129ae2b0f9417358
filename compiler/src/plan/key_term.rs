//! Terms of a score that vary over keys alone: where their code computes them for each key tile, so that no table of all keys is made.

use rhumb_ir::{Axis, Binary, Elem, Op, Unary, Value, Walk};

use super::{Origin, Problem, Source, Table, Term};
use crate::intervals::Interval;
use crate::machine::Machine;

/// What a row of sums and products is made of.
pub(crate) struct Leaves {
    /// Indices along the row.
    pub(crate) indices: Vec<Value>,
    /// Values that do not vary along it.
    pub(crate) fixed: Vec<Value>,
    /// Whether no index is multiplied with another: elements rise along the row, or they fall.
    pub(crate) is_linear: bool,
}

impl Leaves {
    /// The leaves of a row of a table along an axis, if there is nothing else in it than sums, differences and products.
    pub(crate) fn of(problem: &Problem, table: &Table, along: Axis) -> Option<Leaves> {
        let Source::Sum(terms) = &table.source else { return None };
        let graph = &problem.graph;
        let varies = |value: Value| graph.varies(graph.ty(value).axes, along);
        let mut found = Leaves { indices: Vec::new(), fixed: Vec::new(), is_linear: true };
        let mut walk = Walk::of(terms.iter().map(|term| term.value));
        while let Some(value) = walk.next() {
            if !varies(value) {
                found.fixed.push(value);
                continue;
            }
            let is_read = problem.table_of.contains_key(&Source::Value(value));
            match *graph.op(value) {
                _ if is_read || graph.ty(value).elem != Elem::F32 => return None,
                Op::Cast(Elem::F32, x) if matches!(*graph.op(x), Op::Iota(axis) if axis == along) => {
                    found.indices.push(value);
                }
                Op::Unary(Unary::Neg, x) => walk.enter([x]),
                Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Mul), a, b) => {
                    found.is_linear &= op != Binary::Mul || !(varies(a) && varies(b));
                    walk.enter([a, b]);
                }
                _ => return None,
            }
        }
        Some(found)
    }
}

/// The least and the greatest that a sum of terms can be, whatever the inputs of a call are.
pub(crate) fn range(problem: &Problem, terms: &[Term]) -> Interval {
    let graph = &problem.graph;
    let mut found = vec![Interval::ANY; graph.nodes().len()];
    // Operands come before what is made of them.
    for value in graph.below_in_order(terms.iter().map(|term| term.value), |_| true) {
        let (elem, of) = (graph.ty(value).elem, |value: Value| found[value.index()]);
        found[value.index()] = match graph.op(value) {
            Op::Const(scalar) => Interval::point(scalar.as_f64()),
            Op::Table { data, .. } => Interval::around(data.iter().copied()),
            Op::Iota(_) | Op::Size(_) => Interval::new(0.0, f64::from(i32::MAX)),
            Op::Unary(op, x) => of(*x).unary(*op, elem),
            Op::Binary(op, a, b) => of(*a).binary(*op, of(*b), elem),
            Op::Cast(to, x) => of(*x).cast(*to),
            _ => Interval::of(elem),
        };
    }
    let signed = |term: &Term| {
        let of_term = found[term.value.index()];
        if term.negative { of_term.neg() } else { of_term }
    };
    terms.iter().map(signed).fold(Interval::point(0.0), Interval::add)
}

/// Takes the table of the key term out of a problem, if it can be computed for each key tile: where it is linear in the index of the key, as
/// the bias of ALiBi is, and the machine has vectors of double precision for it.
pub(super) fn computed_key_term(own: &mut Problem, machine: Machine) -> Option<Table> {
    let attention = own.attention.as_ref()?;
    let term = attention.key_term.filter(|_| machine.is_wide())?;
    let position = own.tables.iter().position(|table| table.target == term.high)?;
    let along_keys = own.tensors[term.high].dims.last() == Some(&attention.key);
    let leaves = Leaves::of(own, &own.tables[position], attention.key).filter(|_| along_keys)?;
    if !leaves.is_linear || leaves.indices.is_empty() {
        return None;
    }
    let table = own.tables.remove(position);
    own.table_of.remove(&table.source);
    for part in [term.high, term.low] {
        own.tensors[part].origin = Origin::KeyTile;
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rhumb_ir::Graph;
    use rhumb_plugins::{Alibi, Attention, Causal, Registry, lower};

    use super::range;
    use crate::machine::Machine;
    use crate::plan::{Plan, Source};
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    fn decode(attention: &Attention, machine: Machine) -> Plan {
        let lowered = lower(&attention.build().expect("a graph"), &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        Plan::decode(&Arc::new(recognize(fused.graph()).expect("a problem")), machine).expect("a plan")
    }

    /// Nothing that is as long as the keys is made for ALiBi, nor for a mask of indices.
    #[test]
    fn alibi_has_no_table_of_keys() {
        let alibi = Attention::heads(8).head_dim(64).kv_heads(2).scheme(Alibi::new());
        let causal = alibi.clone().scheme(Causal);
        for machine in [Machine::of(16, 32), Machine::of(8, 16)] {
            for attention in [&alibi, &causal] {
                let plan = decode(attention, machine);
                let key = plan.attention.as_ref().expect("an attention").key;
                let of_keys = plan.tables.iter().filter(|table| plan.tensors[table.target].dims.contains(&key));
                assert_eq!(of_keys.count(), 0, "{plan}");
                assert!(plan.schedule.computed_key_term().is_some(), "{plan}");
            }
        }
        let narrow = decode(&alibi, Machine::of(4, 16));
        assert!(narrow.schedule.computed_key_term().is_none(), "{narrow}");
    }

    #[test]
    fn ranges_are_of_all_inputs() {
        let plan = decode(&Attention::heads(8).head_dim(64).scheme(Alibi::new()), Machine::of(16, 32));
        let table = plan.schedule.computed_key_term().expect("a key term");
        let Source::Sum(terms) = &table.source else { panic!("{plan}") };
        let found = range(&plan, terms);
        // The steepest slope is a half; in powers of 2, of as many keys as there can be.
        let most = f64::from(i32::MAX) * 0.5 * std::f64::consts::LOG2_E;
        assert!(found.is_finite() && found.hi >= most && found.hi < 1.001 * most, "{found:?} and {most}");
        let given = Graph::parse(
            "graph given\naxis h = 2\naxis q = ?\naxis k = ?\naxis d = 8\n\n%q = input \"q\" : f32[h, q, d]\n%k = input \"k\" : f32[h, k, d]\n\
             %slopes = input \"slopes\" : f32[h]\n%at = iota k : i32[k]\n%x = cast %at to f32 : f32[k]\n%t = mul %x, %slopes : f32[h, k]\n\
             %p = dot %q, %k over d : f32[h, q, k]\n%s = add %p, %t : f32[h, q, k]\n%w = softmax %s over k : f32[h, q, k]\n\
             %o = dot %w, %k over k : f32[h, q, d]\noutput \"o\" = %o : f32[h, q, d]\n",
        );
        let fused = fuse(&given.expect("a graph"), &RewriteOptions::default()).expect("fuses");
        let problem = Arc::new(recognize(fused.graph()).expect("a problem"));
        let plan = Plan::decode(&problem, Machine::of(16, 32)).expect("a plan");
        let Source::Sum(terms) = &plan.schedule.computed_key_term().expect("a key term").source else {
            panic!("{plan}")
        };
        assert!(!range(&plan, terms).is_finite(), "slopes can be anything");
    }
}
