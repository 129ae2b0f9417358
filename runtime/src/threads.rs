//! The threads that share a call's work.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// Threads that a program has already, lent to an engine by [`EngineBuilder::thread_pool`](crate::EngineBuilder::thread_pool).
///
/// No pool of another crate is named here: a program gives what it has in a few lines, and the version of a library that this one uses
/// inside is no part of its interface.
///
/// ```
/// use std::sync::Arc;
///
/// use rhumb_runtime::{Engine, ThreadPool};
///
/// /// The pool that the rest of the program computes on.
/// struct Rayon(rayon::ThreadPool);
///
/// impl ThreadPool for Rayon {
///     fn threads(&self) -> usize {
///         self.0.current_num_threads()
///     }
///
///     fn run(&self, times: usize, work: &(dyn Fn() + Sync)) {
///         self.0.scope(|scope| (0..times).for_each(|_| scope.spawn(|_| work())));
///     }
/// }
///
/// let pool = Rayon(rayon::ThreadPoolBuilder::new().num_threads(2).build()?);
/// let engine = Engine::builder().thread_pool(Arc::new(pool)).build()?;
/// assert_eq!(engine.threads(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ThreadPool: Send + Sync {
    /// How many threads work at the same time. Asked when the engine is built.
    fn threads(&self) -> usize;

    /// Calls `work` up to `times` times, on as many threads as there are, and returns when all these calls have returned. Each call does
    /// a share of what there is to do; what is left when this returns, the thread that called it does. A panic of `work` is passed on.
    fn run(&self, times: usize, work: &(dyn Fn() + Sync));
}

/// A pool that is shared.
#[derive(Clone)]
pub(crate) struct Pool(pub(crate) Arc<dyn ThreadPool>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.0.threads())
    }
}

/// Threads of an engine's own.
struct Own(rayon::ThreadPool);

impl ThreadPool for Own {
    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn run(&self, times: usize, work: &(dyn Fn() + Sync)) {
        self.0.install(|| (0..times).into_par_iter().with_max_len(1).for_each(|_| work()));
    }
}

/// A number of threads: the caller's alone, or a pool of that many.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    pool: Option<Pool>,
}

impl Threads {
    /// The caller's alone.
    pub(crate) const ONE: Threads = Threads { count: 1, pool: None };

    /// More threads than any machine has.
    const MOST: usize = 1 << 16;

    /// `count` threads; a single one is the caller's.
    pub(crate) fn new(count: usize) -> io::Result<Threads> {
        if count <= 1 {
            return Ok(Threads { count: 1, pool: None });
        }
        let name = |index| format!("rhumb-{index}");
        let pool = ThreadPoolBuilder::new().num_threads(count).thread_name(name).build().map_err(io::Error::other)?;
        Ok(Threads::of(Pool(Arc::new(Own(pool)))))
    }

    /// The threads of a pool.
    pub(crate) fn of(pool: Pool) -> Threads {
        Threads { count: pool.0.threads().clamp(1, Threads::MOST), pool: Some(pool) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` once with each of the memories, on as many threads.
    ///
    /// `work` takes tasks as they come, so which thread runs a task differs from call to call: results must not depend on it, nor on what
    /// an earlier task left in the memory.
    pub(crate) fn run<M: Send>(&self, memories: &mut [M], work: impl Fn(&mut M) + Send + Sync) {
        let (Some(Pool(pool)), [_, _, ..]) = (&self.pool, &*memories) else {
            return memories.iter_mut().for_each(work);
        };
        let times = memories.len();
        let left = Mutex::new(memories.iter_mut());
        // The lock is held while a memory is taken, and free while it is worked with.
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let share = || {
            if let Some(memory) = next() {
                work(memory);
            }
        };
        pool.run(times, &share);
        // A pool may call less often than it was asked to.
        while let Some(memory) = next() {
            work(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_runs_once_with_each_memory() {
        for count in [0, 1, 2, 5] {
            let threads = Threads::new(count).expect("threads");
            assert_eq!(threads.count(), count.max(1));
            for workers in [0, 1, 2, 3, 100] {
                let (mut memories, tasks) = (vec![0; workers], AtomicUsize::new(0));
                threads.run(&mut memories, |memory| *memory += 1 + tasks.fetch_add(1, Ordering::Relaxed));
                memories.sort_unstable();
                assert_eq!(memories, (1..=workers).collect::<Vec<_>>());
            }
        }
    }

    /// A pool that calls as often as it likes.
    struct Careless(usize);

    impl ThreadPool for Careless {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, _: usize, work: &(dyn Fn() + Sync)) {
            std::thread::scope(|scope| (0..self.0).for_each(|_| drop(scope.spawn(work))));
        }
    }

    #[test]
    fn work_runs_once_with_each_memory_however_often_a_pool_calls() {
        for calls in [0, 1, 3, 9] {
            let threads = Threads::of(Pool(Arc::new(Careless(calls))));
            assert_eq!(threads.count(), 3);
            let mut memories = vec![0; 3];
            threads.run(&mut memories, |memory| *memory += 1);
            assert_eq!(memories, [1, 1, 1]);
        }
    }

    #[test]
    fn a_panic_leaves_threads_usable() {
        let threads = Threads::new(2).expect("threads");
        let call = std::panic::AssertUnwindSafe(|| threads.run(&mut [0, 1], |memory| assert_ne!(*memory, 1)));
        assert!(std::panic::catch_unwind(call).is_err());
        let mut memories = [0, 1];
        threads.run(&mut memories, |memory| *memory += 1);
        assert_eq!(memories, [1, 2]);
    }
}
