//! Runs a compiled plan: tables first, then the attention, one task for a few query tiles of an outer index.

use rhumb_compiler::codegen::{MachineCode, Role};
use rhumb_compiler::plan::{Attention, MapStep, Plan, SHARES, Source, Vanishing};
use smallvec::SmallVec;

use crate::classify::{Block, Classifier, Memory, Queries, Segment, Tiles, Trees};
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{Code, CodeError, Constants, Frame, Function, OutOfMemory, Pool, Workspace};
use crate::outer::Outer;
use crate::threads::Threads;

/// Tasks for each thread, if there are enough query tiles.
const TASKS_PER_THREAD: usize = 8;

/// Fewer elements than this of a table are not worth another thread.
const SHARED_ELEMENTS: usize = 1 << 14;

/// A plan with its machine code in executable memory, and the memory its calls keep.
#[derive(Debug)]
pub(crate) struct Program {
    plan: Plan,
    code: Code,
    roles: Vec<Role>,
    vector_constants: Vec<u32>,
    constants: Constants,
    classifier: Option<Classifier>,
    tables: Pool,
    scratch: Pool,
    trees: Kept<Trees>,
    memories: Kept<Memory>,
}

/// Values kept between calls, so that a warm call allocates nothing.
#[derive(Debug, Default)]
struct Kept<T>(std::sync::Mutex<Vec<T>>);

impl<T: Default> Kept<T> {
    fn take(&self) -> T {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, value: T) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(value);
    }
}

/// Why a plan could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No executable memory.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// No memory for constants.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// The functions that a query tile takes.
#[derive(Clone, Copy)]
struct Functions<'p> {
    begin: Option<Function<'p>>,
    squares: Option<Function<'p>>,
    guarded: Option<Function<'p>>,
    scan: Option<Function<'p>>,
    end: Option<Function<'p>>,
}

/// Those that come in several shapes.
#[derive(Clone, Copy)]
struct Shaped<'p> {
    full: Option<Function<'p>>,
    partial: Option<Function<'p>>,
}

impl Program {
    pub(crate) fn load(plan: Plan, code: &MachineCode) -> Result<Program, LoadError> {
        let bytes: Vec<&[u8]> = code.functions.iter().map(|function| function.bytes.as_slice()).collect();
        let loaded = Code::load(&bytes)?;
        let constants = Constants::new(&plan)?;
        let classifier = plan.attention.as_ref().map(|attention| Classifier::new(&plan, attention));
        Ok(Program {
            code: loaded,
            roles: code.functions.iter().map(|function| function.role).collect(),
            vector_constants: code.constants.clone(),
            constants,
            classifier,
            plan,
            tables: Pool::new(),
            scratch: Pool::new(),
            trees: Kept::default(),
            memories: Kept::default(),
        })
    }

    /// Bytes of machine code.
    pub(crate) fn code_bytes(&self) -> usize {
        self.code.bytes()
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Frees the memory kept for calls.
    pub(crate) fn trim(&self) {
        self.tables.clear();
        self.scratch.clear();
    }

    fn function(&self, role: Role) -> Option<Function<'_>> {
        self.roles.iter().position(|have| *have == role).and_then(|index| self.code.function(index))
    }

    fn scratch_bytes(&self) -> usize {
        self.plan.scratch.constants + 64 * self.vector_constants.len()
    }

    /// Runs a call.
    pub(crate) fn run(&self, bound: Bound<'_>, threads: &Threads) -> Result<(), CallError> {
        let plan = &self.plan;
        let pad = plan.attention.as_ref().map_or(0, |attention| attention.tiling.queries() + 16);
        let frame = Frame::new(plan, &self.constants, bound, &self.tables, pad)?;
        for (index, step) in plan.maps.iter().enumerate() {
            // Squared norms are made where they tell something.
            if matches!(step.source, Source::Squares { .. }) {
                continue;
            }
            let Some(function) = self.function(Role::Map(index)) else { continue };
            let inner = step.inner.map_or(1, |axis| frame.length(axis));
            if inner == 0 {
                continue;
            }
            let turns = turns(plan, step, &frame);
            let parts = (turns.saturating_mul(inner) / SHARED_ELEMENTS).clamp(1, 4 * threads.count()).min(turns);
            threads.for_each(parts, &self.scratch, self.scratch_bytes(), |part, scratch| {
                let range = (part * turns / parts, (part + 1) * turns / parts);
                self.map(function, &frame, range, scratch);
            })?;
        }
        if let (Some(attention), Some(classifier)) = (&plan.attention, &self.classifier) {
            self.attend(attention, classifier, &frame, threads)?;
        }
        Ok(())
    }

