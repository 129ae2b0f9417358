//! The key tiles that a query tile sees, by intervals of the mask's tables over ranges of keys, which are halved until they are decided.

mod bounds;
mod pruning;
mod segments;
mod tiles;

use rhumb_compiler::intervals::{Interval, MaskProgram, TileClass};
use rhumb_compiler::plan::{Attention, Plan, Storage, TensorId};
use rhumb_ir::Axis;

use crate::memory::{Frame, OutOfMemory};
use bounds::Bounds;
pub(crate) use segments::Segment;
use segments::{join_short_runs, push};
pub(crate) use tiles::Tiles;

/// Keys that are classified together at the least.
const UNIT: usize = 16;

/// The queries of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries {
    /// First and end, counted with the heads that are packed.
    pub(crate) range: (usize, usize),
    /// Queries for each position.
    pub(crate) heads: usize,
    /// Queries of a vector.
    pub(crate) lanes: usize,
}

impl Queries {
    fn columns(&self) -> usize {
        (self.range.1 - self.range.0).div_ceil(self.lanes)
    }

    /// The positions of some vectors of queries: first and end.
    fn positions(&self, (from, to): (usize, usize)) -> (usize, usize) {
        let query = |column: usize| (self.range.0 + column * self.lanes).min(self.range.1);
        (query(from) / self.heads, query(to).div_ceil(self.heads))
    }
}

/// The axis that a leaf varies along in its last dimension, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Along {
    /// This many keys share an element: more than 1 along an axis that groups that of keys.
    Keys(usize),
    /// This many queries share an element.
    Queries(usize),
    Neither,
    /// In more ways than intervals are kept of.
    Unknown,
}

impl Along {
    fn of(plan: &Plan, attention: &Attention, table: TensorId) -> Along {
        let dims = &plan.tensors[table].dims;
        let mut along = dims.iter().filter_map(|&dim| match (dim, plan.graph.grouped(dim)) {
            (dim, _) if dim == attention.key => Some(Along::Keys(1)),
            (dim, _) if dim == attention.query => Some(Along::Queries(1)),
            (_, Some((finer, ratio))) if finer == attention.key => Some(Along::Keys(ratio as usize)),
            (_, Some((finer, ratio))) if finer == attention.query => Some(Along::Queries(ratio as usize)),
            _ => None,
        });
        match (along.next(), along.next()) {
            (None, _) => Along::Neither,
            (Some(along), None) => along,
            (Some(_), Some(_)) => Along::Unknown,
        }
    }
}

/// The elements of a row that some indices lie in, where `each` of them share one.
fn elements((first, end): (usize, usize), each: usize) -> (usize, usize) {
    (first / each, end.div_ceil(each))
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    table: TensorId,
    along: Along,
    /// Position of its tree among the trees.
    tree: usize,
}

/// The mask of a plan and the shapes of its leaves: made once per kernel.
#[derive(Debug)]
pub(crate) struct Classifier {
    program: MaskProgram,
    /// Leaves of the mask, then leaves of the score alone, then the squared norms.
    leaves: Vec<Leaf>,
    of_mask: usize,
    of_score: usize,
    pruning: Option<Bounds>,
    key: Axis,
    query: Axis,
    /// The high parts of the key terms.
    key_term: Option<TensorId>,
    /// Keys of a key tile, where key tiles lie on a grid.
    grid: Option<usize>,
}

/// Least and greatest element of each leaf over keys, for every key tile and every power of two of tiles. Made once per call.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    nodes: Vec<Interval>,
    /// First node of each tree.
    starts: Vec<usize>,
    levels: Vec<(usize, usize)>,
    per_row: usize,
    tiles: usize,
    /// Greatest key term of each unit of keys, row by row of the table.
    key_terms: Vec<f32>,
    /// Whether keys may have no weight at each number of the outer indices.
    pub(crate) can_prune: Vec<bool>,
    /// Rows of a table.
    pub(crate) rows: Vec<usize>,
}

/// Memory of one thread's classifications.
#[derive(Debug, Default)]
pub(crate) struct ClassifyScratch {
    steps: Vec<Interval>,
    fixed: Vec<Interval>,
    rows: Vec<usize>,
    kept: Vec<Segment>,
    dropped: Vec<(usize, usize)>,
    pub(crate) segments: Vec<Segment>,
    /// The query tiles of a task.
    pub(crate) query_tiles: Vec<QueryTile>,
}

