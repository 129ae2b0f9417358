//! New tokens.

use std::convert::Infallible;
use std::iter;
use std::mem;

use crate::call::Operator;
use crate::kv::KvCache;
use crate::kv::error::{KvError, KvTensor};
use crate::kv::id::SequenceId;
use crate::kv::pool::Pool;
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

/// What was done for new tokens before they are written.
struct Opened {
    /// The shared page of which the sequence got a copy.
    copied: Option<u32>,
    /// Pages behind those there were.
    fresh: usize,
}

impl KvCache {
    /// Appends tokens to a sequence: any number, a prompt in pieces or one token. Keys and values are `[head, token, element]`, in any
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
        for append in batch {
            let written = self.write(append, |window, _, rows| {
                copy(rows, &window.of(&append.keys));
                Ok::<(), Infallible>(())
            });
            let Ok(()) = written;
        }
        Ok(())
    }

    /// Appends tokens to a sequence whose keys a kernel makes of those given: the kernel of
    /// [`Attention::key_graph`](rhumb_plugins::Attention::key_graph), which rotates them once and for all. Values are copied as they are.
    ///
    /// The kernel is called for the tokens of each page by themselves, and writes into it. It takes `k`, `[1, head, token, element]`, and has
    /// one output, `k_out`, of the cache's shape and element type. If it has an input `q_offset`, that is the position of the first token;
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
    /// [`KvError`] as of [`append`](KvCache::append), [`KvError::InputTokens`], and [`KvError::Call`] if the kernel refuses a call. Then
    /// nothing was appended.
    pub fn append_transformed(
        &mut self,
        sequence: SequenceId,
        kernel: &dyn Operator,
        inputs: &[(&str, TensorView<'_>)],
        keys: TensorView<'_>,
        values: TensorView<'_>,
    ) -> Result<(), KvError> {
        // What else keys have to be, the kernel knows.
        if keys.rank() != 3 {
            return Err(shape_error(&self.keys, KvTensor::Keys, &keys));
        }
        check_rows(&self.values, KvTensor::Values, &values)?;
        check_tokens(&keys, &values)?;
        let transform = Transform::new(kernel, inputs, keys.shape()[1])?;
        let append = Append { sequence, keys, values };
        self.make_room(&[append])?;
        self.write(&append, |window, positions, rows| transform.run(&keys, window, positions, rows))
    }

    /// Pages that appending `tokens` tokens to a sequence would take, a copy of a shared page among them.
    ///
    /// # Errors
    /// [`KvError::Stale`], and [`KvError::TooLong`] if positions could not count them.
    pub fn pages_needed(&self, sequence: SequenceId, tokens: usize) -> Result<usize, KvError> {
        let place = self.sequences.find(sequence)?;
        let shared = self.written_page(place, tokens).is_some_and(|page| self.pages.is_shared(page));
        Ok(self.more_pages(place, tokens)? + usize::from(shared))
    }

    /// Pages that new tokens take beside those of the sequence.
    fn more_pages(&self, place: usize, tokens: usize) -> Result<usize, KvError> {
        let sequence = &self.sequences[place];
        match sequence.len.checked_add(tokens) {
            Some(len) if len <= i32::MAX as usize => Ok(sequence.more_pages(tokens, self.page_size)),
            _ => Err(KvError::TooLong { len: sequence.len, more: tokens }),
        }
    }

    /// The page of a sequence that new tokens are written to beside others.
    fn written_page(&self, place: usize, tokens: usize) -> Option<u32> {
        self.sequences[place].open_page(self.page_size).filter(|_| tokens > 0)
    }

    /// Checks that there are pages for a batch, and makes room in tables.
    fn make_room(&mut self, batch: &[Append<'_>]) -> Result<(), KvError> {
        self.check_apart(batch)?;
        let (needed, free) = (self.count_pages(batch)?, self.pages.free());
        if needed > free {
            return Err(KvError::OutOfPages { needed, free, pages: self.pages.count() });
        }
        for append in batch {
            let place = self.sequences.find(append.sequence)?;
            let more = self.more_pages(place, append.tokens())?;
            reserve(&mut self.sequences[place].table, more)?;
        }
        Ok(())
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

    /// Pages that a batch takes. Of sequences that share the page they write, all but one take a copy if all are in the batch.
    fn count_pages(&mut self, batch: &[Append<'_>]) -> Result<usize, KvError> {
        let counted = batch.iter().try_fold(0, |count, append| {
            let place = self.sequences.find(append.sequence)?;
            let written = self.written_page(place, append.tokens());
            let copies = written.is_some_and(|page| self.pages.count_copy(page));
            Ok(count + self.more_pages(place, append.tokens())? + usize::from(copies))
        });
        for append in batch {
            let place = self.sequences.find(append.sequence)?;
            if let Some(page) = self.written_page(place, append.tokens()) {
                self.pages.forget_copies(page);
            }
        }
        counted
    }

    /// Writes new tokens for which there are pages, keys by `write_keys`. If that fails, the sequence is as before.
    fn write<E>(
        &mut self,
        append: &Append<'_>,
        mut write_keys: impl FnMut(Window, &mut Positions, TensorViewMut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (place, tokens) = (append.sequence.slot as usize, append.tokens());
        let opened = self.open(place, tokens);
        let KvCache { keys, values, sequences, positions, page_size, .. } = self;
        let sequence = &sequences[place];
        let (page_size, kept) = (*page_size, sequence.kept());
        let written = windows(tokens, sequence.len, page_size).try_for_each(|window| {
            let at = kept + window.start;
            let (page, at) = (sequence.table[at / page_size], at % page_size);
            write_keys(window, positions, keys.rows(page, at, window.len))?;
            copy(values.rows(page, at, window.len), &window.of(&append.values));
            keys.note(page, at, window.len);
            values.note(page, at, window.len);
            Ok(())
        });
        match written {
            Ok(()) => self.close(place, tokens, opened),
            Err(_) => self.undo(place, opened),
        }
        written
    }

    /// Gives a sequence the pages that it writes new tokens to.
    fn open(&mut self, place: usize, tokens: usize) -> Opened {
        let copied = self.written_page(place, tokens).filter(|page| self.pages.is_shared(*page));
        let (kept, page_size) = (self.sequences[place].kept(), self.page_size);
        let fresh = self.sequences[place].more_pages(tokens, page_size);
        if let Some(shared) = copied {
            let own = self.pages.take().expect("a page that was counted");
            self.keys.copy(shared, own, kept % page_size);
            self.values.copy(shared, own, kept % page_size);
            self.sequences[place].table.pop();
            self.sequences[place].table.push(own);
        }
        for _ in 0..fresh {
            self.sequences[place].table.push(self.pages.take().expect("a page that was counted"));
        }
        Opened { copied, fresh }
    }

    /// Makes written tokens the sequence's.
    fn close(&mut self, place: usize, tokens: usize, Opened { copied, .. }: Opened) {
        copied.into_iter().for_each(|shared| self.pages.release(shared));
        self.sequences[place].len += tokens;
    }

    /// Takes the pages back. The sequence was the only one to write, and where it shared a page, wrote to a copy.
    fn undo(&mut self, place: usize, Opened { copied, fresh }: Opened) {
        let table = &mut self.sequences[place].table;
        let start = table.len() - fresh - usize::from(copied.is_some());
        table.drain(start..).rev().for_each(|page| self.pages.release(page));
        table.extend(copied);
    }
}

impl Append<'_> {
    fn tokens(&self) -> usize {
        self.keys.shape()[1]
    }
}

/// New tokens by the pages that they lie in, behind `len` tokens.
fn windows(tokens: usize, len: usize, page_size: usize) -> impl Iterator<Item = Window> {
    let mut start = 0;
    iter::from_fn(move || {
        let position = len + start;
        let len = (page_size - position % page_size).min(tokens - start);
        let window = Window { start, len, position };
        start += len;
        (len > 0).then_some(window)
    })
}

fn copy(mut rows: TensorViewMut<'_>, from: &TensorView<'_>) {
    let copied = rows.copy_from(from);
    debug_assert!(copied, "{from:?} does not fit {rows:?}");
}

fn check_rows(pool: &Pool, tensor: KvTensor, rows: &TensorView<'_>) -> Result<(), KvError> {
    let fits = matches!(rows.shape(), [heads, _, dim] if (*heads, *dim) == (pool.heads(), pool.dim()));
    if !fits {
        return Err(shape_error(pool, tensor, rows));
    }
    let (found, expected) = (rows.elem(), pool.elem());
    if found == expected { Ok(()) } else { Err(KvError::Elem { tensor, found, expected }) }
}

fn check_tokens(keys: &TensorView<'_>, values: &TensorView<'_>) -> Result<(), KvError> {
    let (keys, values) = (keys.shape()[1], values.shape()[1]);
    if keys == values { Ok(()) } else { Err(KvError::Tokens { keys, values }) }
}

fn shape_error(pool: &Pool, tensor: KvTensor, rows: &TensorView<'_>) -> KvError {
    KvError::Shape { tensor, found: rows.shape().into(), heads: pool.heads(), dim: pool.dim() }
}
