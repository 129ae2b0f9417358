//! Chunks of keys: several tasks have the same queries, each other keys. What they come to is kept here until the last of them joins it.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rhumb_compiler::plan::{Attention, Combiner, Plan};

use crate::memory::outer::{Outer, queries, query_tiles};
use crate::memory::part::Part;
use crate::memory::{Frame, OutOfMemory, reserve};

/// What the chunks of all query tiles of a call came to.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    /// One for each query tile of each outer index.
    groups: Vec<Mutex<Group>>,
}

/// What the chunks of a query tile came to.
#[derive(Debug, Default)]
struct Group {
    /// Chunks that have been handed in.
    done: usize,
    /// One record for each chunk, in their order.
    records: Vec<f32>,
    /// For each chunk whether it has a record: those without weight have none.
    recorded: Vec<bool>,
    /// What each row measures scores from in the chunk where that is greatest, of those that have been handed in: `-inf` before.
    levels: Vec<f64>,
}

/// The parts of a record: numbers of each row, then the accumulators of each reduction, row after row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Rows of the query tile.
    pub(crate) rows: usize,
    /// Parts that hold a number of each row.
    parts: &'static [Part],
    /// Elements of all accumulators of a row.
    elements: usize,
}

/// What the scores of a row are measured from in a chunk, and the sum of their weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    pub(crate) base: f32,
    /// `-inf` where it saw no key.
    pub(crate) limit: f32,
    pub(crate) negated_reference: f32,
    pub(crate) sum: f32,
}

/// The records of all chunks of a query tile.
pub(crate) struct Records<'p> {
    group: MutexGuard<'p, Group>,
    record: Record,
    chunks: usize,
}

/// The number of chunks that the keys of a call are cut into.
pub(crate) fn chunks(attention: &Attention, frame: &Frame<'_>) -> usize {
    frame.plan().schedule.chunks(frame.length(attention.key))
}

/// The keys of a chunk: whole key tiles, but for the last of all.
pub(crate) fn keys(plan: &Plan, chunk: usize, length: usize) -> (usize, usize) {
    plan.schedule.keys_of_chunk(chunk, length)
}

impl Record {
    pub(super) fn new(plan: &Plan, attention: &Attention, rows: usize) -> Record {
        let parts: &[Part] = match (attention.combiner == Combiner::Sum, attention.key_term) {
            (true, _) => &[],
            (false, None) => &[Part::Bases, Part::Limits, Part::Sums],
            (false, Some(_)) => &[Part::Bases, Part::Limits, Part::Sums, Part::References],
        };
        Record { rows, parts, elements: attention.value_padded(plan.machine.lanes) }
    }

    /// Numbers of a record.
    fn len(&self) -> usize {
        self.rows.saturating_mul(self.elements.saturating_add(self.parts.len()))
    }

    /// The parts that hold a number of each row.
    pub(super) fn parts(&self) -> &'static [Part] {
        self.parts
    }

    /// The numbers of a part; none if there is no such part.
    pub(super) fn part(&self, part: Part) -> Option<Range<usize>> {
        let start = self.parts.iter().position(|known| *known == part)? * self.rows;
        Some(start..start + self.rows)
    }

    /// The accumulators of some elements: all rows of one reduction, whose rows have this many elements and come after those of the
    /// reductions before.
    pub(super) fn accumulators(&self, before: usize, length: usize) -> Range<usize> {
        let start = self.rows * (self.parts.len() + before);
        start..start + self.rows * length
    }
}