/// A query tile of a task, and how far it is through the keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryTile {
    /// First query.
    pub(crate) first: usize,
    /// Number of queries.
    pub(crate) queries: usize,
    /// Its segments: the next, and the end of them.
    pub(crate) segment: usize,
    pub(crate) segments_end: usize,
    /// The next key of the segment; none yet.
    pub(crate) key: Option<usize>,
}

impl Trees {
    /// Appends the tree of a row of a table, of which `each` keys share an element.
    fn build(&mut self, plan: &Plan, frame: &Frame<'_, '_>, table: TensorId, (row, keys, each): (usize, usize, usize)) {
        let base = self.nodes.len();
        let start = row * (keys / each);
        for tile in 0..self.tiles {
            let (first, end) = elements((tile * UNIT, ((tile + 1) * UNIT).min(keys)), each);
            self.nodes.push(range(plan, frame, table, start + first, start + end));
        }
        for level in 1..self.levels.len() {
            let (below, below_width) = self.levels[level - 1];
            for node in 0..self.levels[level].1 {
                let left = self.nodes[base + below + 2 * node];
                let right = 2 * node + 1;
                let joined = if right < below_width { left.hull(self.nodes[base + below + right]) } else { left };
                self.nodes.push(joined);
            }
        }
    }
}

impl Classifier {
    pub(crate) fn new(plan: &Plan, attention: &Attention) -> Classifier {
        let program = MaskProgram::new(plan, attention);
        let pruning = Bounds::new(plan, attention);
        let mut leaves: Vec<Leaf> = Vec::new();
        let mut trees = 0;
        let mut add = |table: TensorId| {
            if leaves.iter().any(|leaf| leaf.table == table) {
                return leaves.len();
            }
            let along = Along::of(plan, attention, table);
            leaves.push(Leaf { table, along, tree: trees });
            trees += usize::from(matches!(along, Along::Keys(_)));
            leaves.len()
        };
        let of_mask = program.leaves().map(&mut add).last().unwrap_or(0);
        let of_score = pruning.iter().flat_map(Bounds::leaves).map(&mut add).last().unwrap_or(of_mask);
        pruning.iter().flat_map(Bounds::squares).for_each(|table| _ = add(table));
        let (key, query) = (attention.key, attention.query);
        let key_term = attention.key_term.map(|term| term.high);
        let grid = attention.on_grid.then_some(plan.tiling.keys);
        Classifier { program, leaves, of_mask, of_score, pruning, key, query, key_term, grid }
    }

    /// Fills the trees from the tables of a call: of the mask, and if wanted of the score.
    pub(crate) fn build(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &mut Trees,
        score: bool,
    ) -> Result<(), OutOfMemory> {
        let keys = frame.length(self.key);
        trees.nodes.clear();
        trees.starts.clear();
        trees.levels.clear();
        trees.tiles = keys.div_ceil(UNIT);
        let (mut width, mut first) = (trees.tiles, 0);
        while width > 0 {
            trees.levels.push((first, width));
            first += width;
            if width == 1 {
                break;
            }
            width = width.div_ceil(2);
        }
        trees.per_row = first;
        trees.key_terms.clear();
        if let Some(term) = self.key_term
            && keys > 0
        {
            // `max` passes NaN by.
            let greatest = |unit: &[f32]| unit.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let table = frame.f32_table(term);
            reserve(&mut trees.key_terms, (table.len() / keys).saturating_mul(trees.tiles))?;
            for row in table.chunks(keys) {
                trees.key_terms.extend(row.chunks(UNIT).map(greatest));
            }
        }
        let planted = if score { self.of_score } else { self.of_mask };
        for leaf in &self.leaves[..planted] {
            let Along::Keys(each) = leaf.along else { continue };
            trees.starts.push(trees.nodes.len());
            let len = plan.tensors[leaf.table].dims.iter().map(|axis| frame.length(*axis)).product::<usize>();
            let rows = len.checked_div(keys / each).unwrap_or(0);
            reserve(&mut trees.nodes, rows.saturating_mul(trees.per_row))?;
            for row in 0..rows {
                trees.build(plan, frame, leaf.table, (row, keys, each));
            }
        }
        Ok(())
    }

