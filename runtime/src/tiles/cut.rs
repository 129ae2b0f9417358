//! What a query tile sees, cut into segments.

use rhumb_compiler::intervals::TileClass;

use super::classify::{Classes, Queries};
use super::key_tiles::KeyTiles;
use super::lists::Lists;
use super::segment::{Segment, UNIT, join_short_runs, push};

impl Classes<'_> {
    /// Appends the segments of keys that some queries of a tile see.
    pub(crate) fn segments(&self, queries: Queries, lists: &mut Lists) {
        let start = lists.segments.len();
        self.find(queries, lists, start);
        let most = self.classifier.most;
        for segment in &mut lists.segments[start..] {
            let keys = (segment.first, segment.end);
            segment.tiles =
                if self.classifier.on_grid { KeyTiles::on_grid(keys, most) } else { KeyTiles::new(keys, most) };
        }
    }

    fn find(&self, queries: Queries, lists: &mut Lists, start: usize) {
        let (classifier, keys) = (self.classifier, self.keys);
        // Without keys there are no nodes.
        let Some(top) = self.trees.top() else { return };
        let columns = queries.columns();
        if classifier.program.is_empty() {
            lists.segments.push(Segment::new(keys, false, (0, columns)));
            return;
        }
        self.set_rows(classifier.leaves.of_mask(), lists);
        self.fix(queries.positions((0, columns)), lists);
        self.descend(lists, start, (top, 0), columns);
        if classifier.on_grid {
            onto_grid(lists, start, classifier.most);
        } else {
            join_short_runs(&mut lists.segments, start);
        }
        if columns > 1 && lists.segments[start..].iter().any(|segment| segment.partial) {
            self.narrow(queries, lists, start);
        }
    }

    /// Appends what is seen of a node.
    fn descend(&self, lists: &mut Lists, start: usize, (level, node): (usize, usize), columns: usize) {
        let span = UNIT << level;
        let (first, end) = ((node * span).max(self.keys.0), ((node + 1) * span).min(self.keys.1));
        if first >= end {
            return;
        }
        match self.class(lists, (level, node)) {
            TileClass::Skip => {}
            TileClass::Partial if level > 0 => {
                self.descend(lists, start, (level - 1, 2 * node), columns);
                if 2 * node + 1 < self.trees.width(level - 1) {
                    self.descend(lists, start, (level - 1, 2 * node + 1), columns);
                }
            }
            class => {
                let partial = class == TileClass::Partial;
                push(&mut lists.segments, start, Segment::new((first, end), partial, (0, columns)));
            }
        }
    }

    /// Cuts partial segments where the vectors of queries that see something change.
    fn narrow(&self, queries: Queries, lists: &mut Lists, start: usize) {
        let columns = queries.columns();
        let partial_step = if self.classifier.on_grid { self.classifier.most } else { UNIT };
        let mut kept = std::mem::take(&mut lists.kept);
        kept.clear();
        for segment in lists.segments.drain(start..) {
            let step = if segment.partial { partial_step } else { usize::MAX };
            let columns = if segment.partial { (columns, 0) } else { (0, columns) };
            let mut first = segment.first;
            while first < segment.end {
                let end = (first / step + 1).saturating_mul(step).min(segment.end);
                kept.push(Segment { first, end, columns, ..segment });
                first = end;
            }
        }
        for column in 0..columns {
            self.fix(queries.positions((column, column + 1)), lists);
            for segment in kept.iter_mut().filter(|segment| segment.partial) {
                let mut units = segment.first / UNIT..segment.end.div_ceil(UNIT);
                if units.any(|unit| self.class(lists, (0, unit)) != TileClass::Skip) {
                    segment.columns = (segment.columns.0.min(column), column + 1);
                }
            }
        }
        for segment in kept.iter().filter(|segment| segment.columns.0 < segment.columns.1) {
            push(&mut lists.segments, start, *segment);
        }
        lists.kept = kept;
    }
}

/// Cuts segments at key tiles of a grid, with at most one segment in each: from the first unit that is seen to the last.
fn onto_grid(lists: &mut Lists, start: usize, cell: usize) {
    let Lists { kept, segments, .. } = lists;
    kept.clear();
    for segment in segments.drain(start..) {
        let mut first = segment.first;
        while first < segment.end {
            let end = (first / cell + 1).saturating_mul(cell).min(segment.end);
            match kept.last_mut() {
                Some(last) if last.first / cell == first / cell => {
                    last.partial |= segment.partial || last.end < first;
                    last.end = end;
                }
                _ => kept.push(Segment { first, end, ..segment }),
            }
            first = end;
        }
    }
    for segment in kept.iter() {
        push(segments, start, *segment);
    }
}
