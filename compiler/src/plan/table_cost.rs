//! The estimated cost of tables, which are made before the tile loop.

use std::convert::Infallible;

use rhumb_ir::{Axis, Op, Pairing, Value};

use super::place::{loads, queries};
use super::unit_cost::{LOAD, PORTS, instructions as of_node, length};
use super::{Attention, Loaded, Plan, Problem, Source, Table};
use crate::expr::{Domain, Node, walk};
use crate::machine::{LANE_BYTES, Machine, ROW_LANES};
use crate::op_cost::Work;
use crate::row_index::period;

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
        let TablePrice { compute, keep } = price(plan, table, plan.machine);
        // What reads it loads it at any rate.
        elements * (compute + keep / 2.0)
    });
    // As often as a call of so many queries loads them.
    let share = length(&plan.graph, attention.query) / queries(plan, attention);
    let staged = Work::Staged.instructions() / PORTS / plan.machine.lanes as f64;
    let loaded = plan.schedule.loaded().iter().map(|Loaded { table, .. }| {
        let elements = count(&mut plan.tensors[table.target].dims.iter().copied());
        share * elements * loads(plan, &plan.tiling) * (price(plan, table, plan.machine).compute + staged)
    });
    (cycles.sum::<f64>() + loaded.sum::<f64>()) / pairs
}

/// Cycles for each element of a table.
pub(super) struct TablePrice {
    /// To compute it.
    pub(super) compute: f64,
    /// To write it to memory, and to read it from there: as long each; both parts of a table in two.
    pub(super) keep: f64,
}

/// The price of an element of a table on a machine.
pub(super) fn price(problem: &Problem, table: &Table, machine: Machine) -> TablePrice {
    let (instructions, of_angles) = instructions(problem, table);
    let by_one = (instructions + STORE) / row_lanes(problem, table, machine);
    let compute = (by_one + of_angles / angle_lanes(problem, table, machine)) / PORTS;
    let parts = 1 + usize::from(table.second.is_some());
    TablePrice { compute, keep: (2 * parts * LANE_BYTES) as f64 / MEMORY }
}

/// Elements that are computed at once: those of a vector where a row is made of whole ones, and pairs of a rotation of whole ones too.
fn row_lanes(problem: &Problem, table: &Table, machine: Machine) -> f64 {
    let (root, inner) = match (&table.source, table.inner) {
        (Source::Squares { .. }, _) => return ROW_LANES as f64,
        (Source::Value(root), Some(inner)) if !table.double => (root, inner),
        _ => return 1.0,
    };
    let Some(extent) = problem.graph.static_extent(inner) else { return 1.0 };
    // Elements of fewer bits are stored one by one.
    let widest = if problem.tensors[table.target].storage.is_narrow() { ROW_LANES } else { machine.lanes };
    let element = Element::of(problem, table, std::slice::from_ref(root));
    let mut row = Row { element, inner, blocks: vec![(extent, false)] };
    let Ok(()) = walk(&mut row, *root) else { return 1.0 };
    let fits = |lanes: &usize| {
        let of_lanes = |(length, neighbours): &(u32, bool)| {
            length.is_multiple_of(*lanes as u32) && (!neighbours || *lanes == ROW_LANES)
        };
        row.blocks.iter().all(of_lanes)
    };
    [widest, ROW_LANES].into_iter().find(fits).unwrap_or(1) as f64
}

/// Cosines, and sines, that are computed at once, in double precision.
fn angle_lanes(problem: &Problem, table: &Table, machine: Machine) -> f64 {
    let lanes = machine.double_lanes();
    let length = table.inner.and_then(|inner| problem.graph.static_extent(inner)).unwrap_or(0) as usize;
    let fits = table.second.is_some() && problem.attention.is_some() && length > 0 && length.is_multiple_of(lanes);
    if fits { lanes as f64 } else { 1.0 }
}

/// Instructions for each element of a table, and those for the cosine and the sine of it.
fn instructions(plan: &Problem, table: &Table) -> (f64, f64) {
    match &table.source {
        Source::Value(value) => (of_values(plan, table, &[*value]), 0.0),
        Source::Sum(terms) => {
            let values: Vec<Value> = terms.iter().map(|term| term.value).collect();
            (of_values(plan, table, &values) + terms.len() as f64, 0.0)
        }
        Source::Cos(angle) | Source::Sin(angle) => (of_values(plan, table, &[*angle]), Work::Angle.instructions()),
        Source::Squares { dim, .. } => (length(&plan.graph, *dim), 0.0),
    }
}

