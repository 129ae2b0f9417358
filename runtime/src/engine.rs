//! Engines: where graphs are compiled, kept and run.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use rhumb_compiler::rewrite::RewriteOptions;
use rhumb_compiler::{Backend, CompileError, Kernels, Lowered, Options, Target, TargetError, compile_lowered};
use rhumb_ir::Verified;
use rhumb_plugins::{Registry, lower};

use crate::cache::{Cache, CacheStats};
use crate::kernel::{Kernel, KernelError};
use crate::memory::Guard;
use crate::reference::Reference;
use crate::threads::{Pool, ThreadPool, Threads};

/// The most kernels an engine keeps unless it is told otherwise.
const CACHE_CAPACITY: usize = 256;

/// Compiles graphs for this machine, keeps the kernels, and owns the threads that run them.
///
/// An engine is made once and shared: all its methods take `&self`.
#[derive(Debug)]
pub struct Engine {
    target: Target,
    registry: Registry,
    rewrite: RewriteOptions,
    threads: Arc<Threads>,
    kernels: Kernels,
    cache: Cache<Kernel>,
    guard: Option<Guard>,
}

// Any thread may compile.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Engine>();
};

/// Choices of an [`Engine`]: all have defaults.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct EngineBuilder {
    threads: Workers,
    target: Option<Target>,
    lanes: Option<usize>,
    backend: Option<Backend>,
    registry: Registry,
    rewrite: RewriteOptions,
    kernels: Kernels,
    cache_capacity: usize,
    guard: Option<Guard>,
}

/// Which threads share the work of a call.
#[derive(Clone, Debug)]
enum Workers {
    Processors,
    Own(usize),
    Lent(Pool),
}

/// An engine that can't be.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// This machine, or the lane count or backend asked of it.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A target that is not this machine.
    #[error(
        "an engine runs its kernels, and {triple} here is a target to look at; use `Target::host` or one of its candidates"
    )]
    Foreign {
        /// The target's triple.
        triple: String,
    },
    /// No threads.
    #[error("an engine needs a thread; ask for 1 or more, 1 being the caller's own")]
    NoThreads,
    /// The system refused to start threads.
    #[error("{threads} threads could not be started: {source}; ask for fewer")]
    Threads {
        /// The number asked for.
        threads: usize,
        /// The system's reason.
        source: io::Error,
    },
}

rhumb_ir::debug_as_display!(EngineError);

impl EngineBuilder {
    /// Threads that share a call's work; 1 is the caller's own. Unless set, one per processor. Results do not depend on it.
    pub fn threads(self, threads: usize) -> EngineBuilder {
        EngineBuilder { threads: Workers::Own(threads), ..self }
    }

    /// Threads of the program's own, in place of threads that the engine starts: see [`ThreadPool`]. Of this and
    /// [`threads`](EngineBuilder::threads) the last given counts. Results do not depend on it.
    pub fn thread_pool(self, pool: Arc<dyn ThreadPool>) -> EngineBuilder {
        EngineBuilder { threads: Workers::Lent(Pool(pool)), ..self }
    }

    /// The target of kernels: this machine, or less than it has. Default: [`Target::host`].
    pub fn target(self, target: Target) -> EngineBuilder {
        EngineBuilder { target: Some(target), ..self }
    }

    /// Lanes of `f32` in the vectors of the code. Unless set, each graph has the cheapest: see [`Kernel::choice`].
    pub fn lanes(self, lanes: usize) -> EngineBuilder {
        EngineBuilder { lanes: Some(lanes), ..self }
    }

    /// The code generator. Default: the cheapest for each graph, see [`Kernel::choice`].
    pub fn backend(self, backend: Backend) -> EngineBuilder {
        EngineBuilder { backend: Some(backend), ..self }
    }

    /// The position schemes that graphs read from text may name. Unless set, [`Registry::standard`].
    pub fn registry(self, registry: Registry) -> EngineBuilder {
        EngineBuilder { registry, ..self }
    }

    /// The rules that rewriting may use.
    pub fn rewrite(self, rewrite: RewriteOptions) -> EngineBuilder {
        EngineBuilder { rewrite, ..self }
    }

    /// The kernels that calls may take. Unless set, each takes the one that costs less.
    pub fn kernels(self, kernels: Kernels) -> EngineBuilder {
        EngineBuilder { kernels, ..self }
    }

