//! The decode schedule: few queries, whose rows share each load of a key and of a value.

use std::fmt;
use std::sync::Arc;

use rhumb_ir::{Axis, Op, Value};

use super::key_term::computed_key_term;
use super::place::{Loaded, load_rows};
use super::scaled::read_scaled;
use super::{
    Attention, Bf16Pairs, Integers, LONGEST_SUM, Origin, Packed, Plan, Problem, Schedule, Source, Table, TensorId,
    TileShape, Tiling,
};
use crate::machine::{LANE_BYTES, Machine, ROW_LANES};
use crate::problem::sharing;
use crate::rewrite::Regime;

/// Bytes of a key tile's rows: half of a first-level cache, the other half being its values'.
const TILE_BYTES: usize = 32 << 10;

/// The longest row of queries, keys or values that there are kernels for.
const LONGEST_ROW: usize = 1024;

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
    /// Keys of a group: as many as sums that become one vector of the fewest lanes.
    pub const GROUP: usize = ROW_LANES;
}

/// What is decided of a decode kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    /// Register tiles, most rows first; the last has one row.
    pub tiles: Vec<RowTile>,
    /// Keys of a chunk: the keys of a call are cut into chunks of so many, which threads take, and what these come to is joined in their
    /// order. A whole number of key tiles.
    pub chunk_keys: usize,
    /// Tables of rows that are not made: rows are computed for each key tile while it is loaded.
    pub loaded: Vec<Loaded>,
    /// The table of the key term that is not made: its code computes it for each key tile.
    pub key_term: Option<Table>,
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
    /// Products are so many that their rows take more scratch memory than code can address.
    Scratch,
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
            NoDecode::Scratch => write!(f, "its rows take more scratch memory than code can address"),
            NoDecode::Costs => write!(f, "lanes that are queries cost less, however few there are"),
            NoDecode::NotAsked => write!(f, "the prefill kernel alone is asked for"),
        }
    }
}

/// Keys of a chunk, where there are few heads, and where there are [`MANY_HEADS`]. Fewer make for more tasks, each of which loads its queries,
/// waits for its first keys, and stores what it came to.
const CHUNK_KEYS: [usize; 2] = [1024, 2048];

/// Heads of keys and values that are tasks enough for as many threads.
const MANY_HEADS: u64 = 8;

impl Plan {
    /// The plan of a problem for a machine, for calls of few queries.
    ///
    /// # Errors
    /// [`NoDecode`] if the schedule has no place for it.
    pub fn decode(problem: &Arc<Problem>, machine: Machine) -> Result<Plan, NoDecode> {
        suits(problem, machine)?;
        let (problem, (loaded, key_term), bf16_pairs) = loaded(problem, machine);
        let attention = problem.attention.as_ref().ok_or(NoDecode::NoAttention)?;
        let tiling = tiling(machine, attention);
        let (tiles, chunk_keys) = (Decode::tiles(machine), chunk_keys(&problem, attention));
        let schedule = Schedule::Decode(Decode { tiles, chunk_keys, loaded, key_term });
        let integers = Integers::of_decode(&problem, machine);
        Plan::with((problem, bf16_pairs, integers), machine, schedule, tiling).map_err(|_| NoDecode::Scratch)
    }
}

impl Decode {
    /// The tiles of a machine: accumulators fill half of the registers.
    fn tiles(machine: Machine) -> Vec<RowTile> {
        let accumulators = machine.registers / 2;
        let most = if machine.has_many_registers() { 4 } else { 2 };
        let tile = |rows: usize| {
            let key_groups = (accumulators / (RowTile::GROUP * rows)).max(1);
            RowTile { rows, key_groups, columns: (accumulators / rows).clamp(1, 8) }
        };
        [4, 2, 1].into_iter().filter(|rows| *rows <= most).map(tile).collect()
    }
}

/// The tiling that decode shares with prefill: query tiles of a few vectors, one at a time.
fn tiling(machine: Machine, attention: &Attention) -> Tiling {
    let bytes = LANE_BYTES * attention.query_length().max(1);
    // A power of 2: chunks, and pages of a cache, are whole numbers of tiles.
    let keys = (TILE_BYTES / bytes).clamp(16, 64);
    let keys = if keys.is_power_of_two() { keys } else { keys.next_power_of_two() / 2 };
    let shape = TileShape {
        columns: 3,
        queries: 3 * machine.lanes,
        key_rows: RowTile::GROUP,
        partial_sums: machine.lanes,
        value_rows: 1,
    };
    Tiling { shapes: vec![shape], keys, query_tiles_per_task: 1 }
}

/// Keys of a chunk, by the heads of keys and values that the graph fixes: by those of a call, a batch would change bits.
fn chunk_keys(problem: &Problem, attention: &Attention) -> usize {
    let heads = |axis: &Axis| {
        let rows = problem.graph.static_extent(*axis).map_or(1, u64::from);
        let packed = attention.packed.filter(|packed| packed.axis == *axis).map_or(1, |packed| u64::from(packed.heads));
        rows / packed.max(1)
    };
    let heads = attention.outer.iter().map(heads).fold(1, u64::saturating_mul);
    CHUNK_KEYS[usize::from(heads >= MANY_HEADS)]
}

