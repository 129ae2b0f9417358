//! Random cases on all cores, by seeds.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What became of the cases of a test.
pub(crate) struct Found<T> {
    /// What each case that ran to the end gave, by seed.
    pub(crate) cases: Vec<(u64, T)>,
    /// What went wrong, each with its seed.
    pub(crate) wrong: Vec<(u64, String)>,
}

/// Runs a case for each seed, on as many threads as there are cores. What is wrong with a case it tells, or panics with.
pub(crate) fn each_seed<T: Send>(seeds: Range<u64>, case: impl Fn(u64, &mut Vec<String>) -> T + Sync) -> Found<T> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new((Vec::new(), Vec::new())));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let mut wrong = Vec::new();
            let made = catch_unwind(AssertUnwindSafe(|| case(seed, &mut wrong)));
            let mut found = found.lock().expect("no panic while it is held");
            match made {
                Ok(made) => found.0.push((seed, made)),
                Err(panic) => wrong.push(message(&*panic)),
            }
            found.1.extend(wrong.into_iter().map(|wrong| (seed, wrong)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    let (mut cases, mut wrong) = found.into_inner().expect("no panic while it is held");
    cases.sort_by_key(|(seed, _)| *seed);
    wrong.sort();
    Found { cases, wrong }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panics: {}", text.unwrap_or("?"))
}

impl<T> Found<T> {
    /// Panics if anything was wrong, with what replays each case. `test` is the file and the name of the test.
    pub(crate) fn check(&self, (file, test): (&str, &str)) {
        const MOST: usize = 25;
        if self.wrong.is_empty() {
            return;
        }
        let mut seeds: Vec<u64> = self.wrong.iter().map(|(seed, _)| *seed).collect();
        seeds.dedup();
        // Of each seed the first: the others come of the same.
        let mut wrong = self.wrong.clone();
        wrong.dedup_by_key(|(seed, _)| *seed);
        let lines = wrong.iter().take(MOST).map(|(seed, wrong)| {
            format!("RHUMB_SEED={seed} RHUMB_CASES=1 cargo test --test {file} {test}\n    {wrong}")
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        panic!("{} of {} seeds: {seeds:?}\n{lines}", seeds.len(), self.cases.len().max(seeds.len()));
    }
}
