//! Pruning: keys that have no weight for any query of a tile.

use rhumb_compiler::intervals::Interval;
use rhumb_compiler::plan::{Plan, Pruning, TensorId};

use super::bounds::Bounds;
use super::{Classifier, ClassifyScratch, Queries, Segment, Trees, UNIT, push};
use crate::memory::Frame;

/// The scores of the query tile that leaves are fixed for.
struct Scores<'s> {
    classifier: &'s Classifier,
    bounds: &'s Bounds,
    trees: &'s Trees,
    /// The number of keys.
    keys: usize,
}

impl Classifier {
    /// Whether any weights may vanish at the outer indices that `row` gives the row of a table at: without a product, scores there differ by
    /// enough. To be called after [`Classifier::build`].
    pub(crate) fn may_prune(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &Trees,
        memory: &mut ClassifyScratch,
        row: impl Fn(TensorId) -> usize,
    ) -> bool {
        let Some((scores, top)) = self.scores(frame, trees) else { return false };
        memory.rows.clear();
        memory.rows.extend(self.leaves[..self.of_score].iter().map(|leaf| row(leaf.table)));
        self.fix(plan, frame, (0, frame.length(self.query)), memory);
        let (all, _) = scores.of(memory, (top, 0), 0.0);
        all.nan || all.hi - all.lo > Pruning::BELOW
    }

    /// A key that scores of a query tile are greatest at but for the product, in a segment from `start` on that all its vectors see; none if
    /// there is none, or if no weights of the plan vanish. To be called after [`Classifier::segments`].
    pub(crate) fn seed_key(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &Trees,
        queries: Queries,
        (memory, start): (&mut ClassifyScratch, usize),
        row: impl Fn(TensorId) -> usize,
    ) -> Option<usize> {
        let (scores, top) = self.scores(frame, trees)?;
        let columns = queries.columns();
        self.fix_all(plan, frame, queries, memory, row);
        let mut at = (top, 0);
        scores.seen(memory, (start, columns), at)?;
        loop {
            let mut best = None;
            for part in scores.parts(at) {
                if scores.seen(memory, (start, columns), part).is_some() {
                    let greatest = scores.of(memory, part, 0.0).0.hi;
                    if best.is_none_or(|(_, most)| greatest > most) {
                        best = Some((part, greatest));
                    }
                }
            }
            match best {
                Some((part, _)) => at = part,
                None => return scores.seen(memory, (start, columns), at),
            }
        }
    }

    /// Takes whole tiles out of the segments from `start` on where the scores of all queries are below `limit`, and with them the weights 0.
    /// `squares` are squared norms of the queries. To be called where [`Classifier::may_prune`] says so.
    #[expect(clippy::too_many_arguments, reason = "what a query tile is classified by")]
    pub(crate) fn prune(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        trees: &Trees,
        queries: Queries,
        memory: &mut ClassifyScratch,
        (start, squares, limit): (usize, &[f32], f64),
        row: impl Fn(TensorId) -> usize,
    ) {
        let Some((scores, top)) = self.scores(frame, trees) else { return };
        self.fix_all(plan, frame, queries, memory, row);
        let norm = scores.bounds.norm(Interval::around(squares.iter().copied().map(f64::from)));
        memory.dropped.clear();
        scores.drop_below(memory, (norm, limit), (top, 0));
        if !memory.dropped.is_empty() {
            cut(memory, start);
        }
    }

    /// Sets the rows of all leaves, and the intervals of those that do not vary along keys.
    fn fix_all(
        &self,
        plan: &Plan,
        frame: &Frame<'_, '_>,
        queries: Queries,
        memory: &mut ClassifyScratch,
        row: impl Fn(TensorId) -> usize,
    ) {
        memory.rows.clear();
        memory.rows.extend(self.leaves.iter().map(|leaf| row(leaf.table)));
        self.fix(plan, frame, queries.positions((0, queries.columns())), memory);
    }

