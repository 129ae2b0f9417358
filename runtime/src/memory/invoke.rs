//! The calls into machine code: of a function that makes a table, and of one that a query tile takes. There are no others.
//!
//! What code relies on is made certain here, whatever is asked for, by the plan that it was compiled of and the frame of the call. A mistake
//! of the caller's is a panic.

use rhumb_compiler::abi::{HingeTile, LANE_BYTES, SHARES, TableCall, TileCall};
use rhumb_compiler::codegen::Role;

use crate::memory::shares::{TableTurns, TaskTiles, put};
use crate::memory::{FunctionId, Invocation, Workspace};

/// Keys that a function is called for: from and to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TileArgs {
    pub(crate) keys: (usize, usize),
    /// Keys of the next key tile.
    pub(crate) next: (usize, usize),
    /// The share of the next keys that this query tile prefetches.
    pub(crate) share: Share,
    /// Vectors of queries that are left out, from the first on.
    pub(crate) column: usize,
    /// Vectors of queries that are computed, whatever the function's shape is: those that see a key of the tile are among them.
    pub(crate) computed: (usize, usize),
}

/// A share of some work: parts from one up to another, of so many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) of: usize,
}

impl Share {
    /// All of it.
    pub(crate) const ALL: Share = Share { from: 0, to: 1, of: 1 };

    pub(crate) fn is_all(self) -> bool {
        self.from == 0 && self.to == self.of
    }

    /// Its ends in parts of [`SHARES`]. Divisions take their time.
    fn ends(self) -> [u64; 2] {
        [self.from, self.to].map(|part| match part {
            0 => 0,
            part if part >= self.of => SHARES as u64,
            part => (SHARES * part / self.of) as u64,
        })
    }
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
}

