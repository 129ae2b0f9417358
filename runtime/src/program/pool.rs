//! Working memory that is kept between calls.

use super::prefill::TaskLists;
use crate::memory::{Guard, OutOfMemory, Partials, Places, Workspace, reserve};
use crate::recycle::{Lease, Spares};
use crate::tiles::Trees;

/// The least step that sizes are rounded up to.
const STEP: usize = 64;

/// The memory of one call.
#[derive(Debug, Default)]
pub(super) struct CallMemory {
    pub(super) tables: Workspace,
    /// What functions know of the tensors.
    pub(super) words: Vec<u64>,
    pub(super) trees: Trees,
    pub(super) partials: Partials,
}

/// The memory of one thread of some calls.
#[derive(Debug, Default)]
pub(super) struct ThreadMemory {
    pub(super) scratch: Workspace,
    pub(super) lists: TaskLists,
}

/// Memory waiting for the next calls, so that a warm kernel allocates nothing.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Spares<CallMemory>,
    /// The memories of the threads of some calls that ran together.
    threads: Spares<Vec<ThreadMemory>>,
    guard: Option<Guard>,
}

/// Makes sure of scratch memory of this size at the least for this many threads, and gives theirs.
pub(super) fn of_threads(
    memories: &mut Vec<ThreadMemory>,
    (threads, scratch): (usize, usize),
    guard: Option<Guard>,
) -> Result<&mut [ThreadMemory], OutOfMemory> {
    let missing = threads.saturating_sub(memories.len());
    reserve(memories, missing)?;
    memories.extend((0..missing).map(|_| ThreadMemory::default()));
    for memory in &mut memories[..threads] {
        if memory.scratch.bytes() < scratch {
            // What is too small is freed first.
            memory.scratch = Workspace::default();
            memory.scratch = Places::single(guard, scratch)?;
        }
    }
    Ok(&mut memories[..threads])
}

impl Pool {
    /// A pool of memory between inaccessible pages, which is not kept; or without such, if there is no guard.
    pub(super) const fn new(guard: Option<Guard>) -> Pool {
        Pool { free: Spares::new(), threads: Spares::new(), guard }
    }

    pub(super) fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// Memory for tables that were given their places by the [`Pool::guard`]: that kept with the smallest tables that fit. Where none fit the
    /// largest make room for new ones, so the pool keeps as many as were ever lent at once. Sizes are rounded up to four steps per
    /// doubling: a sequence that grows by a token per call seldom needs new ones.
    pub(super) fn lease(&self, places: &Places) -> Result<Lease<'_, CallMemory>, OutOfMemory> {
        if self.guard.is_some() {
            let memory = CallMemory { tables: places.workspace()?, ..CallMemory::default() };
            return Ok(Lease::new(None, memory));
        }
        let bytes = places.bytes();
        let mut memory = self.free.take_by(|free| {
            let sizes = || free.iter().map(|memory| memory.tables.bytes()).enumerate();
            let fit = sizes().filter(|(_, size)| *size >= bytes).min_by_key(|(_, size)| *size);
            let pick = fit.or_else(|| sizes().max_by_key(|(_, size)| *size));
            pick.map(|(index, _)| index)
        });
        if memory.tables.bytes() < bytes {
            // Tables that are too small are freed first.
            memory.tables = Workspace::default();
            let step = (bytes.checked_ilog2().map_or(0, |log| 1usize << log) / 4).max(STEP);
            let rounded = bytes.checked_next_multiple_of(step).map(Workspace::new);
            memory.tables = rounded.and_then(Result::ok).ok_or(OutOfMemory { bytes })?;
        }
        Ok(Lease::new(Some(&self.free), memory))
    }

    /// Frees the memory that no call uses.
    pub(super) fn clear(&self) {
        self.free.clear();
        self.threads.clear();
    }

    /// The memories of threads: those of calls before, or none.
    pub(super) fn lease_threads(&self) -> Lease<'_, Vec<ThreadMemory>> {
        Lease::new(self.guard.is_none().then_some(&self.threads), self.threads.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(pool: &Pool, bytes: usize) -> Result<Lease<'_, CallMemory>, OutOfMemory> {
        let mut places = Places::new(None);
        places.take(bytes).ok_or(OutOfMemory { bytes })?;
        pool.lease(&places)
    }

    #[test]
    fn a_pool_reuses_what_fits() {
        let pool = Pool::new(None);
        let start = |bytes: usize| lease(&pool, bytes).expect("memory").tables.as_ptr();
        let first = start(100);
        assert_eq!(start(80), first);
        let (a, b) = (lease(&pool, 128).expect("memory"), lease(&pool, 1000).expect("memory"));
        assert_eq!((a.tables.bytes(), b.tables.bytes()), (128, 1024));
        assert_eq!(a.tables.as_ptr(), first);
        let second = b.tables.as_ptr();
        drop((a, b));
        assert_eq!(start(500), second);
        assert_eq!(start(100), first, "the smallest that fits");
        assert_eq!(lease(&pool, 2000).expect("memory").tables.bytes(), 2048);
        assert_eq!(pool.free.len(), 2, "the larger of two grew");
        assert!(lease(&pool, isize::MAX as usize).is_err());
        assert_eq!(start(50), first, "still works");
        pool.clear();
        assert_eq!(pool.free.len(), 0);
    }

    #[test]
    fn threads_keep_their_memory() {
        let pool = Pool::new(None);
        let starts = |threads: usize| {
            let mut lease = pool.lease_threads();
            assert_eq!(of_threads(&mut lease, (threads, 256), None).expect("memory").len(), threads);
            assert!(lease[..threads].iter().all(|thread| thread.scratch.bytes() == 256));
            lease.iter().map(|thread| thread.scratch.as_ptr()).collect::<Vec<_>>()
        };
        let two = starts(2);
        assert_eq!((two.len(), starts(1)), (2, two.clone()), "none is given up");
        assert_eq!(starts(4)[..2], two);
        assert!(of_threads(&mut pool.lease_threads(), (5, usize::MAX), None).is_err());
        assert_eq!(starts(4).len(), 5, "what can't be had takes nothing away");
        let larger = of_threads(&mut pool.lease_threads(), (2, 512), None).expect("memory")[1].scratch.bytes();
        assert_eq!(larger, 512, "that of another kernel of the same graph");
    }
}
