//! Pruning: keys that have no weight for any query of a tile.

use rhumb_compiler::intervals::Interval;
use rhumb_compiler::plan::{Pruning, TensorId};

use super::bounds::Bounds;
use super::classify::{Classes, Queries};
use super::lists::Lists;
use super::segment::{Segment, UNIT, push};

/// The scores of the query tile that leaves are fixed for.
struct Scores<'s> {
    classes: &'s Classes<'s>,
    bounds: &'s Bounds,
    /// The number of keys.
    keys: usize,
    /// The level of the trees' root.
    top: usize,
}

impl Classes<'_> {
    /// Whether any weights may vanish here: without a product, scores differ by enough.
    pub(crate) fn may_prune(&self, lists: &mut Lists) -> bool {
        let Some(scores) = self.scores() else { return false };
        self.set_rows(self.classifier.leaves.of_score(), lists);
        self.fix((0, self.frame.length(self.classifier.query)), lists);
        let (all, _) = scores.of(lists, (scores.top, 0), 0.0);
        all.nan || all.hi - all.lo > Pruning::BELOW
    }

    /// A key that scores of a query tile are greatest at but for the product, in a segment from `start` on that all its vectors see; none if
    /// there is none, or if no weights of the plan vanish. To be called after [`Classes::segments`].
    pub(crate) fn seed_key(&self, queries: Queries, lists: &mut Lists, start: usize) -> Option<usize> {
        let scores = self.scores()?;
        let columns = queries.columns();
        self.fix_all(queries, lists);
        let mut at = (scores.top, 0);
        scores.seen(lists, (start, columns), at)?;
        loop {
            let mut best = None;
            for part in scores.parts(at) {
                if scores.seen(lists, (start, columns), part).is_some() {
                    let greatest = scores.of(lists, part, 0.0).0.hi;
                    if best.is_none_or(|(_, most)| greatest > most) {
                        best = Some((part, greatest));
                    }
                }
            }
            match best {
                Some((part, _)) => at = part,
                None => return scores.seen(lists, (start, columns), at),
            }
        }
    }

    /// Takes whole tiles out of the segments from `start` on where the scores of all queries are below `limit`, and with them the weights 0.
    /// `squares` are squared norms of the queries. To be called where [`Classes::may_prune`] says so.
    /// Gives how many nodes were looked at in vain: none where a key was left out.
    pub(crate) fn prune(
        &self,
        queries: Queries,
        lists: &mut Lists,
        start: usize,
        (squares, limit): (&[f32], f64),
    ) -> usize {
        let Some(scores) = self.scores() else { return 0 };
        self.fix_all(queries, lists);
        let norm = scores.bounds.norm(Interval::around(squares.iter().copied().map(f64::from)));
        lists.dropped.clear();
        lists.visited = 0;
        scores.drop_below(lists, start, (norm, limit), (scores.top, 0));
        if !lists.dropped.is_empty() && cut(lists, start) { 0 } else { lists.visited }
    }

    /// Sets the rows of all leaves, and the intervals of those that do not vary along keys.
    fn fix_all(&self, queries: Queries, lists: &mut Lists) {
        self.set_rows(self.classifier.leaves.all(), lists);
        self.fix(queries.positions((0, queries.columns())), lists);
    }

    /// The scores of this plan, where it prunes and there are keys.
    fn scores(&self) -> Option<Scores<'_>> {
        let top = self.trees.top()?;
        let bounds = self.classifier.pruning.as_ref()?;
        Some(Scores { classes: self, bounds, keys: self.frame.length(self.classifier.key), top })
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
        let below = level.checked_sub(1).map(|below| (below, self.classes.trees.width(below)));
        below.into_iter().flat_map(move |(below, width)| {
            (0..2).rev().map(move |part| (below, 2 * node + part)).filter(move |(_, part)| *part < width)
        })
    }

    /// The first key of a node that is in a segment from `start` on with this many vectors of queries.
    fn seen(&self, lists: &Lists, (start, columns): (usize, usize), at: (usize, usize)) -> Option<usize> {
        let (first, end) = self.span(at);
        let seen = |segment: &&Segment| {
            segment.first < end && first < segment.end && segment.columns.1 - segment.columns.0 == columns
        };
        lists.segments[start..].iter().find(seen).map(|segment| first.max(segment.first))
    }

    fn leaf(&self, lists: &Lists, at: (usize, usize), table: TensorId) -> Interval {
        self.classes.leaf((&lists.fixed, &lists.rows), at, table)
    }

    /// The interval of a node's scores, where products are no greater than this in magnitude, and how far rounding may leave it.
    fn of(&self, lists: &mut Lists, at: (usize, usize), product: f64) -> (Interval, f64) {
        let products = if product.is_finite() { Interval::new(-product, product) } else { Interval::ANY };
        let mut steps = std::mem::take(&mut lists.steps);
        let scores = self.bounds.score.bounds(&mut steps, products, |table| self.leaf(lists, at, table));
        lists.steps = steps;
        scores
    }

    /// Whether a node has keys of a segment from `start` on.
    fn in_segments(&self, lists: &Lists, start: usize, at: (usize, usize)) -> bool {
        let (first, end) = self.span(at);
        lists.segments[start..].iter().any(|segment| segment.first < end && first < segment.end)
    }

    /// Notes the ranges of keys with all scores below `limit`, the last first, in nodes that have keys of the segments from `start` on;
    /// `norm` is the queries' greatest.
    fn drop_below(&self, lists: &mut Lists, start: usize, (norm, limit): (f64, f64), at: (usize, usize)) {
        if !self.in_segments(lists, start, at) {
            return;
        }
        lists.visited += 1;
        let product = self.bounds.tables.keys.map_or(0.0, |keys| norm * self.bounds.norm(self.leaf(lists, at, keys)));
        let (scores, room) = self.of(lists, at, product);
        let finite = self.bounds.tables.values.into_iter().flatten().all(|values| {
            let squares = self.leaf(lists, at, values);
            !squares.nan && squares.hi.is_finite()
        });
        if scores.hi + room < limit && !scores.nan && finite {
            let (first, end) = self.span(at);
            match lists.dropped.last_mut() {
                Some(last) if last.0 == end => last.0 = first,
                _ => lists.dropped.push((first, end)),
            }
        } else if scores.lo < limit + room || scores.nan || !finite {
            for part in self.parts(at) {
                self.drop_below(lists, start, (norm, limit), part);
            }
        }
    }
}

/// Takes the dropped keys, the last first, out of the segments from `start` on, as far as they are whole tiles; gives whether any are.
fn cut(lists: &mut Lists, start: usize) -> bool {
    let Lists { kept, dropped, segments, .. } = lists;
    let mut any = false;
    kept.clear();
    kept.extend(segments.drain(start..));
    for segment in kept.iter() {
        let mut first = segment.first;
        for &(from, to) in dropped.iter().rev().filter(|(from, to)| *from < segment.end && segment.first < *to) {
            let (from, to) = segment.tiles.within((from, to));
            let (from, to) = (from.max(segment.first), to.min(segment.end));
            if from < to {
                any = true;
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
    any
}
