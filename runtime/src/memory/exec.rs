//! Runs a compiled plan: tables first, then the attention, one task for a few query tiles of an outer index.

use rhumb_compiler::abi::{CONSTANT_BYTES, MOST_PRODUCTS, TableCall};
use rhumb_compiler::codegen::{MachineCode, Role};
use rhumb_compiler::plan::{Attention, Plan, Source, Table};
use smallvec::SmallVec;

use crate::classify::{Classifier, ClassifyScratch, Trees, reserve};
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{Code, CodeError, Constants, Frame, Function, Guard, OutOfMemory, Pool, Workspace};
use crate::outer::{Outer, Rows};
use crate::threads::Threads;

mod functions;
mod reference;
mod task;

use functions::{Functions, Shaped, write};
use task::{Task, pruning};

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
    memories: Kept<ClassifyScratch>,
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

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Vec::new();
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

impl Program {
    /// Puts a plan's code in executable memory. With a guard, the memory that it works in is between inaccessible pages.
    pub(crate) fn load(plan: Plan, code: &MachineCode, guard: Option<Guard>) -> Result<Program, LoadError> {
        let bytes: Vec<&[u8]> = code.functions.iter().map(|function| function.bytes.as_slice()).collect();
        let loaded = Code::load(&bytes)?;
        let constants = Constants::new(&plan, guard)?;
        let classifier = plan.attention.as_ref().map(|attention| Classifier::new(&plan, attention));
        Ok(Program {
            code: loaded,
            roles: code.functions.iter().map(|function| function.role).collect(),
            vector_constants: code.constants.clone(),
            constants,
            classifier,
            plan,
            tables: Pool::new(guard),
            scratch: Pool::new(guard),
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
        self.trees.clear();
        self.memories.clear();
    }

    fn function(&self, role: Role) -> Option<Function<'_>> {
        self.roles.iter().position(|have| *have == role).and_then(|index| self.code.function(index))
    }

    fn scratch_bytes(&self) -> usize {
        self.plan.scratch.constants + CONSTANT_BYTES * self.vector_constants.len()
    }

    /// Runs a call.
    pub(crate) fn run(&self, bound: Bound<'_>, threads: &Threads) -> Result<(), CallError> {
        let plan = &self.plan;
        let frame = Frame::new(plan, &self.constants, bound, &self.tables)?;
        for (index, step) in plan.tables.iter().enumerate() {
            // Squared norms are made where they tell something.
            if matches!(step.source, Source::Squares { .. }) {
                continue;
            }
            let Some(function) = self.function(Role::Table(index)) else { continue };
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

    /// Makes a table, for some iterations of its outermost loop, which no other thread runs meanwhile.
    fn map(
        &self,
        function: Function<'_>,
        frame: &Frame<'_, '_>,
        (first, end): (usize, usize),
        scratch: &mut Workspace,
    ) {
        write(scratch, self.plan.scratch.call, &[TableCall { first: first as u64, end: end as u64 }]);
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
        let count = Outer::count(attention, frame);
        trees.can_prune.clear();
        reserve(&mut trees.can_prune, count)?;
        trees.rows.clear();
        reserve(&mut trees.rows, count)?;
        for number in 0..count {
            let outer = Outer::new(plan, attention, frame, number);
            let can_prune = classifier.may_prune(plan, frame, trees, &mut memory, |table| outer.row(table));
            trees.can_prune.push(can_prune);
        }
        self.memories.give(memory);
        for (index, step) in plan.tables.iter().enumerate() {
            let (Source::Squares { .. }, Some(function)) = (&step.source, self.function(Role::Table(index))) else {
                continue;
            };
            trees.rows.clear();
            for number in (0..trees.can_prune.len()).filter(|number| trees.can_prune[*number]) {
                trees.rows.push(Outer::new(plan, attention, frame, number).row(step.target));
            }
            trees.rows.sort_unstable();
            trees.rows.dedup();
            let rows = &trees.rows;
            threads.for_each(rows.len(), &self.scratch, self.scratch_bytes(), |part, scratch| {
                self.map(function, frame, (rows[part], rows[part] + 1), scratch);
            })?;
            classifier.build_rows(plan, frame, trees, step.target)?;
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
            reference: self.function(Role::Reference),
            squares: self.function(Role::Squares),
            guarded: self.function(Role::Guarded),
            scan: self.function(Role::Scan),
            end: self.function(Role::End),
        };
        let shapes: SmallVec<[Shaped<'_>; 4]> = (0..plan.tiling.shapes.len())
            .map(|shape| Shaped {
                full: self.function(Role::Full(shape)),
                partial: self.function(Role::Partial(shape)),
            })
            .collect();
        // A call that fails does not give its trees back: they are freed.
        let mut trees = self.trees.take();
        let pruning = pruning(attention, frame);
        classifier.build(plan, frame, &mut trees, pruning)?;
        if pruning {
            self.measure(attention, classifier, frame, (threads, &mut trees))?;
        }
        let queries = frame.length(attention.query).saturating_mul(attention.queries_per_position());
        let query_tiles = queries.div_ceil(plan.tiling.queries());
        let outer = Outer::count(attention, frame);
        let together = match threads.count() {
            1 => plan.tiling.query_tiles_per_task,
            // Enough tasks that threads end together.
            count => (query_tiles.saturating_mul(outer) / (TASKS_PER_THREAD * count))
                .clamp(1, plan.tiling.query_tiles_per_task),
        };
        let tiles = query_tiles.div_ceil(together);
        // Late query tiles see most keys under a causal mask: the heaviest go first, and threads end together.
        let work = |task: usize, scratch: &mut Workspace| {
            let mut memory = self.memories.take();
            let (number, tile) = (task % outer, tiles - 1 - task / outer);
            let query_tiles = (tile * together, ((tile + 1) * together).min(query_tiles));
            let outer = Outer::new(plan, attention, frame, number);
            let mut keys = [Rows::default(); MOST_PRODUCTS];
            for (rows, product) in keys.iter_mut().zip(&attention.products) {
                *rows = outer.rows(product.key, product.dim);
            }
            let values = attention.reduction.as_ref().map(|reduction| outer.rows(reduction.value, reduction.dim));
            let task = Task {
                plan,
                attention,
                frame,
                classifier,
                trees: &trees,
                functions,
                shapes: &shapes,
                outer,
                keys,
                values: values.unwrap_or_default(),
                pruning: pruning && trees.can_prune[number],
                query_tiles,
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
        const LANES: usize = CONSTANT_BYTES / size_of::<i32>();
        let count = self.vector_constants.len();
        let Some(slots) = scratch.slice_mut::<i32>(self.plan.scratch.constants, LANES * count) else { return };
        for (slot, &bits) in slots.chunks_exact_mut(LANES).zip(&self.vector_constants) {
            slot.fill(bits as i32);
        }
    }
}

/// Iterations of the outermost loop of a table.
fn turns(plan: &Plan, step: &Table, frame: &Frame<'_, '_>) -> usize {
    let shared = plan.tensors[step.target].dims.iter().filter(|axis| Some(**axis) != step.inner);
    shared.map(|axis| frame.length(*axis)).fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests;
