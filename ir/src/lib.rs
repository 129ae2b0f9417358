//! The tensor IR of rhumb: graphs of operations over named axes.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod builder;
mod graph;
mod infer;
mod op;
mod text;
mod types;
mod verify;

pub use builder::{Expr, GraphBuilder, Operand};
pub use graph::{Graph, Node, Output};
pub use infer::{OpError, infer};
pub use op::{Attr, Attrs, Base, Binary, Compare, Hook, Op, Pairing, Scalar, Site, SiteId, Unary, Value};
pub use types::{Axis, AxisInfo, AxisSet, Elem, Extent, MAX_AXES, Type};
pub use verify::{Problem, Verified, VerifyError};

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn smoke() {
        let b = GraphBuilder::new("alibi");
        let (h, q, k, d) = (b.axis_of("h", 8), b.axis("q"), b.axis("k"), b.axis_of("d", 64));
        let g = b.groups("g", 2, h);
        let query = b.input("q", Elem::F32, [h, q, d]);
        let key = b.input("k", Elem::F32, [g, k, d]);
        let slopes = b.table([h], vec![0.5; 8]).label("slopes");
        let s = query.dot(key, d) * 0.125 + slopes * (b.iota(k) - b.iota(q));
        let p = s.softmax(k).label("p");
        b.output("p", p, [h, q, k]);
        println!("{}", *b.finish().unwrap());
    }
}
