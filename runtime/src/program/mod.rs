//! Runs a compiled plan: tables first, then the attention, one task for a few query tiles of an outer index, then what is made of its results.

mod functions;
mod kernels;
mod pool;
mod prefill;
mod tables;

use rhumb_compiler::Target;
use rhumb_compiler::codegen::MachineCode;
use rhumb_compiler::plan::Plan;

use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{FunctionId, Guard, LoadError, Loaded};
use crate::threads::Threads;
use crate::tile_map::TileMap;
use functions::Functions;
pub(crate) use kernels::Programs;
use pool::{CallMemory, Pool, of_threads};
use prefill::{Prefill, Trace};

/// A plan with its machine code in executable memory, and the memory its calls keep.
#[derive(Debug)]
pub(crate) struct Program {
    loaded: Loaded,
    tables: Vec<FunctionId>,
    after: Vec<FunctionId>,
    prefill: Option<Prefill>,
    pool: Pool,
}

impl Program {
    /// Puts the code that the compiler made of a plan for a target in executable memory. With a guard, the memory that it works in is
    /// between inaccessible pages.
    ///
    /// # Errors
    /// [`LoadError`] if the code is for another machine, the functions are not those that the plan calls, or memory can't be had.
    pub(crate) fn load(
        plan: Plan,
        code: &MachineCode,
        target: &Target,
        guard: Option<Guard>,
    ) -> Result<Program, LoadError> {
        let loaded = Loaded::new(plan, code, target, guard)?;
        let Functions { tables, after, tiles } = Functions::of(&loaded)?;
        let attention = tiles.zip(loaded.plan().attention.clone());
        let prefill = attention.map(|(functions, attention)| Prefill::new(loaded.plan(), attention, functions));
        Ok(Program { loaded, tables, after, prefill, pool: Pool::new(guard) })
    }

    /// Bytes of machine code.
    pub(crate) fn code_bytes(&self) -> usize {
        self.loaded.code_bytes()
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.loaded.plan()
    }

    /// Frees the memory kept for calls.
    pub(crate) fn trim(&self) {
        self.pool.clear();
    }

    /// Runs a call.
    ///
    /// # Errors
    /// [`CallError`] if memory can't be had. Then nothing was written.
    pub(crate) fn run(&self, bound: Bound<'_>, threads: &Threads) -> Result<(), CallError> {
        self.run_traced(bound, threads, None).map(|_| ())
    }

    /// Runs a call, and tells the key tiles that it visited, if there is an attention.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub(crate) fn trace(&self, bound: Bound<'_>, threads: &Threads) -> Result<Option<TileMap>, CallError> {
        self.run_traced(bound, threads, Some(Trace::default()))
    }

    fn run_traced(
        &self,
        bound: Bound<'_>,
        threads: &Threads,
        trace: Option<Trace>,
    ) -> Result<Option<TileMap>, CallError> {
        let guard = self.pool.guard();
        let mut placed = self.loaded.place(bound, guard)?;
        let mut lease = self.pool.lease(placed.places()).map_err(|_| placed.too_large())?;
        let CallMemory { tables, trees, partials, threads: memories } = &mut *lease;
        let mut call = self.loaded.call(&mut placed, tables);
        let attention = self.prefill.as_ref().map(|prefill| (prefill, prefill.cut(call.frame(), threads)));
        let parts = self.tables.iter().chain(&self.after).map(|table| tables::parts(&call, *table, threads));
        let most = parts.chain(attention.iter().map(|(_, cut)| cut.tasks)).max().unwrap_or(0);
        let memories = of_threads(memories, (threads.count().min(most), self.loaded.scratch_bytes()), guard)?;
        if let Some((prefill, cut)) = &attention {
            prefill.reserve(call.frame(), cut, (trees, partials), memories)?;
        }
        // All memory is there: nothing fails from here on, where outputs are written.
        tables::make(&mut call, &self.tables, threads, memories);
        if let Some((prefill, cut)) = &attention {
            prefill.run(&mut call, cut, threads, (trees, partials), memories, trace.as_ref());
        }
        tables::make(&mut call, &self.after, threads, memories);
        Ok(attention.zip(trace).map(|((prefill, _), trace)| prefill.map(call.frame(), trace)))
    }
}

#[cfg(test)]
mod tests;
