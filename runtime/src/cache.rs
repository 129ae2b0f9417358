//! A bounded cache of what is costly to make.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Use of a kernel cache since its engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Compilations that a kernel kept from before made needless.
    pub hits: u64,
    /// Compilations that ran, failed ones included.
    pub misses: u64,
    /// Kernels that made room for others.
    pub evictions: u64,
    /// Kernels kept now.
    pub entries: usize,
    /// Time spent compiling lowered graphs. Lowering is not in it: every compilation begins with it, to find the kernel.
    pub compile_time: Duration,
}

/// Values by name; the one used longest ago makes room when there are too many.
///
/// A value is made under a lock of its own: whoever asks for it meanwhile waits and shares it, and other names are not held up.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    capacity: usize,
    state: Mutex<State<V>>,
}

#[derive(Debug)]
struct State<V> {
    entries: BTreeMap<Arc<str>, Entry<V>>,
    clock: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct Entry<V> {
    slot: Slot<V>,
    used: u64,
}

/// `None` while a value is being made, and for good where that failed.
type Slot<V> = Arc<Mutex<Option<Arc<V>>>>;

impl<V> Cache<V> {
    /// A cache of at most `capacity` values; with 0 nothing is kept.
    pub(crate) fn new(capacity: usize) -> Cache<V> {
        let state = State { entries: BTreeMap::new(), clock: 0, stats: CacheStats::default() };
        Cache { capacity, state: Mutex::new(state) }
    }

    /// The value of a name, made if it is not there. What fails to be made is not kept.
    pub(crate) fn get_or_make<E>(&self, name: &str, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let slot = self.state().slot(name);
        let mut value = lock(&slot);
        if let Some(value) = &*value {
            self.state().stats.hits += 1;
            return Ok(value.clone());
        }
        let start = Instant::now();
        let made = make().map(Arc::new);
        let mut state = self.state();
        state.stats.misses += 1;
        state.stats.compile_time += start.elapsed();
        match made {
            Ok(made) => {
                *value = Some(made.clone());
                state.shrink(self.capacity);
                Ok(made)
            }
            Err(error) => {
                state.forget(name, &slot);
                Err(error)
            }
        }
    }

    /// Forgets all values; those in use live on with their users.
    pub(crate) fn clear(&self) {
        self.state().entries.clear();
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = self.state();
        CacheStats { entries: state.entries.len(), ..state.stats }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        lock(&self.state)
    }
}

/// Nothing here is left half done by a panic, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V> State<V> {
    fn slot(&mut self, name: &str) -> Slot<V> {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(name) {
            entry.used = self.clock;
            return entry.slot.clone();
        }
        let slot = Slot::<V>::default();
        self.entries.insert(name.into(), Entry { slot: slot.clone(), used: self.clock });
        slot
    }

    fn shrink(&mut self, capacity: usize) {
        while self.entries.len() > capacity {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used) else { return };
            let oldest = oldest.0.clone();
            self.entries.remove(&oldest);
            self.stats.evictions += 1;
        }
    }

    /// Removes the entry of a name if it still is that slot.
    fn forget(&mut self, name: &str, slot: &Slot<V>) {
        if self.entries.get(name).is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            self.entries.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn get(cache: &Cache<String>, name: &str) -> Arc<String> {
        let Ok(value) = cache.get_or_make(name, || Ok::<_, Infallible>(name.to_uppercase()));
        value
    }

    fn counts(cache: &Cache<String>) -> (u64, u64, u64, usize) {
        let CacheStats { hits, misses, evictions, entries, compile_time: _ } = cache.stats();
        (hits, misses, evictions, entries)
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let cache = Cache::new(2);
        let first = get(&cache, "a");
        assert!(Arc::ptr_eq(&first, &get(&cache, "a")));
        get(&cache, "b");
        get(&cache, "a");
        get(&cache, "c");
        assert_eq!(counts(&cache), (2, 3, 1, 2));
        assert!(Arc::ptr_eq(&first, &get(&cache, "a")), "b went");
        get(&cache, "b");
        assert_eq!(counts(&cache), (3, 4, 2, 2));
        cache.clear();
        assert_eq!(counts(&cache), (3, 4, 2, 0));
        assert!(!Arc::ptr_eq(&first, &get(&cache, "a")));
        assert_eq!(*first, "A");
    }

    #[test]
    fn nothing_is_kept_without_room() {
        let cache = Cache::new(0);
        assert!(!Arc::ptr_eq(&get(&cache, "a"), &get(&cache, "a")));
        assert_eq!(counts(&cache), (0, 2, 2, 0));
    }

    #[test]
    fn failures_are_not_kept() {
        let cache = Cache::new(2);
        assert_eq!(cache.get_or_make("a", || Err("no")), Err("no"));
        assert_eq!(counts(&cache), (0, 1, 0, 0));
        assert_eq!(*get(&cache, "a"), "A");
        let panics = std::panic::AssertUnwindSafe(|| cache.get_or_make::<()>("b", || panic!("in the middle")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(*get(&cache, "b"), "B");
    }

    #[test]
    fn threads_share_one_making() {
        let cache = Cache::new(4);
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (cache, made) = (&cache, &made);
                scope.spawn(move || {
                    let name = ["x", "y"][thread % 2];
                    let Ok(value) = cache.get_or_make(name, || {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                        Ok::<_, Infallible>(name.to_owned())
                    });
                    assert_eq!(*value, name);
                });
            }
        });
        assert_eq!(made.into_inner(), 2);
        assert_eq!((cache.stats().hits, cache.stats().misses), (6, 2));
    }
}
