//! Where rows of keys and values that are computed, rotated keys first of all, are computed: once per call, as a table, or while key tiles are
//! loaded. Each place has a price.

use std::fmt;

use rhumb_ir::{Axis, Op, Value};

use super::table_cost::{TablePrice, price};
use super::unit_cost::length;
use super::{Attention, Origin, Plan, Problem, Source, Storage, Table, TensorId};
use crate::machine::Machine;

/// Rows that are computed, and what an element of them costs in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The index of the table that they can be kept in.
    pub(crate) table: usize,
    /// Computed once, written to memory and read from there.
    pub once: Price,
    /// Computed as often as it is loaded.
    pub while_loaded: Price,
}

/// Cycles, to the hundredth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(u32);

impl Price {
    fn of(cycles: f64) -> Price {
        Price((cycles * 100.0).round().clamp(0.0, f64::from(u32::MAX)) as u32)
    }

    pub(super) fn cycles(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Once per call and while loaded, in cycles an element.
impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "once per call {} cycles an element, while loaded {}", self.once, self.while_loaded)
    }
}

/// The tables of rows that could be computed while they are loaded, by this many query tiles.
pub(super) fn places(problem: &Problem, machine: Machine, query_tiles: f64) -> Vec<Placed> {
    let Some(attention) = &problem.attention else { return Vec::new() };
    let placed = |rows: (TensorId, Axis)| {
        let table = problem.tables.iter().position(|table| is_of_rows(problem, table, rows))?;
        let TablePrice { compute, keep } = price(problem, &problem.tables[table], machine);
        let loads = query_tiles * visits(problem, attention, rows.0);
        Some(Placed { table, once: Price::of(compute + keep), while_loaded: Price::of(compute * loads) })
    };
    attention.rows().into_iter().filter_map(placed).collect()
}

impl Plan {
    /// What the rows of a table would cost in another place, if there is one.
    pub(crate) fn placed(&self, table: usize) -> Option<Placed> {
        let attention = self.attention.as_ref()?;
        let queries = length(&self.graph, attention.query) * attention.queries_per_position() as f64;
        let few = self.schedule.is_for_few_queries();
        let query_tiles = if few { 1.0 } else { (queries / self.tiling.queries() as f64).ceil() };
        places(self, self.machine, query_tiles).into_iter().find(|placed| placed.table == table)
    }
}

impl Attention {
    /// The tensors whose rows are keys or values, each with the axis of its rows.
    pub(crate) fn rows(&self) -> Vec<(TensorId, Axis)> {
        let keys = self.products.iter().map(|product| (product.key, product.dim));
        let mut rows: Vec<(TensorId, Axis)> = keys.collect();
        for reduction in &self.reductions {
            if rows.iter().all(|(tensor, _)| *tensor != reduction.value) {
                rows.push((reduction.value, reduction.dim));
            }
        }
        rows
    }
}

/// Whether a table has rows that products or averages alone read, and that can be computed row by row.
fn is_of_rows(problem: &Problem, table: &Table, (tensor, dim): (TensorId, Axis)) -> bool {
    let (Source::Value(value), Some(attention)) = (&table.source, &problem.attention) else { return false };
    let spec = &problem.tensors[tensor];
    let rows = table.target == tensor
        && table.second.is_none()
        && !table.double
        && table.inner == Some(dim)
        && spec.origin == Origin::Table
        && spec.storage == Storage::F32;
    rows && only_rows_read(problem, attention, *value)
        && !other_tables_read(problem, table, *value)
        && readers(problem, tensor) == 1
}

/// Products and averages that read the rows of a tensor.
fn readers(problem: &Problem, tensor: TensorId) -> usize {
    let Some(attention) = &problem.attention else { return 0 };
    let keys = attention.products.iter().filter(|product| product.key == tensor).count();
    keys + attention.reductions.iter().filter(|reduction| reduction.value == tensor).count()
}

/// Whether the products of the score and the average are all that reads a value.
fn only_rows_read(problem: &Problem, attention: &Attention, value: Value) -> bool {
    let graph = &problem.graph;
    let reads = |user: Value| match *graph.op(user) {
        Op::Dot { axis, .. } => axis == attention.key || attention.products.iter().any(|product| product.dot == user),
        _ => false,
    };
    let mut users = graph.values().filter(|user| graph.op(*user).operands().contains(&value));
    graph.outputs().iter().all(|output| output.value != value) && users.all(reads)
}

/// Whether another table is made of a value: of a product that reads it, where that is no part of the tile loop.
fn other_tables_read(problem: &Problem, own: &Table, value: Value) -> bool {
    let graph = &problem.graph;
    let others = problem.tables.iter().filter(|table| table.target != own.target);
    let roots = others
        .flat_map(|table| match &table.source {
            Source::Value(root) | Source::Cos(root) | Source::Sin(root) => vec![*root],
            Source::Sum(terms) => terms.iter().map(|term| term.value).collect(),
            Source::Squares { .. } => Vec::new(),
        })
        .flat_map(|root| graph.op(root).operands().into_iter().chain([root]));
    let is_made = |value: Value| problem.table_of.contains_key(&Source::Value(value));
    graph.below(roots, |reached| !is_made(reached)).any(|reached| reached == value)
}

/// How often a row is loaded by a call of one query tile: once for each outer index that shares it.
fn visits(problem: &Problem, attention: &Attention, tensor: TensorId) -> f64 {
    let (graph, dims) = (&problem.graph, &problem.tensors[tensor].dims);
    let of_axis = |axis: &Axis| {
        if dims.contains(axis) {
            return 1.0;
        }
        let all = length(graph, *axis);
        let packed =
            attention.packed.filter(|packed| packed.axis == *axis).map_or(1.0, |packed| f64::from(packed.heads));
        let groups = dims.iter().find_map(|dim| graph.grouped(*dim).filter(|(finer, _)| finer == axis));
        let sharing = groups.map_or(all, |(_, ratio)| f64::from(ratio));
        (sharing / packed).max(1.0)
    };
    attention.outer.iter().map(of_axis).product()
}
