//! The machine's peak on some threads at once.

#[path = "../../../benches/common/chains.rs"]
mod chains;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use chains::{Run, available, operations};

/// GFLOP/s of each width: the best of some runs, on so many threads at once.
pub(crate) fn measure(threads: usize, runs: usize) -> Vec<(usize, f64)> {
    available().into_iter().map(|(bits, run)| (bits, threads as f64 * rate(bits, run, threads, runs))).collect()
}

/// The best rate of a thread while all of them work.
fn rate(bits: usize, run: Run, threads: usize, runs: usize) -> f64 {
    let operations = operations(bits) as f64;
    let best = |start: &Barrier| {
        start.wait();
        let times = (0..=runs).map(|_| {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed().as_secs_f64()
        });
        operations / times.fold(f64::INFINITY, f64::min) / 1e9
    };
    let start = Barrier::new(threads);
    if threads == 1 {
        return best(&start);
    }
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| best(&start))).collect();
        let rates = all.into_iter().map(|one| one.join().unwrap_or(0.0));
        rates.sum::<f64>() / threads as f64
    })
}
