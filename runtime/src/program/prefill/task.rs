//! A task: a few query tiles of one outer index, which take turns at the keys.

use rhumb_compiler::plan::Attention;

use super::lists::{QueryTile, TaskLists};
use super::trace::{self, Trace};
use crate::memory::{Share, TaskTiles, TileArgs};
use crate::program::functions::TileFunctions;
use crate::tiles::{Classes, Queries};

/// Where so many looks find no key to prune, the rest of a task keeps its keys: its query tiles see nearly the same.
const MOST_IN_VAIN: usize = 256;

/// A few query tiles of one outer index, which take turns at the keys.
pub(super) struct Task<'t, 's> {
    pub(super) attention: &'t Attention,
    pub(super) functions: &'t TileFunctions,
    pub(super) classes: Classes<'t>,
    pub(super) tiles: &'t mut TaskTiles<'s>,
    pub(super) lists: &'t mut TaskLists,
    /// Whether scores are bounded by norms of rows and key terms.
    pub(super) bounded: bool,
    /// Whether keys without weight are pruned.
    pub(super) pruning: bool,
    /// Nodes of trees that were looked at since a key was pruned.
    pub(super) in_vain: usize,
    /// The keys of values that were scanned last, and whether one is NaN or infinite.
    pub(super) scanned: Option<((usize, usize), bool)>,
    /// Whether values of keys that a mask shows are scanned too, if those may have no weight.
    pub(super) careful: bool,
    /// Where key tiles are noted, and the number of the outer indices; `None` unless the call is traced.
    pub(super) trace: Option<(&'t Trace, usize)>,
}

impl Task<'_, '_> {
    pub(super) fn run(&mut self) {
        let room = self.lists.capacities();
        self.keep_found();
        // Chunks are of one query tile.
        if self.tiles.is_of_chunks() && self.is_in_vain(0) {
            return self.leave_out(0);
        }
        self.compute();
        if !self.careful && self.attention.may_have_no_weight() && self.has_nan() {
            // A key without weight may have a value that is NaN or infinite.
            (self.careful, self.trace, self.scanned) = (true, None, None);
            self.lists.clear();
            self.compute();
        }
        for position in 0..self.tiles.len() {
            if !self.tiles.is_of_chunks() || self.join(position) {
                self.tiles.call(self.functions.end, position, TileArgs::default());
            }
        }
        debug_assert_eq!(self.lists.capacities(), room, "lists that have no room");
    }

    /// Whether no key of the task has weight for the query tile at a position: it sees none, or norms tell so.
    fn is_in_vain(&mut self, position: usize) -> bool {
        let query_tile = self.seen(position);
        self.lists.put(position, query_tile);
        let queries = self.queries(position);
        if query_tile.segment == query_tile.segments_end {
            if let Some((trace, number)) = self.trace {
                trace.note(number, queries, Vec::new(), std::iter::empty());
            }
            return true;
        }
        let Some(bounding) = self.bounding_term() else { return false };
        self.tiles.begin(self.functions.begin, position, TileArgs::default());
        self.raise(position, &query_tile, bounding.1);
        let is_in_vain = self.is_without_weight(position, bounding);
        if let (true, Some((trace, number))) = (is_in_vain, self.trace) {
            trace.note_pruned(number, queries, self.classes.keys, self.classes.frame.plan().tiling.keys);
        }
        is_in_vain
    }

    /// Keeps what the task before found, if this one sees the same.
    fn keep_found(&mut self) {
        let found = (!self.pruning).then(|| self.tiles.range());
        if found.is_none() || self.lists.found != found || !self.classes.are_of(&self.lists.seen) {
            self.lists.clear();
        }
        self.lists.found = found;
    }

    /// Adds all keys to all query tiles.
    fn compute(&mut self) {
        for position in 0..self.tiles.len() {
            self.begin(position);
        }
        while self.take_turns() {}
        let functions = self.functions;
        if let Some(key_term) = functions.key_term {
            for position in 0..self.tiles.len() {
                self.run_again(position, key_term);
            }
        }
    }

    /// Whether an accumulator of a query tile is NaN; in decode.
    fn has_nan(&mut self) -> bool {
        (0..self.tiles.len()).any(|position| {
            let (first, end) = self.tiles.queries(position);
            (0..self.attention.reductions.len()).any(|reduction| {
                let (accumulators, length) = self.tiles.accumulators(position, reduction);
                // Without a branch for each number, they are compared by vectors.
                let of_some = |some: &[f32]| some.iter().fold(false, |any, x| any | x.is_nan());
                accumulators[..(end - first) * length].chunks(64).any(of_some)
            })
        })
    }

    /// The queries of the tile at a position.
    pub(super) fn queries(&self, position: usize) -> Queries {
        let (heads, lanes) = (self.attention.queries_per_position(), self.classes.frame.plan().machine.lanes);
        Queries { range: self.tiles.queries(position), heads, lanes }
    }

    /// Begins the query tile at a position, which comes after all that have been begun.
    pub(super) fn begin(&mut self, position: usize) {
        let queries = self.queries(position);
        let mut query_tile = self.seen(position);
        let segment = query_tile.segment;
        let seen = self.trace.map(|_| trace::seen(&self.lists.seen.segments[segment..query_tile.segments_end]));
        let near = self.take_near(queries, segment);
        if near.is_some() {
            query_tile.segments_end = self.lists.seen.segments.len();
        }
        let before = position.checked_sub(1).map(|before| self.lists.query_tiles[before]);
        // Pruning comes later: until then the query tile before tells about where the first key tile is.
        let own = Share { from: position, to: position + 1, of: self.tiles.len() };
        let (next, share) = match (near, &before) {
            (Some(near), _) => ((near.first, near.end), Share::ALL),
            (None, Some(before)) if self.pruning => (self.lists.next_tile(before), own),
            (None, _) => (self.lists.next_tile(&query_tile), own),
        };
        let functions = self.functions;
        self.tiles.begin(functions.begin, position, TileArgs { next, share, ..TileArgs::default() });
        let mut base = functions.key_term.map(|key_term| self.refer(position, &query_tile, key_term, |_| false));
        if let Some(near) = near {
            let next = before.map_or((0, 0), |before| self.lists.next_tile(&before));
            let keys = (near.first, near.end);
            self.add(position, near, TileArgs { keys, next, share: own, ..TileArgs::default() });
            base = Some(self.least_base(position, queries));
        }
        if let (Some(base), true) = (base, self.pruning && self.in_vain < MOST_IN_VAIN) {
            self.prune(position, queries, segment, base);
            query_tile.segments_end = self.lists.seen.segments.len();
        }
        self.lists.put(position, query_tile);
        if let (Some((trace, number)), Some(seen)) = (self.trace, seen) {
            let computed = near.iter().chain(&self.lists.seen.segments[segment..query_tile.segments_end]);
            trace.note(number, queries, seen, computed);
        }
    }

    /// What the query tile at a position sees, which is found already where the task before saw the same.
    fn seen(&mut self, position: usize) -> QueryTile {
        match self.lists.query_tiles.get(position) {
            Some(found) => QueryTile { segment: found.first_segment, key: None, ..*found },
            None => self.find(self.queries(position)),
        }
    }

    /// Finds what the next query tile sees.
    pub(super) fn find(&mut self, queries: Queries) -> QueryTile {
        let segment = self.lists.seen.segments.len();
        self.classes.segments(queries, &mut self.lists.seen);
        let segments_end = self.lists.seen.segments.len();
        QueryTile { queries, first_segment: segment, segment, segments_end, key: None }
    }
}
