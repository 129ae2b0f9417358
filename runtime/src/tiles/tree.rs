//! Intervals of tables over ranges of keys.

use rhumb_compiler::intervals::Interval;
use rhumb_compiler::plan::{Attention, LanesAre, Origin, Plan, Storage, TensorId};
use rhumb_ir::Axis;

use super::segment::{Segment, UNIT};
use crate::memory::{Frame, OutOfMemory, Outer, reserve};

/// The axis that a leaf varies along in its last dimension, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// This many keys share an element: more than 1 along an axis that groups that of keys.
    Keys(usize),
    /// This many queries share an element.
    Queries(usize),
    Neither,
    /// In more ways than intervals are kept of.
    Unknown,
}

impl Along {
    fn of(plan: &Plan, attention: &Attention, table: TensorId) -> Along {
        let dims = &plan.tensors[table].dims;
        let mut along = dims.iter().filter_map(|&dim| match (dim, plan.graph.grouped(dim)) {
            (dim, _) if dim == attention.key => Some(Along::Keys(1)),
            (dim, _) if dim == attention.query => Some(Along::Queries(1)),
            (_, Some((finer, ratio))) if finer == attention.key => Some(Along::Keys(ratio as usize)),
            (_, Some((finer, ratio))) if finer == attention.query => Some(Along::Queries(ratio as usize)),
            _ => None,
        });
        match (along.next(), along.next()) {
            (None, _) => Along::Neither,
            (Some(along), None) => along,
            (Some(_), Some(_)) => Along::Unknown,
        }
    }
}

/// The elements of a row that some indices lie in, where `each` of them share one.
pub(super) fn elements((first, end): (usize, usize), each: usize) -> (usize, usize) {
    (first / each, end.div_ceil(each))
}

/// A table that a mask or a score reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) table: TensorId,
    pub(super) along: Along,
    /// Whether it is the index of keys, whose intervals need no tree.
    is_index: bool,
    /// Position of its tree among the trees.
    tree: usize,
}

/// The tables that masks and scores read, in this order: those of the mask, those of the score alone, the squared norms.
#[derive(Debug)]
pub(super) struct Leaves {
    all: Vec<Leaf>,
    of_mask: usize,
    of_score: usize,
    key: Axis,
    /// The high parts of the key terms, where all queries of a tile have the same.
    key_term: Option<TensorId>,
}

/// Least and greatest element of each leaf over keys, for every unit of keys and every power of two of units. Made once per call.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    nodes: Vec<Interval>,
    /// First node of each tree.
    starts: Vec<usize>,
    /// First node and number of nodes of each level, that of the units first.
    levels: Vec<(usize, usize)>,
    per_row: usize,
    units: usize,
    keys: usize,
    /// Greatest key term of each unit of keys, row by row of the table.
    key_terms: Vec<f32>,
    /// Whether keys may have no weight at each number of the outer indices.
    pub(crate) can_prune: Vec<bool>,
    /// Rows of a table.
    pub(crate) rows: Vec<usize>,
}

impl Leaves {
    pub(super) fn new(
        plan: &Plan,
        attention: &Attention,
        of_mask: impl Iterator<Item = TensorId>,
        of_score: impl Iterator<Item = TensorId>,
        squares: impl Iterator<Item = TensorId>,
    ) -> Leaves {
        let mut all: Vec<Leaf> = Vec::new();
        let mut trees = 0;
        let mut add = |table: TensorId| {
            if all.iter().all(|leaf| leaf.table != table) {
                let along = Along::of(plan, attention, table);
                let is_index = plan.tensors[table].origin == Origin::Index;
                all.push(Leaf { table, along, is_index, tree: trees });
                trees += usize::from(matches!(along, Along::Keys(_)));
            }
            all.len()
        };
        let of_mask = of_mask.map(&mut add).last().unwrap_or(0);
        let of_score = of_score.map(&mut add).last().unwrap_or(of_mask);
        squares.for_each(|table| _ = add(table));
        // In decode each row of a tile has key terms of its own.
        let of_tile = plan.schedule.lanes() == LanesAre::Queries;
        let key_term = attention.key_term.filter(|_| of_tile).map(|term| term.high);
        Leaves { all, of_mask, of_score, key: attention.key, key_term }
    }

