//! The threads that share a call's work.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use smallvec::SmallVec;

use crate::memory::{Lease, OutOfMemory, Pool, Workspace};

/// A number of threads: the caller's alone, or a pool of that many.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<ThreadPool>,
}

impl Threads {
    /// `count` threads; a single one is the caller's.
    pub(crate) fn new(count: usize) -> Result<Threads, ThreadPoolBuildError> {
        if count <= 1 {
            return Ok(Threads { pool: None });
        }
        let name = |index| format!("rhumb-{index}");
        Ok(Threads { pool: Some(ThreadPoolBuilder::new().num_threads(count).thread_name(name).build()?) })
    }

    pub(crate) fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work` for each task from 0 to `tasks`, each once, on a thread with a workspace of `bytes` of its own. Nothing is run if
    /// the workspaces can't be had.
    ///
    /// Threads take tasks as they come, so which thread runs a task differs from call to call: results must not depend on it, nor on
    /// what an earlier task left in the workspace.
    pub(crate) fn for_each(
        &self,
        tasks: usize,
        pool: &Pool,
        bytes: usize,
        work: impl Fn(usize, &mut Workspace) + Sync,
    ) -> Result<(), OutOfMemory> {
        let workers = self.count().min(tasks);
        // More threads than this spill to the heap, which costs little beside what they do.
        let leases = (0..workers).map(|_| pool.lease(bytes));
        let mut leases = leases.collect::<Result<SmallVec<[Lease<'_>; 32]>, OutOfMemory>>()?;
        let next = AtomicUsize::new(0);
        let take_tasks = |lease: &mut Lease<'_>| {
            loop {
                // Tasks share nothing but this counter; what they write is handed over when the loop below joins.
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                work(task, lease);
            }
        };
        match (&self.pool, leases.as_mut_slice()) {
            (Some(pool), leases @ [_, _, ..]) => {
                pool.install(|| leases.par_iter_mut().with_max_len(1).for_each(take_tasks));
            }
            (_, leases) => leases.iter_mut().for_each(take_tasks),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in [0, 1, 2, 5] {
            let threads = Threads::new(count).expect("threads");
            assert_eq!(threads.count(), count.max(1));
            for tasks in [0, 1, 2, 3, 1000] {
                let (pool, runs) = (Pool::new(None), (0..tasks).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
                let work = |task: usize, workspace: &mut Workspace| {
                    workspace.slice_mut::<u64>(0, 4).expect("fits").fill(task as u64);
                    runs[task].fetch_add(1, Ordering::Relaxed);
                };
                threads.for_each(tasks, &pool, 32, work).expect("memory");
                assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn too_little_memory_runs_nothing() {
        let (threads, pool) = (Threads::new(2).expect("threads"), Pool::new(None));
        let refused = threads.for_each(10, &pool, usize::MAX / 2, |_, _| panic!("ran"));
        assert_eq!(refused, Err(OutOfMemory { bytes: usize::MAX / 2 }));
        assert_eq!(threads.for_each(10, &pool, 64, |_, _| ()), Ok(()));
    }

    #[test]
    fn a_panic_leaves_threads_and_pool_usable() {
        let (threads, pool) = (Threads::new(2).expect("threads"), Pool::new(None));
        let call = std::panic::AssertUnwindSafe(|| threads.for_each(10, &pool, 64, |task, _| assert_ne!(task, 7)));
        assert!(std::panic::catch_unwind(call).is_err());
        assert_eq!(threads.for_each(10, &pool, 64, |_, _| ()), Ok(()));
    }
}