    /// Runs a map step over some turns of its shared loop, which no other thread runs meanwhile.
    fn map(
        &self,
        function: Function<'_>,
        frame: &Frame<'_, '_>,
        (first, end): (usize, usize),
        scratch: &mut Workspace,
    ) {
        write_words(scratch, self.plan.scratch.range, &[first as u64, end as u64]);
        self.constants_into(scratch);
        // SAFETY: the function is of this plan, whose frame this is, and the scratch memory has the plan's size and holds its constants.
        // The range is within the shared loop, and each turn writes elements of its own of a table that nothing has borrowed.
        unsafe { frame.run(function, scratch) }
    }

    /// Makes the squared norms that tell which keys have no weight, for the outer indices where some may have none.
    fn measure(
        &self,
        attention: &Attention,
        classifier: &Classifier,
        frame: &Frame<'_, '_>,
        (threads, trees): (&Threads, &mut Trees),
    ) -> Result<(), CallError> {
        let plan = &self.plan;
        let mut memory = self.memories.take();
        trees.wanted.clear();
        for number in 0..Outer::count(attention, frame) {
            let outer = Outer::new(plan, attention, frame, number);
            let wanted = classifier.may_vanish(plan, frame, trees, &mut memory, |table| outer.row(table));
            trees.wanted.push(wanted);
        }
        self.memories.give(memory);
        for (index, step) in plan.maps.iter().enumerate() {
            let (Source::Squares { .. }, Some(function)) = (&step.source, self.function(Role::Map(index))) else {
                continue;
            };
            trees.rows.clear();
            for number in (0..trees.wanted.len()).filter(|number| trees.wanted[*number]) {
                trees.rows.push(Outer::new(plan, attention, frame, number).row(step.target));
            }
            trees.rows.sort_unstable();
            trees.rows.dedup();
            let rows = &trees.rows;
            threads.for_each(rows.len(), &self.scratch, self.scratch_bytes(), |part, scratch| {
                self.map(function, frame, (rows[part], rows[part] + 1), scratch);
            })?;
            classifier.plant_rows(plan, frame, trees, step.target);
        }
        Ok(())
    }

