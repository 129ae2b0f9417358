//! The decode schedule: few queries, whose rows share each load of a key and of a value.

use std::fmt;
use std::sync::Arc;

use rhumb_ir::{Axis, Op, Value};

use super::table_cost::{TablePrice, price};
use super::unit_cost::length;
use super::{Attention, Origin, Packed, Problem, Reduction, Source, Storage, Table, TensorId, TileShape, Tiling};
use crate::machine::Machine;
use crate::problem::gcd;

/// Bytes of a key tile's rows: half of a first-level cache, the other half being its values'.
const TILE_BYTES: usize = 16 << 10;

/// The longest row of queries, keys or values that there are kernels for.
const LONGEST_ROW: usize = 1024;

/// Products that a lane sums up at most: rounding errors grow with the length of a sum.
const LONGEST_SUM: usize = 64;

/// A register tile: rows of queries, and what each is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTile {
    /// Rows: queries of a position, and of each of the heads that are packed.
    pub rows: usize,
    /// Groups of [`RowTile::GROUP`] keys that the rows are multiplied with at once.
    pub key_groups: usize,
    /// Vectors of the values that are averaged at once.
    pub columns: usize,
}

impl RowTile {
    /// Keys of a group: as many as sums that become one vector of 4 lanes.
    pub const GROUP: usize = 4;
}

/// What is decided of a decode kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    /// Register tiles, most rows first; the last has one row.
    pub tiles: Vec<RowTile>,
    /// Rows of keys and values that are computed for each key tile while it is loaded.
    pub loaded: Vec<Loaded>,
}

/// Rows of keys or values that are computed while they are loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is computed.
    pub table: Table,
    /// Cycles for each element, for as often as it is loaded.
    pub cycles: Price,
    /// Cycles for each element of a table that every call makes.
    pub as_table: Price,
}

/// Hundredths of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(pub u32);

impl Price {
    fn of(cycles: f64) -> Price {
        Price((cycles * 100.0).round().clamp(0.0, f64::from(u32::MAX)) as u32)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Why a graph has no decode kernel: calls of few queries take the prefill kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDecode {
    /// There is no attention.
    NoAttention,
    /// Scores have no product of queries and keys.
    NoProduct,
    /// Rows along this axis are longer than those that kernels are made for.
    LongRows {
        /// The axis.
        axis: String,
        /// Its length.
        length: usize,
        /// The greatest that there is a kernel for.
        most: usize,
    },
    /// Lanes that are queries cost less, however few there are.
    Costs,
    /// The prefill kernel alone is asked for.
    NotAsked,
}

impl fmt::Display for NoDecode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoDecode::NoAttention => write!(f, "there is no attention"),
            NoDecode::NoProduct => write!(f, "scores have no product of queries and keys"),
            NoDecode::LongRows { axis, length, most } => {
                write!(f, "axis `{axis}` has {length} elements, and decode kernels take up to {most}")
            }
            NoDecode::Costs => write!(f, "lanes that are queries cost less, however few there are"),
            NoDecode::NotAsked => write!(f, "the prefill kernel alone is asked for"),
        }
    }
}

impl Decode {
    /// The tiles of a machine: accumulators fill half of the registers.
    pub(super) fn tiles(machine: Machine) -> Vec<RowTile> {
        let accumulators = machine.registers / 2;
        let most = if machine.registers >= 32 { 4 } else { 2 };
        let tile = |rows: usize| {
            let key_groups = (accumulators / (RowTile::GROUP * rows)).max(1);
            RowTile { rows, key_groups, columns: (accumulators / rows).clamp(1, 8) }
        };
        [4, 2, 1].into_iter().filter(|rows| *rows <= most).map(tile).collect()
    }
}

/// The tiling that decode shares with prefill: query tiles of a few vectors, one at a time.
pub(super) fn tiling(machine: Machine, attention: &Attention) -> Tiling {
    let bytes = 4 * attention.query_length().max(1);
    let keys = (TILE_BYTES / bytes / 16 * 16).clamp(16, 64);
    let shape = TileShape {
        columns: 3,
        queries: 3 * machine.lanes,
        key_rows: RowTile::GROUP,
        partial_sums: machine.lanes,
        value_rows: 1,
    };
    Tiling { shapes: vec![shape], keys, query_tiles_per_task: 1 }
}

