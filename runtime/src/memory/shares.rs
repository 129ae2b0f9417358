//! What threads share of a call: each share is taken once.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;
use rhumb_compiler::abi::{LANE_BYTES, MOST_PRODUCTS, MOST_REDUCTIONS};
use rhumb_compiler::plan::{Attention, Plan, Reduction};

use crate::memory::alloc::ALIGN;
use crate::memory::chunks::{self, Partials, chunks};
use crate::memory::outer::{Rows, queries, query_tiles};
use crate::memory::part::Part;
use crate::memory::{Frame, FunctionId, Invocation, Outer, Workspace};

/// Keys and values of more bytes are thought to come from memory: last caches have about as much.
const NEAR_BYTES: usize = 32 << 20;

/// Those of no more are thought to be near enough, in a core's own caches, for no task to ask for rows of the next.
const OWN_BYTES: usize = 1 << 20;

/// A table that is being made. Threads take turns of its outermost loop, no two the same; nothing reads tables meanwhile.
#[derive(Debug)]
pub(crate) struct TableTurns<'i> {
    pub(super) call: &'i Invocation<'i>,
    pub(super) function: FunctionId,
    /// The first and the end of each part.
    parts: Parts<'i>,
    next: AtomicUsize,
}

/// Turns of a loop that are run together.
#[derive(Debug)]
enum Parts<'i> {
    /// All turns, in parts of about the same size.
    Even { turns: usize, parts: usize },
    /// Some turns, each alone.
    Each(&'i [usize]),
}

/// The tasks of a call: a few query tiles of one outer index each. Threads take them, no two the same.
#[derive(Debug)]
pub(crate) struct Tasks<'i> {
    call: &'i Invocation<'i>,
    attention: &'i Attention,
    /// Query tiles of a task but the last.
    together: usize,
    /// Query tiles of an outer index.
    query_tiles: usize,
    /// Outer indices.
    outer: usize,
    /// Chunks that keys are cut into.
    chunks: usize,
    partials: &'i Partials,
    /// Bytes of keys and values that are read, by all calls that run at once.
    read_bytes: usize,
    next: AtomicUsize,
}