    fn attend(
        &self,
        attention: &Attention,
        classifier: &Classifier,
        frame: &Frame<'_, '_>,
        threads: &Threads,
    ) -> Result<(), CallError> {
        let plan = &self.plan;
        let functions = Functions {
            begin: self.function(Role::Begin),
            squares: self.function(Role::Squares),
            guarded: self.function(Role::Guarded),
            scan: self.function(Role::Scan),
            end: self.function(Role::End),
        };
        let shapes: SmallVec<[Shaped<'_>; 4]> = (0..attention.tiling.shapes.len())
            .map(|shape| Shaped {
                full: self.function(Role::Full(shape)),
                partial: self.function(Role::Partial(shape)),
            })
            .collect();
        let mut trees = self.trees.take();
        let vanishing = vanishing(attention, frame);
        classifier.plant(plan, frame, &mut trees, vanishing);
        if vanishing {
            self.measure(attention, classifier, frame, (threads, &mut trees))?;
        }
        let queries = frame.length(attention.query).saturating_mul(attention.queries_per_position());
        let blocks = queries.div_ceil(attention.tiling.queries());
        let outer = Outer::count(attention, frame);
        let together = match threads.count() {
            1 => attention.tiling.blocks,
            // Enough tasks that threads end together.
            count => (blocks.saturating_mul(outer) / (TASKS_PER_THREAD * count)).clamp(1, attention.tiling.blocks),
        };
        let tiles = blocks.div_ceil(together);
        // Late query tiles see most keys under a causal mask: the heaviest go first, and threads end together.
        let work = |task: usize, scratch: &mut Workspace| {
            let mut memory = self.memories.take();
            let (outer, tile) = (task % outer, tiles - 1 - task / outer);
            let blocks = (tile * together, ((tile + 1) * together).min(blocks));
            let task = Task {
                plan,
                attention,
                frame,
                classifier,
                trees: &trees,
                functions,
                shapes: &shapes,
                outer: Outer::new(plan, attention, frame, outer),
                vanishing: vanishing && trees.wanted[outer],
                blocks,
            };
            self.constants_into(scratch);
            task.run(scratch, &mut memory);
            self.memories.give(memory);
        };
        let result = threads.for_each(outer.saturating_mul(tiles), &self.scratch, self.scratch_bytes(), work);
        self.trees.give(trees);
        Ok(result?)
    }

    /// Puts the constants of vector code in place.
    fn constants_into(&self, scratch: &mut Workspace) {
        let count = self.vector_constants.len();
        let Some(slots) = scratch.slice_mut::<i32>(self.plan.scratch.constants, 16 * count) else { return };
        for (slot, &bits) in slots.chunks_exact_mut(16).zip(&self.vector_constants) {
            slot.fill(bits as i32);
        }
    }
}

/// A few query tiles of one outer index, which take turns at the keys.
struct Task<'t, 'a, 'p> {
    plan: &'t Plan,
    attention: &'t Attention,
    frame: &'t Frame<'a, 'p>,
    classifier: &'t Classifier,
    trees: &'t Trees,
    functions: Functions<'t>,
    shapes: &'t [Shaped<'t>],
    outer: Outer<'t, 'a, 'p>,
    /// Whether keys without weight are left out.
    vanishing: bool,
    /// The first query tile, and the end of them.
    blocks: (usize, usize),
}

/// Values of a key tile that were scanned last, and whether one is NaN or infinite.
type Scanned = Option<((usize, usize), bool)>;

/// Keys that a function is called for: from and to.
#[derive(Clone, Copy, Default)]
struct Range {
    keys: (usize, usize),
    /// Those that come next.
    next: (usize, usize),
    /// Which of how many query tiles this is that take turns at the keys: it prefetches its share of the next ones.
    turn: (usize, usize),
    /// Vectors of queries that are left out, from the first on.
    column: usize,
}

