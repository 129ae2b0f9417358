//! Where rows of keys and values that are computed, rotated keys first of all, are computed: once per call, as a table, or while key tiles are
//! loaded. Extraction decides that (`compiler/src/rewrite/place.rs`); here is which rows kernels can load.

use std::sync::Arc;

use rhumb_ir::{Axis, Op, Value, Walk};

use super::unit_cost::length;
use super::{Attention, Origin, Place, Plan, Problem, Source, Storage, Table, TensorId, Tiling};
use crate::rewrite::{Placed, Regime};

/// The queries assumed of a call of many, where their number is dynamic.
const MANY: f64 = 4096.0;

/// Rows that are computed while they are loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is computed.
    pub table: Table,
    /// What it costs there, and as a table.
    pub placed: Placed,
    /// The input that has a row for each of these, where code finds it by the address in the call record. In decode.
    pub input: Option<TensorId>,
}

/// How often rows are loaded for each outer index by a call of many queries: by the query tiles of each task.
pub(super) fn loads(problem: &Problem, tiling: &Tiling) -> f64 {
    let Some(attention) = &problem.attention else { return 1.0 };
    let rows = queries(problem, attention) * attention.queries_per_position() as f64;
    (rows / (tiling.queries() * tiling.query_tiles_per_task) as f64).ceil().max(1.0)
}

/// The queries of a call of many: `MANY` where their number is dynamic.
pub(super) fn queries(problem: &Problem, attention: &Attention) -> f64 {
    problem.graph.static_extent(attention.query).map_or(MANY, f64::from)
}

impl Plan {
    /// What the rows of a table would cost in another place, if there is one.
    pub(crate) fn placed(&self, table: usize) -> Option<Placed> {
        let few = self.schedule.is_for_few_queries();
        let (table, regime) = (&self.tables[table], if few { Regime::FewQueries } else { Regime::ManyQueries });
        let Source::Value(rows) = table.source else { return None };
        let mut places = self.row_places.in_calls(regime).iter();
        let found = places.find(|(value, _)| *value == rows && can_be_loaded(self, table, !few));
        found.map(|(_, placed)| *placed)
    }
}

impl Plan {
    /// Where each value of [`Problem::graph`] is computed on the plan's machine: as [`Problem::places`] has it, rows that are loaded where they
    /// are, and a factor of queries that are multiplied by pairs of `bf16` on their sums.
    pub fn places(&self) -> Vec<Option<Place>> {
        let mut places = self.problem.places();
        let products = self.attention.iter().flat_map(|attention| &attention.products);
        for product in products.filter(|_| self.bf16_pairs.outside().is_some()) {
            let is_scaled = |value: &Value| self.graph.op(*value).operands().contains(&product.query);
            for value in self.graph.op(product.dot).operands().into_iter().filter(is_scaled) {
                places[value.index()].get_or_insert(Place::PairSum);
            }
        }
        let loaded = self.schedule.loaded().iter().filter_map(|loaded| match loaded.table.source {
            Source::Value(rows) => Some(rows),
            _ => None,
        });
        let mut walk = Walk::of(loaded);
        while let Some(value) = walk.next() {
            let op = self.graph.op(value);
            let is_given = matches!(op, Op::Input { .. } | Op::Const(_) | Op::Table { .. });
            if places[value.index()].is_none() && !is_given {
                places[value.index()] = Some(Place::Loaded);
                walk.enter(op.operands());
            }
        }
        places
    }
}

/// Takes the tables out of a problem whose rows are to be computed while they are loaded, by calls of this regime; `shared` where rows are
/// computed for all that reads them.
pub(super) fn load_rows(own: &mut Arc<Problem>, regime: Regime, shared: bool) -> Vec<Loaded> {
    let mut loaded = Vec::new();
    let places = own.row_places.in_calls(regime).to_vec();
    for (value, placed) in places.into_iter().filter(|(_, placed)| placed.while_loaded) {
        let is_of = |table: &Table| table.source == Source::Value(value) && can_be_loaded(own, table, shared);
        let Some(table) = own.tables.iter().position(is_of) else { continue };
        let own = Arc::make_mut(own);
        let table = own.tables.remove(table);
        own.table_of.remove(&table.source);
        own.tensors[table.target].origin = Origin::KeyTile;
        let input = if shared { None } else { row_input(own, value, table.inner) };
        loaded.push(Loaded { table, placed, input });
    }
    loaded
}

/// The input whose row of a key is all that is read of it for the computed row of that key; the first of several.
fn row_input(own: &Problem, rows: Value, dim: Option<Axis>) -> Option<TensorId> {
    let (key, dim) = (own.attention.as_ref()?.key, dim?);
    let is_made = |value: Value| value != rows && own.table_of.contains_key(&Source::Value(value));
    let (mut found, mut walk) = (None, Walk::of([rows]));
    while let Some(value) = walk.next() {
        match *own.graph.op(value) {
            _ if is_made(value) => continue,
            Op::Rotate { x, .. } => walk.enter([x]),
            // Of what these read there is more than the row of the key.
            Op::Dot { .. } | Op::Gather { .. } => return None,
            ref op => walk.enter(op.operands()),
        }
        let has_rows = |input: &TensorId| [key, dim].iter().all(|axis| own.tensors[*input].dims.contains(axis));
        found = found.or_else(|| own.input(value).filter(has_rows));
    }
    found
}

/// Whether a kernel can compute the rows of a table while they are loaded.
fn can_be_loaded(problem: &Problem, table: &Table, shared: bool) -> bool {
    let Some(attention) = &problem.attention else { return false };
    let rows = attention.rows();
    rows.into_iter().any(|rows| is_of_rows(problem, table, rows) && (shared || readers(attention, rows.0) == 1))
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
    rows && only_rows_read(problem, attention, *value) && !other_tables_read(problem, table, *value)
}

/// Products and averages that read the rows of a tensor.
fn readers(attention: &Attention, tensor: TensorId) -> usize {
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
pub(super) fn visits(problem: &Problem, attention: &Attention, tensor: TensorId) -> f64 {
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
