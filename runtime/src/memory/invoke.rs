//! The calls into machine code: of a function that makes a table, and of one that a query tile takes. There are no others.
//!
//! What code relies on is made certain here, from the plan that it was compiled of and the frame of the call, whatever is asked for. A
//! mistake of the caller's is a panic.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;
use rhumb_compiler::abi::{SHARES, TableCall, TileCall};
use rhumb_compiler::codegen::Role;
use rhumb_compiler::plan::{Attention, Plan, Table};

use crate::memory::frame::Placed;
use crate::memory::outer::Rows;
use crate::memory::{Frame, FunctionId, Loaded, Outer, Workspace};

/// A call whose tensors and tables are in place.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    loaded: &'a Loaded,
    frame: Frame<'a>,
}

/// A table that is being made. Threads take turns of its outermost loop, no two the same; nothing reads tables meanwhile.
#[derive(Debug)]
pub(crate) struct TableTurns<'i> {
    call: &'i Invocation<'i>,
    function: FunctionId,
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
    next: AtomicUsize,
}

/// The query tiles of a task, and the scratch memory of the thread that has taken it: no other thread writes the outputs of their queries.
pub(crate) struct TaskTiles<'t> {
    call: &'t Invocation<'t>,
    outer: Outer<'t>,
    /// Rows of the keys and of the values.
    rows: [Rows; 2],
    /// Their number.
    keys: usize,
    /// The first query tile, and the end of them.
    query_tiles: (usize, usize),
    /// Queries of a whole query tile, and of all.
    queries: (usize, usize),
    /// Query tiles that have been begun.
    begun: usize,
    scratch: &'t mut Workspace,
}

/// Keys that a function is called for: from and to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TileArgs {
    pub(crate) keys: (usize, usize),
    /// Keys of the next key tile.
    pub(crate) next: (usize, usize),
    /// The position of this query tile among those that take turns at the keys, and their number: it prefetches its share of the next keys.
    pub(crate) turn: (usize, usize),
    /// Vectors of queries that are left out, from the first on.
    pub(crate) column: usize,
}

/// A part of the state of a query tile that is read and written here too: a number for each query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bases,
    Limits,
    Sums,
    References,
    Squares,
}

impl Loaded {
    /// The call, with memory for its tables.
    pub(crate) fn call<'a>(&'a self, placed: &'a mut Placed<'_, '_>, tables: &'a mut Workspace) -> Invocation<'a> {
        assert!(std::ptr::eq(placed.plan(), self.plan()), "a call of another plan");
        Invocation { loaded: self, frame: placed.frame(self.constants(), tables) }
    }
}

impl<'a> Invocation<'a> {
    /// What the call knows of its tensors.
    pub(crate) fn frame(&self) -> &Frame<'a> {
        &self.frame
    }

    /// Turns of the outermost loop of the table that a function makes, and elements of each.
    pub(crate) fn turns(&self, function: FunctionId) -> (usize, usize) {
        let (plan, step) = (self.loaded.plan(), self.table(function));
        let shared = plan.tensors[step.target].dims.iter().filter(|axis| Some(**axis) != step.inner);
        let turns = shared.map(|axis| self.frame.length(*axis)).fold(1, usize::saturating_mul);
        (turns, step.inner.map_or(1, |axis| self.frame.length(axis)))
    }

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
    /// memory has states at most.
    pub(crate) fn tasks(&mut self, together: usize) -> Option<Tasks<'_>> {
        let plan = self.loaded.plan();
        let attention = plan.attention.as_ref()?;
        Some(Tasks {
            call: self,
            attention,
            together: together.min(plan.tiling.query_tiles_per_task).max(1),
            query_tiles: query_tiles(attention, &self.frame),
            outer: Outer::count(attention, &self.frame),
            next: AtomicUsize::new(0),
        })
    }

    fn table(&self, function: FunctionId) -> &Table {
        match self.loaded.function(function).0 {
            Role::Table(index) => &self.loaded.plan().tables[index],
            role => panic!("`{}` makes no table", role.name()),
        }
    }
}

/// Query tiles of an outer index.
pub(crate) fn query_tiles(attention: &Attention, frame: &Frame<'_>) -> usize {
    queries(attention, frame).div_ceil(frame.plan().tiling.queries())
}

/// Queries of an outer index, counted with the heads that are packed.
fn queries(attention: &Attention, frame: &Frame<'_>) -> usize {
    frame.length(attention.query).saturating_mul(attention.queries_per_position())
}

