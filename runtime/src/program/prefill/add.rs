//! Key tiles, as query tiles come to them.

use super::lists::QueryTile;
use super::task::Task;
use crate::memory::{FunctionId, Share, TileArgs};
use crate::tiles::Segment;

impl Task<'_, '_> {
    /// Adds the next key tile to each query tile that has one; false if none has.
    pub(super) fn take_turns(&mut self) -> bool {
        let unfinished =
            self.lists.query_tiles.iter().filter(|query_tile| query_tile.segment < query_tile.segments_end);
        // Each has a share of what is prefetched that is its share of the work.
        let queries = |query_tile: &QueryTile| query_tile.queries.range.1 - query_tile.queries.range.0;
        let (of, mut from) = (unfinished.map(queries).sum(), 0);
        for position in 0..self.tiles.len() {
            let to = from + queries(&self.lists.query_tiles[position]);
            if self.advance(position, Share { from, to, of }) {
                from = to;
            }
        }
        of > 0
    }

    /// Adds the next key tile to a query tile; false if there is none.
    pub(super) fn advance(&mut self, position: usize, share: Share) -> bool {
        let query_tile = self.lists.query_tiles[position];
        let segments = &self.lists.seen.segments[..query_tile.segments_end];
        let Some(&segment) = segments.get(query_tile.segment) else { return false };
        let mut keys = self.lists.next_tile(&query_tile);
        if share.is_all() && !segment.partial && !self.scans(segment) {
            keys.1 = self.tiles.run_end(keys, segment.end);
        }
        let mut advanced = query_tile;
        (advanced.segment, advanced.key) =
            if keys.1 < segment.end { (query_tile.segment, Some(keys.1)) } else { (query_tile.segment + 1, None) };
        self.lists.query_tiles[position] = advanced;
        let next = self.lists.next_tile(&advanced);
        self.add(position, segment, TileArgs { keys, next, share, ..TileArgs::default() });
        true
    }

    /// Adds a key tile of a segment to a query tile.
    pub(super) fn add(&mut self, position: usize, segment: Segment, args: TileArgs) {
        let functions = self.functions;
        let tiling = &self.classes.frame.plan().tiling;
        let (column, shape) = tiling.part(segment.columns.0, segment.columns.1);
        let args = TileArgs { computed: (column, column + tiling.shapes[shape].columns), ..args };
        if let Some(average) = functions.average
            && self.scans(segment)
            && self.has_special_values(average.scan, position, args)
        {
            self.tiles.call(average.guarded, position, args);
            return;
        }
        let shape = functions.shapes[shape];
        let function = if segment.partial { shape.partial } else { shape.full };
        self.tiles.call(function, position, TileArgs { column, ..args });
    }

    /// Whether key tiles of a segment are scanned for values that are NaN or infinite.
    fn scans(&self, segment: Segment) -> bool {
        self.functions.average.is_some() && (segment.partial || self.careful && self.attention.may_have_no_weight())
    }

    /// Whether a value of the key tile is NaN or infinite.
    fn has_special_values(&mut self, scan: FunctionId, position: usize, args: TileArgs) -> bool {
        if let Some((keys, special)) = self.scanned
            && keys == args.keys
        {
            return special;
        }
        let special = self.tiles.scan(scan, position, args);
        self.scanned = Some((args.keys, special));
        special
    }
}
