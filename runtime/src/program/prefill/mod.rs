//! An attention: queries are cut into tiles and these into tasks, which threads take.

mod add;
mod join;
mod lists;
mod prune;
mod reference;
mod skip;
mod task;
mod trace;

use rhumb_compiler::plan::{Attention, Plan, Pruning};

use super::functions::TileFunctions;
use super::pool::ThreadMemory;
use crate::memory::{Frame, Invocation, OutOfMemory, Outer, Partials, Tasks, chunks, query_tiles};
use crate::threads::Threads;
use crate::tile_map::TileMap;
use crate::tiles::{Classes, Classifier, Trees};
pub(super) use lists::TaskLists;
use task::Task;
pub(super) use trace::Trace;

/// Tasks for each thread, if there are enough query tiles.
const TASKS_PER_THREAD: usize = 8;

/// The attention of a plan.
#[derive(Debug)]
pub(super) struct Prefill {
    attention: Attention,
    functions: TileFunctions,
    classifier: Classifier,
    /// Whether scores are bounded by norms of rows and key terms.
    bounded: bool,
}

/// How a call is cut into tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Whether it looks for keys without weight.
    pruning: bool,
    /// Outer indices.
    outer: usize,
    /// Query tiles of a task.
    pub(super) together: usize,
    /// Pairs of a query and a key of a task, about.
    pub(super) weight: usize,
    /// Tasks.
    pub(super) tasks: usize,
}

impl Prefill {
    pub(super) fn new(plan: &Plan, attention: Attention, functions: TileFunctions) -> Prefill {
        let (classifier, bounded) = (Classifier::new(plan, &attention), skip::is_bounded(plan, &attention));
        Prefill { classifier, bounded, attention, functions }
    }

    /// How a call is cut.
    pub(super) fn cut(&self, frame: &Frame<'_>, threads: &Threads) -> Cut {
        let attention = &self.attention;
        let ((first, end), keys) = (frame.queries(), frame.length(attention.key));
        let queries = end - first;
        let pruning = attention.pruning.is_some() && queries >= Pruning::QUERIES && keys >= Pruning::KEYS;
        let (query_tiles, outer) = (query_tiles(attention, frame), Outer::count(attention, frame));
        let most = frame.plan().tiling.query_tiles_per_task;
        let together = match threads.count() {
            1 => most,
            // Enough tasks that threads end together.
            count => (query_tiles.saturating_mul(outer) / (TASKS_PER_THREAD * count)).clamp(1, most),
        };
        let tasks = outer.saturating_mul(query_tiles.div_ceil(together)).saturating_mul(chunks(attention, frame));
        let rows =
            queries.saturating_mul(attention.queries_per_position()).min(together * frame.plan().tiling.queries());
        let weight = rows.saturating_mul(keys / chunks(attention, frame));
        Cut { pruning, outer, together, weight, tasks }
    }

    /// Makes room for all that a call lists.
    pub(super) fn reserve(
        &self,
        frame: &Frame<'_>,
        cut: &Cut,
        (trees, partials): (&mut Trees, &mut Partials),
        memories: &mut [ThreadMemory],
    ) -> Result<(), OutOfMemory> {
        let query_tiles = query_tiles(&self.attention, frame).min(cut.together);
        let room = self.classifier.room(frame, (query_tiles, cut.pruning));
        for memory in memories {
            memory.lists.reserve(room, query_tiles)?;
        }
        partials.reserve(&self.attention, frame)?;
        self.classifier.reserve(frame, trees, (cut.pruning, cut.outer))
    }

    /// What a traced call noted.
    pub(super) fn map(&self, frame: &Frame<'_>, trace: Trace) -> TileMap {
        trace.map(&self.attention, frame)
    }

    /// Fills the trees of a call whose tables are made. To be called after [`Prefill::reserve`].
    pub(super) fn grow(&self, call: &Invocation<'_>, cut: &Cut, trees: &mut Trees) {
        self.classifier.grow(call.frame(), trees, cut.pruning);
    }

    /// Computes tasks of a call until none is left, and notes the tiles that they visit if wanted. To be called when trees are filled and
    /// norms measured.
    pub(super) fn run(
        &self,
        tasks: &Tasks<'_>,
        cut: &Cut,
        trees: &Trees,
        memory: &mut ThreadMemory,
        trace: Option<&Trace>,
    ) {
        // What other calls saw is not what this one does.
        memory.lists.clear();
        while let Some((outer, mut tiles)) = tasks.take(&mut memory.scratch) {
            let (number, keys) = (tiles.number(), tiles.keys());
            let classes = Classes { classifier: &self.classifier, frame: tasks.frame(), trees, outer: &outer, keys };
            let pruning = cut.pruning && trees.can_prune[number];
            let (attention, functions) = (&self.attention, &self.functions);
            let (lists, tiles, trace) = (&mut memory.lists, &mut tiles, trace.map(|trace| (trace, number)));
            let (bounded, in_vain, scanned) = (self.bounded, 0, None);
            // In decode a scan would take a good part of the time: a task runs again where a sum came to NaN.
            let careful = !classes.frame.plan().schedule.is_for_few_queries();
            Task { attention, functions, classes, tiles, lists, bounded, pruning, in_vain, scanned, careful, trace }
                .run();
        }
    }
}
