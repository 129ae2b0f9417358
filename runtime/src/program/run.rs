//! Runs calls, several at once: threads share the work of all.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

use super::Program;
use super::pool::{CallMemory, Pool, ThreadMemory, of_threads};
use super::prefill::{Cut, Prefill, Trace};
use super::tables;
use crate::batch::Failed;
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{FunctionId, Invocation, Partials, Tasks};
use crate::threads::Threads;
use crate::tile_map::TileMap;
use crate::tiles::Trees;

/// A call whose memory is there.
struct Ready<'r> {
    program: &'r Program,
    call: Invocation<'r>,
    attention: Option<(&'r Prefill, Cut)>,
    trees: &'r mut Trees,
    partials: &'r mut Partials,
}

/// A call whose tasks threads take.
struct Attending<'r> {
    tasks: Tasks<'r>,
    prefill: &'r Prefill,
    cut: &'r Cut,
    trees: &'r Trees,
}

/// Runs calls, whose outputs share no memory with any other tensor of them, and tells the key tiles that the first visited, if wanted.
/// Results are those of calls that run alone, to the bit.
///
/// # Errors
/// [`CallError`] if memory can't be had, with the number of the call. Then nothing was written.
pub(super) fn run<'p, 'b>(
    calls: impl IntoIterator<Item = (&'p Program, Bound<'b>)>,
    (pool, threads): (&Pool, &Threads),
    trace: Option<Trace>,
) -> Result<Option<TileMap>, Failed> {
    let (guard, failed) = (pool.guard(), |error| Box::new(CallError::from(error)));
    let (mut placed, mut leases): (SmallVec<[_; 1]>, SmallVec<[_; 1]>) = (SmallVec::new(), SmallVec::new());
    for (number, (program, bound)) in calls.into_iter().enumerate() {
        let of_call = program.loaded.place(bound, guard).map_err(|error| (number, error.into()))?;
        leases.push(pool.lease(of_call.places()).map_err(|_| (number, of_call.too_large().into()))?);
        placed.push((program, of_call));
    }
    let mut ready: SmallVec<[Ready<'_>; 1]> = SmallVec::new();
    let (mut most, mut scratch) = (0, 0);
    for ((program, placed), lease) in placed.iter_mut().zip(&mut leases) {
        let CallMemory { tables, trees, partials } = &mut **lease;
        let call = program.loaded.call(placed, tables);
        let attention = program.prefill.as_ref().map(|prefill| (prefill, prefill.cut(call.frame(), threads)));
        let parts = program.tables.iter().chain(&program.after).map(|table| tables::parts(&call, *table, threads));
        let tasks = parts.chain(attention.iter().map(|(_, cut)| cut.tasks)).max().unwrap_or(0);
        most = usize::saturating_add(most, tasks);
        scratch = scratch.max(call.scratch_bytes());
        ready.push(Ready { program, call, attention, trees, partials });
    }
    let mut workers = pool.lease_threads();
    let room = (threads.count().min(most), scratch);
    let memories = of_threads(&mut workers, room, guard).map_err(|error| (0, failed(error)))?;
    for (number, ready) in ready.iter_mut().enumerate() {
        if let Some((prefill, cut)) = &ready.attention {
            let reserved = prefill.reserve(ready.call.frame(), cut, (ready.trees, ready.partials), memories);
            reserved.map_err(|error| (number, failed(error)))?;
        }
    }
    // All memory is there: nothing fails from here on, where outputs are written.
    each(
        &mut ready,
        |program| &program.tables,
        (threads, memories),
        |ready| {
            if let Some((prefill, cut)) = &ready.attention {
                prefill.grow(&ready.call, cut, ready.trees);
            }
        },
    );
    for Ready { call, attention, trees, .. } in &mut ready {
        if let Some((prefill, cut)) = attention {
            prefill.measure(call, cut, threads, trees, memories);
        }
    }
    attend(&mut ready, threads, memories, trace.as_ref());
    each(&mut ready, |program| &program.after, (threads, memories), |_| ());
    let first = ready.first().and_then(|ready| Some((ready.attention.as_ref()?.0, ready.call.frame())));
    Ok(first.zip(trace).map(|((prefill, frame), trace)| prefill.map(frame, trace)))
}

/// Makes tables of all calls, and does what comes after those of each. Threads share the turns of large tables, and calls that have none.
fn each<'r>(
    ready: &mut [Ready<'r>],
    functions: impl Fn(&'r Program) -> &'r [FunctionId] + Sync,
    (threads, memories): (&Threads, &mut [ThreadMemory]),
    then: impl Fn(&mut Ready<'r>) + Sync,
) {
    let alone = ready.len() == 1;
    let is_large = |ready: &Ready<'_>, functions: &[FunctionId]| {
        alone || functions.iter().any(|table| tables::parts(&ready.call, *table, threads) > 1)
    };
    for ready in ready.iter_mut() {
        let functions = functions(ready.program);
        if is_large(ready, functions) {
            tables::make(&mut ready.call, functions, threads, memories);
            then(ready);
        }
    }
    if alone {
        return;
    }
    let rest = Mutex::new(ready.iter_mut().filter(|ready| !is_large(ready, functions(ready.program))));
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    threads.run(memories, |memory| {
        while let Some(ready) = next() {
            tables::make(&mut ready.call, functions(ready.program), &Threads::ONE, std::slice::from_mut(memory));
            then(ready);
        }
    });
}

/// Computes the attentions of all calls: the tasks that take longest first, so that threads end together.
fn attend(ready: &mut [Ready<'_>], threads: &Threads, memories: &mut [ThreadMemory], trace: Option<&Trace>) {
    let mut all: SmallVec<[Attending<'_>; 1]> = SmallVec::new();
    for Ready { call, attention, trees, partials, .. } in ready {
        if let Some((prefill, cut)) = attention {
            let tasks = call.tasks(cut.together, partials).expect("a plan with an attention");
            all.push(Attending { tasks, prefill, cut, trees });
        }
    }
    all.sort_by_key(|attending| Reverse(attending.cut.weight));
    let tasks = all.iter().map(|attending| attending.tasks.count()).fold(0, usize::saturating_add);
    let workers = memories.len().min(tasks);
    threads.run(&mut memories[..workers], |memory| {
        for Attending { tasks, prefill, cut, trees } in &all {
            prefill.run(tasks, cut, trees, memory, trace);
        }
    });
}