    #[inline]
    pub(super) fn all(&self) -> &[Leaf] {
        &self.all
    }

    pub(super) fn of_mask(&self) -> &[Leaf] {
        &self.all[..self.of_mask]
    }

    pub(super) fn of_score(&self) -> &[Leaf] {
        &self.all[..self.of_score]
    }

    /// The position of a table among all leaves.
    #[inline]
    pub(super) fn position(&self, table: TensorId) -> Option<usize> {
        self.all.iter().position(|leaf| leaf.table == table)
    }

    /// The leaves whose trees are made of tables that the call has from the start; the others' rows come later, by
    /// [`Leaves::grow_rows`].
    fn planted(&self, score: bool) -> &[Leaf] {
        if score { self.of_score() } else { self.of_mask() }
    }

    /// Makes room for the trees of a call, so that nothing fails while they grow: of the mask, and if wanted of the score and of squared
    /// norms, at this many outer indices.
    pub(super) fn reserve(
        &self,
        frame: &Frame<'_>,
        trees: &mut Trees,
        (score, outer): (bool, usize),
    ) -> Result<(), OutOfMemory> {
        let keys = frame.length(self.key);
        trees.clear();
        (trees.keys, trees.units) = (keys, keys.div_ceil(UNIT));
        reserve(&mut trees.levels, usize::BITS as usize)?;
        let (mut width, mut first) = (trees.units, 0);
        while width > 0 {
            trees.levels.push((first, width));
            first += width;
            if width == 1 {
                break;
            }
            width = width.div_ceil(2);
        }
        trees.per_row = first;
        if let Some(term) = self.key_term
            && keys > 0
        {
            reserve(&mut trees.key_terms, (frame.f32_table(term).len() / keys).saturating_mul(trees.units))?;
        }
        let leaves = if score { self.all() } else { self.of_mask() };
        let rows = leaves.iter().map(|leaf| rows(frame, *leaf, keys)).fold(0, usize::saturating_add);
        reserve(&mut trees.nodes, rows.saturating_mul(trees.per_row))?;
        reserve(&mut trees.starts, leaves.len())?;
        let outer = if score { outer } else { 0 };
        reserve(&mut trees.can_prune, outer)?;
        reserve(&mut trees.rows, outer)
    }

    /// Fills the trees from the tables of a call: of the mask, and if wanted of the score. To be called after [`Leaves::reserve`].
    pub(super) fn grow(&self, frame: &Frame<'_>, trees: &mut Trees, score: bool) {
        let keys = frame.length(self.key);
        if let Some(term) = self.key_term
            && keys > 0
        {
            // `max` passes NaN by.
            let greatest = |unit: &[f32]| unit.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for row in frame.f32_table(term).chunks(keys) {
                trees.key_terms.extend(row.chunks(UNIT).map(greatest));
            }
        }
        for &leaf in self.planted(score) {
            let Along::Keys(each) = leaf.along else { continue };
            trees.starts.push(trees.nodes.len());
            for row in 0..rows(frame, leaf, keys) {
                trees.grow(frame, leaf.table, (row, keys, each));
            }
        }
    }

    /// Fills the trees of the rows of a table that `trees` tells; its others are left empty.
    pub(super) fn grow_rows(&self, frame: &Frame<'_>, trees: &mut Trees, table: TensorId) {
        let keys = frame.length(self.key);
        trees.starts.push(trees.nodes.len());
        let rows = std::mem::take(&mut trees.rows);
        for row in 0..rows.last().map_or(0, |last| last + 1) {
            if rows.binary_search(&row).is_ok() {
                trees.grow(frame, table, (row, keys, 1));
            } else {
                trees.nodes.resize(trees.nodes.len() + trees.per_row, Interval::ANY);
            }
        }
        trees.rows = rows;
    }

