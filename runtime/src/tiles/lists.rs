//! Lists of one thread: what classification works in, and the segments that it finds.

use rhumb_compiler::intervals::Interval;

use super::segment::Segment;
use crate::memory::{OutOfMemory, reserve};

/// Memory of one thread's classifications.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// What every step of a mask or a score can give.
    pub(super) steps: Vec<Interval>,
    /// The intervals of leaves that do not vary along keys.
    pub(super) fixed: Vec<Interval>,
    /// The rows of leaves at an outer index.
    pub(super) rows: Vec<usize>,
    /// Segments while others are made of them.
    pub(super) kept: Vec<Segment>,
    /// Ranges of keys without weight.
    pub(super) dropped: Vec<(usize, usize)>,
    /// Nodes of trees that were looked at for keys to drop.
    pub(super) visited: usize,
    /// The segments of the query tiles of a task, one query tile after the other.
    pub(crate) segments: Vec<Segment>,
}

/// How long the lists of a thread become at most in a call. They have room for that before the first task runs, since what a task has written
/// can't be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(super) steps: usize,
    pub(super) leaves: usize,
    pub(super) kept: usize,
    pub(super) dropped: usize,
    pub(super) segments: usize,
}

impl Lists {
    /// Makes room.
    pub(crate) fn reserve(&mut self, room: Room) -> Result<(), OutOfMemory> {
        fn cleared<T>(list: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
            list.clear();
            reserve(list, len)
        }
        cleared(&mut self.steps, room.steps)?;
        cleared(&mut self.fixed, room.leaves)?;
        cleared(&mut self.rows, room.leaves)?;
        cleared(&mut self.kept, room.kept)?;
        cleared(&mut self.dropped, room.dropped)?;
        cleared(&mut self.segments, room.segments)
    }

    /// The room that each list has.
    pub(crate) fn capacities(&self) -> [usize; 6] {
        let Lists { steps, fixed, rows, kept, dropped, segments, visited: _ } = self;
        [steps.capacity(), fixed.capacity(), rows.capacity(), kept.capacity(), dropped.capacity(), segments.capacity()]
    }
}
