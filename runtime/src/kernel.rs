//! Kernels: compiled graphs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rhumb_compiler::plan::{NoDecode, Plan};
use rhumb_compiler::{Choice, CompileError, Compiled, DecodeKernel, Target, Timing};

use crate::batch::{BatchedCall, CallBatch, Failed, Lists, RunsAll};
use crate::call::{Call, Operator, Runner};
use crate::error::{CallError, InterfaceError};
use crate::error_bound::ErrorBound;
use crate::interface::{Bindings, Bound, Interface, KeepsBindings};
use crate::memory::{Guard, LoadError};
use crate::program::{Program, Programs};
use crate::recycle::Spares;
use crate::threads::Threads;
use crate::tile_map::TileMap;

/// A compiled graph, ready to run on tensors of any length of its dynamic axes.
///
/// It owns its machine code, which is freed with it, and may be shared and called by many threads at once. Working memory is kept
/// between calls, so that a call like one before allocates nothing (but for the thread pool's queue, which grows by a block every few
/// dozen calls of an engine of several threads).
pub struct Kernel {
    name: String,
    interface: Interface,
    programs: Programs,
    bindings: Spares<Bindings<'static>>,
    batches: Spares<Lists>,
    threads: Arc<Threads>,
    choice: Choice,
    timings: Vec<Timing>,
}

// Any thread may call a kernel.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Kernel>();
};

/// Why a graph has no kernel.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A stage of the compiler refused the graph.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// No tensors could ever fit the graph.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The machine code could not be put in memory.
    #[error(transparent)]
    Load(#[from] LoadError),
}

rhumb_ir::debug_as_display!(KernelError);

impl Kernel {
    /// Puts what was compiled in executable memory.
    pub(crate) fn load(compiled: Compiled, threads: Arc<Threads>, guard: Option<Guard>) -> Result<Kernel, KernelError> {
        let Compiled { lowered, fused: _, choice, plan, clif: _, code, decode, timings } = compiled;
        // Lowering keeps the user's tensors and axes, in order, and rewriting all of lowering's: a call tells the axes of the plan
        // but for those that planning adds, which come last.
        let interface = Interface::of(&lowered)?;
        let name = lowered.name.clone();
        let prefill = Program::load(plan, &code, choice.target(), guard)?;
        Ok(Kernel {
            name,
            interface,
            programs: Programs::new(prefill, decode, guard),
            bindings: Spares::new(),
            batches: Spares::new(),
            threads,
            choice,
            timings,
        })
    }

    /// Its inputs and outputs.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Starts a call.
    pub fn call<'a>(&self) -> Call<'_, 'a> {
        Call::new(&self.interface, self)
    }

    /// Starts a batch of calls, which run together: sequences of different lengths, say.
    pub fn batch<'a>(&self) -> CallBatch<'_, 'a> {
        CallBatch::new(&self.interface, self)
    }

    /// The plan that its code follows: loops, tiles, tables. Prints.
    pub fn plan(&self) -> &Plan {
        self.programs.prefill.plan()
    }

    /// The kernel that calls of few queries take, and short prompts for the queries past whole vectors, whose code is made with the first of
    /// them; or why there is none.
    ///
    /// # Errors
    /// [`NoDecode`] if there is none.
    pub fn decode(&self) -> Result<&DecodeKernel, &NoDecode> {
        self.programs.decode()
    }

    /// The bound on how far its results are from those of its [`Reference`](crate::Reference), derived from its plan. Prints, and evaluates for the
    /// tensors of a call.
    pub fn error_bound(&self) -> ErrorBound<'_> {
        ErrorBound::new(&self.interface, &self.programs)
    }

    /// The target that it was compiled for.
    pub fn target(&self) -> &Target {
        self.choice.target()
    }

    /// Why it was compiled for that: the candidates of the engine's target by what they would cost. Prints.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The time that each stage of its compilation took.
    pub fn timings(&self) -> &[Timing] {
        &self.timings
    }

    /// The time that its compilation took.
    pub fn compile_time(&self) -> Duration {
        self.timings.iter().map(|timing| timing.time).sum()
    }

    /// Bytes of executable memory.
    pub fn code_bytes(&self) -> usize {
        self.programs.code_bytes()
    }

    /// Frees the working memory that calls left behind, all of it but what calls that run meanwhile use. The next call allocates its own again.
    pub fn trim(&self) {
        self.programs.trim();
        self.bindings.clear();
        self.batches.clear();
    }
}

impl Operator for Kernel {
    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn call<'a>(&self) -> Call<'_, 'a> {
        Call::new(&self.interface, self)
    }

    fn batch<'a>(&self) -> CallBatch<'_, 'a> {
        CallBatch::new(&self.interface, self)
    }
}

impl KeepsBindings for Kernel {
    fn spare_bindings(&self) -> Option<&Spares<Bindings<'static>>> {
        Some(&self.bindings)
    }
}

impl Runner for Kernel {
    fn run(&self, bound: &mut Bound<'_>) -> Result<(), CallError> {
        self.programs.run(bound, &self.threads)
    }

    fn trace(&self, bound: &mut Bound<'_>) -> Result<Option<TileMap>, CallError> {
        self.programs.trace(bound, &self.threads)
    }
}

impl RunsAll for Kernel {
    fn run_all(&self, all: &mut [BatchedCall<'_>]) -> Result<(), Failed> {
        self.programs.run_all(all, &self.threads)
    }

    fn spares(&self) -> &Spares<Lists> {
        &self.batches
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel(`{}`, {} bytes of code)", self.name, self.code_bytes())
    }
}
