//! The tables of a call.

use super::pool::ThreadMemory;
use crate::memory::{FunctionId, Invocation, TableTurns};
use crate::threads::Threads;

/// Fewer elements than this of a table are not worth another thread.
pub(super) const SHARED_ELEMENTS: usize = 1 << 14;

/// Parts of a table that threads take.
pub(super) fn parts(call: &Invocation<'_>, function: FunctionId, threads: &Threads) -> usize {
    let (turns, elements) = call.turns(function);
    (turns.saturating_mul(elements) / SHARED_ELEMENTS).clamp(1, 4 * threads.count()).min(turns)
}

/// Makes tables, one after the other: each may read those before it.
pub(super) fn make(
    call: &mut Invocation<'_>,
    functions: &[FunctionId],
    threads: &Threads,
    memories: &mut [ThreadMemory],
) {
    for &function in functions {
        let parts = parts(call, function, threads);
        run(&call.make(function, parts), parts, threads, memories);
    }
}

/// Runs the turns of a table, in this many parts.
pub(super) fn run(turns: &TableTurns<'_>, parts: usize, threads: &Threads, memories: &mut [ThreadMemory]) {
    let workers = memories.len().min(parts);
    threads.run(&mut memories[..workers], |memory| while turns.run(&mut memory.scratch) {});
}
