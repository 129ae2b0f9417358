//! How long axes are, as far as it is known before a call.

use std::fmt;

use rhumb_ir::{Axis, AxisInfo, AxisSet, Elem, Extent, Graph, Op, Value};

/// The length assumed of a dynamic axis: long enough that work per (query, key) pair outweighs work per query or per key.
const LONG: u64 = 1024;

/// The length assumed of a dynamic axis of queries, where calls have few of them: the queries of a step of decoding, or of speculation.
const SHORT: u64 = 4;

/// How many queries calls have, as far as they leave it open: what costs least depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Regime {
    /// Many: prompts, training.
    ManyQueries,
    /// Few, on many keys: decoding.
    FewQueries,
}

impl Regime {
    fn queries(self) -> u64 {
        match self {
            Regime::ManyQueries => LONG,
            Regime::FewQueries => SHORT,
        }
    }
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Regime::ManyQueries => "many queries",
            Regime::FewQueries => "few queries",
        })
    }
}

/// Iteration spaces are counted up to this size, so that sums of costs stay exact in 128 bits.
const LARGEST_SPACE: u64 = 1 << 48;

/// Lengths of the axes of a graph, estimated where dynamic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extents(Vec<u64>);

impl Extents {
    /// Static axes have their length. Of the dynamic ones, those that both factors of a product share without summing over them are
    /// batches and count 1: their length scales all work alike. Those that are summed over count as long, and the others, those of queries,
    /// as the regime has it. A mask that sums a row varies over queries as the row does, which makes these no batch.
    pub(crate) fn of(graph: &Graph, regime: Regime) -> Extents {
        let is_mask = |value: &Value| matches!(graph.op(*value), Op::Cast(_, x) if graph.ty(*x).elem == Elem::Bool);
        let (mut shared, mut summed) = (AxisSet::EMPTY, AxisSet::EMPTY);
        for node in graph.nodes() {
            match &node.op {
                Op::Dot { a, b, axis } => {
                    summed = summed.with(*axis);
                    if !is_mask(a) && !is_mask(b) {
                        let both = graph.ty(*a).axes.intersection(graph.ty(*b).axes).without(*axis);
                        shared = shared.union(both);
                    }
                }
                Op::Softmax { axis, .. } | Op::LogSumExp { axis, .. } => summed = summed.with(*axis),
                _ => {}
            }
        }
        let dynamic = |axis: Option<Axis>| match axis {
            // An axis that is summed over somewhere is no batch, whatever else it is.
            Some(axis) if summed.contains(axis) => LONG,
            Some(axis) if shared.contains(axis) => 1,
            _ => regime.queries(),
        };
        let length = |(index, info): (usize, &AxisInfo)| match info.extent {
            Extent::Static(n) => u64::from(n).max(1),
            Extent::Dynamic => dynamic(Axis::from_index(index)),
        };
        Extents(graph.axes().iter().enumerate().map(length).collect())
    }

    /// Number of elements of a value over `axes`, estimated.
    pub(crate) fn space(&self, axes: AxisSet) -> u64 {
        axes.iter()
            .filter_map(|axis| self.0.get(axis.index()))
            .fold(1u64, |space, n| space.saturating_mul(*n).min(LARGEST_SPACE))
    }
}