impl Task<'_, '_, '_> {
    fn run(&self, scratch: &mut Workspace, memory: &mut Memory) {
        let (plan, attention, layout) = (self.plan, self.attention, self.plan.scratch);
        let heads = attention.queries_per_position();
        let queries = self.frame.length(attention.query).saturating_mul(heads);
        write_words(scratch, layout.outer, self.outer.indices());
        memory.segments.clear();
        memory.blocks.clear();
        let turns = self.blocks.1 - self.blocks.0;
        let mut scanned = None;
        let mut before: Option<Block> = None;
        for position in 0..turns {
            let first = (self.blocks.0 + position) * attention.tiling.queries();
            let end = (first + attention.tiling.queries()).min(queries);
            let segment = memory.segments.len();
            let row = |table| self.outer.row(table);
            let queries = Queries { range: (first, end), heads, lanes: attention.tiling.lanes() };
            self.classifier.segments(plan, self.frame, self.trees, queries, memory, row);
            for segment in &mut memory.segments[segment..] {
                segment.tiles = Tiles::new((segment.first, segment.end), attention.tiling.keys);
            }
            let shift = attention.key_term.map_or(0.0, |term| {
                self.classifier.shift(self.trees, &memory.segments[segment..], self.outer.row(term))
            });
            let near = match self.vanishing {
                true => self.classifier.near(plan, self.frame, self.trees, queries, (memory, segment), row),
                false => None,
            };
            let near = near.and_then(|key| take_tile(&mut memory.segments, segment, key));
            let segments_end = memory.segments.len();
            let mut block = Block { first, queries: end - first, shift, segment, segments_end, key: None };
            let (next, turn) = match near {
                Some(near) => ((near.first, near.end), (0, 1)),
                None => (next_tile(&block, &memory.segments), (position, turns)),
            };
            self.call(self.functions.begin, scratch, position, &block, Range { next, turn, ..Range::default() });
            if let Some(near) = near {
                // What is read next, once keys are left out, is about what it is for the tile before.
                let next = before.map_or((0, 0), |block| next_tile(&block, &memory.segments));
                let range = Range { keys: (near.first, near.end), next, turn: (position, turns), column: 0 };
                self.add(scratch, position, &block, (near, range), &mut scanned);
                self.leave_out(scratch, position, &block, memory);
                block.segments_end = memory.segments.len();
            }
            before = Some(block);
            memory.blocks.push(block);
        }
        loop {
            let turns = memory.blocks.iter().filter(|block| block.segment < block.segments_end).count();
            let mut turn = 0;
            for position in 0..memory.blocks.len() {
                let block = memory.blocks[position];
                let Some(&segment) = memory.segments[..block.segments_end].get(block.segment) else { continue };
                let keys = next_tile(&block, &memory.segments);
                let advanced = &mut memory.blocks[position];
                (advanced.segment, advanced.key) =
                    if keys.1 < segment.end { (block.segment, Some(keys.1)) } else { (block.segment + 1, None) };
                let next = next_tile(advanced, &memory.segments);
                let range = Range { keys, next, turn: (turn, turns), column: 0 };
                self.add(scratch, position, &block, (segment, range), &mut scanned);
                turn += 1;
            }
            if turns == 0 {
                break;
            }
        }
        for (position, block) in memory.blocks.iter().enumerate() {
            self.call(self.functions.end, scratch, position, block, Range::default());
        }
    }

    /// Adds a key tile of a segment to a query tile.
    fn add(
        &self,
        scratch: &mut Workspace,
        position: usize,
        block: &Block,
        (segment, mut range): (Segment, Range),
        scanned: &mut Scanned,
    ) {
        let tiling = &self.attention.tiling;
        let hides = segment.partial || self.attention.hides;
        let guarded = hides && self.has_special_values(scratch, position, block, range, scanned);
        let (column, shape) = tiling.part(segment.columns.0, segment.columns.1);
        let shaped = self.shapes.get(shape);
        let function = match (guarded, segment.partial) {
            (true, _) => self.functions.guarded,
            (false, true) => shaped.and_then(|shaped| shaped.partial),
            (false, false) => shaped.and_then(|shaped| shaped.full),
        };
        range.column = if guarded { 0 } else { column };
        self.call(function, scratch, position, block, range);
    }

    /// Leaves out what has no weight for the queries of a tile, by the scores they have already.
    fn leave_out(&self, scratch: &mut Workspace, position: usize, block: &Block, memory: &mut Memory) {
        let layout = self.plan.scratch;
        let state = layout.states + position * layout.state_bytes;
        let least = |scratch: &mut Workspace, part: usize| {
            let slots = scratch.slice_mut::<f32>(state + part, block.queries);
            // What is NaN stays so, whatever is left out.
            slots.map_or(f32::NEG_INFINITY, |slots| slots.iter().copied().fold(f32::INFINITY, f32::min))
        };
        // Without a score yet there is no limit.
        if least(scratch, layout.limits) == f32::NEG_INFINITY {
            return;
        }
        // Scores are rounded otherwise than their bounds are.
        const ROOM: f64 = 1.0 / 64.0;
        let limit = f64::from(least(scratch, layout.bases)) + block.shift - Vanishing::BELOW - ROOM;
        self.call(self.functions.squares, scratch, position, block, Range::default());
        let squares = match self.functions.squares {
            Some(_) => scratch.slice_mut::<f32>(state + layout.squares, block.queries),
            None => None,
        };
        let squares = squares.map_or(&[][..], |squares| &*squares);
        self.classifier.leave_out(self.frame, self.trees, memory, (block.segment, squares, limit));
    }

    /// Whether a value of the key tile is NaN or infinite.
    fn has_special_values(
        &self,
        scratch: &mut Workspace,
        position: usize,
        block: &Block,
        range: Range,
        scanned: &mut Scanned,
    ) -> bool {
        let Some(scan) = self.functions.scan else { return false };
        if let Some((keys, special)) = *scanned
            && keys == range.keys
        {
            return special;
        }
        self.call(Some(scan), scratch, position, block, range);
        let answer = scratch.slice_mut::<u64>(self.plan.scratch.range + 16, 1);
        let special = answer.is_some_and(|word| word[0] != 0);
        *scanned = Some((range.keys, special));
        special
    }

    /// Runs a function on the query tile with this position in the task, and a range of keys.
    fn call(
        &self,
        function: Option<Function<'_>>,
        scratch: &mut Workspace,
        position: usize,
        block: &Block,
        range: Range,
    ) {
        let layout = self.plan.scratch;
        let Range { keys, next, turn: (turn, turns), column } = range;
        let skipped = column * self.attention.tiling.lanes();
        // All that a state holds of a query takes 4 bytes.
        let state = layout.states + position * layout.state_bytes + 4 * skipped;
        let share = |turn: usize| (SHARES * turn).checked_div(turns).unwrap_or(0);
        let words = [
            block.first + skipped,
            block.queries - skipped,
            keys.0,
            keys.1,
            state,
            next.0,
            next.1,
            share(turn),
            share(turn + 1),
        ];
        write_words(scratch, layout.range, &words.map(|word| word as u64));
        write_words(scratch, layout.shift, &[block.shift.to_bits()]);
        if let Some(function) = function {
            // SAFETY: the function is of this plan, whose frame this is, and the scratch memory has the plan's size and holds its
            // constants; a task has at most as many query tiles as there are states, and `Tiling::part` keeps a shape within its
            // state. Indices come from the lengths of the axes and of groups of heads, the block's shape has room for its queries,
            // and a task writes the output elements of its own queries alone.
            unsafe { self.frame.run(function, scratch) }
        }
    }
}

