//! What of a score is computed once for each distance of a run of queries and a run of keys.
//!
//! A table or a function over the rows and columns of a grid reads differences of `index / width` and of `index % width`. Where both query
//! and key go on by one and neither begins another row of the grid, these differences stay: queries and keys of such *runs* have as many
//! values as they have distances. A token apart from the grid, to whose number indices are compared, is a run of its own. A tile of 48 queries and 64 keys of a grid 64 wide has two runs of queries or so and one or two of keys.

use rhumb_ir::{Axis, Binary, Op, Scalar, Value, Walk};

use super::distance::{Dependence, Search, side};
use super::{Problem, Tiling};

/// Instructions for each vector of distances beside the values: their differences, and the loop.
const DIFFERENCES: f64 = 6.0;
/// Instructions for two runs: where they end, and the differences of their first distance.
const RUNS: f64 = 60.0;
/// Instructions for each vector of queries that is copied for a key.
const COPY: f64 = 5.0;

/// Values of a score that depend, within a run of queries and a run of keys, on the distance alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    /// The values: none is part of another.
    pub values: Vec<Value>,
    /// What they are computed of, beside what depends on neither query nor key: integers, or reals that hold such, and the number that is
    /// added to each from distance to distance; and what is the same for all distances.
    pub(crate) differences: Vec<(Value, i32)>,
    /// What begins runs of queries, and of keys.
    pub(crate) breaks: Vec<Break>,
}

/// A run ends where `index + c` is a multiple of a number, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Break {
    /// The axis of queries, or of keys.
    pub(crate) axis: Axis,
    /// `index + c`.
    pub(crate) index: Value,
    /// The number.
    pub(crate) end: End,
}

/// Where a run ends: the first index past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// A multiple of a number.
    Multiple(i32),
    /// A number.
    At(i32),
}

impl End {
    /// Indices from one such end to the next.
    fn period(self) -> f64 {
        match self {
            End::Multiple(period) => f64::from(period),
            End::At(_) => f64::INFINITY,
        }
    }
}

impl Runs {
    /// Such values that are worth it in these tiles.
    pub(super) fn of(problem: &Problem, tiling: &Tiling, lanes: usize) -> Runs {
        let Some(search) = Search::new(problem) else { return Runs::default() };
        let values = search.find(&[], |search, value| {
            let of_runs = |value| {
                let dependence = search.dependence(value);
                dependence.is_distance() && !dependence.is_distance_anywhere()
            };
            if !of_runs(value) {
                return None;
            }
            let one = Runs::with(search, vec![value])?;
            let pairs = vectors(tiling, lanes) * search.cost(value);
            Some(one.instructions(search.cost(value), tiling, lanes) < pairs)
        });
        Runs::with(&search, values).unwrap_or_default()
    }

    /// These values, if the numbers in them fit.
    fn with(search: &Search<'_>, values: Vec<Value>) -> Option<Runs> {
        let differences = differences(search, &values)?;
        let mut breaks = Vec::new();
        for (value, _) in &differences {
            breaks_of(search, *value, &mut breaks);
        }
        breaks.sort_unstable();
        breaks.dedup();
        Some(Runs { values, differences, breaks })
    }

    /// Instructions for a key tile, of values that take `each` for a vector.
    pub(super) fn instructions(&self, each: f64, tiling: &Tiling, lanes: usize) -> f64 {
        let period = self.breaks.iter().map(|at| at.end.period()).fold(f64::INFINITY, f64::min);
        let [queries, keys] = [tiling.queries(), tiling.keys].map(|count| count as f64);
        let [query_runs, key_runs] = [queries, keys].map(|count| 1.0 + (count - 1.0) / period);
        let distances = queries / query_runs + keys / key_runs - 1.0;
        let made = (distances / lanes as f64).ceil() * (each + DIFFERENCES) + RUNS;
        query_runs * key_runs * made
            + (queries / lanes as f64 + query_runs - 1.0) * keys * COPY * self.values.len() as f64
    }
}

/// Vectors of pairs in a key tile.
pub(super) fn vectors(tiling: &Tiling, lanes: usize) -> f64 {
    (tiling.queries() * tiling.keys) as f64 / lanes as f64
}

/// The differences that values are computed of.
fn differences(search: &Search<'_>, values: &[Value]) -> Option<Vec<(Value, i32)>> {
    let graph = &search.problem.graph;
    let (mut found, mut walk) = (Vec::new(), Walk::of(values.iter().copied()));
    while let Some(value) = walk.next() {
        match search.dependence(value) {
            Dependence::Free => {}
            Dependence::Affine { query, .. } => found.push((value, i32::try_from(query).ok()?)),
            Dependence::Steady => found.push((value, 0)),
            Dependence::Distance { .. } | Dependence::Any => walk.enter(graph.op(value).operands()),
        }
    }
    found.sort_unstable();
    Some(found)
}

/// Where runs end, as far as a difference tells.
fn breaks_of(search: &Search<'_>, difference: Value, breaks: &mut Vec<Break>) {
    let (graph, attention) = (&search.problem.graph, search.attention);
    let mut walk = Walk::of([difference]);
    while let Some(value) = walk.next() {
        if search.dependence(value) == Dependence::Free {
            continue;
        }
        let op = graph.op(value);
        if let Op::Binary(Binary::Div | Binary::Mod, index, period) = *op
            && let Dependence::Affine { query, anywhere: true, .. } = search.dependence(index)
            && let Op::Const(Scalar::I32(period)) = *graph.op(period)
        {
            let axis = if query == 0 { attention.key } else { attention.query };
            breaks.push(Break { axis, index, end: End::Multiple(period) });
            continue;
        }
        if let Some((index, number)) = side(graph, op, |value| search.dependence(value))
            && let Dependence::Affine { query, .. } = search.dependence(index)
        {
            let axis = if query == 0 { attention.key } else { attention.query };
            // Below it, the number itself, and above it.
            let ends = [Some(number), number.checked_add(1)].into_iter().flatten();
            breaks.extend(ends.map(|end| Break { axis, index, end: End::At(end) }));
            continue;
        }
        walk.enter(op.operands());
    }
}