impl TaskTiles<'_> {
    /// Begins the query tile at a position, the next or one that has been begun.
    pub(crate) fn begin(&mut self, function: FunctionId, position: usize, args: TileArgs) {
        assert!(position <= self.begun && position < self.len(), "query tiles are begun in order");
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

    /// Runs a function on the query tile at a position, which has been begun, and before it what makes the rows that it reads, if they are not
    /// those of the keys before.
    pub(crate) fn call(&mut self, function: FunctionId, position: usize, args: TileArgs) {
        let Invocation { loaded, frame } = self.call;
        let (role, function) = loaded.function(function);
        self.copy_rows(role, args.keys);
        if let Some(load) = loaded.load()
            && reads_loaded(role)
            && self.loaded != Some(args.keys)
        {
            self.loaded = None;
            self.call(load, position, TileArgs { column: 0, ..args });
            self.loaded = Some(args.keys);
        }
        self.put_record(role, position, args);
        // SAFETY: the function is of the plan that the frame is of; both are of `Loaded`. The scratch memory has the plan's size and its constants,
        // as `Tasks::take` made sure, outer indices from there, which are less than the lengths of their axes, and a call record that `put_record`
        // checked: there is a query, all of them and all keys are within the lengths of their axes, as are those of a task that follows, whose rows
        // are only asked for, and the function's shape is within the state of the query tile, one of those there are. The query tile was begun by
        // this task, so that its state has positions of this call's queries. What the function writes of outputs is of its own queries, which are
        // those of this task alone, since the counter passes a task once and `places_of` gives no two frames of a call the same queries, or, where
        // keys are cut into chunks, those of the one task that was the last to be handed in, as `put_record` checked; so are the rows that it writes
        // of a table that is made of its results. Other tables are not written as long as tasks are taken.
        unsafe { function.call(frame.words(), self.scratch.as_mut_ptr()) }
    }

    /// Whether code adds key tile after key tile in one call: in decode, where nothing is done for each of them before.
    fn takes_runs(&self) -> bool {
        self.plan().schedule.is_for_few_queries() && !self.copies && self.call.loaded.load().is_none()
    }

    /// The end of the key tiles that one call can take, from one on, and up to a key that none of them passes.
    pub(crate) fn run_end(&self, tile: (usize, usize), end: usize) -> usize {
        if !self.takes_runs() {
            return tile.1;
        }
        let products = self.keys.iter().take(self.attention.products.len());
        let rows = products.chain(self.values.iter().take(self.attention.reductions.len()));
        rows.map(|rows| rows.run_end(tile.0)).fold(end, usize::min).max(tile.1)
    }

    /// Copies the rows of a key tile that lie in several pages, if the function reads them.
    fn copy_rows(&mut self, role: Role, keys: (usize, usize)) {
        if !self.copies || !reads_rows(role) || self.copied == Some(keys) {
            return;
        }
        assert!(keys.1 <= self.length && keys.1.saturating_sub(keys.0) <= self.plan().tiling.keys, "keys of no tile");
        for rows in self.keys.iter().chain(&self.values) {
            if let Some((rows, place)) = rows.copied() {
                assert!(rows.copy(keys, self.scratch, place), "scratch memory without room for rows");
            }
        }
        self.copied = Some(keys);
    }

    /// Checks what a function with this role is called for, and puts it in the call record, field by field: a record that is built elsewhere
    /// and copied takes longer than small functions do.
    fn put_record(&mut self, role: Role, position: usize, args: TileArgs) {
        let TileArgs { keys, next, share, column, computed } = args;
        let (plan, (size, _)) = (self.plan(), self.queries);
        let tiling = &plan.tiling;
        // Queries of the function's shape, and the most keys that it takes.
        let (width, most) = match role {
            Role::Begin | Role::Squares | Role::End => (size, 0),
            Role::Reference => (size, usize::MAX),
            Role::Full(shape) if self.takes_runs() => (tiling.shapes[shape].queries, usize::MAX),
            Role::Full(shape) | Role::Partial(shape) => (tiling.shapes[shape].queries, tiling.keys),
            Role::Load | Role::Guarded | Role::Scan => (size, tiling.keys),
            Role::Table(_) => panic!("`{}` takes no query tile", role.name()),
        };
        let within = |(first, end): (usize, usize)| first <= end && end <= self.length;
        assert!(within(keys) && within(next), "keys past the end of their axis");
        assert!((keys.1 - keys.0 <= most) && (keys.0 < keys.1 || most == 0), "more keys or fewer than a tile has");
        assert!(position < self.begun, "a query tile that was not begun");
        let ends = position < self.handed_in && self.last;
        assert!(role != Role::End || !self.is_of_chunks() || ends, "outputs that other tasks have a part in");
        let (first, end) = self.queries(position);
        let skipped = column * plan.machine.lanes;
        assert!(skipped < end - first && skipped + width <= size, "queries past the end of their tile");
        let layout = &plan.scratch;
        if plan.hinges.is_some() {
            let [first_query, end_query] = [computed.0, computed.1]
                .map(|column| (column * plan.machine.lanes).min(end - first).saturating_sub(skipped) as u64);
            put(self.scratch, layout.hinges, &[HingeTile { first_query, end_query, ..HingeTile::default() }]);
        }
        // All that a state holds of a query takes 4 bytes.
        let state = layout.states + position * layout.state_bytes + LANE_BYTES * skipped;
        // Rows that are copied are not there before their tile is the next.
        let next = if self.copies { (0, 0) } else { next };
        let following = if reads_loaded(role) { self.following(keys, next) } else { None };
        let (next, next_keys, next_values) = match &following {
            Some(following) => (following.tile, &following.keys, &following.values),
            None => (next, &self.keys, &self.values),
        };
        let scratch = self.scratch.as_ptr() as u64;
        let Some([record]) = self.scratch.slice_mut::<TileCall>(layout.call, 1) else {
            panic!("scratch memory of the plan's size")
        };
        record.first_query = (first + skipped) as u64;
        record.queries = (end - first - skipped) as u64;
        (record.first_key, record.end_key) = (keys.0 as u64, keys.1 as u64);
        (record.next_key, record.next_end) = (next.0 as u64, next.1 as u64);
        record.far = u64::from(self.tasks.is_far());
        record.state = state as u64;
        [record.share_from, record.share_to] = share.ends();
        record.not_finite = 0;
        let taken = if reads_rows(role) { keys } else { (0, 0) };
        let products = self.keys.iter().take(self.attention.products.len());
        for (product, (rows, next_rows)) in products.zip(next_keys).enumerate() {
            record.keys[product] = rows.of(scratch, taken);
            record.next_keys[product] = next_rows.of(scratch, next);
        }
        let reductions = self.values.iter().take(self.attention.reductions.len());
        for (reduction, (rows, next_rows)) in reductions.zip(next_values).enumerate() {
            let (values, next_values) = record.values_mut(reduction);
            (*values, *next_values) = (rows.of(scratch, taken), next_rows.of(scratch, next));
        }
    }

    fn role(&self, function: FunctionId) -> Role {
        self.call.loaded.function(function).0
    }
}

/// Whether a function with this role reads rows of keys or values.
fn reads_rows(role: Role) -> bool {
    role == Role::Load || reads_loaded(role)
}

/// Whether a function with this role may read rows that another has made.
fn reads_loaded(role: Role) -> bool {
    matches!(role, Role::Full(_) | Role::Partial(_) | Role::Guarded | Role::Scan)
}

#[cfg(test)]
mod tests;
