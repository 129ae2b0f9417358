//! Sequences by handle.

use std::ops::{Index, IndexMut};

use crate::kv::error::KvError;
use crate::kv::id::SequenceId;
use crate::memory::{OutOfMemory, reserve};

/// Where the tokens of a sequence are.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The page of each `page_size` tokens from `first` on. None is empty.
    pub(super) table: Vec<u32>,
    /// Position of the first token that is kept, a multiple of the page size.
    pub(super) first: usize,
    /// Position of the next token.
    pub(super) len: usize,
    /// Whether a batch that is being checked has it already.
    pub(super) listed: bool,
}

impl Sequence {
    /// Number of tokens that are kept.
    pub(super) fn kept(&self) -> usize {
        self.len - self.first
    }

    /// The page that the next token is written to, if it has some already.
    pub(super) fn open_page(&self, page_size: usize) -> Option<u32> {
        self.table.last().copied().filter(|_| !self.kept().is_multiple_of(page_size))
    }

    /// Pages that `more` tokens take beside those there are.
    pub(super) fn more_pages(&self, more: usize, page_size: usize) -> usize {
        (self.kept() + more).div_ceil(page_size) - self.table.len()
    }
}

/// What was done for new tokens of a sequence before they are written.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) place: usize,
    pub(super) tokens: usize,
    /// The shared page of which the sequence got a copy.
    pub(super) copied: Option<u32>,
    /// Pages behind those there were.
    pub(super) fresh: usize,
}

/// A place of a sequence.
#[derive(Debug, Default)]
struct Slot {
    /// Sequences that had the place before.
    generation: u32,
    live: bool,
    sequence: Sequence,
}

/// Sequences, by the place that a live handle names.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    slots: Vec<Slot>,
    /// Places without a sequence; the next to be taken last.
    free: Vec<u32>,
}

impl Sequences {
    /// The place of a live sequence.
    pub(super) fn find(&self, id: SequenceId) -> Result<usize, KvError> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.live && slot.generation == id.generation);
        slot.map(|_| id.slot as usize).ok_or(KvError::Stale { sequence: id })
    }

    /// A sequence without tokens, with room for the table of some pages.
    pub(super) fn add(&mut self, pages: usize) -> Result<SequenceId, OutOfMemory> {
        if self.free.is_empty() {
            let next = u32::try_from(self.slots.len()).map_err(|_| OutOfMemory { bytes: usize::MAX })?;
            // Room to free all of them.
            reserve(&mut self.slots, 1)?;
            reserve(&mut self.free, next as usize + 1)?;
            self.slots.push(Slot::default());
            self.free.push(next);
        }
        let place = *self.free.last().expect("a place");
        let slot = &mut self.slots[place as usize];
        reserve(&mut slot.sequence.table, pages)?;
        slot.live = true;
        self.free.pop();
        Ok(SequenceId { slot: place, generation: slot.generation })
    }

    /// Ends a sequence without pages.
    pub(super) fn remove(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        slot.live = false;
        // The table's memory is kept for the next.
        slot.sequence.table.clear();
        (slot.sequence.first, slot.sequence.len) = (0, 0);
        // A place of as many generations as can be told apart is not used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(place as u32);
        }
    }

    /// Puts a place into its last generation.
    #[cfg(test)]
    pub(super) fn retire_soon(&mut self, place: usize) {
        self.slots[place].generation = u32::MAX;
    }

    /// The live ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.slots.iter().filter(|slot| slot.live).map(|slot| &slot.sequence)
    }
}

impl Index<usize> for Sequences {
    type Output = Sequence;

    fn index(&self, place: usize) -> &Sequence {
        &self.slots[place].sequence
    }
}

impl IndexMut<usize> for Sequences {
    fn index_mut(&mut self, place: usize) -> &mut Sequence {
        &mut self.slots[place].sequence
    }
}