/// Instructions for an element of expressions, what other tables hold left out.
fn of_values(plan: &Problem, table: &Table, roots: &[Value]) -> f64 {
    let mut element = Element::of(plan, table, roots);
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

impl<'p> Element<'p> {
    fn of(plan: &'p Problem, table: &'p Table, roots: &'p [Value]) -> Element<'p> {
        Element { plan, table, roots, seen: vec![false; plan.graph.nodes().len()], instructions: 0.0 }
    }
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

/// A row of a table.
struct Row<'p> {
    element: Element<'p>,
    inner: Axis,
    /// What is made of whole vectors: numbers of elements, and whether neighbours change places in them.
    blocks: Vec<(u32, bool)>,
}

/// An op does not go by rows.
struct NoRow;

impl Domain for Row<'_> {
    type Error = NoRow;

    fn is_known(&self, value: Value) -> bool {
        self.element.is_known(value)
    }

    fn node(&self, value: Value) -> Node {
        self.element.node(value)
    }

    fn operands(&self, node: &Node) -> Vec<Value> {
        match *node {
            // The index has been looked at.
            Node::Gather { table, .. } => vec![table],
            ref node => node.operands(),
        }
    }

    fn make(&mut self, value: Value, node: Node) -> Result<(), NoRow> {
        let graph = &self.element.plan.graph;
        match (node, graph.op(value)) {
            (Node::Rotate { .. }, Op::Rotate { dim, pair, pairing, start, .. }) if *dim == self.inner => {
                let pairs = graph.static_extent(*pair).ok_or(NoRow)?;
                self.blocks.extend([(*start, false), (pairs, *pairing == Pairing::Interleaved)]);
            }
            (Node::Gather { table, axis, index }, _) => {
                self.blocks.push((period(graph, (table, axis, index), self.inner).ok_or(NoRow)?, false));
            }
            (Node::Iota(axis), _) if axis == self.inner => return Err(NoRow),
            (Node::Rotate { .. } | Node::Dot { .. } | Node::Opaque | Node::Product, _) => return Err(NoRow),
            _ => {}
        }
        self.element.seen[value.index()] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rhumb_ir::Graph;
    use rhumb_plugins::{Attention, Registry, Rope, lower};

    use super::price;
    use crate::machine::Machine;
    use crate::plan::{Estimate, Source, plan};
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

    /// As measured: of 512 keys of 8 heads, rotating an element takes two thirds of a cycle longer by 4 lanes than by 8 or 16, and an angle some
    /// ten cycles.
    #[test]
    fn rows_are_priced_by_the_lanes_that_compute_them() {
        let prices = |rope: Rope, machine: Machine| {
            let graph = Attention::heads(8).head_dim(64).scheme(rope).build().expect("a graph");
            let lowered = lower(&graph, &Registry::standard()).expect("lowers");
            let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
            let plan = plan(fused.graph(), machine).expect("a plan");
            let of = |wanted: fn(&Source) -> bool| {
                let table = plan.tables.iter().find(|table| wanted(&table.source)).expect("a table");
                price(&plan, table, machine).compute
            };
            [of(|source| matches!(source, Source::Value(_))), of(|source| matches!(source, Source::Cos(_)))]
        };
        let [four, eight, sixteen] = [4, 8, 16].map(|lanes| prices(Rope::new(), Machine::of(lanes, 32)));
        assert!(four[0] == 2.0 * eight[0] && eight[0] == 2.0 * sixteen[0], "{four:?}, {eight:?}, {sixteen:?}");
        assert!((0.4..0.8).contains(&(four[0] - sixteen[0])), "{four:?}, {sixteen:?}");
        assert!((3.0..20.0).contains(&sixteen[1]) && sixteen[1] < four[1], "{four:?}, {sixteen:?}");
        // Neighbours change places in vectors of four.
        assert_eq!(prices(Rope::new().interleaved(), Machine::of(16, 32))[0], four[0]);
        // 12 pairs are whole vectors of four alone.
        assert_eq!(prices(Rope::new().rotary_dim(24), Machine::of(16, 32))[0], four[0]);
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