/// Whether rows of a problem suit the schedule.
pub(super) fn suits(problem: &Problem, machine: Machine) -> Result<(), NoDecode> {
    let attention = problem.attention.as_ref().ok_or(NoDecode::NoAttention)?;
    if attention.products.is_empty() {
        return Err(NoDecode::NoProduct);
    }
    let longest = LONGEST_ROW.min(LONGEST_SUM * machine.lanes);
    let products = attention.products.iter().map(|product| (product.dim, product.length, longest));
    let values = attention.reduction.as_ref().map(|reduction| (reduction.dim, reduction.length, LONGEST_ROW));
    match products.chain(values).find(|(_, length, most)| *length as usize > *most) {
        Some((axis, length, most)) => {
            let axis = problem.graph.axis(axis).name.clone();
            Err(NoDecode::LongRows { axis, length: length as usize, most })
        }
        None => Ok(()),
    }
}

/// The problem as calls of few queries have it, and what is computed while rows are loaded: nothing is pruned, and tables of rows that are
/// read once or so are not made.
pub(super) fn loaded(problem: &Arc<Problem>) -> (Arc<Problem>, Vec<Loaded>) {
    let mut own = Problem::clone(problem);
    own.tables.retain(|table| !matches!(table.source, Source::Squares { .. }));
    let Some(attention) = &mut own.attention else { return (problem.clone(), Vec::new()) };
    attention.pruning = None;
    attention.packed = packed(problem, attention);
    let attention = attention.clone();
    let mut loaded = Vec::new();
    for (tensor, dim) in attention.rows() {
        let Some(index) = own.tables.iter().position(|table| is_of_rows(&own, table, (tensor, dim))) else { continue };
        let TablePrice { compute, keep } = price(&own, &own.tables[index]);
        let cycles = Price::of(compute * visits(&own, &attention, tensor));
        let as_table = Price::of(compute + keep);
        if cycles <= as_table {
            let table = own.tables.remove(index);
            if let Source::Value(value) = &table.source {
                own.table_of.remove(&Source::Value(*value));
            }
            own.tensors[tensor].origin = Origin::KeyTile;
            loaded.push(Loaded { table, cycles, as_table });
        }
    }
    (Arc::new(own), loaded)
}

/// Heads whose rows share tiles: the innermost outer axis of neighbours that read the same keys and values. Their scores may differ in any
/// way, but not what they see.
fn packed(problem: &Problem, attention: &Attention) -> Option<Packed> {
    let graph = &problem.graph;
    let masks = |axis: Axis| attention.masks.iter().any(|mask| graph.varies(graph.ty(mask.value).axes, axis));
    attention.outer.iter().rev().find_map(|&axis| {
        let all = graph.static_extent(axis)?;
        let rows = attention.rows();
        let dims = rows.iter().flat_map(|(tensor, _)| &problem.tensors[*tensor].dims);
        let heads = dims.fold(all, |heads, &dim| match graph.grouped(dim) {
            _ if dim == axis => 1,
            Some((finer, ratio)) if finer == axis => gcd(heads, ratio),
            _ => heads,
        });
        (heads > 1 && !masks(axis)).then_some(Packed { axis, heads })
    })
}

impl Attention {
    /// The tensors whose rows are keys or values, each with the axis of its rows.
    pub(crate) fn rows(&self) -> Vec<(TensorId, Axis)> {
        let keys = self.products.iter().map(|product| (product.key, product.dim));
        let mut rows: Vec<(TensorId, Axis)> = keys.collect();
        if let Some(Reduction { value, dim, .. }) = &self.reduction
            && rows.iter().all(|(tensor, _)| tensor != value)
        {
            rows.push((*value, *dim));
        }
        rows
    }
}

/// Whether a table has rows that products or averages alone read, and that can be computed row by row.
fn is_of_rows(problem: &Problem, table: &Table, (tensor, dim): (TensorId, Axis)) -> bool {
    let Source::Value(value) = table.source else { return false };
    let spec = &problem.tensors[tensor];
    let rows = table.target == tensor
        && table.second.is_none()
        && !table.double
        && table.inner == Some(dim)
        && spec.origin == Origin::Table
        && spec.storage == Storage::F32;
    rows && only_dots_read(problem, value) && readers(problem, tensor) == 1
}

/// Products and averages that read the rows of a tensor.
fn readers(problem: &Problem, tensor: TensorId) -> usize {
    let Some(attention) = &problem.attention else { return 0 };
    let keys = attention.products.iter().filter(|product| product.key == tensor).count();
    keys + usize::from(attention.reduction.as_ref().is_some_and(|reduction| reduction.value == tensor))
}

fn only_dots_read(problem: &Problem, value: Value) -> bool {
    let graph = &problem.graph;
    let mut uses = graph.values().filter(|user| graph.op(*user).operands().contains(&value));
    let outputs = graph.outputs().iter().all(|output| output.value != value);
    outputs && uses.all(|user| matches!(graph.op(user), Op::Dot { .. }))
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
