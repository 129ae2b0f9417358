//! Runs calls, several at once: threads share the work of all.

use std::cmp::Reverse;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

use super::Program;
use super::pool::{CallMemory, Pool, ThreadMemory, of_threads};
use super::prefill::{Cut, Prefill, Trace};
use super::tables;
use crate::batch::Failed;
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::{FunctionId, Invocation, Partials, Placed, Tasks, places_of};
use crate::recycle::{Lease, Spares, recycled};
use crate::threads::Threads;
use crate::tile_map::TileMap;
use crate::tiles::Trees;

/// Fewer pairs of a query and a key than this are not worth another thread.
const SHARED_PAIRS: usize = 1 << 13;

/// Queries of a call, from and to, or to the last, and the kernel that computes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'p> {
    pub(super) program: &'p Program,
    pub(super) queries: (usize, Option<usize>),
}

/// The parts of a call: one, as a rule.
pub(super) type Parts<'p> = SmallVec<[Part<'p>; 2]>;

/// A part of a call that has its places.
struct Place<'p, 'b> {
    /// The number of the call.
    number: usize,
    program: &'p Program,
    placed: Placed<'p, 'b>,
}

/// A part of a call whose memory is there.
struct Ready<'r> {
    /// The number of the call.
    number: usize,
    program: &'r Program,
    call: Invocation<'r>,
    attention: Option<(&'r Prefill, Cut)>,
    trees: &'r mut Trees,
    partials: &'r mut Partials,
}

/// A call whose tasks threads take.
struct Attending<'r> {
    number: usize,
    tasks: Tasks<'r>,
    prefill: &'r Prefill,
    cut: &'r Cut,
    trees: &'r Trees,
}

/// The lists of calls that run together, empty between them.
#[derive(Default)]
pub(super) struct Lists {
    placed: Vec<Place<'static, 'static>>,
    leases: Vec<Lease<'static, CallMemory>>,
    works: Works,
}

/// Lists of calls whose memory is there.
#[derive(Default)]
struct Works {
    ready: Vec<Ready<'static>>,
    attending: Vec<Attending<'static>>,
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lists({} calls)", self.placed.capacity())
    }
}