/// The query tiles of a task, and the scratch memory of the thread that has taken it: no other thread writes the outputs of their queries.
/// Where keys are cut into chunks several tasks have the same query tiles, and the last that is handed in writes the outputs.
pub(crate) struct TaskTiles<'t> {
    pub(super) call: &'t Invocation<'t>,
    pub(super) attention: &'t Attention,
    /// The number of the outer indices.
    number: usize,
    /// The chunk of the keys, and how many there are.
    pub(super) chunk: (usize, usize),
    pub(super) partials: &'t Partials,
    /// The tasks of the call.
    pub(super) tasks: &'t Tasks<'t>,
    /// The keys of the first key tile.
    first_tile: Option<(usize, usize)>,
    /// Query tiles that have been handed in, and whether the last was so by no other task any more.
    pub(super) handed_in: usize,
    pub(super) last: bool,
    /// Query tiles of an outer index.
    all_query_tiles: usize,
    /// Rows of the keys, for each product of the score.
    pub(super) keys: [Rows<'t>; MOST_PRODUCTS],
    /// Rows of the values, for each reduction.
    pub(super) values: [Rows<'t>; MOST_REDUCTIONS],
    /// Whether rows of inputs in pages are copied for each key tile, and the keys whose rows were copied last.
    pub(super) copies: bool,
    pub(super) copied: Option<(usize, usize)>,
    /// The keys whose rows code has made last, of those that all query tiles read.
    pub(super) loaded: Option<(usize, usize)>,
    /// The number of keys.
    pub(super) length: usize,
    /// The first query tile, and the end of them.
    query_tiles: (usize, usize),
    /// Queries of a whole query tile, and the end of all.
    pub(super) queries: (usize, usize),
    /// The first query of the first query tile of all.
    first_query: usize,
    /// Query tiles that have been begun.
    pub(super) begun: usize,
    pub(super) scratch: &'t mut Workspace,
}

/// A key tile of another task: its keys, and where its rows of keys and values are.
pub(super) struct Following<'t> {
    pub(super) tile: (usize, usize),
    pub(super) keys: [Rows<'t>; MOST_PRODUCTS],
    pub(super) values: [Rows<'t>; MOST_REDUCTIONS],
}

/// Query tiles and the chunk of keys of a task: others have the same at other outer indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRange {
    query_tiles: (usize, usize),
    chunk: usize,
}

impl Invocation<'_> {
    /// The whole table that a function makes, in this many parts.
    pub(crate) fn make(&mut self, function: FunctionId, parts: usize) -> TableTurns<'_> {
        let (turns, elements) = self.turns(function);
        // Without elements there is nothing to make.
        let parts = if elements == 0 { 0 } else { parts.min(turns) };
        TableTurns { call: self, function, parts: Parts::Even { turns, parts }, next: AtomicUsize::new(0) }
    }

    /// Some rows of the table that a function makes, in ascending order.
    pub(crate) fn make_rows<'i>(&'i mut self, function: FunctionId, rows: &'i [usize]) -> TableTurns<'i> {
        let (turns, elements) = self.turns(function);
        assert!(rows.is_sorted_by(|a, b| a < b), "a row is made twice");
        assert!(rows.last().is_none_or(|last| *last < turns), "a row past the end of a table");
        let rows = if elements == 0 { &[] } else { rows };
        TableTurns { call: self, function, parts: Parts::Each(rows), next: AtomicUsize::new(0) }
    }

    /// The tasks of the plan's attention, if it has one, of this many query tiles but for the last: one at least, and as many as the scratch
    /// memory has states at most. What chunks of keys come to is kept in `partials`, which has room for this call. All calls that run beside
    /// it, and it, read so many bytes.
    pub(crate) fn tasks<'i>(
        &'i mut self,
        together: usize,
        partials: &'i Partials,
        read_bytes: usize,
    ) -> Option<Tasks<'i>> {
        let plan = self.loaded.plan();
        let attention = plan.attention.as_ref()?;
        let chunks = chunks(attention, &self.frame);
        Some(Tasks {
            chunks,
            partials,
            call: self,
            attention,
            together: together.min(plan.tiling.query_tiles_per_task).max(1),
            query_tiles: query_tiles(attention, &self.frame),
            outer: Outer::count(attention, &self.frame),
            read_bytes,
            next: AtomicUsize::new(0),
        })
    }
}

impl TableTurns<'_> {
    /// Turns that nobody has taken yet: the first, and the end of them.
    pub(super) fn take(&self) -> Option<(usize, usize)> {
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        match self.parts {
            Parts::Even { turns, parts } => {
                let start = |part: usize| (part as u128 * turns as u128 / parts as u128) as usize;
                (part < parts).then(|| (start(part), start(part + 1)))
            }
            Parts::Each(rows) => rows.get(part).map(|row| (*row, row + 1)),
        }
    }
}

impl<'i> Tasks<'i> {
    /// What the call knows of its tensors.
    pub(crate) fn frame(&self) -> &'i Frame<'i> {
        &self.call.frame
    }

    /// Whether keys and values are thought to come from memory.
    pub(super) fn is_far(&self) -> bool {
        self.read_bytes > NEAR_BYTES
    }

    /// The number of tasks.
    pub(crate) fn count(&self) -> usize {
        self.chunk_tasks().saturating_mul(self.chunks)
    }

    /// The number of tasks of a chunk of keys.
    fn chunk_tasks(&self) -> usize {
        self.outer.saturating_mul(self.query_tiles.div_ceil(self.together))
    }

    /// The chunk of a task, the number of its outer indices, and how many tasks of these come after it.
    fn part(&self, task: usize) -> (usize, usize, usize) {
        // The last keys come first: those before may turn out to have no weight beside them.
        let (chunk, task) = (self.chunks - 1 - task / self.chunk_tasks(), task % self.chunk_tasks());
        (chunk, task % self.outer, task / self.outer)
    }