impl TableTurns<'_> {
    /// Runs a part that no thread has run yet; false if there is none.
    pub(crate) fn run(&self, scratch: &mut Workspace) -> bool {
        let Some((first, end)) = self.take() else { return false };
        let Invocation { loaded, frame } = self.call;
        loaded.put_constants(scratch);
        put(scratch, loaded.plan().scratch.call, &[TableCall { first: first as u64, end: end as u64 }]);
        let (_, function) = loaded.function(self.function);
        // SAFETY: the function makes a table, as `Invocation::table` checked, of the plan that the frame is of; both are of `Loaded`. The
        // scratch memory has the plan's size, else `put_constants` panics, its constants and its call record. The turns are within the loop
        // over the table: `take` cuts a loop of the table's length, or `make_rows` checked them. Each is taken once, since the counter
        // passes it once, and writes elements of its own; the invocation is borrowed exclusively as long as they are taken, so that nothing
        // else writes the table and no slice of it is left.
        unsafe { function.call(frame.words(), scratch.as_mut_ptr()) }
        true
    }

    /// Turns that nobody has taken yet: the first, and the end of them.
    fn take(&self) -> Option<(usize, usize)> {
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        match self.parts {
            Parts::Even { turns, parts } => (part < parts).then(|| (part * turns / parts, (part + 1) * turns / parts)),
            Parts::Each(rows) => rows.get(part).map(|row| (*row, row + 1)),
        }
    }
}

impl<'i> Tasks<'i> {
    /// What the call knows of its tensors.
    pub(crate) fn frame(&self) -> &'i Frame<'i> {
        &self.call.frame
    }

    /// The number of tasks.
    pub(crate) fn count(&self) -> usize {
        self.outer.saturating_mul(self.query_tiles.div_ceil(self.together))
    }

    /// A task that nobody has taken yet, with its number of the outer indices; none if there is none. What the scratch memory holds is lost.
    ///
    /// Late query tiles see most keys under a causal mask: the heaviest go first, and threads end together.
    pub(crate) fn take<'t>(&'t self, scratch: &'t mut Workspace) -> Option<(usize, TaskTiles<'t>)> {
        let Tasks { call, attention, together, query_tiles, outer: count, .. } = *self;
        // Tasks share nothing but this counter; what they write is handed over when their threads end.
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        if task >= self.count() {
            return None;
        }
        let (number, from_last) = (task % count, task / count);
        let first = (query_tiles.div_ceil(together) - 1 - from_last) * together;
        let outer = Outer::new(attention, &call.frame, number);
        let keys = attention.product.as_ref().map(|product| outer.rows(product.key, product.dim));
        let values = attention.reduction.as_ref().map(|reduction| outer.rows(reduction.value, reduction.dim));
        call.loaded.put_constants(scratch);
        put(scratch, call.loaded.plan().scratch.outer, outer.indices());
        let tiles = TaskTiles {
            call,
            outer,
            rows: [keys, values].map(Option::unwrap_or_default),
            keys: call.frame.length(attention.key),
            query_tiles: (first, (first + together).min(query_tiles)),
            queries: (call.loaded.plan().tiling.queries(), queries(attention, &call.frame)),
            begun: 0,
            scratch,
        };
        Some((number, tiles))
    }
}

