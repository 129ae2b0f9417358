//! How long axes are, as far as it is known before a call.

use rhumb_ir::{AxisSet, Elem, Extent, Graph, Op, Value};

/// The length assumed of a dynamic axis: long enough that work per (query, key) pair outweighs work per query or per key.
const LONG: u64 = 1024;

/// Iteration spaces are counted up to this size, so that sums of costs stay exact in 128 bits.
const LARGEST_SPACE: u64 = 1 << 48;

/// Lengths of the axes of a graph, estimated where dynamic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extents(Vec<u64>);

impl Extents {
    /// Static axes have their length. Of the dynamic ones, those that both factors of a product share without summing over them are
    /// batches and count 1: their length scales all work alike. The others count as long. A mask that sums a row varies over queries as the
    /// row does, which makes these no batch.
    pub(crate) fn of(graph: &Graph) -> Extents {
        let is_mask = |value: &Value| matches!(graph.op(*value), Op::Cast(_, x) if graph.ty(*x).elem == Elem::Bool);
        let mut shared = AxisSet::EMPTY;
        for node in graph.nodes() {
            if let Op::Dot { a, b, axis } = &node.op
                && !is_mask(a)
                && !is_mask(b)
            {
                let both = graph.ty(*a).axes.intersection(graph.ty(*b).axes).without(*axis);
                shared = shared.union(both);
            }
        }
        // An axis that is summed over somewhere is no batch, whatever else it is.
        for node in graph.nodes() {
            if let Op::Dot { axis, .. } | Op::Softmax { axis, .. } | Op::LogSumExp { axis, .. } = &node.op {
                shared = shared.without(*axis);
            }
        }
        let length = |(index, info): (usize, &rhumb_ir::AxisInfo)| match info.extent {
            Extent::Static(n) => u64::from(n).max(1),
            Extent::Dynamic => {
                let batch = rhumb_ir::Axis::from_index(index).is_some_and(|axis| shared.contains(axis));
                if batch { 1 } else { LONG }
            }
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