    /// A task that nobody has taken yet, with its outer indices; none if there is none. What the scratch memory holds is lost.
    ///
    /// Late query tiles see most keys under a causal mask: the heaviest go first, and threads end together.
    pub(crate) fn take<'t>(&'t self, scratch: &'t mut Workspace) -> Option<(Outer<'t>, TaskTiles<'t>)> {
        let Tasks { call, attention, together, query_tiles, chunks, partials, .. } = *self;
        // Tasks share nothing but this counter; what they write is handed over when their threads end.
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        if task >= self.count() {
            return None;
        }
        let (chunk, number, from_last) = self.part(task);
        let first = (query_tiles.div_ceil(together) - 1 - from_last) * together;
        let outer = Outer::new(attention, &call.frame, number);
        let (first_query, end_query) = queries(attention, &call.frame);
        let copies = call.loaded.scratch_bytes().next_multiple_of(ALIGN);
        let mut place = copies;
        let (keys, values) = outer.all_rows(&mut place);
        call.loaded.put_constants(scratch);
        put(scratch, call.loaded.plan().scratch.outer, outer.indices());
        let tiles = TaskTiles {
            call,
            attention,
            number,
            chunk: (chunk, chunks),
            partials,
            tasks: self,
            first_tile: None,
            handed_in: 0,
            last: false,
            all_query_tiles: query_tiles,
            keys,
            values,
            copies: place > copies,
            copied: None,
            loaded: None,
            length: call.frame.length(attention.key),
            query_tiles: (first, (first + together).min(query_tiles)),
            queries: (call.loaded.plan().tiling.queries(), end_query),
            first_query,
            begun: 0,
            scratch,
        };
        Some((outer, tiles))
    }
}

impl<'t> TaskTiles<'t> {
    /// The number of the task's outer indices.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Which query tiles and keys the task has, at any outer index.
    pub(crate) fn range(&self) -> TaskRange {
        TaskRange { query_tiles: self.query_tiles, chunk: self.chunk.0 }
    }

    /// The number of query tiles.
    pub(crate) fn len(&self) -> usize {
        self.query_tiles.1 - self.query_tiles.0
    }

    /// The keys of the task: from and to.
    pub(crate) fn keys(&self) -> (usize, usize) {
        chunks::keys(self.plan(), self.chunk.0, self.length)
    }

