//! Query tiles whose keys are cut into chunks: each task hands in what its chunk came to.

use smallvec::SmallVec;

use crate::memory::TaskTiles;
use crate::memory::chunks::{Record, Records};

impl<'t> TaskTiles<'t> {
    /// What each row of the query tile at a position measures scores from in the chunk where that is greatest, of those that other tasks
    /// have handed in: `-inf` without such. It only grows.
    pub(crate) fn levels(&self, position: usize) -> SmallVec<[f64; 64]> {
        let (first, end) = self.queries(position);
        let record = Record::new(self.plan(), self.attention, end - first);
        Records::lock(self.partials, self.group(position), (record, self.chunk.1)).levels().into()
    }

    /// Hands in what the query tile at a position came to. The last of the tasks that have the query tile gets what all came to, and ends it.
    ///
    /// # Panics
    /// If the query tile was handed in before, or its keys are not cut into chunks.
    pub(crate) fn hand_in(&mut self, position: usize) -> Option<Records<'t>> {
        assert!(position < self.begun, "a query tile that was not begun");
        let (chunk, mut records) = self.lock(position);
        let record = records.record();
        let own = records.of_mut(chunk);
        for &part in record.parts() {
            let to = record.part(part).expect("a part of the record");
            own[to].copy_from_slice(&self.part(position, part)[..record.rows]);
        }
        let mut before = 0;
        for index in 0..self.attention.reductions.len() {
            let (from, length) = self.accumulators(position, index);
            own[record.accumulators(before, length)].copy_from_slice(&from[..record.rows * length]);
            before += length;
        }
        self.last = records.count(chunk);
        self.last.then_some(records)
    }

    /// As [`TaskTiles::hand_in`], where no key of the chunk has weight: the query tile need not be begun.
    ///
    /// # Panics
    /// As [`TaskTiles::hand_in`].
    pub(crate) fn hand_in_nothing(&mut self, position: usize) -> Option<Records<'t>> {
        let (_, mut records) = self.lock(position);
        self.last = records.count_without();
        self.last.then_some(records)
    }

    /// The number of the chunk, and the records of the next query tile that is handed in.
    fn lock(&mut self, position: usize) -> (usize, Records<'t>) {
        let (chunk, chunks) = self.chunk;
        assert!(position == self.handed_in && chunks > 1, "query tiles are handed in in order");
        self.handed_in += 1;
        let (first, end) = self.queries(position);
        let record = Record::new(self.plan(), self.attention, end - first);
        (chunk, Records::lock(self.partials, self.group(position), (record, chunks)))
    }
}
