//! A task: a few query tiles of one outer index, which take turns at the keys.

use rhumb_compiler::abi::{MOST_PRODUCTS, SHARES, TileCall};
use rhumb_compiler::plan::{Attention, Plan, Pruning};

use super::functions::{Functions, Shaped, write};
use crate::classify::{Classifier, ClassifyScratch, Queries, QueryTile, Segment, Trees};
use crate::memory::{Frame, Function, Workspace};
use crate::outer::{Outer, Rows};

/// A few query tiles of one outer index, which take turns at the keys.
pub(super) struct Task<'t, 'a, 'p> {
    pub(super) plan: &'t Plan,
    pub(super) attention: &'t Attention,
    pub(super) frame: &'t Frame<'a, 'p>,
    pub(super) classifier: &'t Classifier,
    pub(super) trees: &'t Trees,
    pub(super) functions: Functions<'t>,
    pub(super) shapes: &'t [Shaped<'t>],
    pub(super) outer: Outer<'t, 'a, 'p>,
    /// Rows of the keys, for each product of the score.
    pub(super) keys: [Rows; MOST_PRODUCTS],
    /// Rows of the values.
    pub(super) values: Rows,
    /// Whether keys without weight are pruned.
    pub(super) pruning: bool,
    /// The first query tile, and the end of them.
    pub(super) query_tiles: (usize, usize),
}

/// Values of a key tile that were scanned last, and whether one is NaN or infinite.
pub(super) type Scanned = Option<((usize, usize), bool)>;

/// Keys that a function is called for: from and to.
#[derive(Clone, Copy, Default)]
pub(super) struct TileArgs {
    pub(super) keys: (usize, usize),
    /// Keys of the next key tile.
    pub(super) next: (usize, usize),
    /// The position of this query tile among those that take turns at the keys, and their number: it prefetches its share of the next keys.
    pub(super) turn: (usize, usize),
    /// Vectors of queries that are left out, from the first on.
    pub(super) column: usize,
}

