//! The class of a range of keys, for a query tile at one outer index.

use rhumb_compiler::intervals::{Interval, MaskProgram, TileClass};
use rhumb_compiler::plan::{Attention, Plan, TensorId};
use rhumb_ir::Axis;

use super::bounds::Bounds;
use super::lists::{Lists, Room};
use super::segment::{Segment, UNIT};
use super::tree::{Along, Leaf, Leaves, Trees, elements, range};
use crate::memory::{Frame, OutOfMemory, Outer};

/// The queries of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries {
    /// First and end, counted with the heads that are packed.
    pub(crate) range: (usize, usize),
    /// Queries for each position.
    pub(crate) heads: usize,
    /// Queries of a vector.
    pub(crate) lanes: usize,
}

impl Queries {
    pub(crate) fn columns(&self) -> usize {
        (self.range.1 - self.range.0).div_ceil(self.lanes)
    }

    /// The positions of some vectors of queries: first and end.
    pub(crate) fn positions(&self, (from, to): (usize, usize)) -> (usize, usize) {
        let query = |column: usize| (self.range.0 + column * self.lanes).min(self.range.1);
        (query(from) / self.heads, query(to).div_ceil(self.heads))
    }
}

/// The mask of a plan and the shapes of its leaves: made once per kernel.
#[derive(Debug)]
pub(crate) struct Classifier {
    pub(super) program: MaskProgram,
    pub(super) leaves: Leaves,
    pub(super) pruning: Option<Bounds>,
    pub(super) key: Axis,
    pub(super) query: Axis,
    /// The most keys of a key tile.
    pub(super) most: usize,
    /// Whether key tiles lie on a grid.
    pub(super) on_grid: bool,
    /// Steps of the mask or the score, whichever has more.
    steps: usize,
}

impl Classifier {
    pub(crate) fn new(plan: &Plan, attention: &Attention) -> Classifier {
        let program = MaskProgram::new(plan, attention);
        let pruning = Bounds::new(plan, attention);
        let of_score = pruning.iter().flat_map(Bounds::leaves);
        let squares = pruning.iter().flat_map(Bounds::squares);
        let leaves = Leaves::new(plan, attention, program.leaves(), of_score, squares);
        let mut steps = Vec::new();
        program.classify(&mut steps, |_| Interval::ANY);
        let of_mask = steps.len();
        steps.clear();
        if let Some(bounds) = &pruning {
            bounds.score.bounds(&mut steps, Interval::ANY, |_| Interval::ANY);
        }
        let steps = of_mask.max(steps.len());
        let (&Attention { key, query, .. }, on_grid) = (attention, plan.tiles_on_grid());
        Classifier { program, leaves, pruning, key, query, most: plan.tiling.keys, on_grid, steps }
    }

    /// How long the lists of a thread become at most, for tasks of this many query tiles.
    ///
    /// The segments of a query tile are runs of whole units that do not meet, and end as runs of whole cells where there is a grid;
    /// tiles that are taken out and keys that are dropped leave such runs too. While one more query tile is classified, or one is again,
    /// its segments stand behind those of all others.
    pub(crate) fn room(&self, frame: &Frame<'_>, (query_tiles, pruning): (usize, bool)) -> Room {
        let keys = frame.length(self.key);
        let units = if self.program.is_empty() && !pruning { 1 } else { keys.div_ceil(UNIT) };
        let segments = if self.on_grid { keys.div_ceil(self.most).min(units) } else { units };
        Room {
            steps: self.steps,
            leaves: self.leaves.all().len(),
            kept: units,
            dropped: if pruning { units.div_ceil(2) } else { 0 },
            segments: query_tiles.saturating_mul(segments).saturating_add(units),
        }
    }

    /// Makes room for the trees of a call, so that nothing fails while they grow; `pruning` says whether it looks for keys without weight,
    /// at this many outer indices.
    pub(crate) fn reserve(
        &self,
        frame: &Frame<'_>,
        trees: &mut Trees,
        (pruning, outer): (bool, usize),
    ) -> Result<(), OutOfMemory> {
        self.leaves.reserve(frame, trees, (pruning, outer))
    }

    /// Fills the trees from the tables of a call: of the mask, and if wanted of the score.
    pub(crate) fn grow(&self, frame: &Frame<'_>, trees: &mut Trees, score: bool) {
        self.leaves.grow(frame, trees, score);
    }

    /// Fills the trees of the rows of a table that `trees` tells; its others are left empty.
    pub(crate) fn grow_rows(&self, frame: &Frame<'_>, trees: &mut Trees, table: TensorId) {
        self.leaves.grow_rows(frame, trees, table);
    }
}

/// The classes of key tiles at one outer index of a call.
#[derive(Clone, Copy)]
pub(crate) struct Classes<'t> {
    pub(crate) classifier: &'t Classifier,
    pub(crate) frame: &'t Frame<'t>,
    pub(crate) trees: &'t Trees,
    pub(crate) outer: &'t Outer<'t>,
    /// The keys that segments are found of, from and to: whole units, but for the last of all.
    pub(crate) keys: (usize, usize),
}

impl Classes<'_> {
    /// The greatest key term of the segments that every query of a tile sees whole, `-inf` without such. Not NaN.
    pub(crate) fn greatest_key_term(&self, segments: &[Segment]) -> f32 {
        self.classifier.leaves.greatest_key_term(self.trees, segments, self.outer)
    }

    /// Whether what the lists have found last, of the same queries and keys of this call, is what is seen here as well.
    pub(crate) fn are_of(&self, lists: &Lists) -> bool {
        let rows = self.classifier.leaves.of_mask().iter().map(|leaf| self.outer.row(leaf.table));
        rows.eq(lists.rows.iter().copied())
    }

    /// Sets the rows of some leaves, the first of all.
    pub(super) fn set_rows(&self, leaves: &[Leaf], lists: &mut Lists) {
        lists.rows.clear();
        lists.rows.extend(leaves.iter().map(|leaf| self.outer.row(leaf.table)));
    }

    /// Sets the intervals of the leaves whose rows are set, but for those along keys, for queries at some positions.
    pub(super) fn fix(&self, (first, end): (usize, usize), lists: &mut Lists) {
        let (frame, queries) = (self.frame, self.frame.length(self.classifier.query));
        let Lists { fixed, rows, .. } = lists;
        fixed.clear();
        fixed.extend(self.classifier.leaves.all().iter().zip(rows).map(|(leaf, &mut row)| match leaf.along {
            Along::Keys(_) | Along::Unknown => Interval::ANY,
            Along::Queries(each) => {
                let (start, (first, end)) = (row * (queries / each), elements((first, end), each));
                range(frame, leaf.table, start + first, start + end)
            }
            Along::Neither => range(frame, leaf.table, row, row + 1),
        }));
    }

    /// The interval of a leaf over a node of the trees, for the queries that leaves are fixed for.
    #[inline]
    pub(super) fn leaf(&self, (fixed, rows): (&[Interval], &[usize]), at: (usize, usize), table: TensorId) -> Interval {
        let Some(position) = self.classifier.leaves.position(table) else { return Interval::ANY };
        let leaf = self.classifier.leaves.all()[position];
        match leaf.along {
            Along::Keys(_) => self.trees.node(leaf, rows[position], at),
            _ => fixed[position],
        }
    }

    /// The class of a node of the trees, for the queries that leaves are fixed for.
    #[inline]
    pub(super) fn class(&self, lists: &mut Lists, at: (usize, usize)) -> TileClass {
        let Lists { steps, fixed, rows, .. } = lists;
        self.classifier.program.classify(steps, |table| self.leaf((fixed, rows), at, table))
    }
}
