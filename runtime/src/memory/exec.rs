//! Runs a compiled plan: tables first, then the attention, one task for a few query tiles of an outer index.

use rhumb_compiler::codegen::{MachineCode, Role};
use rhumb_compiler::plan::{Attention, Plan, SHARES, TensorId};
use rhumb_ir::{Axis, Extent};
use smallvec::SmallVec;

use crate::classify::{Block, Classifier, Memory, Queries, Segment, Trees};
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{Code, CodeError, Constants, Frame, Function, OutOfMemory, Pool, Workspace};
use crate::threads::Threads;

/// Key tiles are cut at multiples of this, a multiple of the rows of every register tile.
const CUT: usize = 16;

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
            let Some(function) = self.function(Role::Map(index)) else { continue };
            let dims = &plan.tensors[step.target].dims;
            let shared = dims.iter().filter(|axis| Some(**axis) != step.inner).map(|axis| frame.length(*axis));
            let turns = shared.fold(1usize, usize::saturating_mul);
            let inner = step.inner.map_or(1, |axis| frame.length(axis));
            if inner == 0 {
                continue;
            }
            let parts = (turns.saturating_mul(inner) / SHARED_ELEMENTS).clamp(1, 4 * threads.count()).min(turns);
            threads.for_each(parts, &self.scratch, self.scratch_bytes(), |part, scratch| {
                let range = [(part * turns / parts) as u64, ((part + 1) * turns / parts) as u64];
                write_words(scratch, plan.scratch.range, &range);
                self.constants_into(scratch);
                // SAFETY: the function is of this plan, whose frame this is, and the scratch memory has the plan's size and
                // holds its constants. The range is within the shared loop, and each part writes elements of its own of a table that
                // nothing has borrowed.
                unsafe { frame.run(function, scratch) }
            })?;
        }
        if let (Some(attention), Some(classifier)) = (&plan.attention, &self.classifier) {
            self.attend(attention, classifier, &frame, threads)?;
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
        classifier.plant(plan, frame, &mut trees);
        let queries = frame.length(attention.query).saturating_mul(attention.queries_per_position());
        let blocks = queries.div_ceil(attention.tiling.queries());
        let outer = attention.outer.iter().map(|axis| groups(attention, frame, *axis)).fold(1, usize::saturating_mul);
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
            let task =
                Task { plan, attention, frame, classifier, trees: &trees, functions, shapes: &shapes, outer, blocks };
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
    outer: usize,
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
    /// The index along each outer axis, in their order; of heads that are packed, that of the first.
    fn indices(&self) -> [u64; rhumb_ir::MAX_AXES] {
        let mut indices = [0; rhumb_ir::MAX_AXES];
        let mut rest = self.outer;
        for (position, axis) in self.attention.outer.iter().enumerate().rev() {
            let length = groups(self.attention, self.frame, *axis).max(1);
            let step = self.frame.length(*axis).checked_div(length).unwrap_or(1);
            indices[position] = (rest % length * step) as u64;
            rest /= length;
        }
        indices
    }

    /// The row of a table at this task's outer indices: all its dimensions but queries and keys.
    fn row(&self, table: TensorId, indices: &[u64; rhumb_ir::MAX_AXES]) -> usize {
        let attention = self.attention;
        let mut row = 0;
        for &axis in &self.plan.tensors[table].dims {
            if axis == attention.query || axis == attention.key {
                continue;
            }
            let position = |axis| attention.outer.iter().position(|outer| *outer == axis);
            let index = match (position(axis), self.plan.graph.axis(axis).groups) {
                (Some(position), _) => indices[position] as usize,
                (None, Some(finer)) => {
                    let of = |axis| match self.plan.graph.axis(axis).extent {
                        Extent::Static(n) => n as usize,
                        Extent::Dynamic => 1,
                    };
                    let ratio = of(finer).checked_div(of(axis)).unwrap_or(1).max(1);
                    position(finer).map_or(0, |position| indices[position] as usize / ratio)
                }
                (None, None) => 0,
            };
            row = row * self.frame.length(axis) + index;
        }
        row
    }

    fn run(&self, scratch: &mut Workspace, memory: &mut Memory) {
        let (plan, attention, layout) = (self.plan, self.attention, self.plan.scratch);
        let heads = attention.queries_per_position();
        let queries = self.frame.length(attention.query).saturating_mul(heads);
        let indices = self.indices();
        write_words(scratch, layout.outer, &indices[..attention.outer.len()]);
        memory.segments.clear();
        memory.blocks.clear();
        for block in self.blocks.0..self.blocks.1 {
            let first = block * attention.tiling.queries();
            let end = (first + attention.tiling.queries()).min(queries);
            let segment = memory.segments.len();
            let row = |table| self.row(table, &indices);
            let queries = Queries { range: (first, end), heads, lanes: attention.tiling.lanes() };
            self.classifier.segments(plan, self.frame, self.trees, queries, memory, row);
            let segments_end = memory.segments.len();
            let shift = attention.key_term.map_or(0.0, |term| {
                self.classifier.shift(self.trees, &memory.segments[segment..], self.row(term, &indices))
            });
            memory.blocks.push(Block { first, queries: end - first, shift, segment, segments_end, key: None });
        }
        let turns = memory.blocks.len();
        for (position, block) in memory.blocks.iter().enumerate() {
            let next = self.next_tile(block, &memory.segments);
            let range = Range { next, turn: (position, turns), ..Range::default() };
            self.call(self.functions.begin, scratch, position, block, range);
        }
        let mut scanned = None;
        loop {
            let turns = memory.blocks.iter().filter(|block| block.segment < block.segments_end).count();
            let mut turn = 0;
            for position in 0..memory.blocks.len() {
                let block = memory.blocks[position];
                let Some(&segment) = memory.segments[..block.segments_end].get(block.segment) else { continue };
                let keys = self.next_tile(&block, &memory.segments);
                let advanced = &mut memory.blocks[position];
                (advanced.segment, advanced.key) =
                    if keys.1 < segment.end { (block.segment, Some(keys.1)) } else { (block.segment + 1, None) };
                let next = self.next_tile(advanced, &memory.segments);
                let mut range = Range { keys, next, turn: (turn, turns), column: 0 };
                let hides = segment.partial || attention.hides;
                let guarded = hides && self.has_special_values(scratch, position, &block, range, &mut scanned);
                let (column, shape) = attention.tiling.part(segment.columns.0, segment.columns.1);
                let shaped = self.shapes.get(shape);
                let function = match (guarded, segment.partial) {
                    (true, _) => self.functions.guarded,
                    (false, true) => shaped.and_then(|shaped| shaped.partial),
                    (false, false) => shaped.and_then(|shaped| shaped.full),
                };
                range.column = if guarded { 0 } else { column };
                self.call(function, scratch, position, &block, range);
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

    /// The key tile that a query tile comes to next; empty if there is none.
    fn next_tile(&self, block: &Block, segments: &[Segment]) -> (usize, usize) {
        let Some(segment) = segments[..block.segments_end].get(block.segment) else { return (0, 0) };
        let key = block.key.unwrap_or(segment.first);
        (key, self.tile_end(key, segment.end))
    }

    /// The end of the key tile that begins at `key`: what is left of the segment is cut evenly, at whole register tiles.
    fn tile_end(&self, key: usize, end: usize) -> usize {
        let most = self.attention.tiling.keys;
        let left = end - key;
        let tiles = left.div_ceil(most).max(1);
        let size = left.div_ceil(tiles).next_multiple_of(CUT).min(most);
        (key + size).min(end)
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

/// Turns of the loop over an outer axis: its length, or the number of groups where heads are packed.
fn groups(attention: &Attention, frame: &Frame<'_, '_>, axis: Axis) -> usize {
    match attention.packed {
        Some(packed) if packed.axis == axis => frame.length(axis) / packed.heads.max(1) as usize,
        _ => frame.length(axis),
    }
}

fn write_words(scratch: &mut Workspace, start: usize, words: &[u64]) {
    if let Some(slots) = scratch.slice_mut::<u64>(start, words.len()) {
        slots.copy_from_slice(words);
    }
}

#[cfg(test)]
mod tests {
    use rhumb_compiler::{Options, Target, compile};
    use rhumb_ir::{Bindings, Tensor, Verified, interpret};
    use rhumb_plugins::{Alibi, Causal, Registry, Rope};

    use super::*;
    use crate::interface::{Bindings as Views, Interface};
    use crate::view::{TensorView, TensorViewMut};

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    /// Greatest difference between a compiled call and the reference, over all outputs.
    fn difference(graph: &Verified, target: &Target, sizes: &[(&str, usize)]) -> f64 {
        let registry = Registry::standard();
        let compiled = compile(graph, &registry, target, &Options::default(), &mut |_, _| ()).expect("compiles");
        let program = Program::load(compiled.plan.clone(), &compiled.code).expect("loads");
        let interface = Interface::of(&compiled.lowered).expect("an interface");
        let length = |axis: rhumb_ir::Axis| match graph.axis(axis).extent {
            Extent::Static(n) => n as usize,
            Extent::Dynamic => sizes.iter().find(|(name, _)| *name == graph.axis(axis).name).expect("a size").1,
        };
        let shape = |dims: &[rhumb_ir::Axis]| dims.iter().map(|axis| length(*axis)).collect::<Vec<_>>();
        let inputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
            .inputs()
            .iter()
            .zip(1..)
            .map(|(port, seed)| {
                let shape = shape(&port.dims);
                (port.name.clone(), shape.clone(), random(shape.iter().product(), seed))
            })
            .collect();
        let mut outputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
            .outputs()
            .iter()
            .map(|port| {
                let shape = shape(&port.dims);
                (port.name.clone(), shape.clone(), vec![f32::NAN; shape.iter().product()])
            })
            .collect();
        let mut views = Views::default();
        for (name, shape, data) in &inputs {
            views.input(name, TensorView::from_slice(data, shape).expect("a view"));
        }
        for (name, shape, data) in &mut outputs {
            views.output(name, TensorViewMut::from_slice(data, shape).expect("a view"));
        }
        let threads = Threads::new(1).expect("threads");
        program.run(interface.bind(views).expect("fits"), &threads).expect("runs");
        let bindings: Bindings = inputs
            .iter()
            .map(|(name, shape, data)| {
                (name.clone(), Tensor::f32(shape.clone(), data.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()))
            })
            .collect();
        let expected = interpret(&compiled.lowered, &bindings).expect("interprets");
        let mut worst = 0.0f64;
        for (name, _, data) in &outputs {
            for (x, y) in data.iter().zip(&expected[name.as_str()].data) {
                let off = (f64::from(*x) - y).abs();
                worst =
                    if f64::from(*x) == *y { worst } else { worst.max(if off.is_nan() { f64::INFINITY } else { off }) };
            }
        }
        worst
    }

    #[test]
    fn kernels_agree_with_the_reference() {
        let targets = Target::host().expect("a target").candidates();
        for (q, k) in [(1, 1), (15, 17), (17, 15), (130, 130), (1, 130), (48, 64), (0, 5), (5, 0)] {
            let sizes = [("b", 2), ("q", q), ("k", k)];
            let plain = rhumb_plugins::Attention::new(4, 32);
            let alibi = rhumb_plugins::Attention::new(6, 32).kv_heads(2).scheme(Alibi::new()).scheme(Causal);
            let rope = rhumb_plugins::Attention::new(4, 24).kv_heads(1).scheme(Rope::new()).scheme(Causal).lse();
            for (name, attention) in [("plain", plain), ("alibi", alibi), ("rope", rope)] {
                let graph = attention.build().expect("a graph");
                for target in &targets {
                    let off = difference(&graph, target, &sizes);
                    assert!(off < 2e-6, "{name}, {target}, {q} x {k}: {off}");
                }
            }
        }
    }
}
