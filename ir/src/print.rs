//! The printer of the text form.

use crate::graph::Graph;
use crate::op::Op;

/// Prints one op, without its result.
pub(crate) fn op_text(_graph: &Graph, op: &Op) -> String {
    format!("{op:?}")
}
