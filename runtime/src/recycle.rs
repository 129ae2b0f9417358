//! Allocations of lists, kept from one use to the next.

use std::sync::{Mutex, PoisonError};

/// The allocation of a list, for elements of a type that differs in lifetimes alone. What the list held is dropped.
pub(crate) fn recycled<T, U>(mut list: Vec<T>) -> Vec<U> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>(), "types of one layout") };
    list.clear();
    // Collected in place: the standard library keeps the allocation of a vector whose elements are of one layout.
    list.into_iter().map(|_| -> U { unreachable!("an empty list") }).collect()
}

/// Things that wait for their next use.
#[derive(Debug)]
pub(crate) struct Spares<T>(Mutex<Vec<T>>);

impl<T: Default> Spares<T> {
    pub(crate) const fn new() -> Spares<T> {
        Spares(Mutex::new(Vec::new()))
    }

    /// One that was kept, or a new one.
    pub(crate) fn take(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps one; without room for it, it is dropped.
    pub(crate) fn keep(&self, spare: T) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.try_reserve(1).is_ok() {
            spares.push(spare);
        }
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_kept() {
        let word = String::from("a word");
        let mut words: Vec<&str> = Vec::with_capacity(10);
        words.push(&word);
        let (start, capacity) = (words.as_ptr() as usize, words.capacity());
        let longer: Vec<&'static str> = recycled(words);
        assert_eq!((longer.as_ptr() as usize, longer.capacity(), longer.len()), (start, capacity, 0));
        let spares: Spares<Vec<&'static str>> = Spares::new();
        spares.keep(longer);
        assert_eq!((spares.take().capacity(), spares.take().capacity()), (10, 0));
    }
}
