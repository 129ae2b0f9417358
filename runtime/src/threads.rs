//! The threads that share a call's work.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

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

    /// Runs `work` once with each of the memories, on as many threads.
    ///
    /// `work` takes tasks as they come, so which thread runs a task differs from call to call: results must not depend on it, nor on what
    /// an earlier task left in the memory.
    pub(crate) fn run<M: Send>(&self, memories: &mut [M], work: impl Fn(&mut M) + Send + Sync) {
        match (&self.pool, memories) {
            (Some(pool), memories @ [_, _, ..]) => {
                pool.install(|| memories.par_iter_mut().with_max_len(1).for_each(work));
            }
            (_, memories) => memories.iter_mut().for_each(work),
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
