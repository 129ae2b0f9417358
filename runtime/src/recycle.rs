//! Allocations of lists, kept from one use to the next.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// A thing that goes back to those that it is of when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<'s, T: Default> {
    /// None of those that are not kept.
    spares: Option<&'s Spares<T>>,
    thing: T,
}

impl<T: Default> Spares<T> {
    pub(crate) const fn new() -> Spares<T> {
        Spares(Mutex::new(Vec::new()))
    }

    /// One that was kept, or a new one.
    pub(crate) fn take(&self) -> T {
        self.take_by(|things| things.len().checked_sub(1))
    }

    /// The one of those that were kept that `pick` names by its position, or a new one.
    pub(crate) fn take_by(&self, pick: impl FnOnce(&[T]) -> Option<usize>) -> T {
        let mut things = self.lock();
        pick(&things).map(|position| things.swap_remove(position)).unwrap_or_default()
    }

    /// Keeps one; without room for it, it is dropped.
    pub(crate) fn keep(&self, thing: T) {
        let mut things = self.lock();
        if things.try_reserve(1).is_ok() {
            things.push(thing);
        }
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        *self.lock() = Vec::new();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<'s, T: Default> Lease<'s, T> {
    /// A lease of a thing that goes back to some, or is dropped if there are none.
    pub(crate) fn new(spares: Option<&'s Spares<T>>, thing: T) -> Lease<'s, T> {
        Lease { spares, thing }
    }
}

impl<T: Default> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T: Default> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.thing
    }
}

impl<T: Default> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if let Some(spares) = self.spares {
            spares.keep(std::mem::take(&mut self.thing));
        }
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
