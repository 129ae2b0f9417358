//! Sizes: register and cache tiles, and the scratch memory of a thread.

use super::{Attention, ScratchLayout, TileShape, Vectors};

/// Register and cache tiles: accumulators fill the registers but for a few, and a query tile has about 48 queries.
pub(super) fn tile_shape(vectors: Vectors) -> TileShape {
    let Vectors { lanes, registers } = vectors;
    // Cranelift's backends copy on every multiply-add: more accumulators than this are spilled.
    let rows = if registers >= 32 && lanes > 4 { 8 } else { 4 };
    let columns = 3;
    TileShape { lanes, key_rows: rows, columns, value_rows: rows, blocks: (48 / (columns * lanes)).max(1), keys: 64 }
}

/// Where everything lies in the scratch memory, each part at a cache line of its own.
pub(super) fn scratch_layout(attention: Option<&Attention>, axes: usize) -> ScratchLayout {
    let mut end = 0usize;
    let mut take = |bytes: usize| {
        let start = end;
        end = (end + bytes).next_multiple_of(64);
        start
    };
    let mut layout =
        ScratchLayout { outer: take(8 * axes.max(1)), range: take(8 * 4), shift: take(8), ..Default::default() };
    if let Some(attention) = attention {
        let tile = attention.tile;
        let queries = 4 * tile.queries();
        layout.queries = take(queries * attention.content.as_ref().map_or(0, |content| content.length as usize));
        layout.scores = take(queries * (tile.keys + tile.key_rows));
        layout.accumulators =
            take(queries * attention.weighted.as_ref().map_or(0, |weighted| weighted.length as usize));
        layout.maxima = take(queries);
        layout.tile_maxima = take(queries);
        layout.rescale = take(queries);
        layout.sums = take(queries);
        layout.key_terms = take(4 * (tile.keys + tile.key_rows));
        layout.key_rests = take(4 * (tile.keys + tile.key_rows));
        layout.lanes = take(8 * tile.queries());
    }
    layout.constants = end;
    layout
}