    /// The scores of this plan, and the level of the trees' root.
    fn scores<'s>(&'s self, frame: &Frame<'_, '_>, trees: &'s Trees) -> Option<(Scores<'s>, usize)> {
        let top = trees.levels.len().checked_sub(1)?;
        let bounds = self.pruning.as_ref()?;
        Some((Scores { classifier: self, bounds, trees, keys: frame.length(self.key) }, top))
    }
}

impl Scores<'_> {
    /// Keys of a node.
    fn span(&self, (level, node): (usize, usize)) -> (usize, usize) {
        let keys = UNIT << level;
        (node * keys, ((node + 1) * keys).min(self.keys))
    }

    /// The nodes that a node is made of, later keys first: two, one for the last of an odd number, none for a leaf.
    fn parts(&self, (level, node): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
        let below = level.checked_sub(1).map(|below| (below, self.trees.levels[below].1));
        below.into_iter().flat_map(move |(below, width)| {
            (0..2).rev().map(move |part| (below, 2 * node + part)).filter(move |(_, part)| *part < width)
        })
    }

    /// The first key of a node that is in a segment from `start` on with this many vectors of queries.
    fn seen(&self, memory: &ClassifyScratch, (start, columns): (usize, usize), at: (usize, usize)) -> Option<usize> {
        let (first, end) = self.span(at);
        let seen = |segment: &&Segment| {
            segment.first < end && first < segment.end && segment.columns.1 - segment.columns.0 == columns
        };
        memory.segments[start..].iter().find(seen).map(|segment| first.max(segment.first))
    }

    fn leaf(&self, memory: &ClassifyScratch, at: (usize, usize), table: TensorId) -> Interval {
        self.classifier.leaf(self.trees, (&memory.fixed, &memory.rows), at, table)
    }

    /// The interval of a node's scores, where products are no greater than this in magnitude, and how far rounding may leave it.
    fn of(&self, memory: &mut ClassifyScratch, at: (usize, usize), product: f64) -> (Interval, f64) {
        let products = if product.is_finite() { Interval::new(-product, product) } else { Interval::ANY };
        let mut steps = std::mem::take(&mut memory.steps);
        let scores = self.bounds.score.bounds(&mut steps, products, |table| self.leaf(memory, at, table));
        memory.steps = steps;
        scores
    }

    /// Notes the ranges of keys with all scores below `limit`, the last first; `norm` is the queries' greatest.
    fn drop_below(&self, memory: &mut ClassifyScratch, (norm, limit): (f64, f64), at: (usize, usize)) {
        let product = self.bounds.tables.keys.map_or(0.0, |keys| norm * self.bounds.norm(self.leaf(memory, at, keys)));
        let (scores, room) = self.of(memory, at, product);
        let values = self.bounds.tables.values.map(|values| self.leaf(memory, at, values));
        let finite = values.is_none_or(|squares| !squares.nan && squares.hi.is_finite());
        if scores.hi + room < limit && !scores.nan && finite {
            let (first, end) = self.span(at);
            match memory.dropped.last_mut() {
                Some(last) if last.0 == end => last.0 = first,
                _ => memory.dropped.push((first, end)),
            }
        } else if scores.lo < limit + room || scores.nan || !finite {
            for part in self.parts(at) {
                self.drop_below(memory, (norm, limit), part);
            }
        }
    }
}

/// Takes the dropped keys, the last first, out of the segments from `start` on, as far as they are whole tiles.
fn cut(memory: &mut ClassifyScratch, start: usize) {
    let ClassifyScratch { kept, dropped, segments, .. } = memory;
    kept.clear();
    kept.extend(segments.drain(start..));
    for segment in kept.iter() {
        let mut first = segment.first;
        for &(from, to) in dropped.iter().rev().filter(|(from, to)| *from < segment.end && segment.first < *to) {
            let (from, to) = segment.tiles.within((from, to));
            let (from, to) = (from.max(segment.first), to.min(segment.end));
            if from < to {
                if first < from {
                    push(segments, start, Segment { first, end: from, ..*segment });
                }
                first = to;
            }
        }
        if first < segment.end {
            push(segments, start, Segment { first, ..*segment });
        }
    }
}
