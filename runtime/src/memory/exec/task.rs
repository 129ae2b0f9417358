//! A task: a few query tiles of one outer index, which take turns at the keys.

use rhumb_compiler::abi::{SHARES, TileCall};
use rhumb_compiler::plan::{Attention, Plan, Vanishing};

use super::functions::{Functions, Shaped, write};
use crate::classify::{Block, Classifier, Memory, Queries, Segment, Trees};
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
    /// Rows of the keys and of the values.
    pub(super) rows: [Rows; 2],
    /// Whether keys without weight are left out.
    pub(super) vanishing: bool,
    /// The first query tile, and the end of them.
    pub(super) blocks: (usize, usize),
}

/// Values of a key tile that were scanned last, and whether one is NaN or infinite.
pub(super) type Scanned = Option<((usize, usize), bool)>;

/// Keys that a function is called for: from and to.
#[derive(Clone, Copy, Default)]
pub(super) struct Range {
    pub(super) keys: (usize, usize),
    /// Those that come next.
    pub(super) next: (usize, usize),
    /// Which of how many query tiles this is that take turns at the keys: it prefetches its share of the next ones.
    pub(super) turn: (usize, usize),
    /// Vectors of queries that are left out, from the first on.
    pub(super) column: usize,
}

impl Task<'_, '_, '_> {
    pub(super) fn run(&self, scratch: &mut Workspace, memory: &mut Memory) {
        let (plan, attention) = (self.plan, self.attention);
        write(scratch, plan.scratch.outer, self.outer.indices());
        memory.segments.clear();
        memory.blocks.clear();
        let turns = self.blocks.1 - self.blocks.0;
        let mut scanned = None;
        let mut before: Option<Block> = None;
        for position in 0..turns {
            let first = (self.blocks.0 + position) * attention.tiling.queries();
            let segment = memory.segments.len();
            let queries = self.segments(first, memory);
            let end = queries.range.1;
            let row = |table| self.outer.row(table);
            // Without a reference, keys that the bias favours come first: their scores make the bases.
            let near = match self.vanishing && attention.key_term.is_none() {
                true => self.classifier.near(plan, self.frame, self.trees, queries, (memory, segment), row),
                false => None,
            };
            let near = near.and_then(|key| take_tile(&mut memory.segments, segment, key));
            let segments_end = memory.segments.len();
            let mut block = Block { first, queries: end - first, segment, segments_end, key: None };
            // What is read first, once keys are left out, is about what it is for the tile before.
            let first_tile = |block: &Block| next_tile(block, &memory.segments);
            let (next, turn) = match (near, &before) {
                (Some(near), _) => ((near.first, near.end), (0, 1)),
                (None, Some(before)) if self.vanishing => (first_tile(before), (position, turns)),
                (None, _) => (first_tile(&block), (position, turns)),
            };
            self.call(self.functions.begin, scratch, position, &block, Range { next, turn, ..Range::default() });
            let mut base = attention.key_term.map(|_| self.refer(scratch, position, &block, memory, |_| false));
            if let Some(near) = near {
                let next = before.map_or((0, 0), |block| next_tile(&block, &memory.segments));
                let range = Range { keys: (near.first, near.end), next, turn: (position, turns), column: 0 };
                self.add(scratch, position, &block, (near, range), &mut scanned);
                base = Some(self.least_base(scratch, position, &block));
            }
            if let (Some(base), true) = (base, self.vanishing) {
                self.leave_out(scratch, position, &block, memory, base);
                block.segments_end = memory.segments.len();
            }
            before = Some(block);
            memory.blocks.push(block);
        }
        loop {
            let turns = memory.blocks.iter().filter(|block| block.segment < block.segments_end).count();
            let mut turn = 0;
            for position in 0..memory.blocks.len() {
                if self.advance(scratch, position, memory, (turn, turns), &mut scanned) {
                    turn += 1;
                }
            }
            if turns == 0 {
                break;
            }
        }
        if attention.key_term.is_some() {
            for position in 0..memory.blocks.len() {
                self.run_again(scratch, position, memory, &mut scanned);
            }
        }
        for (position, block) in memory.blocks.iter().enumerate() {
            self.call(self.functions.end, scratch, position, block, Range::default());
        }
    }

    /// The query tile from a query on.
    fn queries(&self, first: usize) -> Queries {
        let (attention, heads) = (self.attention, self.attention.queries_per_position());
        let all = self.frame.length(attention.query).saturating_mul(heads);
        let end = (first + attention.tiling.queries()).min(all);
        Queries { range: (first, end), heads, lanes: self.plan.machine.lanes }
    }

    /// Appends the segments of the query tile from a query on.
    pub(super) fn segments(&self, first: usize, memory: &mut Memory) -> Queries {
        let (attention, queries) = (self.attention, self.queries(first));
        let start = memory.segments.len();
        let row = |table| self.outer.row(table);
        self.classifier.segments(self.plan, self.frame, self.trees, queries, memory, row);
        for segment in &mut memory.segments[start..] {
            segment.tiles = self.classifier.tiles(segment, attention.tiling.keys);
        }
        queries
    }

    /// Adds the next key tile to a query tile; false if there is none.
    pub(super) fn advance(
        &self,
        scratch: &mut Workspace,
        position: usize,
        memory: &mut Memory,
        turn: (usize, usize),
        scanned: &mut Scanned,
    ) -> bool {
        let block = memory.blocks[position];
        let Some(&segment) = memory.segments[..block.segments_end].get(block.segment) else { return false };
        let keys = next_tile(&block, &memory.segments);
        let advanced = &mut memory.blocks[position];
        (advanced.segment, advanced.key) =
            if keys.1 < segment.end { (block.segment, Some(keys.1)) } else { (block.segment + 1, None) };
        let next = next_tile(advanced, &memory.segments);
        let range = Range { keys, next, turn, column: 0 };
        self.add(scratch, position, &block, (segment, range), scanned);
        true
    }

    /// Adds a key tile of a segment to a query tile.
    fn add(
        &self,
        scratch: &mut Workspace,
        position: usize,
        block: &Block,
        (segment, mut range): (Segment, Range),
        scanned: &mut Scanned,
    ) {
        let tiling = &self.attention.tiling;
        let hides = segment.partial || self.attention.hides;
        let guarded = hides && self.has_special_values(scratch, position, block, range, scanned);
        let (column, shape) = tiling.part(segment.columns.0, segment.columns.1);
        let shaped = self.shapes.get(shape);
        let function = match (guarded, segment.partial) {
            (true, _) => self.functions.guarded,
            (false, true) => shaped.and_then(|shaped| shaped.partial),
            (false, false) => shaped.and_then(|shaped| shaped.full),
        };
        range.column = if guarded { 0 } else { column };
        self.call(function, scratch, position, block, range);
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
    fn least_base(&self, scratch: &mut Workspace, position: usize, block: &Block) -> f64 {
        let layout = self.plan.scratch;
        let mut least = |part: usize| {
            let slots = self.state(scratch, position, part, block.queries);
            // What is NaN stays so, whatever is left out.
            slots.map_or(f32::NEG_INFINITY, |slots| slots.iter().copied().fold(f32::INFINITY, f32::min))
        };
        if least(layout.limits) == f32::NEG_INFINITY { f64::NEG_INFINITY } else { f64::from(least(layout.bases)) }
    }

    /// Leaves out what has no weight for the queries of a tile: all of its scores are too far below `base`, the least of the queries'.
    fn leave_out(&self, scratch: &mut Workspace, position: usize, block: &Block, memory: &mut Memory, base: f64) {
        // Without a score yet there is no limit.
        if base == f64::NEG_INFINITY {
            return;
        }
        // Scores are rounded otherwise than their bounds are.
        const ROOM: f64 = 1.0 / 64.0;
        let limit = base - Vanishing::BELOW - ROOM;
        self.call(self.functions.squares, scratch, position, block, Range::default());
        let squares = match self.functions.squares {
            Some(_) => self.state(scratch, position, self.plan.scratch.squares, block.queries),
            None => None,
        };
        let squares = squares.map_or(&[][..], |squares| &*squares);
        let row = |table| self.outer.row(table);
        let queries = self.queries(block.first);
        self.classifier.leave_out(
            self.plan,
            self.frame,
            self.trees,
            queries,
            memory,
            (block.segment, squares, limit),
            row,
        );
    }

    /// Whether a value of the key tile is NaN or infinite.
    fn has_special_values(
        &self,
        scratch: &mut Workspace,
        position: usize,
        block: &Block,
        range: Range,
        scanned: &mut Scanned,
    ) -> bool {
        let Some(scan) = self.functions.scan else { return false };
        if let Some((keys, special)) = *scanned
            && keys == range.keys
        {
            return special;
        }
        self.call(Some(scan), scratch, position, block, range);
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
        block: &Block,
        range: Range,
    ) {
        let layout = self.plan.scratch;
        let Range { keys, next, turn: (turn, turns), column } = range;
        let skipped = column * self.plan.machine.lanes;
        // All that a state holds of a query takes 4 bytes.
        let state = layout.states + position * layout.state_bytes + 4 * skipped;
        let share = |turn: usize| (SHARES * turn).checked_div(turns).unwrap_or(0);
        let call = TileCall {
            first_query: (block.first + skipped) as u64,
            queries: (block.queries - skipped) as u64,
            first_key: keys.0 as u64,
            end_key: keys.1 as u64,
            state: state as u64,
            next_key: next.0 as u64,
            next_end: next.1 as u64,
            keys: self.rows[0].of(keys.0),
            values: self.rows[1].of(keys.0),
            next_keys: self.rows[0].of(next.0),
            next_values: self.rows[1].of(next.0),
            share_from: share(turn) as u64,
            share_to: share(turn + 1) as u64,
            not_finite: 0,
        };
        write(scratch, layout.call, &[call]);
        if let Some(function) = function {
            // SAFETY: the function is of this plan, whose frame this is, and the scratch memory has the plan's size and holds its
            // constants; a task has at most as many query tiles as there are states, and `Tiling::part` keeps a shape within its
            // state. Indices come from the lengths of the axes and of groups of heads, the block's shape has room for its queries,
            // and a task writes the output elements of its own queries alone.
            unsafe { self.frame.run(function, scratch) }
        }
    }
}

/// Whether a call looks for keys without weight.
pub(super) fn vanishing(attention: &Attention, frame: &Frame<'_, '_>) -> bool {
    let (queries, keys) = (frame.length(attention.query), frame.length(attention.key));
    attention.vanishing.is_some() && queries >= Vanishing::QUERIES && keys >= Vanishing::KEYS
}

/// The key tile that a query tile comes to next; empty if there is none.
fn next_tile(block: &Block, segments: &[Segment]) -> (usize, usize) {
    let Some(segment) = segments[..block.segments_end].get(block.segment) else { return (0, 0) };
    let key = block.key.unwrap_or(segment.first);
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
