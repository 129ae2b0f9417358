//! A bounded cache of what is costly to make.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache as Values;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, UnitWeighter};

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

/// Values by name; those used seldom make room when there are too many.
///
/// Whoever asks for a value that is being made waits and shares it, and other names are not held up.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    values: Values<String, Arc<V>, UnitWeighter, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    stats: Mutex<CacheStats>,
}

/// Counts the values that made room.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl<V> Lifecycle<String, Arc<V>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, _: &mut (), _: String, _: Arc<V>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<V> Cache<V> {
    /// A cache of at most `capacity` values; with 0 nothing is kept.
    pub(crate) fn new(capacity: usize) -> Cache<V> {
        let evictions = Evictions::default();
        let options = OptionsBuilder::new()
            // Kernels are few, and the capacity is that of all shards together.
            .shards(1)
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .expect("both capacities");
        let values = Values::with_options(options, UnitWeighter, DefaultHashBuilder::default(), evictions.clone());
        Cache { values, evictions, stats: Mutex::new(CacheStats::default()) }
    }

    /// The value of a name, made if it is not there. What fails to be made is not kept.
    pub(crate) fn get_or_make<E>(&self, name: &str, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let mut took = None;
        let value = self.values.get_or_insert_with(name, || {
            let start = Instant::now();
            let made = make().map(Arc::new);
            took = Some(start.elapsed());
            made
        });
        let mut stats = self.lock();
        match took {
            Some(time) => {
                stats.misses += 1;
                stats.compile_time += time;
            }
            None => stats.hits += 1,
        }
        value
    }

    /// Forgets all values; those in use live on with their users.
    pub(crate) fn clear(&self) {
        self.values.clear();
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let evictions = self.evictions.0.load(Ordering::Relaxed);
        CacheStats { evictions, entries: self.values.len(), ..*self.lock() }
    }

    /// Nothing here is left half done by a panic, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, CacheStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
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