impl Task<'_, '_, '_> {
    pub(super) fn run(&self, scratch: &mut Workspace, memory: &mut ClassifyScratch) {
        let (plan, attention) = (self.plan, self.attention);
        write(scratch, plan.scratch.outer, self.outer.indices());
        memory.segments.clear();
        memory.query_tiles.clear();
        let turns = self.query_tiles.1 - self.query_tiles.0;
        let mut scanned = None;
        let mut before: Option<QueryTile> = None;
        for position in 0..turns {
            let first = (self.query_tiles.0 + position) * plan.tiling.queries();
            let segment = memory.segments.len();
            let queries = self.segments(first, memory);
            let end = queries.range.1;
            let row = |table| self.outer.row(table);
            // Without a reference, keys that the bias favours come first: their scores make the bases.
            let near = match self.pruning && attention.key_term.is_none() {
                true => self.classifier.seed_key(plan, self.frame, self.trees, queries, (memory, segment), row),
                false => None,
            };
            let near = near.and_then(|key| take_tile(&mut memory.segments, segment, key));
            let segments_end = memory.segments.len();
            let mut query_tile = QueryTile { first, queries: end - first, segment, segments_end, key: None };
            // Pruning comes later: until then the query tile before tells about where the first key tile is.
            let first_tile = |query_tile: &QueryTile| next_tile(query_tile, &memory.segments);
            let (next, turn) = match (near, &before) {
                (Some(near), _) => ((near.first, near.end), (0, 1)),
                (None, Some(before)) if self.pruning => (first_tile(before), (position, turns)),
                (None, _) => (first_tile(&query_tile), (position, turns)),
            };
            self.call(
                self.functions.begin,
                scratch,
                position,
                &query_tile,
                TileArgs { next, turn, ..TileArgs::default() },
            );
            let mut base = attention.key_term.map(|_| self.refer(scratch, position, &query_tile, memory, |_| false));
            if let Some(near) = near {
                let next = before.map_or((0, 0), |query_tile| next_tile(&query_tile, &memory.segments));
                let range = TileArgs { keys: (near.first, near.end), next, turn: (position, turns), column: 0 };
                self.add(scratch, position, &query_tile, (near, range), &mut scanned);
                base = Some(self.least_base(scratch, position, &query_tile));
            }
            if let (Some(base), true) = (base, self.pruning) {
                self.prune(scratch, position, &query_tile, memory, base);
                query_tile.segments_end = memory.segments.len();
            }
            before = Some(query_tile);
            memory.query_tiles.push(query_tile);
        }
        loop {
            let turns =
                memory.query_tiles.iter().filter(|query_tile| query_tile.segment < query_tile.segments_end).count();
            let mut turn = 0;
            for position in 0..memory.query_tiles.len() {
                if self.advance(scratch, position, memory, (turn, turns), &mut scanned) {
                    turn += 1;
                }
            }
            if turns == 0 {
                break;
            }
        }
        if attention.key_term.is_some() {
            for position in 0..memory.query_tiles.len() {
                self.run_again(scratch, position, memory, &mut scanned);
            }
        }
        for (position, query_tile) in memory.query_tiles.iter().enumerate() {
            self.call(self.functions.end, scratch, position, query_tile, TileArgs::default());
        }
    }

    /// The query tile from a query on.
    fn queries(&self, first: usize) -> Queries {
        let (attention, heads) = (self.attention, self.attention.queries_per_position());
        let all = self.frame.length(attention.query).saturating_mul(heads);
        let end = (first + self.plan.tiling.queries()).min(all);
        Queries { range: (first, end), heads, lanes: self.plan.machine.lanes }
    }

    /// Appends the segments of the query tile from a query on.
    pub(super) fn segments(&self, first: usize, memory: &mut ClassifyScratch) -> Queries {
        let queries = self.queries(first);
        let start = memory.segments.len();
        let row = |table| self.outer.row(table);
        self.classifier.segments(self.plan, self.frame, self.trees, queries, memory, row);
        for segment in &mut memory.segments[start..] {
            segment.tiles = self.classifier.tiles(segment, self.plan.tiling.keys);
        }
        queries
    }

    /// Adds the next key tile to a query tile; false if there is none.
    pub(super) fn advance(
        &self,
        scratch: &mut Workspace,
        position: usize,
        memory: &mut ClassifyScratch,
        turn: (usize, usize),
        scanned: &mut Scanned,
    ) -> bool {
        let query_tile = memory.query_tiles[position];
        let Some(&segment) = memory.segments[..query_tile.segments_end].get(query_tile.segment) else { return false };
        let keys = next_tile(&query_tile, &memory.segments);
        let advanced = &mut memory.query_tiles[position];
        (advanced.segment, advanced.key) =
            if keys.1 < segment.end { (query_tile.segment, Some(keys.1)) } else { (query_tile.segment + 1, None) };
        let next = next_tile(advanced, &memory.segments);
        let range = TileArgs { keys, next, turn, column: 0 };
        self.add(scratch, position, &query_tile, (segment, range), scanned);
        true
    }

    /// Adds a key tile of a segment to a query tile.
    fn add(
        &self,
        scratch: &mut Workspace,
        position: usize,
        query_tile: &QueryTile,
        (segment, mut range): (Segment, TileArgs),
        scanned: &mut Scanned,
    ) {
        let tiling = &self.plan.tiling;
        let hides = segment.partial || self.attention.may_have_no_weight();
        let guarded = hides && self.has_special_values(scratch, position, query_tile, range, scanned);
        let (column, shape) = tiling.part(segment.columns.0, segment.columns.1);
        let shaped = self.shapes.get(shape);
        let function = match (guarded, segment.partial) {
            (true, _) => self.functions.guarded,
            (false, true) => shaped.and_then(|shaped| shaped.partial),
            (false, false) => shaped.and_then(|shaped| shaped.full),
        };
        range.column = if guarded { 0 } else { column };
        self.call(function, scratch, position, query_tile, range);
    }

    /// Part of the state of a query tile: a number for each of some queries.
    pub(super) fn state<'s>(
        &self,
        scratch: &'s mut Workspace,
        position: usize,
        part: usize,
        queries: usize,
    ) -> Option<&'s mut [f32]> {
        let layout = self.plan.scratch;
        scratch.slice_mut::<f32>(layout.states + position * layout.state_bytes + part, queries)
    }

    /// The least base of the queries of a tile; `-inf` where one has no score yet.
    fn least_base(&self, scratch: &mut Workspace, position: usize, query_tile: &QueryTile) -> f64 {
        let layout = self.plan.scratch;
        let mut least = |part: usize| {
            let slots = self.state(scratch, position, part, query_tile.queries);
            // A row that is NaN stays NaN, whatever is pruned.
            slots.map_or(f32::NEG_INFINITY, |slots| slots.iter().copied().fold(f32::INFINITY, f32::min))
        };
        if least(layout.limits) == f32::NEG_INFINITY { f64::NEG_INFINITY } else { f64::from(least(layout.bases)) }
    }

    /// Leaves out what has no weight for the queries of a tile: all of its scores are too far below `base`, the least of the queries'.
    fn prune(
        &self,
        scratch: &mut Workspace,
        position: usize,
        query_tile: &QueryTile,
        memory: &mut ClassifyScratch,
        base: f64,
    ) {
        // Without a score yet there is no limit.
        if base == f64::NEG_INFINITY {
            return;
        }
        // Scores are rounded otherwise than their bounds are.
        const ROOM: f64 = 1.0 / 64.0;
        let limit = base - Pruning::BELOW - ROOM;
        self.call(self.functions.squares, scratch, position, query_tile, TileArgs::default());
        let squares = match self.functions.squares {
            Some(_) => self.state(scratch, position, self.plan.scratch.squares, query_tile.queries),
            None => None,
        };
        let squares = squares.map_or(&[][..], |squares| &*squares);
        let row = |table| self.outer.row(table);
        let queries = self.queries(query_tile.first);
        self.classifier.prune(
            self.plan,
            self.frame,
            self.trees,
            queries,
            memory,
            (query_tile.segment, squares, limit),
            row,
        );
    }

    /// Whether a value of the key tile is NaN or infinite.
    fn has_special_values(
        &self,
        scratch: &mut Workspace,
        position: usize,
        query_tile: &QueryTile,
        range: TileArgs,
        scanned: &mut Scanned,
    ) -> bool {
        let Some(scan) = self.functions.scan else { return false };
        if let Some((keys, special)) = *scanned
            && keys == range.keys
        {
            return special;
        }
        self.call(Some(scan), scratch, position, query_tile, range);
        let answer = scratch.slice::<TileCall>(self.plan.scratch.call, 1);
        let special = answer.is_some_and(|call| call[0].not_finite != 0);
        *scanned = Some((range.keys, special));
        special
    }

    /// Runs a function on the query tile with this position in the task, and a range of keys.
    pub(super) fn call(
        &self,
        function: Option<Function<'_>>,
        scratch: &mut Workspace,
        position: usize,
        query_tile: &QueryTile,
        range: TileArgs,
    ) {
        let layout = self.plan.scratch;
        let TileArgs { keys, next, turn: (turn, turns), column } = range;
        let skipped = column * self.plan.machine.lanes;
        // All that a state holds of a query takes 4 bytes.
        let state = layout.states + position * layout.state_bytes + 4 * skipped;
        let share = |turn: usize| (SHARES * turn).checked_div(turns).unwrap_or(0);
        let call = TileCall {
            first_query: (query_tile.first + skipped) as u64,
            queries: (query_tile.queries - skipped) as u64,
            first_key: keys.0 as u64,
            end_key: keys.1 as u64,
            state: state as u64,
            next_key: next.0 as u64,
            next_end: next.1 as u64,
            keys: self.keys.map(|rows| rows.of(keys.0)),
            values: self.values.of(keys.0),
            next_keys: self.keys.map(|rows| rows.of(next.0)),
            next_values: self.values.of(next.0),
            share_from: share(turn) as u64,
            share_to: share(turn + 1) as u64,
            not_finite: 0,
        };
        write(scratch, layout.call, &[call]);
        if let Some(function) = function {
            // SAFETY: the function is of this plan, whose frame this is, and the scratch memory has the plan's size and holds its
            // constants; a task has at most as many query tiles as there are states, and `Tiling::part` keeps a shape within its
            // state. Indices come from the lengths of the axes and of groups of heads, the query tile's shape has room for its queries,
            // and a task writes the output elements of its own queries alone.
            unsafe { self.frame.run(function, scratch) }
        }
    }
}

