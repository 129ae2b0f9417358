//! The tensor IR of rhumb: graphs of operations over named axes.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod builder;
mod expr;
mod fault;
mod graph;
mod infer;
mod interp;
mod names;
mod op;
mod rebuild;
mod suggest;
mod text;
mod types;
mod verify;

pub use builder::GraphBuilder;
pub use expr::{Expr, Operand};
pub use fault::Fault;
pub use graph::{Graph, Node, Output};
pub use infer::{OpError, infer};
pub use interp::{Bindings, InterpError, MAX_ELEMENTS, Outputs, Tensor, interpret, interpret_value};
pub use op::{Attr, Attrs, Base, Binary, Compare, Hook, Op, Pairing, Scalar, Site, SiteId, Unary, Value};
pub use suggest::closest;
pub use text::{ParseError, ParseFault};
pub use types::{Axis, AxisInfo, AxisSet, Elem, Extent, MAX_AXES, Type};
pub use verify::{Place, Problem, Verified, VerifyError};

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn smoke() {
        let b = GraphBuilder::new("alibi");
        let (h, q, k, d, e) = (b.axis_of("h", 2), b.axis("q"), b.axis("k"), b.axis_of("d", 2), b.axis_of("e", 1));
        let g = b.groups("g", 1, h);
        let query = b.input("q", Elem::F32, [h, q, d]);
        let key = b.input("k", Elem::F32, [g, k, d]);
        let value = b.input("v", Elem::F32, [g, k, e]);
        let slopes = b.table([h], vec![0.5; 2]).label("slopes");
        let s = query.dot(key, d) * 0.125 + slopes * (b.iota(k) - b.iota(q));
        let s = s.mask(b.iota(k).le(b.iota(q)));
        let p = s.softmax(k).label("p");
        b.output("p", p, [h, q, k]);
        b.output("out", p.dot(value, k), [q, h, e]);
        b.output("lse", s.log_sum_exp(k, None), [q, h]);
        let g = b.finish().unwrap();
        println!("{}", *g);
        let mut t = Bindings::new();
        t.insert("q".into(), Tensor::f32([2, 3, 2], (0..12).map(f64::from).collect::<Vec<_>>()));
        t.insert("k".into(), Tensor::f32([1, 3, 2], (0..6).map(f64::from).collect::<Vec<_>>()));
        t.insert("v".into(), Tensor::f32([1, 3, 1], vec![1.0, 2.0, f64::NAN]));
        println!("{:?}", interpret(&g, &t));
    }
}
