//! The kernels of a graph: one for any call, and one for calls of few queries, which is made when the first of them comes.

use std::sync::{Arc, OnceLock};

use rhumb_compiler::DecodeKernel;
use rhumb_compiler::plan::{NoDecode, Plan};

use super::Program;
use super::pool::Pool;
use super::prefill::Trace;
use super::run::{Lists, Part, Parts, run};
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

    /// The plans of the kernels that take a call of these lengths.
    pub(crate) fn plans(&self, lengths: &[usize]) -> impl Iterator<Item = &Plan> {
        let from = self.decoded_from(lengths);
        let prefill = (from != Some(0)).then(|| self.prefill.plan());
        let decode = self.decode.as_ref().ok().filter(|_| from.is_some()).map(|decode| &decode.kernel.plan);
        prefill.into_iter().chain(decode)
    }

    /// The first query that the decode kernel takes of a call of these lengths, if it takes any.
    fn decoded_from(&self, lengths: &[usize]) -> Option<usize> {
        let decode = self.decode.as_ref().ok()?;
        decode.kernel.takes_from(|axis| lengths[axis.index()])
    }

    /// Runs a call.
    ///
    /// # Errors
    /// [`CallError`] if memory can't be had, or the kernel can't be made. Then nothing was written.
    pub(crate) fn run(&self, bound: &mut Bound<'_>, threads: &Threads) -> Result<(), CallError> {
        let parts = self.parts(&bound.lengths)?;
        run([(parts, bound)], (&self.pool, &self.spares, threads), None).map(|_| ()).map_err(|(_, error)| *error)
    }

    /// Runs calls that share no memory that any of them writes. Each takes the kernels that it takes alone, and gives the same bits.
    ///
    /// # Errors
    /// As [`Programs::run`], with the number of the call.
    pub(crate) fn run_all(&self, all: &mut [BatchedCall<'_>], threads: &Threads) -> Result<(), Failed> {
        // Kernels that are made when they are first called for are made before anything is written.
        for (number, call) in all.iter().enumerate() {
            self.parts(&call.bound().lengths).map_err(|error| (number, error.into()))?;
        }
        let calls = all.iter_mut().map(BatchedCall::bound_mut);
        let calls = calls.map(|bound| (self.parts(&bound.lengths).expect("kernels that were made"), bound));
        run(calls, (&self.pool, &self.spares, threads), None).map(|_| ())
    }

    /// Runs a call, and tells the key tiles that it visited.
    ///
    /// # Errors
    /// As [`Programs::run`].
    pub(crate) fn trace(&self, bound: &mut Bound<'_>, threads: &Threads) -> Result<Option<TileMap>, CallError> {
        let parts = self.parts(&bound.lengths)?;
        run([(parts, bound)], (&self.pool, &self.spares, threads), Some(Trace::default())).map_err(|(_, error)| *error)
    }

    /// The kernels that take a call of these lengths.
    fn parts(&self, lengths: &[usize]) -> Result<Parts<'_>, CallError> {
        let from = self.decoded_from(lengths);
        let mut parts = Parts::new();
        if from != Some(0) {
            parts.push(Part { program: &self.prefill, queries: (0, from) });
        }
        if let (Some(from), Ok(decode)) = (from, &self.decode) {
            let program = decode.program.get_or_init(|| decode.load(self.pool.guard()).map_err(Arc::new));
            let program = program.as_ref().map_err(|error| CallError::FirstUse(FirstUse(error.clone())))?;
            parts.push(Part { program, queries: (from, None) });
        }
        Ok(parts)
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
