//! Keys and values of many sequences, in pages.

mod append;
mod builder;
mod error;
mod id;
mod inputs;
mod pages;
mod pool;
mod quantised;
mod sequences;
mod transform;

pub use append::Append;
pub use builder::KvCacheBuilder;
pub use error::{KvError, KvTensor};
pub use id::SequenceId;

use std::fmt;

use crate::view::PagedView;
use pages::Pages;
use pool::Pool;
use sequences::{Opened, Sequence, Sequences};
use transform::Positions;

/// The keys and values of one attention layer, for many sequences of any lengths.
///
/// All memory is there once the cache is built, in large pages where the system has them: pools of pages, `[page, head, token, element]` for keys and for values, zeroed, and aligned to 64
/// bytes. A sequence has a table of its pages, which grows by one as a page is full; [`keys`](KvCache::keys) and [`values`](KvCache::values)
/// are views of it that calls read. A cache whose pages hold whole sequences has each in one piece: `page_size` is then the longest length,
/// rounded up to a multiple of [`PAGE_UNIT`](crate::PAGE_UNIT), and `pages` the number of sequences.
///
/// Sequences share pages. [`fork`](KvCache::fork) and [`share_prefix`](KvCache::share_prefix) copy nothing; a page that several sequences
/// have is never written, so that the first to append to one that is not full gets a copy of it. A page that no sequence has is free.
///
/// In 8 bits ([`KvCacheBuilder::elem`]), rows are quantised on their way in, and scales lie in pages of their own:
/// [`inputs`](KvCache::inputs) has all that a call reads of a sequence.
///
/// Norms of rows are kept for each page, so that calls of few queries leave out pages whose keys can have no weight, as ALiBi's steep heads
/// see them, without a look at them.
///
/// A refused operation has changed nothing that can be seen, and no order of operations loses a page. Appending allocates nothing but, now
/// and then, room for a longer table.
///
/// ```
/// use rhumb_runtime::{KvCache, TensorView};
///
/// // 2 heads of 4 elements; 8 pages of 16 tokens.
/// let mut cache = KvCache::builder(2, 4).page_size(16).pages(8).build()?;
/// let prompt = cache.new_sequence()?;
/// let rows: Vec<f32> = (0..2 * 20 * 4).map(|x| x as f32).collect();
/// let keys = TensorView::from_slice(&rows, &[2, 20, 4])?;
/// cache.append(prompt, keys, keys)?;
///
/// // Two answers to one prompt share its pages; the second page, which is not full, until one of them goes on.
/// let answer = cache.fork(prompt)?;
/// assert_eq!(cache.pages_used(), 2);
/// let token = TensorView::from_slice(&rows[..8], &[2, 1, 4])?;
/// cache.append(answer, token, token)?;
/// assert_eq!((cache.pages_used(), cache.len(prompt)?, cache.len(answer)?), (3, 20, 21));
///
/// let cached = cache.keys(answer)?;
/// assert_eq!(cached.shape(), [1, 2, 21, 4]);
/// assert_eq!(cached.get(&[0, 1, 19, 3]), keys.get(&[1, 19, 3]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KvCache {
    keys: Pool,
    values: Pool,
    page_size: usize,
    pages: Pages,
    sequences: Sequences,
    positions: Positions,
    /// Sequences that are being written to; none between calls.
    opened: Vec<Opened>,
}

// Threads may read one cache, and hand it over.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<KvCache>();
};

impl KvCache {
    /// A sequence without tokens.
    ///
    /// # Errors
    /// [`KvError::OutOfMemory`] if there is no memory for its table.
    pub fn new_sequence(&mut self) -> Result<SequenceId, KvError> {
        Ok(self.sequences.add(0)?)
    }

    /// A sequence of the same tokens, which shares all pages. Nothing is copied until one of the two is appended to.
    ///
    /// # Errors
    /// [`KvError::Stale`], and [`KvError::OutOfMemory`] if there is no memory for its table.
    pub fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, KvError> {
        let len = self.len(sequence)?;
        self.share_prefix(sequence, len)
    }

    /// A sequence of the first `tokens` tokens of another, which shares their pages, the one that `tokens` ends in among them. Nothing is
    /// copied until one of the two writes to that.
    ///
    /// Tokens that were [evicted](KvCache::evict_before) are not in the new sequence either.
    ///
    /// # Errors
    /// [`KvError::Stale`]; [`KvError::Position`] if the sequence is shorter, or the token at `tokens` was evicted;
    /// [`KvError::OutOfMemory`] if there is no memory for its table.
    pub fn share_prefix(&mut self, sequence: SequenceId, tokens: usize) -> Result<SequenceId, KvError> {
        let from = self.place_of(sequence, tokens)?;
        let first = self.sequences[from].first;
        let pages = (tokens - first).div_ceil(self.page_size);
        let id = self.sequences.add(pages)?;
        let to = self.sequences.find(id)?;
        for position in 0..pages {
            let page = self.sequences[from].table[position];
            self.pages.share(page);
            self.sequences[to].table.push(page);
        }
        (self.sequences[to].first, self.sequences[to].len) = (first, tokens);
        Ok(id)
    }