/// Whether a call looks for keys without weight.
pub(super) fn pruning(attention: &Attention, frame: &Frame<'_, '_>) -> bool {
    let (queries, keys) = (frame.length(attention.query), frame.length(attention.key));
    attention.pruning.is_some() && queries >= Pruning::QUERIES && keys >= Pruning::KEYS
}

/// The key tile that a query tile comes to next; empty if there is none.
fn next_tile(query_tile: &QueryTile, segments: &[Segment]) -> (usize, usize) {
    let Some(segment) = segments[..query_tile.segments_end].get(query_tile.segment) else { return (0, 0) };
    let key = query_tile.key.unwrap_or(segment.first);
    (key, segment.tiles.around(key).1)
}

/// Takes the tile with this key out of the segments from `start` on.
fn take_tile(segments: &mut Vec<Segment>, start: usize, key: usize) -> Option<Segment> {
    let index = start + segments[start..].iter().position(|segment| (segment.first..segment.end).contains(&key))?;
    let whole = segments[index];
    let (first, end) = whole.tiles.around(key);
    let taken = Segment { first, end, ..whole };
    segments.remove(index);
    for rest in [Segment { first: taken.end, ..whole }, Segment { end: first, ..whole }] {
        if rest.first < rest.end {
            segments.insert(index, rest);
        }
    }
    Some(taken)
}