    /// The greatest key term of the segments that every query of a tile sees whole, `-inf` without such. Not NaN.
    pub(super) fn greatest_key_term(&self, trees: &Trees, segments: &[Segment], outer: &Outer<'_>) -> f32 {
        let Some(term) = self.key_term else { return f32::NEG_INFINITY };
        let base = outer.row(term) * trees.units;
        let units =
            |segment: &Segment| trees.key_terms.get(base + segment.first / UNIT..base + segment.end.div_ceil(UNIT));
        let full = segments.iter().filter(|segment| !segment.partial);
        full.filter_map(units).flatten().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

impl Trees {
    fn clear(&mut self) {
        self.nodes.clear();
        self.starts.clear();
        self.levels.clear();
        self.key_terms.clear();
        self.can_prune.clear();
        self.rows.clear();
    }

    /// The level of the root; none without keys.
    pub(super) fn top(&self) -> Option<usize> {
        self.levels.len().checked_sub(1)
    }

    /// Nodes of a level.
    pub(super) fn width(&self, level: usize) -> usize {
        self.levels[level].1
    }

    /// The interval of a node of a row of a leaf along keys.
    #[inline]
    pub(super) fn node(&self, leaf: Leaf, row: usize, (level, node): (usize, usize)) -> Interval {
        if leaf.is_index {
            let unit = |node: usize| (node.saturating_mul(UNIT) << level).min(self.keys);
            return of_indices(unit(node), unit(node + 1));
        }
        let base = self.starts[leaf.tree] + row * self.per_row;
        self.nodes.get(base + self.levels[level].0 + node).copied().unwrap_or(Interval::ANY)
    }

    /// Appends the tree of a row of a table, of which `each` keys share an element.
    fn grow(&mut self, frame: &Frame<'_>, table: TensorId, (row, keys, each): (usize, usize, usize)) {
        let base = self.nodes.len();
        let start = row * (keys / each);
        for unit in 0..self.units {
            let (first, end) = elements((unit * UNIT, ((unit + 1) * UNIT).min(keys)), each);
            self.nodes.push(range(frame, table, start + first, start + end));
        }
        for level in 1..self.levels.len() {
            let (below, below_width) = self.levels[level - 1];
            for node in 0..self.levels[level].1 {
                let left = self.nodes[base + below + 2 * node];
                let right = 2 * node + 1;
                let joined = if right < below_width { left.hull(self.nodes[base + below + right]) } else { left };
                self.nodes.push(joined);
            }
        }
    }
}

/// The interval of some indices.
fn of_indices(first: usize, end: usize) -> Interval {
    if first < end { Interval::new(first as f64, (end - 1) as f64) } else { Interval::point(0.0) }
}

/// Rows of a leaf's table with a tree each: none if it does not vary along keys, nor of indices.
fn rows(frame: &Frame<'_>, leaf: Leaf, keys: usize) -> usize {
    let Along::Keys(each) = leaf.along else { return 0 };
    if leaf.is_index {
        return 0;
    }
    let len = frame.plan().tensors[leaf.table].dims.iter().map(|axis| frame.length(*axis)).product::<usize>();
    len.checked_div(keys / each).unwrap_or(0)
}

/// The interval of some elements of a table.
pub(super) fn range(frame: &Frame<'_>, table: TensorId, first: usize, end: usize) -> Interval {
    fn around<T: Copy>(elements: Option<&[T]>, number: impl Fn(T) -> f64) -> Interval {
        let Some(elements) = elements else { return Interval::ANY };
        Interval::around(elements.iter().map(|x| number(*x)))
    }
    let tensor = &frame.plan().tensors[table];
    if tensor.origin == Origin::Index {
        return of_indices(first, end);
    }
    match tensor.storage {
        Storage::F32 => around(frame.f32_table(table).get(first..end), f64::from),
        Storage::F64 => around(frame.f64_table(table).get(first..end), |x| x),
        Storage::I32 => around(frame.i32_table(table).get(first..end), f64::from),
        Storage::Mask => around(frame.i32_table(table).get(first..end), |x| f64::from(u8::from(x != 0))),
        // No table has others.
        Storage::Of(_) => Interval::ANY,
    }
}

#[cfg(test)]
mod tests;
