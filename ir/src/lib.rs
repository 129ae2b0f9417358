//! The tensor IR of rhumb: graphs of operations over named axes.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod builder;
mod graph;
mod infer;
mod op;
mod print;
mod types;
mod verify;

pub use builder::{Expr, GraphBuilder, Operand};
pub use graph::{Graph, Node, Output};
pub use infer::{OpError, infer};
pub use op::{Attr, Attrs, Base, Binary, Compare, Hook, Op, Pairing, Scalar, Site, SiteId, Unary, Value};
pub use types::{Axis, AxisInfo, AxisSet, Elem, Extent, MAX_AXES, Type};
pub use verify::{Problem, Verified, VerifyError};