impl Partials {
    /// Makes room for a call.
    pub(crate) fn reserve(&mut self, attention: &Attention, frame: &Frame<'_>) -> Result<(), OutOfMemory> {
        let chunks = chunks(attention, frame);
        if chunks == 1 {
            return Ok(());
        }
        let (first, end) = queries(attention, frame);
        let rows = (end - first).min(frame.plan().tiling.queries());
        let len = Record::new(frame.plan(), attention, rows).len().saturating_mul(chunks);
        let groups = Outer::count(attention, frame).saturating_mul(query_tiles(attention, frame));
        let missing = groups.saturating_sub(self.groups.len());
        reserve(&mut self.groups, missing)?;
        self.groups.extend((0..missing).map(|_| Mutex::default()));
        for group in &mut self.groups[..groups] {
            let group = group.get_mut().unwrap_or_else(PoisonError::into_inner);
            group.done = 0;
            let missing = len.saturating_sub(group.records.len());
            reserve(&mut group.records, missing)?;
            group.records.resize(len.max(group.records.len()), 0.0);
            let missing = chunks.saturating_sub(group.recorded.len());
            reserve(&mut group.recorded, missing)?;
            group.recorded.clear();
            group.recorded.resize(chunks, false);
            let missing = rows.saturating_sub(group.levels.len());
            reserve(&mut group.levels, missing)?;
            group.levels.resize(rows.max(group.levels.len()), 0.0);
            group.levels.fill(f64::NEG_INFINITY);
        }
        Ok(())
    }
}

impl Level {
    /// That of a row in a chunk; none without a softmax.
    pub(crate) fn of(records: &Records<'_>, chunk: usize, row: usize) -> Option<Level> {
        let number = |part| records.part(chunk, part).map(|numbers| numbers[row]);
        Some(Level {
            base: number(Part::Bases)?,
            limit: number(Part::Limits)?,
            negated_reference: number(Part::References).unwrap_or(0.0),
            sum: number(Part::Sums)?,
        })
    }

    /// How far it is above another.
    pub(crate) fn above(&self, other: &Level) -> f64 {
        let reference = f64::from(other.negated_reference) - f64::from(self.negated_reference);
        reference + (f64::from(self.base) - f64::from(other.base))
    }
}

impl<'p> Records<'p> {
    /// Those of the query tile with this number, while no other task hands in: with a record for each of so many chunks.
    pub(super) fn lock(partials: &'p Partials, number: usize, (record, chunks): (Record, usize)) -> Records<'p> {
        let group = partials.groups[number].lock().unwrap_or_else(PoisonError::into_inner);
        Records { group, record, chunks }
    }

    /// A chunk's record.
    pub(super) fn of_mut(&mut self, chunk: usize) -> &mut [f32] {
        &mut self.group.records[chunk * self.record.len()..][..self.record.len()]
    }

    /// Counts a chunk as handed in, without a record; whether it is the last.
    pub(super) fn count_without(&mut self) -> bool {
        self.group.done += 1;
        self.group.done == self.chunks
    }

    /// Counts a chunk as handed in, with its record; whether it is the last.
    pub(super) fn count(&mut self, chunk: usize) -> bool {
        self.group.recorded[chunk] = true;
        for row in 0..self.record.rows {
            if let Some(level) = Level::of(self, chunk, row).filter(|level| level.sum > 0.0) {
                self.group.levels[row] = self.group.levels[row].max(level.above(&Level::default()));
            }
        }
        self.count_without()
    }

    /// What each row measures scores from in the chunk where that is greatest, of those that have been handed in: `-inf` before.
    pub(super) fn levels(&self) -> &[f64] {
        &self.group.levels[..self.record.rows]
    }

    /// What the records hold.
    pub(crate) fn record(&self) -> Record {
        self.record
    }

    /// The chunks that have a record, in their order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.chunks).filter(|chunk| self.group.recorded[*chunk])
    }

    /// A part of a chunk's record, a number for each row; none if there is no such part.
    pub(crate) fn part(&self, chunk: usize, part: Part) -> Option<&[f32]> {
        self.record.part(part).map(|range| &self.of(chunk)[range])
    }

    /// The accumulators of a reduction, whose rows have this many elements and come after so many of the reductions before.
    pub(crate) fn accumulators(&self, chunk: usize, (before, length): (usize, usize)) -> &[f32] {
        &self.of(chunk)[self.record.accumulators(before, length)]
    }

    fn of(&self, chunk: usize) -> &[f32] {
        &self.group.records[chunk * self.record.len()..][..self.record.len()]
    }
}