/// Runs calls, whose outputs share no memory with any other tensor of them, and tells the key tiles that the first visited, if wanted.
/// Results are those of calls that run alone, to the bit.
///
/// # Errors
/// [`CallError`] if memory can't be had, with the number of the call. Then nothing was written.
pub(super) fn run<'p, 'b: 'p>(
    calls: impl IntoIterator<Item = (Parts<'p>, &'p mut Bound<'b>)>,
    (pool, spares, threads): (&'p Pool, &Spares<Lists>, &Threads),
    trace: Option<Trace>,
) -> Result<Option<TileMap>, Failed> {
    let Lists { placed, leases, mut works } = spares.take();
    let (mut placed, mut leases): (Vec<Place<'_, '_>>, Vec<Lease<'_, CallMemory>>) =
        (recycled(placed), recycled(leases));
    let done = place(calls, pool, (&mut placed, &mut leases))
        .and_then(|()| run_placed((&mut placed, &mut leases), (pool, threads), &mut works, trace));
    spares.keep(Lists { placed: recycled(placed), leases: recycled(leases), works });
    done
}

/// Gives the tables of calls their places, and memory.
fn place<'p, 'b: 'p>(
    calls: impl IntoIterator<Item = (Parts<'p>, &'p mut Bound<'b>)>,
    pool: &'p Pool,
    (places, leases): (&mut Vec<Place<'p, 'b>>, &mut Vec<Lease<'p, CallMemory>>),
) -> Result<(), Failed> {
    for (number, (parts, bound)) in calls.into_iter().enumerate() {
        let plans = parts.iter().map(|Part { program, queries }| (&program.loaded, *queries));
        for (part, placed) in parts.iter().zip(places_of(bound, plans, pool.guard())) {
            let placed = placed.map_err(|error| (number, error.into()))?;
            leases.push(pool.lease(placed.places()).map_err(|_| (number, placed.too_large().into()))?);
            places.push(Place { number, program: part.program, placed });
        }
    }
    Ok(())
}

fn run_placed(
    (places, leases): (&mut [Place<'_, '_>], &mut [Lease<'_, CallMemory>]),
    (pool, threads): (&Pool, &Threads),
    works: &mut Works,
    trace: Option<Trace>,
) -> Result<Option<TileMap>, Failed> {
    let failed = |error| Box::new(CallError::from(error));
    let mut ready: Vec<Ready<'_>> = recycled(std::mem::take(&mut works.ready));
    let (mut most, mut scratch) = (0, 0);
    for (Place { number, program, placed }, lease) in places.iter_mut().zip(leases) {
        let CallMemory { tables, words, trees, partials } = &mut **lease;
        let call = program.loaded.call(placed, (tables, words));
        let attention = program.prefill.as_ref().map(|prefill| (prefill, prefill.cut(call.frame(), threads)));
        let parts = program.tables.iter().chain(&program.after).map(|table| tables::parts(&call, *table, threads));
        let tasks = parts.chain(attention.iter().map(|(_, cut)| cut.tasks)).max().unwrap_or(0);
        most = usize::saturating_add(most, tasks);
        scratch = scratch.max(call.scratch_bytes());
        ready.push(Ready { number: *number, program, call, attention, trees, partials });
    }
    let mut workers = pool.lease_threads();
    let room = (threads.count().min(most), scratch);
    let memories = of_threads(&mut workers, room, pool.guard()).map_err(|error| (0, failed(error)))?;
    for ready in &mut ready {
        if let Some((prefill, cut)) = &ready.attention {
            let reserved = prefill.reserve(ready.call.frame(), cut, (ready.trees, ready.partials), memories);
            reserved.map_err(|error| (ready.number, failed(error)))?;
        }
    }
    // All memory is there: nothing fails from here on, where outputs are written.
    let grow = |ready: &mut Ready<'_>| {
        if let Some((prefill, cut)) = &ready.attention {
            prefill.grow(&ready.call, cut, ready.trees);
        }
    };
    each(&mut ready, |program| &program.tables, (threads, memories), grow);
    for Ready { call, attention, trees, .. } in &mut ready {
        if let Some((prefill, cut)) = attention {
            prefill.measure(call, cut, threads, trees, memories);
        }
    }
    attend(&mut ready, (threads, memories), &mut works.attending, trace.as_ref());
    each(&mut ready, |program| &program.after, (threads, memories), |_| ());
    let first = ready.first().and_then(|ready| Some((ready.attention.as_ref()?.0, ready.call.frame())));
    let map = first.zip(trace).map(|((prefill, frame), trace)| prefill.map(frame, trace));
    works.ready = recycled(ready);
    Ok(map)
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
    // Calls that are small all together are not worth another thread.
    let elements = |table: &FunctionId, call: &Invocation<'_>| {
        let (turns, elements) = call.turns(*table);
        turns.saturating_mul(elements)
    };
    let of_call = |ready: &Ready<'r>| {
        functions(ready.program).iter().map(|table| elements(table, &ready.call)).fold(0, usize::saturating_add)
    };
    let all = ready.iter().map(of_call).fold(0, usize::saturating_add);
    let workers = if all < tables::SHARED_ELEMENTS { memories.len().min(1) } else { memories.len() };
    let memories = &mut memories[..workers];
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
fn attend(
    ready: &mut [Ready<'_>],
    (threads, memories): (&Threads, &mut [ThreadMemory]),
    kept: &mut Vec<Attending<'static>>,
    trace: Option<&Trace>,
) {
    let mut all: Vec<Attending<'_>> = recycled(std::mem::take(kept));
    let read_bytes = ready.iter().map(|ready| ready.call.read_bytes()).fold(0, usize::saturating_add);
    for (number, Ready { call, attention, trees, partials, .. }) in ready.iter_mut().enumerate() {
        if let Some((prefill, cut)) = attention {
            let tasks = call.tasks(cut.together, partials, read_bytes).expect("a plan with an attention");
            all.push(Attending { number, tasks, prefill, cut, trees });
        }
    }
    all.sort_unstable_by_key(|attending| (Reverse(attending.cut.weight), attending.number));
    let tasks = all.iter().map(|attending| attending.tasks.count()).fold(0, usize::saturating_add);
    let pairs = all.iter().map(|attending| attending.cut.weight.saturating_mul(attending.tasks.count()));
    let pairs = pairs.fold(0, usize::saturating_add);
    let workers = memories.len().min(if pairs < SHARED_PAIRS { 1 } else { tasks });
    threads.run(&mut memories[..workers], |memory| {
        for Attending { tasks, prefill, cut, trees, .. } in &all {
            prefill.run(tasks, cut, trees, memory, trace);
        }
    });
    *kept = recycled(all);
}
