//! Runs of keys of one class.

use super::key_tiles::KeyTiles;

/// Keys that are classified together at the least. All runs begin at multiples of this, and so end all but the last.
pub(super) const UNIT: usize = 16;

/// Shorter runs of keys than this are not worth a tile of their own.
const SHORT: usize = 64;

/// A run of keys of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First key.
    pub(crate) first: usize,
    /// End of keys.
    pub(crate) end: usize,
    /// Whether the mask is evaluated per element.
    pub(crate) partial: bool,
    /// The vectors of queries that see some of the keys: from and to.
    pub(crate) columns: (usize, usize),
    /// The key tiles of the run that it is part of.
    pub(crate) tiles: KeyTiles,
}

impl Segment {
    /// A run that tiles have not been cut of.
    pub(super) fn new((first, end): (usize, usize), partial: bool, columns: (usize, usize)) -> Segment {
        Segment { first, end, partial, columns, tiles: KeyTiles::default() }
    }
}

/// Appends a segment to those from `start` on, or joins it with the last of them.
pub(super) fn push(segments: &mut Vec<Segment>, start: usize, segment: Segment) {
    match segments[start..].last_mut() {
        Some(last) if (last.end, last.partial, last.columns) == (segment.first, segment.partial, segment.columns) => {
            last.end = segment.end;
        }
        _ => segments.push(segment),
    }
}

/// Joins short runs that need no mask with the partial runs before and after them: a tile costs more than a mask.
pub(super) fn join_short_runs(segments: &mut Vec<Segment>, start: usize) {
    let mut kept = start;
    for next in start..segments.len() {
        let segment = segments[next];
        // The last two kept, then this one: partial, full, partial.
        if let Some(&[before, between]) = segments[start..kept].last_chunk()
            && (before.partial, between.partial, segment.partial) == (true, false, true)
            && between.end - between.first < SHORT
            && (before.end, between.end) == (between.first, segment.first)
        {
            kept -= 1;
            segments[kept - 1].end = segment.end;
            continue;
        }
        segments[kept] = segment;
        kept += 1;
    }
    segments.truncate(kept);
}

/// Takes the tile with this key out of the segments from `start` on.
pub(crate) fn take_tile(segments: &mut Vec<Segment>, start: usize, key: usize) -> Option<Segment> {
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
