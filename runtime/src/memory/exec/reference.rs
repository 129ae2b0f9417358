//! The references of a query tile's key terms, and queries that they do not serve.

use rhumb_compiler::plan::HEADROOM;
use smallvec::SmallVec;

use super::task::{Scanned, Task, TileArgs};
use crate::classify::{ClassifyScratch, QueryTile};
use crate::memory::Workspace;

/// Sums of weights below this are small enough that products with small values may have lost digits.
const LEAST_SUM: f32 = 1.0 / (1 << 30) as f32;

impl Task<'_, '_, '_> {
    /// Sets the reference of each query's key terms: the greatest that it sees. Weights are measured from it, so that keys far below can be
    /// left out before any score is known; but not those of the queries that `follows` names, whose base is their greatest score. Gives
    /// the least reference that weights are measured from.
    pub(super) fn refer(
        &self,
        scratch: &mut Workspace,
        position: usize,
        query_tile: &QueryTile,
        memory: &ClassifyScratch,
        follows: impl Fn(usize) -> bool,
    ) -> f64 {
        let Some(term) = self.attention.key_term else { return f64::NEG_INFINITY };
        let (layout, queries) = (self.plan.scratch, self.plan.tiling.queries());
        let segments = &memory.segments[query_tile.segment..query_tile.segments_end];
        let greatest = self.classifier.greatest_key_term(self.trees, segments, self.outer.row(term.high));
        if let Some(references) = self.state(scratch, position, layout.references, queries) {
            references.fill(greatest);
        }
        let mut partial = segments.iter().filter(|segment| segment.partial).peekable();
        while let Some(segment) = partial.next() {
            let mut keys = (segment.first, segment.end);
            while let Some(next) = partial.next_if(|next| next.first == keys.1) {
                keys.1 = next.end;
            }
            self.call(
                self.functions.reference,
                scratch,
                position,
                query_tile,
                TileArgs { keys, ..TileArgs::default() },
            );
        }
        let Some([references, limits]) = self.states(scratch, position, [layout.references, layout.limits]) else {
            return f64::NEG_INFINITY;
        };
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

    /// Two parts of the state of a query tile, of all its queries.
    fn states<'s>(&self, scratch: &'s mut Workspace, position: usize, parts: [usize; 2]) -> Option<[&'s mut [f32]; 2]> {
        let (layout, queries) = (self.plan.scratch, self.plan.tiling.queries());
        let state = self.state(scratch, position, 0, layout.state_bytes / 4)?;
        state.get_disjoint_mut(parts.map(|part| part / 4..part / 4 + queries)).ok()
    }

    /// Runs a query tile again where all scores of a query are far below its reference: from its greatest score instead. The others'
    /// results come out the same.
    pub(super) fn run_again(
        &self,
        scratch: &mut Workspace,
        position: usize,
        memory: &mut ClassifyScratch,
        scanned: &mut Scanned,
    ) {
        let layout = self.plan.scratch;
        let mut query_tile = memory.query_tiles[position];
        let Some([sums, limits]) = self.states(scratch, position, [layout.sums, layout.limits]) else { return };
        let is_low = |(sum, limit): (&f32, &f32)| *sum < LEAST_SUM && *limit == HEADROOM;
        let queries = || sums[..query_tile.queries].iter().zip(&*limits);
        if !queries().any(is_low) {
            return;
        }
        let low: SmallVec<[bool; 64]> = queries().map(is_low).collect();
        query_tile.segment = memory.segments.len();
        self.segments(query_tile.first, memory);
        query_tile.segments_end = memory.segments.len();
        self.call(self.functions.begin, scratch, position, &query_tile, TileArgs::default());
        self.refer(scratch, position, &query_tile, memory, |query| low.get(query).is_some_and(|low| *low));
        memory.query_tiles[position] = query_tile;
        while self.advance(scratch, position, memory, (0, 1), scanned) {}
    }
}
