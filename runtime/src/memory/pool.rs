//! Working memory that is kept between calls.

use std::sync::{Mutex, PoisonError};

use crate::memory::alloc::{ALIGN, OutOfMemory};
use crate::memory::places::{Guard, Places};
use crate::memory::workspace::Workspace;

/// Workspaces waiting for the next call, so that a warm kernel allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Workspace>>,
    guard: Option<Guard>,
}

/// A workspace lent by a [`Pool`]; it goes back on drop.
#[derive(Debug)]
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    workspace: Workspace,
}

impl Pool {
    /// A pool of workspaces between inaccessible pages, which are not kept; or without such, if there is no guard.
    pub(crate) const fn new(guard: Option<Guard>) -> Pool {
        Pool { free: Mutex::new(Vec::new()), guard }
    }

    pub(crate) fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// A workspace for buffers that were given their places by the [`Pool::guard`].
    pub(crate) fn lease_places(&self, places: &Places) -> Result<Lease<'_>, OutOfMemory> {
        match self.guard {
            Some(_) => Ok(Lease { pool: self, workspace: places.workspace()? }),
            None => self.lease(places.bytes()),
        }
    }

    /// A workspace of at least `bytes`, the smallest of those kept that fits. Where none fits the largest makes room for a new one, so
    /// the pool keeps as many as were ever lent at once. Sizes are rounded up to four steps per doubling: a sequence that grows by a
    /// token per call seldom needs a new one.
    pub(crate) fn lease(&self, bytes: usize) -> Result<Lease<'_>, OutOfMemory> {
        if self.guard.is_some() {
            return Ok(Lease { pool: self, workspace: Places::single(self.guard, bytes)? });
        }
        let kept = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let sizes = || free.iter().map(Workspace::bytes).enumerate();
            let fit = sizes().filter(|(_, size)| *size >= bytes).min_by_key(|(_, size)| *size);
            let pick = fit.or_else(|| sizes().max_by_key(|(_, size)| *size));
            pick.map(|(index, _)| free.swap_remove(index))
        };
        let workspace = match kept {
            Some(workspace) if workspace.bytes() >= bytes => workspace,
            // A workspace that is too small is freed first.
            too_small => {
                drop(too_small);
                let step = (bytes.checked_ilog2().map_or(0, |log| 1usize << log) / 4).max(ALIGN);
                let rounded = bytes.checked_next_multiple_of(step).map(Workspace::new);
                rounded.and_then(Result::ok).ok_or(OutOfMemory { bytes })?
            }
        };
        Ok(Lease { pool: self, workspace })
    }

    /// Frees the workspaces that no call uses.
    pub(crate) fn clear(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}

impl std::ops::Deref for Lease<'_> {
    type Target = Workspace;
    fn deref(&self) -> &Workspace {
        &self.workspace
    }
}

impl std::ops::DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Workspace {
        &mut self.workspace
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let workspace = std::mem::replace(&mut self.workspace, Workspace::empty());
        if self.pool.guard.is_some() {
            return;
        }
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_reuses_what_fits() {
        let pool = Pool::new(None);
        let first = pool.lease(100).expect("memory").as_mut_ptr();
        assert_eq!(pool.lease(80).expect("memory").as_mut_ptr(), first);
        let (mut a, mut b) = (pool.lease(128).expect("memory"), pool.lease(1000).expect("memory"));
        assert_eq!((a.bytes(), b.bytes()), (128, 1024));
        assert_eq!(a.as_mut_ptr(), first);
        let second = b.as_mut_ptr();
        drop((a, b));
        assert_eq!(pool.lease(500).expect("memory").as_mut_ptr(), second);
        assert_eq!(pool.lease(100).expect("memory").as_mut_ptr(), first, "the smallest that fits");
        assert_eq!(pool.lease(2000).expect("memory").bytes(), 2048);
        assert_eq!(pool.free.lock().expect("no panic").len(), 2, "the larger of two grew");
        assert!(pool.lease(usize::MAX).is_err());
        assert_eq!(pool.lease(50).expect("still works").as_mut_ptr(), first);
        pool.clear();
        assert!(pool.free.lock().expect("no panic").is_empty());
    }
}