    /// The most kernels to keep, 256 unless set; with 0 none, and each [`Engine::compile`] compiles.
    pub fn cache_capacity(self, kernels: usize) -> EngineBuilder {
        EngineBuilder { cache_capacity: kernels, ..self }
    }

    /// Puts the working memory of kernels between inaccessible pages: code that leaves it ends the process. Unless set, there are none.
    #[cfg(feature = "guard-pages")]
    pub fn guard_pages(self, guard: Guard) -> EngineBuilder {
        EngineBuilder { guard: Some(guard), ..self }
    }

    /// The engine.
    ///
    /// # Errors
    /// [`EngineError`] if this machine can't run kernels of that target, lane count or backend, or threads can't be had.
    pub fn build(self) -> Result<Engine, EngineError> {
        let EngineBuilder { threads, target, lanes, backend, registry, rewrite, kernels, cache_capacity, guard } = self;
        let mut target = target.map_or_else(Target::host, Ok)?;
        if !target.is_host() {
            return Err(EngineError::Foreign { triple: target.triple() });
        }
        if let Some(backend) = backend {
            target = target.with_backend(backend)?;
        }
        if let Some(lanes) = lanes {
            target = target.with_lanes(lanes)?;
        }
        let threads = threads.start()?;
        let (threads, cache) = (Arc::new(threads), Cache::new(cache_capacity));
        Ok(Engine { target, registry, rewrite, threads, kernels, cache, guard })
    }
}

impl Workers {
    fn start(self) -> Result<Threads, EngineError> {
        let count = match &self {
            Workers::Processors => available_parallelism().map_or(1, NonZeroUsize::get),
            Workers::Own(count) => *count,
            Workers::Lent(pool) => pool.0.threads(),
        };
        match self {
            _ if count == 0 => Err(EngineError::NoThreads),
            Workers::Lent(pool) => Ok(Threads::of(pool)),
            _ => Threads::new(count).map_err(|source| EngineError::Threads { threads: count, source }),
        }
    }
}

impl Engine {
    /// An engine for this machine: for each graph the code that is cheapest here, all processors, the standard schemes.
    ///
    /// # Errors
    /// [`EngineError`] if this machine can't run kernels.
    pub fn host() -> Result<Engine, EngineError> {
        Engine::builder().build()
    }

    /// Choices to build an engine from.
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            threads: Workers::Processors,
            target: None,
            lanes: None,
            backend: None,
            registry: Registry::standard(),
            rewrite: RewriteOptions::default(),
            kernels: Kernels::default(),
            cache_capacity: CACHE_CAPACITY,
            guard: None,
        }
    }

    /// Compiles a graph, or gives the kernel that was compiled before from a graph that lowers to the same.
    ///
    /// Schemes that the graph carries are compiled as they are; the registry is asked for those that it names alone, as a parsed graph
    /// does.
    ///
    /// # Errors
    /// [`KernelError`] of the stage that refused the graph.
    pub fn compile(&self, graph: &Verified) -> Result<Arc<Kernel>, KernelError> {
        // The text of the lowered graph says all there is to it, where that of the graph names schemes, of which two may do different
        // things. Target and options are the engine's own and never change, and with the graph they decide which of the target's
        // candidates it is compiled for.
        let lowered = Lowered::of(graph, &self.registry).map_err(CompileError::Lower)?;
        self.cache.get_or_make(&lowered.graph.to_string(), || {
            let options = Options { rewrite: self.rewrite, kernels: self.kernels, disassemble: false };
            let compiled = compile_lowered(lowered, &self.target, &options, &mut |_, _| ())?;
            Kernel::load(compiled, self.threads.clone(), self.guard)
        })
    }

    /// The reference of a graph: the same calls, interpreted in double precision.
    ///
    /// # Errors
    /// [`KernelError`] if the graph can't be lowered or no tensors could ever fit it.
    pub fn reference(&self, graph: &Verified) -> Result<Reference, KernelError> {
        let lowered = lower(graph, &self.registry).map_err(CompileError::Lower)?;
        Ok(Reference::of(lowered)?)
    }

    /// The target of kernels; [`Kernel::choice`] says which of its candidates a kernel is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The schemes that graphs read from text may name.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Threads that share a call's work.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Hits and misses of the kernel cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Forgets the kernels that were kept; those in use live on with their users.
    pub fn clear_cache(&self) {
        self.cache.clear();
    }
}
