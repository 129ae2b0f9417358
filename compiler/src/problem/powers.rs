//! Powers of 2 in place of powers of e, where rewriting left them: its options allow too little, or it stopped at a limit.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::f64::consts::{LN_2, LOG2_E};

use rhumb_ir::{Base, Binary, Expr, GraphBuilder, Op, Scalar, Unary, Value, Verified, Walk};

use super::PlanError;

/// The graph with `e^x = 2^(x log2(e))` in its softmaxes and log-sum-exps; `None` if it has no power of e.
pub(super) fn of_two(graph: &Verified) -> Result<Option<Verified>, PlanError> {
    let natural = |op: &Op| matches!(op, Op::Softmax { base: Base::E, .. } | Op::LogSumExp { base: Base::E, .. });
    let Some(first) = graph.values().find(|value| natural(graph.op(*value))) else { return Ok(None) };
    let mut scaling = Scaling { graph, made: Vec::with_capacity(graph.nodes().len()), scaled: BTreeMap::new() };
    let rebuilt = graph.rebuild(|builder, value, op| {
        let made = match *graph.op(value) {
            Op::Softmax { x, axis, sink, base: Base::E } => {
                let x = scaling.scaled(builder, x).value();
                let sink = sink.map(|sink| scaling.scaled(builder, sink).value());
                builder.push(Op::Softmax { x, axis, sink, base: Base::Two })
            }
            Op::LogSumExp { x, axis, sink, base: Base::E } => {
                let x = scaling.scaled(builder, x).value();
                let sink = sink.map(|sink| scaling.scaled(builder, sink).value());
                builder.push(Op::LogSumExp { x, axis, sink, base: Base::Two }) * LN_2
            }
            _ => builder.push(op),
        };
        scaling.made.push(made.value());
        Ok::<_, Infallible>(made)
    });
    let finished = match rebuilt {
        Ok(builder) => builder.finish(),
        Err(never) => match never {},
    };
    match finished {
        Ok(graph) => Ok(Some(graph.prune())),
        Err(error) => Err(PlanError::NotAttention { op: graph.line(first), reason: error.to_string() }),
    }
}

/// Scores times log2(e).
struct Scaling<'a> {
    graph: &'a Verified,
    /// The new value of each value of the graph.
    made: Vec<Value>,
    /// Values that have been scaled.
    scaled: BTreeMap<Value, Value>,
}

impl Scaling<'_> {
    /// A value times log2(e). The factor goes to the terms of sums and past masks, which planning takes apart.
    fn scaled<'g>(&mut self, builder: &'g GraphBuilder, root: Value) -> Expr<'g> {
        let (mut walk, mut missing) = (Walk::of([root]), Vec::new());
        while let Some(value) = walk.next() {
            if !self.scaled.contains_key(&value) {
                missing.push(value);
                walk.enter(self.parts(value));
            }
        }
        // Parts before what is made of them.
        missing.sort_unstable();
        for value in missing {
            let scaled = self.one(builder, value).value();
            self.scaled.insert(value, scaled);
        }
        builder.expr(self.scaled[&root])
    }

    /// The operands of an op that the factor goes to instead.
    fn parts(&self, value: Value) -> Vec<Value> {
        let hidden = |x: Value| *self.graph.op(x) == Op::Const(Scalar::F32(f64::NEG_INFINITY));
        match *self.graph.op(value) {
            Op::Binary(Binary::Add | Binary::Sub, a, b) => vec![a, b],
            Op::Unary(Unary::Neg, x) => vec![x],
            Op::Select { on_true, on_false, .. } if hidden(on_true) || hidden(on_false) => vec![on_true, on_false],
            _ => Vec::new(),
        }
    }

    /// A value whose parts have been scaled.
    fn one<'g>(&self, builder: &'g GraphBuilder, value: Value) -> Expr<'g> {
        let part = |x: Value| self.scaled.get(&x).copied();
        let made = match *self.graph.op(value) {
            Op::Const(Scalar::F32(x)) => Some(Op::Const(Scalar::F32(x * LOG2_E))),
            _ if self.parts(value).is_empty() => None,
            Op::Binary(op, a, b) => part(a).zip(part(b)).map(|(a, b)| Op::Binary(op, a, b)),
            Op::Unary(op, x) => part(x).map(|x| Op::Unary(op, x)),
            Op::Select { cond, on_true, on_false } => part(on_true)
                .zip(part(on_false))
                .map(|(on_true, on_false)| Op::Select { cond: self.made[cond.index()], on_true, on_false }),
            _ => None,
        };
        match made {
            Some(op) => builder.push(op),
            None => builder.expr(self.made[value.index()]) * LOG2_E,
        }
    }
}
