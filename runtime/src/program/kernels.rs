//! The kernels of a graph: one for any call, and one for calls of few queries, which is made when the first of them comes.

use std::sync::{Arc, OnceLock};

use rhumb_compiler::DecodeKernel;
use rhumb_compiler::plan::{NoDecode, Plan};
use rhumb_ir::{Axis, Extent};

use super::Program;
use super::pool::Pool;
use super::prefill::Trace;
use super::run::{Lists, run};
use crate::batch::{BatchedCall, Failed};
use crate::error::{CallError, FirstUse, FirstUseError};
use crate::interface::Bound;
use crate::memory::Guard;
use crate::recycle::Spares;
use crate::threads::Threads;
use crate::tile_map::TileMap;

/// The kernels of a graph.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) prefill: Program,
    decode: Result<Decode, NoDecode>,
    pool: Pool,
    spares: Spares<Lists>,
}

/// The decode kernel, made on first use.
#[derive(Debug)]
struct Decode {
    kernel: DecodeKernel,
    program: OnceLock<Result<Program, Arc<FirstUseError>>>,
}

impl Programs {
    /// A kernel for any call, and one that may be made.
    pub(crate) fn new(prefill: Program, decode: Result<DecodeKernel, NoDecode>, guard: Option<Guard>) -> Programs {
        let decode = decode.map(|kernel| Decode { kernel, program: OnceLock::new() });
        Programs { prefill, decode, pool: Pool::new(guard), spares: Spares::new() }
    }

    /// The decode kernel, or why there is none.
    pub(crate) fn decode(&self) -> Result<&DecodeKernel, &NoDecode> {
        self.decode.as_ref().map(|decode| &decode.kernel)
    }

    /// The plan of the kernel that takes a call of these lengths.
    pub(crate) fn plan(&self, lengths: &[usize]) -> &Plan {
        match self.decode_of(lengths) {
            Some(decode) => &decode.kernel.plan,
            None => self.prefill.plan(),
        }
    }

    fn decode_of(&self, lengths: &[usize]) -> Option<&Decode> {
        let decode = self.decode.as_ref().ok()?;
        // Axes that the planner added have lengths of their own.
        let length = |axis: Axis| match decode.kernel.plan.graph.axis(axis).extent {
            Extent::Static(length) => length as usize,
            Extent::Dynamic => lengths[axis.index()],
        };
        decode.kernel.takes(length).then_some(decode)
    }

    /// Runs a call.
    ///
    /// # Errors
    /// [`CallError`] if memory can't be had, or the kernel can't be made. Then nothing was written.
    pub(crate) fn run(&self, bound: &mut Bound<'_>, threads: &Threads) -> Result<(), CallError> {
        let program = self.program(&bound.lengths)?;
        run([(program, bound)], (&self.pool, &self.spares, threads), None).map(|_| ()).map_err(|(_, error)| *error)
    }

    /// Runs calls that share no memory that any of them writes. Each takes the kernel that it takes alone, and gives the same bits.
    ///
    /// # Errors
    /// As [`Programs::run`], with the number of the call.
    pub(crate) fn run_all(&self, all: &mut [BatchedCall<'_>], threads: &Threads) -> Result<(), Failed> {
        // Kernels that are made when they are first called for are made before anything is written.
        for (number, call) in all.iter().enumerate() {
            self.program(&call.bound().lengths).map_err(|error| (number, error.into()))?;
        }
        let calls = all.iter_mut().map(BatchedCall::bound_mut);
        let calls = calls.map(|bound| (self.program(&bound.lengths).unwrap_or(&self.prefill), bound));
        run(calls, (&self.pool, &self.spares, threads), None).map(|_| ())
    }

    /// Runs a call, and tells the key tiles that it visited.
    ///
    /// # Errors
    /// As [`Programs::run`].
    pub(crate) fn trace(&self, bound: &mut Bound<'_>, threads: &Threads) -> Result<Option<TileMap>, CallError> {
        let program = self.program(&bound.lengths)?;
        run([(program, bound)], (&self.pool, &self.spares, threads), Some(Trace::default()))
            .map_err(|(_, error)| *error)
    }

    /// The kernel that takes a call of these lengths.
    fn program(&self, lengths: &[usize]) -> Result<&Program, CallError> {
        let Some(decode) = self.decode_of(lengths) else { return Ok(&self.prefill) };
        let program = decode.program.get_or_init(|| decode.load(self.pool.guard()).map_err(Arc::new));
        program.as_ref().map_err(|error| CallError::FirstUse(FirstUse(error.clone())))
    }

    /// Those that there are.
    fn made(&self) -> impl Iterator<Item = &Program> {
        let decode = self.decode.as_ref().ok().and_then(|decode| decode.program.get());
        std::iter::once(&self.prefill).chain(decode.and_then(|made| made.as_ref().ok()))
    }

    /// Bytes of machine code.
    pub(crate) fn code_bytes(&self) -> usize {
        self.made().map(Program::code_bytes).sum()
    }

    /// Frees the memory kept for calls.
    pub(crate) fn trim(&self) {
        self.pool.clear();
        self.spares.clear();
    }
}

impl Decode {
    fn load(&self, guard: Option<Guard>) -> Result<Program, FirstUseError> {
        let code = self.kernel.compile(false)?;
        Ok(Program::load(self.kernel.plan.clone(), &code, &self.kernel.target, guard)?)
    }
}
