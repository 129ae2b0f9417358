//! Random numbers: the same for a seed on every machine. rhumb's tests draw from them, its kit for schemes, and its command.
//!
//! ```
//! use rhumb_random::Rng;
//!
//! let numbers = Rng::new(7).normals(3);
//! assert_eq!(numbers, Rng::new(7).normals(3));
//! ```
//!
//! Tests of random cases count seeds upwards and make each case from one seed. Two environment variables choose them for all tests:
//!
//! - `RHUMB_SEED`: the first seed, in place of the test's own.
//! - `RHUMB_CASES`: the number of cases, in place of the test's own.
//!
//! A failure prints the seed of its case, which `RHUMB_SEED=seed RHUMB_CASES=1` replays.

use std::env;
use std::f64::consts::TAU;
use std::ops::Range;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};

/// The seeds of a test's cases: from `RHUMB_SEED` or `first`, as many as `RHUMB_CASES` or `cases` says.
///
/// # Panics
/// If one of the variables is no whole number: a test must not pass on other cases than were asked for.
#[must_use]
pub fn seeds(first: u64, cases: u64) -> Range<u64> {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not `{text}`")),
        Err(_) => default,
    };
    let first = number("RHUMB_SEED", first);
    first..first.saturating_add(number("RHUMB_CASES", cases))
}

/// A generator of random numbers: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(SplitMix64);

impl Rng {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(SplitMix64::seed_from_u64(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.bits() % count as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of some, which are not none.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// The same things in a random order.
    #[must_use]
    pub fn shuffled<T>(&mut self, mut things: Vec<T>) -> Vec<T> {
        for left in (2..=things.len()).rev() {
            things.swap(left - 1, self.below(left));
        }
        things
    }

    /// From 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (radius * (TAU * self.unit()).cos()) as f32
    }

    /// Numbers of mean 0 and variance 1.
    #[must_use]
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    /// Seeds in reports and in `.ci/run` must mean the same cases for good.
    #[test]
    fn numbers_of_a_seed_are_fixed() {
        let mut rng = Rng::new(0);
        assert_eq!(
            [rng.bits(), rng.bits(), rng.bits()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
        );
    }

    #[test]
    fn shuffling_keeps_all_and_reaches_every_order() {
        let mut rng = Rng::new(1);
        let mut orders: Vec<Vec<u8>> = (0..200).map(|_| rng.shuffled(vec![1, 2, 3])).collect();
        orders.sort_unstable();
        orders.dedup();
        assert_eq!(orders, [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]]);
    }
}
