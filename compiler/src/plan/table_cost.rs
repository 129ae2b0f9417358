//! The estimated cost of tables, which are made before the tile loop.

use std::convert::Infallible;

use rhumb_ir::{Axis, Value};

use super::unit_cost::{LOAD, PORTS, instructions as of_node, length};
use super::{Attention, Plan, Problem, Source, Table};
use crate::expr::{Domain, Node, walk};
use crate::machine::{LANE_BYTES, ROW_LANES};
use crate::op_cost::Work;

/// Instructions to bring an index into the range of a table, and to make an address of it.
const INDEX: f64 = 4.0;
/// Instructions beside an element: its address, and the store.
const STORE: f64 = 2.0;

/// Bytes of a cycle that a core reads from memory or writes to it.
const MEMORY: f64 = 8.0;

/// Cycles of all tables, for each pair of a query and a key.
pub(super) fn tables(plan: &Plan, attention: &Attention) -> f64 {
    let count = |axes: &mut dyn Iterator<Item = Axis>| axes.map(|axis| length(&plan.graph, axis)).product::<f64>();
    let pairs = count(&mut attention.outer.iter().copied().chain([attention.query, attention.key]));
    let cycles = plan.tables.iter().map(|table| {
        let elements = count(&mut plan.tensors[table.target].dims.iter().copied());
        elements * price(plan, table).compute
    });
    cycles.sum::<f64>() / pairs
}

/// Cycles for each element of a table.
pub(super) struct TablePrice {
    /// To compute it.
    pub(super) compute: f64,
    /// To write it to memory, and to read it from there.
    pub(super) keep: f64,
}

/// The price of an element of a table.
pub(super) fn price(problem: &Problem, table: &Table) -> TablePrice {
    let lanes = if table.double { 1.0 } else { ROW_LANES as f64 };
    let compute = (instructions(problem, table) + STORE) / PORTS / lanes;
    TablePrice { compute, keep: 2.0 * LANE_BYTES as f64 / MEMORY }
}

/// Instructions for each element of a table.
fn instructions(plan: &Problem, table: &Table) -> f64 {
    match &table.source {
        Source::Value(value) => of_values(plan, table, &[*value]),
        Source::Sum(terms) => {
            let values: Vec<Value> = terms.iter().map(|term| term.value).collect();
            of_values(plan, table, &values) + terms.len() as f64
        }
        Source::Cos(angle) | Source::Sin(angle) => of_values(plan, table, &[*angle]) + Work::Angle.instructions(),
        Source::Squares { dim, .. } => length(&plan.graph, *dim),
    }
}

/// Instructions for an element of expressions, what other tables hold left out.
fn of_values(plan: &Problem, table: &Table, roots: &[Value]) -> f64 {
    let mut element = Element { plan, table, roots, seen: vec![false; plan.graph.nodes().len()], instructions: 0.0 };
    for root in roots {
        let Ok(()) = walk(&mut element, *root);
    }
    element.instructions
}

/// An element of a table.
struct Element<'p> {
    plan: &'p Problem,
    table: &'p Table,
    roots: &'p [Value],
    seen: Vec<bool>,
    instructions: f64,
}

impl Domain for Element<'_> {
    type Error = Infallible;

    fn is_known(&self, value: Value) -> bool {
        self.seen[value.index()]
    }

    fn node(&self, value: Value) -> Node {
        // A table that is not the element's own is read, a root's too where it is kept for tables after the attention.
        self.plan.node(value, |table| !self.roots.contains(&value) || self.table.after && table != self.table.target)
    }

    fn make(&mut self, value: Value, node: Node) -> Result<(), Infallible> {
        self.seen[value.index()] = true;
        self.instructions += match node {
            Node::Rotate { .. } => Work::Rotation.instructions() + LOAD,
            Node::Gather { .. } => INDEX + Work::Lookup.instructions(),
            Node::Dot { axis, .. } => (Work::MultiplyAdd.instructions() + 2.0 * LOAD) * length(&self.plan.graph, axis),
            node => of_node(&node),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Graph;
    use rhumb_plugins::{Attention, Registry, Rope, lower};

    use crate::machine::Machine;
    use crate::plan::{Estimate, plan};
    use crate::rewrite::{RewriteOptions, fuse};

    /// The estimate for some queries on 4096 keys.
    fn estimate(attention: &Attention, queries: u32) -> Estimate {
        let graph = attention.build().expect("a graph").to_string();
        let graph = graph.replace("axis q = ?", &format!("axis q = {queries}")).replace("axis k = ?", "axis k = 4096");
        let graph = Graph::parse(&graph).expect("a graph");
        let lowered = lower(&graph, &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        Estimate::of(&plan(fused.graph(), Machine::of(16, 32)).expect("a plan"))
    }

    #[test]
    fn rotating_all_keys_for_one_query_costs_most_of_the_time() {
        let of = || Attention::heads(8).head_dim(64);
        let (rotated, cached) = (of().scheme(Rope::new()), of().scheme(Rope::new().query_only()));
        let [one, one_cached] = [&rotated, &cached].map(|attention| estimate(attention, 1));
        assert!(one.tables > 10.0 * one_cached.tables, "{one}, {one_cached}");
        assert!(one.tables > 0.3 * (one.cycles() - one.tables), "{one}");
        // For many queries it is next to nothing.
        let many = estimate(&rotated, 4096);
        assert!(many.tables < 0.02 * many.cycles(), "{many}");
    }
}
