//! Lookups that go along a row: at the row's own index, or at what is left of it modulo a period.

use rhumb_ir::{Axis, Binary, Graph, Op, Scalar, Value};

/// A lookup along a row reads elements one after the other, and begins again after as many as this; `None` if it reads them in another way.
pub(crate) fn period(graph: &Graph, (table, axis, index): (Value, Axis, Value), row: Axis) -> Option<u32> {
    let (elements, length) = (graph.static_extent(axis)?, graph.static_extent(row)?);
    let is_own = |value: Value| matches!(*graph.op(value), Op::Iota(of) if of == row);
    let period = match *graph.op(index) {
        Op::Iota(of) if of == row => length,
        Op::Binary(Binary::Mod, own, period) if is_own(own) => match *graph.op(period) {
            Op::Const(Scalar::I32(period)) => u32::try_from(period).ok().filter(|period| *period > 0)?,
            _ => return None,
        },
        _ => return None,
    };
    // What is looked up has the row's index from the lookup alone, and lies within its axis.
    (period.min(length) <= elements && !graph.varies(graph.ty(table).axes, row)).then_some(period)
}