    /// Fills the trees of the rows of a table that `trees` tells; its others are left empty.
    pub(crate) fn build_rows(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &mut Trees,
        table: TensorId,
    ) -> Result<(), OutOfMemory> {
        let keys = frame.length(self.key);
        trees.starts.push(trees.nodes.len());
        let end = trees.rows.last().map_or(0, |last| last + 1);
        reserve(&mut trees.nodes, end.saturating_mul(trees.per_row))?;
        let rows = std::mem::take(&mut trees.rows);
        for row in 0..end {
            if rows.binary_search(&row).is_ok() {
                trees.build(plan, frame, table, (row, keys, 1));
            } else {
                trees.nodes.resize(trees.nodes.len() + trees.per_row, Interval::ANY);
            }
        }
        trees.rows = rows;
        Ok(())
    }

    /// The greatest key term of the segments that every query of a tile sees whole, `-inf` without such; `row` is that of the table. Not
    /// NaN.
    pub(crate) fn greatest_key_term(&self, trees: &Trees, segments: &[Segment], row: usize) -> f32 {
        let units = |segment: &Segment| {
            let base = row * trees.tiles;
            trees.key_terms.get(base + segment.first / UNIT..base + segment.end.div_ceil(UNIT))
        };
        let full = segments.iter().filter(|segment| !segment.partial);
        full.filter_map(units).flatten().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Appends what some queries see; `row` gives the row of a table at the outer indices of the task.
    pub(crate) fn segments(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &Trees,
        queries: Queries,
        memory: &mut ClassifyScratch,
        row: impl Fn(TensorId) -> usize,
    ) {
        let keys = frame.length(self.key);
        if keys == 0 {
            return;
        }
        let columns = queries.columns();
        if self.program.is_empty() {
            memory.segments.push(Segment::new((0, keys), false, (0, columns)));
            return;
        }
        memory.rows.clear();
        memory.rows.extend(self.leaves[..self.of_mask].iter().map(|leaf| row(leaf.table)));
        let top = trees.levels.len().saturating_sub(1);
        let start = memory.segments.len();
        self.fix(plan, frame, queries.positions((0, columns)), memory);
        self.descend(trees, memory, start, top, 0, (keys, columns));
        match self.grid {
            Some(cell) => self.onto_grid(memory, start, cell),
            None => join_short_runs(&mut memory.segments, start),
        }
        if columns > 1 && memory.segments[start..].iter().any(|segment| segment.partial) {
            self.narrow(plan, frame, trees, queries, memory, start);
        }
    }

    /// The key tiles of a segment.
    pub(crate) fn tiles(&self, segment: &Segment, most: usize) -> Tiles {
        let keys = (segment.first, segment.end);
        if self.grid.is_some() { Tiles::on_grid(keys, most) } else { Tiles::new(keys, most) }
    }

    /// Sets the intervals of all leaves but those along keys, for queries at some positions.
    fn fix(&self, plan: &Plan, frame: &Frame<'_, '_>, (first, end): (usize, usize), memory: &mut ClassifyScratch) {
        let ClassifyScratch { fixed, rows, .. } = memory;
        let queries = frame.length(self.query);
        fixed.clear();
        fixed.extend(self.leaves.iter().zip(rows).map(|(leaf, &mut row)| match leaf.along {
            Along::Keys(_) | Along::Unknown => Interval::ANY,
            Along::Queries(each) => {
                let (start, (first, end)) = (row * (queries / each), elements((first, end), each));
                range(plan, frame, leaf.table, start + first, start + end)
            }
            Along::Neither => range(plan, frame, leaf.table, row, row + 1),
        }));
    }

    /// The interval of a leaf over a node of the trees, for the queries that leaves are fixed for.
    fn leaf(
        &self,
        trees: &Trees,
        (fixed, rows): (&[Interval], &[usize]),
        (level, node): (usize, usize),
        table: TensorId,
    ) -> Interval {
        let Some(position) = self.leaves.iter().position(|leaf| leaf.table == table) else { return Interval::ANY };
        let leaf = self.leaves[position];
        match leaf.along {
            Along::Keys(_) => {
                let base = trees.starts[leaf.tree] + rows[position] * trees.per_row;
                trees.nodes.get(base + trees.levels[level].0 + node).copied().unwrap_or(Interval::ANY)
            }
            _ => fixed[position],
        }
    }

    /// The class of a node of the trees, for the queries that leaves are fixed for.
    fn class(&self, trees: &Trees, memory: &mut ClassifyScratch, level: usize, node: usize) -> TileClass {
        let ClassifyScratch { steps, fixed, rows, .. } = memory;
        self.program.classify(steps, |table| self.leaf(trees, (fixed, rows), (level, node), table))
    }

    fn descend(
        &self,
        trees: &Trees,
        memory: &mut ClassifyScratch,
        start: usize,
        level: usize,
        node: usize,
        (keys, columns): (usize, usize),
    ) {
        match self.class(trees, memory, level, node) {
            TileClass::Skip => {}
            TileClass::Partial if level > 0 => {
                self.descend(trees, memory, start, level - 1, 2 * node, (keys, columns));
                if 2 * node + 1 < trees.levels[level - 1].1 {
                    self.descend(trees, memory, start, level - 1, 2 * node + 1, (keys, columns));
                }
            }
            class => {
                let span = UNIT << level;
                let (first, end) = (node * span, ((node + 1) * span).min(keys));
                let partial = class == TileClass::Partial;
                push(&mut memory.segments, start, Segment::new((first, end), partial, (0, columns)));
            }
        }
    }

    /// Cuts segments at key tiles of a grid, with at most one segment in each: from the first unit that is seen to the last.
    fn onto_grid(&self, memory: &mut ClassifyScratch, start: usize, cell: usize) {
        let ClassifyScratch { kept, segments, .. } = memory;
        kept.clear();
        for segment in segments.drain(start..) {
            let mut first = segment.first;
            while first < segment.end {
                let end = (first / cell + 1).saturating_mul(cell).min(segment.end);
                match kept.last_mut() {
                    Some(last) if last.first / cell == first / cell => {
                        last.partial |= segment.partial || last.end < first;
                        last.end = end;
                    }
                    _ => kept.push(Segment { first, end, ..segment }),
                }
                first = end;
            }
        }
        for segment in kept.iter() {
            push(segments, start, *segment);
        }
    }

    /// Cuts partial segments where the vectors of queries that see something change.
    fn narrow(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &Trees,
        queries: Queries,
        memory: &mut ClassifyScratch,
        start: usize,
    ) {
        let columns = queries.columns();
        let mut kept = std::mem::take(&mut memory.kept);
        kept.clear();
        for segment in memory.segments.drain(start..) {
            let step = if segment.partial { self.grid.unwrap_or(UNIT) } else { usize::MAX };
            let columns = if segment.partial { (columns, 0) } else { (0, columns) };
            let mut first = segment.first;
            while first < segment.end {
                let end = (first / step + 1).saturating_mul(step).min(segment.end);
                kept.push(Segment { first, end, columns, ..segment });
                first = end;
            }
        }
        for column in 0..columns {
            self.fix(plan, frame, queries.positions((column, column + 1)), memory);
            for segment in kept.iter_mut().filter(|segment| segment.partial) {
                let mut units = segment.first / UNIT..segment.end.div_ceil(UNIT);
                if units.any(|unit| self.class(trees, memory, 0, unit) != TileClass::Skip) {
                    segment.columns = (segment.columns.0.min(column), column + 1);
                }
            }
        }
        for segment in kept.iter().filter(|segment| segment.columns.0 < segment.columns.1) {
            push(&mut memory.segments, start, *segment);
        }
        memory.kept = kept;
    }
}

/// Makes room for more elements.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), OutOfMemory> {
    list.try_reserve(more).map_err(|_| OutOfMemory { bytes: more.saturating_mul(size_of::<T>()) })
}

/// The interval of some elements of a table.
fn range(plan: &Plan, frame: &Frame<'_, '_>, table: TensorId, first: usize, end: usize) -> Interval {
    fn around<T: Copy>(elements: Option<&[T]>, number: impl Fn(T) -> f64) -> Interval {
        let Some(elements) = elements else { return Interval::ANY };
        Interval::around(elements.iter().map(|x| number(*x)))
    }
    match plan.tensors[table].storage {
        Storage::F32 => around(frame.f32_table(table).get(first..end), f64::from),
        Storage::F64 => around(frame.f64_table(table).get(first..end), |x| x),
        Storage::I32 => around(frame.i32_table(table).get(first..end), f64::from),
        Storage::Mask => around(frame.i32_table(table).get(first..end), |x| f64::from(u8::from(x != 0))),
        Storage::Byte => Interval::ANY,
    }
}
