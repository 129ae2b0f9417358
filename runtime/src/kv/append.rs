//! New tokens.

use std::convert::Infallible;
use std::iter;
use std::mem;

use crate::call::Operator;
use crate::kv::KvCache;
use crate::kv::error::{KvError, KvTensor};
use crate::kv::id::SequenceId;
use crate::kv::pool::Pool;
use crate::kv::sequences::Opened;
use crate::kv::transform::{Positions, Transform, Window};
use crate::memory::reserve;
use crate::view::{TensorView, TensorViewMut};

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The sequence that they are appended to.
    pub sequence: SequenceId,
    /// Their keys, `[head, token, element]`.
    pub keys: TensorView<'a>,
    /// Their values, `[head, token, element]`.
    pub values: TensorView<'a>,
}

impl KvCache {
    /// Appends tokens to a sequence: any number, a prompt in pieces or one token. A cache of 8 bits quantises them, and refuses what is not
    /// finite. Keys and values are `[head, token, element]`, in any
    /// layout: of a batch that lies tokens first, `[batch, token, head, element]`, sequence `i` is `view.select(0, i)?.permute(&[1, 0, 2])?`.
    ///
    /// # Errors
    /// [`KvError`] if the handle is stale, tensors do not fit, or pages do not suffice. Then nothing was appended.
    pub fn append(
        &mut self,
        sequence: SequenceId,
        keys: TensorView<'_>,
        values: TensorView<'_>,
    ) -> Result<(), KvError> {
        self.append_batch(&[Append { sequence, keys, values }])
    }