/// Whether a call looks for keys without weight.
fn vanishing(attention: &Attention, frame: &Frame<'_, '_>) -> bool {
    let (queries, keys) = (frame.length(attention.query), frame.length(attention.key));
    attention.vanishing.is_some() && queries >= Vanishing::QUERIES && keys >= Vanishing::KEYS
}

/// The key tile that a query tile comes to next; empty if there is none.
fn next_tile(block: &Block, segments: &[Segment]) -> (usize, usize) {
    let Some(segment) = segments[..block.segments_end].get(block.segment) else { return (0, 0) };
    let key = block.key.unwrap_or(segment.first);
    (key, segment.tiles.around(key).1)
}

/// Takes the tile with this key out of the segments from `start` on.
fn take_tile(segments: &mut Vec<Segment>, start: usize, key: usize) -> Option<Segment> {
    let index = start + segments[start..].iter().position(|segment| (segment.first..segment.end).contains(&key))?;
    let whole = segments[index];
    let (first, end) = whole.tiles.around(key);
    let taken = Segment { first, end, ..whole };
    segments.remove(index);
    for rest in [Segment { first: taken.end, ..whole }, Segment { end: first, ..whole }] {
        if rest.first < rest.end {
            segments.insert(index, rest);
        }
    }
    Some(taken)
}

/// Turns of the shared loop of a map step.
fn turns(plan: &Plan, step: &MapStep, frame: &Frame<'_, '_>) -> usize {
    let shared = plan.tensors[step.target].dims.iter().filter(|axis| Some(**axis) != step.inner);
    shared.map(|axis| frame.length(*axis)).fold(1, usize::saturating_mul)
}

fn write_words(scratch: &mut Workspace, start: usize, words: &[u64]) {
    if let Some(slots) = scratch.slice_mut::<u64>(start, words.len()) {
        slots.copy_from_slice(words);
    }
}

#[cfg(test)]
mod tests;