impl<'t> TaskTiles<'t> {
    /// The outer indices of the task.
    pub(crate) fn outer(&self) -> &Outer<'t> {
        &self.outer
    }

    /// The number of query tiles.
    pub(crate) fn len(&self) -> usize {
        self.query_tiles.1 - self.query_tiles.0
    }

    /// The queries of the tile at a position: the first, and the end of them. There is one at least.
    pub(crate) fn queries(&self, position: usize) -> (usize, usize) {
        assert!(position < self.len(), "a query tile of another task");
        let (size, all) = self.queries;
        let first = (self.query_tiles.0 + position) * size;
        (first, (first + size).min(all))
    }

    /// Begins the query tile at a position, the next or one that has been begun.
    pub(crate) fn begin(&mut self, function: FunctionId, position: usize, args: TileArgs) {
        assert!(position <= self.begun, "query tiles are begun in order");
        assert_eq!(self.role(function), Role::Begin, "a function that begins no query tile");
        self.begun = self.begun.max(position + 1);
        self.call(function, position, args);
    }

    /// Tells whether a value of some keys is NaN or infinite, by the function that scans them.
    pub(crate) fn scan(&mut self, function: FunctionId, position: usize, args: TileArgs) -> bool {
        assert_eq!(self.role(function), Role::Scan, "a function that scans no values");
        self.call(function, position, args);
        let record = self.scratch.slice::<TileCall>(self.plan().scratch.call, 1);
        record.is_some_and(|record| record[0].not_finite != 0)
    }

    /// Runs a function on the query tile at a position, which has been begun.
    pub(crate) fn call(&mut self, function: FunctionId, position: usize, args: TileArgs) {
        let Invocation { loaded, frame } = self.call;
        let (role, function) = loaded.function(function);
        let record = self.record(role, position, args);
        put(self.scratch, loaded.plan().scratch.call, &[record]);
        // SAFETY: the function is of the plan that the frame is of; both are of `Loaded`. The scratch memory has the plan's size and its
        // constants, as `Tasks::take` made sure, outer indices from there, which are less than the lengths of their axes, and a call record
        // that `record` checked: there is a query, all of them and all keys are within the lengths of their axes, and the function's shape
        // is within the state of the query tile, one of those there are. The query tile was begun by this task, so that its state has
        // positions of this call's queries. What the function writes of outputs is of its own queries, which are those of this task alone,
        // since the counter passes a task once; tables are not written as long as tasks are taken.
        unsafe { function.call(frame.words(), self.scratch.as_mut_ptr()) }
    }

    /// The call record of a function with this role.
    fn record(&self, role: Role, position: usize, args: TileArgs) -> TileCall {
        let TileArgs { keys, next, turn: (turn, turns), column } = args;
        let (plan, (size, _)) = (self.plan(), self.queries);
        let tiling = &plan.tiling;
        // Queries of the function's shape, and the most keys that it takes.
        let (width, most) = match role {
            Role::Begin | Role::Squares | Role::End => (size, 0),
            Role::Scan | Role::Reference => (size, usize::MAX),
            Role::Full(shape) | Role::Partial(shape) => (tiling.shapes[shape].queries, tiling.keys),
            Role::Guarded => (size, tiling.keys),
            Role::Table(_) => panic!("`{}` takes no query tile", role.name()),
        };
        let within = |(first, end): (usize, usize)| first <= end && end <= self.keys;
        assert!(within(keys) && within(next), "keys past the end of their axis");
        assert!((keys.1 - keys.0 <= most) && (keys.0 < keys.1 || most == 0), "more keys or fewer than a tile has");
        assert!(position < self.begun, "a query tile that was not begun");
        let (first, end) = self.queries(position);
        let skipped = column * plan.machine.lanes;
        assert!(skipped < end - first && skipped + width <= size, "queries past the end of their tile");
        let layout = &plan.scratch;
        // All that a state holds of a query takes 4 bytes.
        let state = layout.states + position * layout.state_bytes + 4 * skipped;
        let share = |turn: usize| (SHARES * turn.min(turns)).checked_div(turns).unwrap_or(0);
        TileCall {
            first_query: (first + skipped) as u64,
            queries: (end - first - skipped) as u64,
            first_key: keys.0 as u64,
            end_key: keys.1 as u64,
            state: state as u64,
            next_key: next.0 as u64,
            next_end: next.1 as u64,
            keys: self.rows[0].of(keys.0),
            values: self.rows[1].of(keys.0),
            next_keys: self.rows[0].of(next.0),
            next_values: self.rows[1].of(next.0),
            share_from: share(turn) as u64,
            share_to: share(turn + 1) as u64,
            not_finite: 0,
        }
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
        let state = self.scratch.slice_mut::<f32>(layout.states + position * layout.state_bytes, layout.lanes / 4);
        let parts = parts.map(|part| {
            let start = match part {
                Part::Bases => layout.bases,
                Part::Limits => layout.limits,
                Part::Sums => layout.sums,
                Part::References => layout.references,
                Part::Squares => layout.squares,
            };
            start / 4..start / 4 + queries
        });
        let parts = state.and_then(|state| state.get_disjoint_mut(parts).ok());
        parts.expect("parts of a state of this plan")
    }

    fn plan(&self) -> &'t Plan {
        self.call.loaded.plan()
    }

    fn role(&self, function: FunctionId) -> Role {
        self.call.loaded.function(function).0
    }
}

/// Puts records in their place in scratch memory.
fn put<T: Pod>(scratch: &mut Workspace, start: usize, records: &[T]) {
    scratch.slice_mut::<T>(start, records.len()).expect("scratch memory of the plan's size").copy_from_slice(records);
}

#[cfg(test)]
mod tests;