    /// Takes the tokens from position `len` on from a sequence: those of a speculation that was rejected, say.
    ///
    /// # Errors
    /// [`KvError::Stale`]; [`KvError::Position`] if the sequence is shorter, or the token at `len` was evicted.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvError> {
        let place = self.place_of(sequence, len)?;
        let cut = &mut self.sequences[place];
        cut.len = len;
        let pages = cut.kept().div_ceil(self.page_size);
        cut.table.drain(pages..).rev().for_each(|page| self.pages.release(page));
        Ok(())
    }

    /// Takes those pages from a sequence all of whose tokens are before `position`: what a sliding window has passed. A page that is not full
    /// is kept.
    ///
    /// Views of the sequence begin at [`first_token`](KvCache::first_token) from then on: index 0 of their tokens is the token at that
    /// position. Masks count indices, and queries are aligned to the last keys, so windows and `causal` are as before. So are biases by
    /// distance. What goes by positions themselves has to be told them: bind `q_pos` to a kernel whose keys were rotated on the way in, and
    /// `k_pos` too, from `first_token` on, to one that rotates them itself.
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn evict_before(&mut self, sequence: SequenceId, position: usize) -> Result<(), KvError> {
        let place = self.sequences.find(sequence)?;
        let cut = &mut self.sequences[place];
        let pages = position.min(cut.len).saturating_sub(cut.first) / self.page_size;
        cut.first += pages * self.page_size;
        cut.table.drain(..pages).for_each(|page| self.pages.release(page));
        Ok(())
    }

    /// Ends a sequence. Its handle is stale from then on.
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn free(&mut self, sequence: SequenceId) -> Result<(), KvError> {
        let place = self.sequences.find(sequence)?;
        self.sequences[place].table.drain(..).rev().for_each(|page| self.pages.release(page));
        self.sequences.remove(place);
        Ok(())
    }

    /// The keys of a sequence, `[1, head, token, element]`: input `k` of an attention, for a batch of one. Index 0 of the tokens is
    /// [`first_token`](KvCache::first_token).
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn keys(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.view(&self.keys, sequence)
    }

    /// The values of a sequence, `[1, head, token, element]`: input `v` of an attention, for a batch of one.
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn values(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.view(&self.values, sequence)
    }

    fn view<'a>(&'a self, pool: &'a Pool, sequence: SequenceId) -> Result<PagedView<'a>, KvError> {
        let sequence = &self.sequences[self.sequences.find(sequence)?];
        let view = PagedView::new(pool.view(), &sequence.table, 0, 2, sequence.kept());
        let view = view.and_then(|view| view.with_norms(pool.norms(), 1));
        Ok(view.expect("pages of the pool, none of them twice, and their norms"))
    }

    /// The position of a sequence's next token: the number of tokens appended to it, those among them that were evicted or shared.
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn len(&self, sequence: SequenceId) -> Result<usize, KvError> {
        Ok(self.sequences[self.sequences.find(sequence)?].len)
    }

    /// The position of the first token that a sequence keeps: a multiple of the page size, and 0 until tokens are
    /// [evicted](KvCache::evict_before).
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn first_token(&self, sequence: SequenceId) -> Result<usize, KvError> {
        Ok(self.sequences[self.sequences.find(sequence)?].first)
    }

    /// The pages of a sequence by number, in its order.
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn page_table(&self, sequence: SequenceId) -> Result<&[u32], KvError> {
        Ok(&self.sequences[self.sequences.find(sequence)?].table)
    }

    /// Tokens of a page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages that sequences have; one that several have counts once.
    pub fn pages_used(&self) -> usize {
        self.pages.count() - self.pages.free()
    }

    /// Pages that no sequence has.
    pub fn pages_free(&self) -> usize {
        self.pages.free()
    }

    /// Tokens that all pages together hold.
    pub fn capacity_tokens(&self) -> usize {
        self.pages.count() * self.page_size
    }

    /// The place of a live sequence that keeps the tokens before a position, or starts there.
    fn place_of(&self, sequence: SequenceId, position: usize) -> Result<usize, KvError> {
        let place = self.sequences.find(sequence)?;
        let &Sequence { first, len, .. } = &self.sequences[place];
        if (first..=len).contains(&position) { Ok(place) } else { Err(KvError::Position { position, first, len }) }
    }
}

impl fmt::Debug for KvCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pages, used, size) = (self.pages.count(), self.pages_used(), self.page_size);
        let sequences = self.sequences.iter().count();
        write!(f, "KvCache({sequences} sequences on {used} of {pages} pages of {size} tokens)")
    }
}

#[cfg(test)]
mod tests;