    /// Appends tokens to several sequences, each as [`append`](KvCache::append) does: to all of them, or to none.
    ///
    /// # Errors
    /// [`KvError`] as of `append`, and [`KvError::Repeated`] if a sequence is in the batch twice. Then nothing was appended.
    pub fn append_batch(&mut self, batch: &[Append<'_>]) -> Result<(), KvError> {
        for Append { keys, values, .. } in batch {
            check_rows(&self.keys, KvTensor::Keys, keys)?;
            check_rows(&self.values, KvTensor::Values, values)?;
            check_tokens(keys, values)?;
        }
        self.make_room(batch)?;
        let Ok(()) = self.write(batch, |append, window, _, (pool, page, at)| {
            pool.write(page, at, &window.of(&append.keys));
            Ok::<(), Infallible>(())
        });
        Ok(())
    }

    /// Appends tokens to a sequence whose keys a kernel makes of those given: the kernel of
    /// [`Attention::key_graph`](rhumb_plugins::Attention::key_graph), which rotates them once and for all. Values are copied as they are.
    ///
    /// The kernel is called for the tokens of each page by themselves, and writes into it. It takes `k`, `[1, head, token, element]`, and has
    /// one output, `k_out`, of the cache's shape and element type, of `f32` for a cache of 8 bits. If it has an input `q_offset`, that is the position of the first token;
    /// `k_pos` is the position of each. Other inputs, and these where they are others, are among `inputs`; those that have the axis of tokens
    /// are given for all new tokens, and cut as the keys are. What the kernel makes of a token must not depend on the number of tokens of a
    /// call; a graph that depends on the length of the sequence is told that by `length`.
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Rope};
    /// use rhumb_runtime::{Engine, KvCache, TensorView};
    ///
    /// let graph = Attention::heads(2).head_dim(4).scheme(Rope::new()).q_offset_input().key_graph()?;
    /// let rotate = Engine::host()?.compile(&graph)?;
    /// let mut cache = KvCache::builder(2, 4).page_size(16).pages(8).build()?;
    /// let sequence = cache.new_sequence()?;
    /// let rows = vec![1.0f32; 2 * 3 * 4];
    /// let rows = TensorView::from_slice(&rows, &[2, 3, 4])?;
    /// cache.append_transformed(sequence, &*rotate, &[], rows, rows)?;
    /// // The token at position 0 is not turned; at position 2, by 2 radians: cos 2 - sin 2.
    /// let keys = cache.keys(sequence)?;
    /// assert_eq!(keys.get(&[0, 0, 0, 0]), Some(1.0));
    /// assert!((keys.get(&[0, 0, 2, 0]).unwrap_or(0.0) - (2f64.cos() - 2f64.sin())).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`KvError`] as of [`append`](KvCache::append), [`KvError::InputTokens`], [`KvError::Counted`] and [`KvError::ByLength`] if what the kernel
    /// makes of a key depends on the others of a call, and [`KvError::Call`] if it refuses a call. Then nothing was appended.
    pub fn append_transformed(
        &mut self,
        sequence: SequenceId,
        kernel: &dyn Operator,
        inputs: &[(&str, TensorView<'_>)],
        keys: TensorView<'_>,
        values: TensorView<'_>,
    ) -> Result<(), KvError> {
        self.append_batch_transformed(kernel, inputs, &[Append { sequence, keys, values }])
    }

    /// Appends tokens to several sequences, each as [`append_transformed`](KvCache::append_transformed) does: to all of them, or to none.
    /// Those of `inputs` that have the axis of tokens are given for the tokens of all sequences, in the order of the batch.
    ///
    /// # Errors
    /// [`KvError`] as of `append_transformed`, and [`KvError::Repeated`] if a sequence is in the batch twice. Then nothing was appended.
    pub fn append_batch_transformed(
        &mut self,
        kernel: &dyn Operator,
        inputs: &[(&str, TensorView<'_>)],
        batch: &[Append<'_>],
    ) -> Result<(), KvError> {
        for Append { keys, values, .. } in batch {
            // What else keys have to be, the kernel knows.
            if keys.rank() != 3 {
                return Err(shape_error(&self.keys, KvTensor::Keys, keys));
            }
            check_rows(&self.values, KvTensor::Values, values)?;
            check_tokens(keys, values)?;
        }
        let tokens = batch.iter().fold(0usize, |sum, append| sum.saturating_add(append.tokens()));
        let transform = Transform::new(kernel, inputs, tokens)?;
        self.make_room(batch)?;
        self.write(batch, |append, window, positions, (pool, page, at)| {
            let make = |rows: TensorViewMut<'_>| transform.run(&append.keys, window, positions, rows);
            pool.write_made((page, at, window.len), KvTensor::Keys, make)
        })
    }

    /// Pages that appending `tokens` tokens to a sequence takes, a copy of a shared page among them. A batch takes the sum of these.
    ///
    /// # Errors
    /// [`KvError::Stale`], and [`KvError::TooLong`] if positions could not count them.
    pub fn pages_needed(&self, sequence: SequenceId, tokens: usize) -> Result<usize, KvError> {
        let place = self.sequences.find(sequence)?;
        let found = &self.sequences[place];
        if found.len.checked_add(tokens).is_none_or(|len| len > i32::MAX as usize) {
            return Err(KvError::TooLong { len: found.len, more: tokens });
        }
        let copied = self.copied_page(place, tokens).is_some();
        Ok(found.more_pages(tokens, self.page_size) + usize::from(copied))
    }

    /// The page of a sequence that new tokens belong to, if others have it too.
    fn copied_page(&self, place: usize, tokens: usize) -> Option<u32> {
        let page = self.sequences[place].open_page(self.page_size)?;
        (tokens > 0 && self.pages.is_shared(page)).then_some(page)
    }

    /// Checks that there are pages for a batch, and makes room in tables.
    fn make_room(&mut self, batch: &[Append<'_>]) -> Result<(), KvError> {
        self.check_apart(batch)?;
        let mut needed = 0;
        for append in batch {
            needed += self.pages_needed(append.sequence, append.tokens())?;
        }
        let free = self.pages.free();
        if needed > free {
            return Err(KvError::OutOfPages { needed, free, pages: self.pages.count() });
        }
        for append in batch {
            let place = self.sequences.find(append.sequence)?;
            let more = self.sequences[place].more_pages(append.tokens(), self.page_size);
            reserve(&mut self.sequences[place].table, more)?;
        }
        self.opened.clear();
        Ok(reserve(&mut self.opened, batch.len())?)
    }

    /// Checks that a batch is of live sequences, none of them twice.
    fn check_apart(&mut self, batch: &[Append<'_>]) -> Result<(), KvError> {
        let checked = batch.iter().try_for_each(|&Append { sequence, .. }| {
            let place = self.sequences.find(sequence)?;
            let twice = mem::replace(&mut self.sequences[place].listed, true);
            if twice { Err(KvError::Repeated { sequence }) } else { Ok(()) }
        });
        for append in batch {
            if let Ok(place) = self.sequences.find(append.sequence) {
                self.sequences[place].listed = false;
            }
        }
        checked
    }

    /// Writes new tokens for which there are pages, keys by `write_keys`. If that fails, all sequences are as before: none has written to
    /// a page that was shared when the batch began.
    fn write<E>(
        &mut self,
        batch: &[Append<'_>],
        write_keys: impl FnMut(&Append<'_>, Window, &mut Positions, (&mut Pool, u32, usize)) -> Result<(), E>,
    ) -> Result<(), E> {
        for append in batch {
            let opened = self.open(append);
            self.opened.push(opened);
        }
        let written = self.write_rows(batch, write_keys);
        while let Some(opened) = self.opened.pop() {
            match written {
                Ok(()) => self.close(opened),
                Err(_) => self.undo(opened),
            }
        }
        written
    }

    /// Writes new tokens to the pages in their sequences' tables.
    fn write_rows<E>(
        &mut self,
        batch: &[Append<'_>],
        mut write_keys: impl FnMut(&Append<'_>, Window, &mut Positions, (&mut Pool, u32, usize)) -> Result<(), E>,
    ) -> Result<(), E> {
        let page_size = self.page_size;
        let mut before = 0;
        for append in batch {
            let sequence = &self.sequences[append.place()];
            for window in windows(append.tokens(), sequence.len, page_size, before) {
                let at = sequence.kept() + window.start;
                let (page, at) = (sequence.table[at / page_size], at % page_size);
                write_keys(append, window, &mut self.positions, (&mut self.keys, page, at))?;
                self.values.write(page, at, &window.of(&append.values));
                self.keys.note(page, at, window.len);
                self.values.note(page, at, window.len);
            }
            before += append.tokens();
        }
        Ok(())
    }

    /// Gives a sequence the pages that it writes new tokens to. Those that it shares stay as they are, and its own, until it is closed.
    fn open(&mut self, append: &Append<'_>) -> Opened {
        let (place, tokens, page_size) = (append.place(), append.tokens(), self.page_size);
        let copied = self.copied_page(place, tokens);
        let sequence = &mut self.sequences[place];
        let (kept, fresh) = (sequence.kept(), sequence.more_pages(tokens, page_size));
        if let Some(shared) = copied {
            let own = self.pages.take().expect("a page that was counted");
            self.keys.copy(shared, own, kept % page_size);
            self.values.copy(shared, own, kept % page_size);
            sequence.table.pop();
            sequence.table.push(own);
        }
        for _ in 0..fresh {
            sequence.table.push(self.pages.take().expect("a page that was counted"));
        }
        Opened { place, tokens, copied, fresh }
    }

    /// Makes written tokens the sequence's.
    fn close(&mut self, Opened { place, tokens, copied, .. }: Opened) {
        copied.into_iter().for_each(|shared| self.pages.release(shared));
        self.sequences[place].len += tokens;
    }

    /// Takes the pages back.
    fn undo(&mut self, Opened { place, copied, fresh, .. }: Opened) {
        let table = &mut self.sequences[place].table;
        let start = table.len() - fresh - usize::from(copied.is_some());
        table.drain(start..).rev().for_each(|page| self.pages.release(page));
        table.extend(copied);
    }
}

impl Append<'_> {
    /// Where a live sequence is.
    fn place(&self) -> usize {
        self.sequence.slot as usize
    }

    fn tokens(&self) -> usize {
        self.keys.shape()[1]
    }
}

/// New tokens by the pages that they lie in, behind `len` tokens of their sequence and `before` of the batch.
fn windows(tokens: usize, len: usize, page_size: usize, before: usize) -> impl Iterator<Item = Window> {
    let mut start = 0;
    iter::from_fn(move || {
        let position = len + start;
        let len = (page_size - position % page_size).min(tokens - start);
        let window = Window { start, len, position, given: before + start };
        start += len;
        (len > 0).then_some(window)
    })
}

fn check_rows(pool: &Pool, tensor: KvTensor, rows: &TensorView<'_>) -> Result<(), KvError> {
    let fits = matches!(rows.shape(), [heads, _, dim] if (*heads, *dim) == (pool.heads(), pool.dim()));
    if !fits {
        return Err(shape_error(pool, tensor, rows));
    }
    pool.check(tensor, rows)
}

fn check_tokens(keys: &TensorView<'_>, values: &TensorView<'_>) -> Result<(), KvError> {
    let (keys, values) = (keys.shape()[1], values.shape()[1]);
    if keys == values { Ok(()) } else { Err(KvError::Tokens { keys, values }) }
}

fn shape_error(pool: &Pool, tensor: KvTensor, rows: &TensorView<'_>) -> KvError {
    KvError::Shape { tensor, found: rows.shape().into(), heads: pool.heads(), dim: pool.dim() }
}
