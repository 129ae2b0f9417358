//! What a traced call notes of its key tiles.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rhumb_compiler::plan::Attention;

use crate::memory::{Frame, Outer};
use crate::tile_map::{KeyTile, KeyTileClass, QueryTileRow, TileMap, TileUnit};
use crate::tiles::{KeyTiles, Queries, Segment};

/// What tasks note of their query tiles.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The number of the outer indices, the first row of a query tile there, and its tiles of a chunk of keys.
    rows: Mutex<Vec<(usize, usize, QueryTileRow)>>,
}

/// The key tiles that queries see, before any are pruned.
pub(super) fn seen(segments: &[Segment]) -> Vec<KeyTile> {
    let class = |segment: &Segment| if segment.partial { KeyTileClass::Masked } else { KeyTileClass::Full };
    let tiles = segments.iter().flat_map(|segment| tiles(segment).map(|keys| KeyTile { keys, class: class(segment) }));
    tiles.collect()
}

/// The key tiles of a segment.
fn tiles(segment: &Segment) -> impl Iterator<Item = Range<usize>> {
    let mut first = segment.first;
    std::iter::from_fn(move || {
        (first < segment.end).then(|| {
            let keys = first..segment.tiles.around(first).1.min(segment.end);
            first = keys.end;
            keys
        })
    })
}

impl Trace {
    /// Notes a query tile: `seen` are the tiles of a chunk of keys that its queries see, `computed` what was left of their segments.
    pub(super) fn note<'s>(
        &self,
        number: usize,
        queries: Queries,
        mut seen: Vec<KeyTile>,
        computed: impl Iterator<Item = &'s Segment>,
    ) {
        let mut computed: Vec<Range<usize>> = computed.flat_map(tiles).collect();
        computed.sort_unstable_by_key(|keys| keys.start);
        for tile in &mut seen {
            let found = computed.binary_search_by_key(&tile.keys.start, |keys| keys.start);
            if found.is_err() {
                tile.class = KeyTileClass::Pruned;
            }
        }
        let (first, end) = queries.positions((0, queries.columns()));
        let row = QueryTileRow { queries: first..end, tiles: seen };
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push((number, queries.range.0, row));
    }

    /// Notes a query tile for which a chunk of keys was left out: cut into key tiles of this many.
    pub(super) fn note_pruned(&self, number: usize, queries: Queries, (first, end): (usize, usize), most: usize) {
        let tile = |first: usize| KeyTile { keys: first..(first + most).min(end), class: KeyTileClass::Pruned };
        self.note(number, queries, (first..end).step_by(most.max(1)).map(tile).collect(), std::iter::empty());
    }

    /// What tasks noted, in order.
    pub(super) fn map(self, attention: &Attention, frame: &Frame<'_>) -> TileMap {
        let graph = &frame.plan().graph;
        let mut rows = self.rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Those of one query tile follow one another, in the order of their keys.
        let first = |row: &QueryTileRow| row.tiles.first().map_or(0, |tile| tile.keys.start);
        rows.sort_unstable_by_key(|(number, query, row)| (*number, *query, first(row)));
        rows.dedup_by(|chunk, before| {
            let same = (chunk.0, chunk.1) == (before.0, before.1);
            if same {
                before.2.tiles.append(&mut chunk.2.tiles);
            }
            same
        });
        // A call without queries may have any number of sequences.
        let count = if rows.is_empty() { 0 } else { Outer::count(attention, frame) };
        let index = |number: usize| {
            let outer = Outer::new(attention, frame, number);
            let along = attention.outer.iter().zip(outer.indices()).map(|(axis, index)| {
                let heads = attention.packed.filter(|packed| packed.axis == *axis).map_or(1, |packed| packed.heads);
                let first = *index as usize;
                first..first + heads as usize
            });
            along.collect()
        };
        let mut units: Vec<TileUnit> = (0..count).map(|n| TileUnit { index: index(n), rows: Vec::new() }).collect();
        let (keys, key_tile) = (frame.length(attention.key), frame.plan().tiling.keys);
        for (number, _, QueryTileRow { queries, tiles }) in rows {
            units[number].rows.push(QueryTileRow { queries, tiles: with_skipped(tiles, keys, key_tile) });
        }
        TileMap {
            axes: attention.outer.iter().map(|axis| graph.axis(*axis).name.clone()).collect(),
            queries: frame.length(attention.query),
            keys,
            query_tile: frame.plan().tiling.queries(),
            key_tile,
            units,
        }
    }
}

/// All keys: the tiles that are seen, and between them those that are not, as they would be cut.
fn with_skipped(seen: Vec<KeyTile>, keys: usize, most: usize) -> Vec<KeyTile> {
    let mut all = Vec::with_capacity(seen.len());
    let skip = |all: &mut Vec<KeyTile>, first: usize, end: usize| {
        let cut = KeyTiles::new((first, end), most);
        let mut first = first;
        while first < end {
            let next = cut.around(first).1;
            all.push(KeyTile { keys: first..next, class: KeyTileClass::Skipped });
            first = next;
        }
    };
    let mut at = 0;
    for tile in seen {
        skip(&mut all, at, tile.keys.start);
        at = tile.keys.end;
        all.push(tile);
    }
    skip(&mut all, at, keys);
    all
}