/// Whether rows of a problem suit the schedule.
fn suits(problem: &Problem, machine: Machine) -> Result<(), NoDecode> {
    let attention = problem.attention.as_ref().ok_or(NoDecode::NoAttention)?;
    if attention.products.is_empty() {
        return Err(NoDecode::NoProduct);
    }
    let longest = LONGEST_ROW.min(LONGEST_SUM * machine.lanes);
    let products = attention.products.iter().map(|product| (product.dim, product.length, longest));
    let values = attention.reductions.iter().map(|reduction| (reduction.dim, reduction.length, LONGEST_ROW));
    match products.chain(values).find(|(_, length, most)| *length as usize > *most) {
        Some((axis, length, most)) => {
            let axis = problem.graph.axis(axis).name.clone();
            Err(NoDecode::LongRows { axis, length: length as usize, most })
        }
        None => Ok(()),
    }
}

/// What is not made as a table: rows, and the key term.
type Unmade = (Vec<Loaded>, Option<Table>);

/// The problem as calls of few queries have it, and what is computed while rows are loaded: nothing is pruned, and tables that are read once
/// or so are not made.
fn loaded(problem: &Arc<Problem>, machine: Machine) -> (Arc<Problem>, Unmade, Bf16Pairs) {
    let mut own = Problem::clone(problem);
    own.tables.retain(|table| !matches!(table.source, Source::Squares { .. }));
    let Some(attention) = &mut own.attention else {
        return (problem.clone(), Unmade::default(), Bf16Pairs::default());
    };
    attention.pruning = None;
    attention.packed = packed(problem, attention);
    read_as_stored(&mut own);
    read_scaled(&mut own);
    let key_term = computed_key_term(&mut own, machine);
    read_indices(&mut own);
    let mut own = Arc::new(own);
    let loaded = load_rows(&mut own, Regime::FewQueries, false);
    let bf16_pairs = Bf16Pairs::of_decode(Arc::make_mut(&mut own), machine);
    (own, (loaded, key_term), bf16_pairs)
}

/// Rows of keys and values in 16 bits are read as they lie, and widened whenever they are loaded: no table of them is made.
fn read_as_stored(own: &mut Problem) {
    let made = |table: &Table| own.tensors[table.target].origin == Origin::Table && !table.double;
    let widened = |table: &Table| match table.source {
        Source::Value(value) if made(table) && !is_gathered(own, value) => {
            Some((table.target, value, own.input(value)?))
        }
        _ => None,
    };
    let found: Vec<(TensorId, Value, TensorId)> = own.tables.iter().filter_map(widened).collect();
    let Some(attention) = &mut own.attention else { return };
    let keys = attention.products.iter_mut().map(|product| &mut product.key);
    let rows = keys.chain(attention.reductions.iter_mut().map(|reduction| &mut reduction.value));
    for tensor in rows {
        if let Some((.., input)) = found.iter().find(|(table, ..)| table == tensor) {
            *tensor = *input;
        }
    }
    for (table, value, _) in found {
        own.tables.retain(|step| step.target != table);
        own.table_of.remove(&Source::Value(value));
        // It has neither memory nor an address.
        own.tensors[table].origin = Origin::KeyTile;
    }
}

/// Indices of keys are counted where they are read: no table of them is made.
fn read_indices(own: &mut Problem) {
    let Some(key) = own.attention.as_ref().map(|attention| attention.key) else { return };
    let is_index = |value: Value| matches!(*own.graph.op(value), Op::Iota(axis) if axis == key);
    let counted = |table: &&Table| match table.source {
        Source::Value(value) => {
            is_index(value) && own.tensors[table.target].origin == Origin::Table && !is_gathered(own, value)
        }
        _ => false,
    };
    let found: Vec<TensorId> = own.tables.iter().filter(counted).map(|table| table.target).collect();
    own.tables.retain(|table| !found.contains(&table.target));
    for table in found {
        own.tensors[table].origin = Origin::Index;
    }
}

/// Whether a lookup reads a value: those by an index for each lane take a table.
fn is_gathered(own: &Problem, value: Value) -> bool {
    own.graph.nodes().iter().any(|node| matches!(node.op, Op::Gather { table, .. } if table == value))
}

/// Heads whose rows share tiles: the innermost outer axis of neighbours that read the same keys and values. Their scores may differ in any
/// way, but not what they see.
fn packed(problem: &Problem, attention: &Attention) -> Option<Packed> {
    let graph = &problem.graph;
    let masks = |axis: Axis| attention.masks.iter().any(|mask| graph.varies(graph.ty(mask.value).axes, axis));
    attention.outer.iter().rev().find_map(|&axis| {
        let rows = attention.rows();
        let heads = sharing(graph, axis, rows.iter().flat_map(|(tensor, _)| &problem.tensors[*tensor].dims))?;
        (heads > 1 && !masks(axis)).then_some(Packed { axis, heads })
    })
}
