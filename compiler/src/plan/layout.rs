//! Sizes: register and cache tiles, and the scratch memory of a thread.

use super::{Attention, ScratchLayout, TileShape, Tiling, Vectors};

/// Queries that share what is read of the keys and values: their states stay in the second-level cache.
const TASK_QUERIES: usize = 384;

/// Register and cache tiles: accumulators fill the registers but for a few.
pub(super) fn tiling(vectors: Vectors) -> Tiling {
    let Vectors { lanes, registers } = vectors;
    // Cranelift's backends copy on every multiply-add: more accumulators than this are spilled. Code of 4 lanes is the same for all.
    let many = registers >= 32 && lanes > 4;
    let shape = |columns: usize| {
        let rows = match (columns, many) {
            (1, true) => 16,
            (1, false) | (_, true) => 8,
            (_, false) => 4,
        };
        // With few registers two chains leave two rows, and what comes before and after their products weighs too much.
        let key_chains = if many { 2 } else { 1 };
        TileShape { lanes, columns, key_rows: rows / key_chains, key_chains, value_rows: rows }
    };
    let shapes = [3, 2, 1].map(shape).to_vec();
    Tiling { blocks: (TASK_QUERIES / (3 * lanes)).max(1), shapes, keys: 64 }
}

/// Where everything lies in the scratch memory, each part at a cache line of its own.
pub(super) fn scratch_layout(attention: Option<&Attention>, axes: usize) -> ScratchLayout {
    let mut end = 0usize;
    let mut take = |bytes: usize| {
        let start = end;
        end = (end + bytes).next_multiple_of(64);
        start
    };
    let mut layout = ScratchLayout { outer: take(8 * axes.max(1)), range: take(8 * 9), ..Default::default() };
    let Some(attention) = attention else {
        layout.constants = end;
        return layout;
    };
    let tiling = &attention.tiling;
    let queries = 4 * tiling.queries();
    // Whole register tiles of keys, and two keys of a pair of which one may pass the end.
    let rows = tiling.shapes.iter().map(|shape| shape.key_rows).max().unwrap_or(1);
    let keys = tiling.keys + rows;
    layout.scores = take(queries * keys);
    layout.tile_maxima = take(queries);
    layout.rescale = take(queries);
    layout.states = take(0);
    let mut state = 0usize;
    let mut keep = |bytes: usize| {
        let start = state;
        state = (state + bytes).next_multiple_of(64);
        start
    };
    layout.queries = keep(queries * attention.content.as_ref().map_or(0, |content| content.length as usize));
    layout.accumulators = keep(queries * attention.weighted.as_ref().map_or(0, |weighted| weighted.length as usize));
    layout.bases = keep(queries);
    layout.limits = keep(queries);
    layout.sums = keep(queries);
    layout.references = keep(attention.key_term.map_or(0, |_| queries));
    layout.squares = keep(attention.vanishing.map_or(0, |_| queries));
    layout.lanes = keep(queries);
    layout.state_bytes = state;
    layout.constants = layout.states + tiling.blocks * state;
    layout
}
