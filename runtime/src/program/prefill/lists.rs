//! Lists of a task.

use crate::memory::{OutOfMemory, TaskRange, reserve};
use crate::tiles::{Lists, Queries, Room};

/// Memory of one thread's tasks.
#[derive(Debug, Default)]
pub(crate) struct TaskLists {
    /// The segments of the query tiles, and what they are found in.
    pub(crate) seen: Lists,
    /// The query tiles.
    pub(crate) query_tiles: Vec<QueryTile>,
    /// The query tiles and the keys that the lists are of, if they hold all that was found of those: tasks of other outer indices may see
    /// the same.
    pub(super) found: Option<TaskRange>,
}

/// A query tile of a task, and how far it is through the keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryTile {
    pub(crate) queries: Queries,
    /// Its segments: the first, the next, and the end of them.
    pub(super) first_segment: usize,
    pub(crate) segment: usize,
    pub(crate) segments_end: usize,
    /// The next key of the segment; none yet.
    pub(super) key: Option<usize>,
}

impl TaskLists {
    /// Makes room for tasks of this many query tiles.
    pub(super) fn reserve(&mut self, room: Room, query_tiles: usize) -> Result<(), OutOfMemory> {
        self.clear();
        reserve(&mut self.query_tiles, query_tiles)?;
        self.seen.reserve(room)
    }

    /// Forgets the query tiles of the task before, and what they saw.
    pub(super) fn clear(&mut self) {
        self.query_tiles.clear();
        self.seen.segments.clear();
        self.found = None;
    }

    /// Puts a query tile in its position: one that is there, or the next.
    pub(super) fn put(&mut self, position: usize, query_tile: QueryTile) {
        match self.query_tiles.get_mut(position) {
            Some(found) => *found = query_tile,
            None => self.query_tiles.push(query_tile),
        }
    }

    /// The room that each list has.
    pub(super) fn capacities(&self) -> (usize, [usize; 6]) {
        (self.query_tiles.capacity(), self.seen.capacities())
    }

    /// The key tile that a query tile comes to next; empty if there is none.
    pub(super) fn next_tile(&self, query_tile: &QueryTile) -> (usize, usize) {
        let Some(segment) = self.seen.segments[..query_tile.segments_end].get(query_tile.segment) else {
            return (0, 0);
        };
        let key = query_tile.key.unwrap_or(segment.first);
        (key, segment.tiles.around(key).1)
    }
}