    /// The key tile that this thread comes to after some keys, if they are the last of the task: that of the task which is taken next, as far as
    /// can be told. None for many queries, whose query tiles ask for what they share, and where keys are in a core's own caches.
    pub(super) fn following(&mut self, keys: (usize, usize), next: (usize, usize)) -> Option<Following<'t>> {
        let first_tile = *self.first_tile.get_or_insert(keys);
        let is_own = self.tasks.read_bytes <= OWN_BYTES;
        if next.0 < next.1 || self.copies || is_own || !self.plan().schedule.is_for_few_queries() {
            return None;
        }
        let task = self.tasks.next.load(Ordering::Relaxed);
        if task >= self.tasks.count() {
            return None;
        }
        let (chunk, number, _) = self.tasks.part(task);
        let (first, end) = chunks::keys(self.plan(), chunk, self.length);
        let of_chunk = (first, end.min(first.saturating_add(self.plan().tiling.keys)));
        // Tasks of the same keys see the same.
        let tile = if chunk == self.chunk.0 { first_tile } else { of_chunk };
        let (keys, values) = Outer::new(self.attention, &self.call.frame, number).all_rows(&mut 0);
        Some(Following { tile, keys, values })
    }

    /// Whether other tasks have the other keys of the query tiles.
    pub(crate) fn is_of_chunks(&self) -> bool {
        self.chunk.1 > 1
    }

    /// The number of the query tile at a position among those of all outer indices.
    pub(super) fn group(&self, position: usize) -> usize {
        self.number * self.all_query_tiles + self.query_tiles.0 + position
    }

    /// Numbers that the norms of no key and of no value among the keys of the task are above, of the first product and of all reductions;
    /// `inf` where that is not known.
    pub(crate) fn norms(&self) -> (f32, f32) {
        let keys = self.keys();
        let values = &self.values[..self.attention.reductions.len()];
        (self.keys[0].norm(keys), values.iter().map(|rows| rows.norm(keys)).fold(0.0, f32::max))
    }

    /// The queries in the state of the query tile at a position, in decode: row after row, scaled and rotated, and the elements of a row;
    /// where they are multiplied by pairs, words of two elements as they lie.
    pub(crate) fn query_rows(&self, position: usize) -> (&[f32], usize) {
        assert!(position < self.begun, "a query tile that was not begun");
        let (plan, (queries, _)) = (self.plan(), self.queries);
        let length = self.attention.query_padded(plan.machine.lanes);
        let start = plan.scratch.states + position * plan.scratch.state_bytes + plan.scratch.queries;
        (self.scratch.slice::<f32>(start, queries * length).expect("queries of a state of this plan"), length)
    }

    /// The accumulators of a reduction in the state of the query tile at a position, in decode: the rows of all queries that a tile can have,
    /// and the elements of a row.
    pub(crate) fn accumulators(&mut self, position: usize, reduction: usize) -> (&mut [f32], usize) {
        assert!(position < self.begun, "a query tile that was not begun");
        let (plan, (queries, _)) = (self.plan(), self.queries);
        let (layout, lanes) = (&plan.scratch, plan.machine.lanes);
        let padded = |reduction: &Reduction| (reduction.length as usize).next_multiple_of(lanes);
        let reductions = &self.attention.reductions;
        let before: usize = reductions[..reduction].iter().map(padded).sum();
        let length = padded(&reductions[reduction]);
        let start = layout.states + position * layout.state_bytes + layout.accumulators + LANE_BYTES * queries * before;
        let rows = self.scratch.slice_mut::<f32>(start, queries * length);
        (rows.expect("accumulators of a state of this plan"), length)
    }

    /// The queries of the tile at a position: the first, and the end of them. There is one at least.
    pub(crate) fn queries(&self, position: usize) -> (usize, usize) {
        assert!(position < self.len(), "a query tile of another task");
        let (size, end) = self.queries;
        let first = self.first_query + (self.query_tiles.0 + position) * size;
        (first, (first + size).min(end))
    }

    /// A part of the state of the query tile at a position: a number for each query that a tile can have.
    pub(crate) fn part(&mut self, position: usize, part: Part) -> &mut [f32] {
        let [part] = self.parts(position, [part]);
        part
    }

    /// Different parts of the state of the query tile at a position.
    pub(crate) fn parts<const N: usize>(&mut self, position: usize, parts: [Part; N]) -> [&mut [f32]; N] {
        assert!(position < self.begun, "a query tile that was not begun");
        let (layout, (queries, _)) = (&self.plan().scratch, self.queries);
        // The positions of queries come last, and code relies on them.
        let state =
            self.scratch.slice_mut::<f32>(layout.states + position * layout.state_bytes, layout.lanes / LANE_BYTES);
        let parts = parts.map(|part| {
            let start = match part {
                Part::Bases => layout.bases,
                Part::Limits => layout.limits,
                Part::Sums => layout.sums,
                Part::References => layout.references,
                Part::Squares => layout.squares,
            };
            start / LANE_BYTES..start / LANE_BYTES + queries
        });
        let parts = state.and_then(|state| state.get_disjoint_mut(parts).ok());
        parts.expect("parts of a state of this plan")
    }

    pub(super) fn plan(&self) -> &'t Plan {
        self.call.loaded.plan()
    }
}

/// Puts records in their place in scratch memory.
pub(super) fn put<T: Pod>(scratch: &mut Workspace, start: usize, records: &[T]) {
    scratch.slice_mut::<T>(start, records.len()).expect("scratch memory of the plan's size").copy_from_slice(records);
}
