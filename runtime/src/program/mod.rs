//! Runs compiled plans: tables first, then the attention, one task for a few query tiles of an outer index, then what is made of its results.

mod functions;
mod kernels;
mod pool;
mod prefill;
mod run;
mod tables;

use rhumb_compiler::Target;
use rhumb_compiler::codegen::MachineCode;
use rhumb_compiler::plan::Plan;

use crate::memory::{FunctionId, Guard, LoadError, Loaded};
use functions::Functions;
pub(crate) use kernels::Programs;
use prefill::Prefill;

/// A plan with its machine code in executable memory.
#[derive(Debug)]
pub(crate) struct Program {
    loaded: Loaded,
    tables: Vec<FunctionId>,
    after: Vec<FunctionId>,
    prefill: Option<Prefill>,
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
        Ok(Program { loaded, tables, after, prefill })
    }

    /// Bytes of machine code.
    pub(crate) fn code_bytes(&self) -> usize {
        self.loaded.code_bytes()
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.loaded.plan()
    }
}

#[cfg(test)]
mod tests;
