//! The references of a query tile's key terms, and queries that they do not serve.

use rhumb_compiler::plan::{HEADROOM, LEAST_SUM};
use smallvec::SmallVec;

use super::lists::QueryTile;
use super::task::Task;
use crate::memory::{Part, Share, TileArgs};
use crate::program::functions::KeyTermFunctions;
use crate::tiles::Segment;

impl Task<'_, '_> {
    /// Sets the reference of each query's key terms: the greatest that it sees. Weights are measured from it, so that keys far below can be
    /// left out before any score is known; but not those of the queries that `follows` names, whose base is their greatest score. Gives
    /// the least reference that weights are measured from.
    pub(super) fn refer(
        &mut self,
        position: usize,
        query_tile: &QueryTile,
        functions: KeyTermFunctions,
        follows: impl Fn(usize) -> bool,
    ) -> f64 {
        self.raise(position, query_tile, functions);
        let [references, limits] = self.tiles.parts(position, [Part::References, Part::Limits]);
        let mut least = f32::INFINITY;
        for (query, (reference, limit)) in references.iter_mut().zip(limits).enumerate() {
            // Without a finite key term there is nothing to measure from.
            let finite = reference.is_finite();
            let from = if finite { *reference } else { 0.0 };
            *reference = -from;
            if finite && !follows(query) {
                least = least.min(from);
                *limit = HEADROOM;
            }
        }
        if least.is_finite() { f64::from(least) } else { f64::NEG_INFINITY }
    }

    /// Sets the reference of each query to the greatest key term that it sees; `-inf` without a key. NaN counts for nothing.
    pub(super) fn raise(&mut self, position: usize, query_tile: &QueryTile, functions: KeyTermFunctions) {
        let segments = &self.lists.seen.segments[query_tile.segment..query_tile.segments_end];
        let KeyTermFunctions { reference, of_rows, is_linear } = functions;
        let greatest = if of_rows { f32::NEG_INFINITY } else { self.classes.greatest_key_term(segments) };
        self.tiles.part(position, Part::References).fill(greatest);
        let Some(reference) = reference else { return };
        let ends_tell = |segment: &Segment| is_linear && !segment.partial;
        let mut taken = segments.iter().filter(|segment| segment.partial || of_rows).peekable();
        while let Some(segment) = taken.next() {
            let mut keys = (segment.first, segment.end);
            if ends_tell(segment) {
                for key in [keys.0, keys.1 - 1] {
                    self.tiles.call(reference, position, TileArgs { keys: (key, key + 1), ..TileArgs::default() });
                }
                continue;
            }
            while let Some(next) = taken.next_if(|next| next.first == keys.1 && !ends_tell(next)) {
                keys.1 = next.end;
            }
            self.tiles.call(reference, position, TileArgs { keys, ..TileArgs::default() });
        }
    }

    /// Runs a query tile again where all scores of a query are far below its reference: from its greatest score instead. The others'
    /// results come out the same.
    pub(super) fn run_again(&mut self, position: usize, functions: KeyTermFunctions) {
        let queries = self.lists.query_tiles[position].queries;
        let [sums, limits] = self.tiles.parts(position, [Part::Sums, Part::Limits]);
        let is_low = |(sum, limit): (&f32, &f32)| *sum < LEAST_SUM && *limit == HEADROOM;
        let sums = &sums[..queries.range.1 - queries.range.0];
        let low = || sums.iter().zip(&*limits).map(is_low);
        if !low().any(|is_low| is_low) {
            return;
        }
        let low: SmallVec<[bool; 64]> = low().collect();
        let query_tile = self.find(queries);
        self.tiles.begin(self.functions.begin, position, TileArgs::default());
        self.refer(position, &query_tile, functions, |query| low.get(query).is_some_and(|low| *low));
        let done = std::mem::replace(&mut self.lists.query_tiles[position], query_tile);
        while self.advance(position, Share::ALL) {}
        // Its segments make room for those of the next.
        self.lists.seen.segments.truncate(query_tile.first_segment);
        self.lists.query_tiles[position] = done;
    }
}
