//! A short notation for test graphs: that of rule patterns, with inputs.
//!
//! `x:hqd` is the `f32` input `x` over the axes `h`, `q`, `d`; names that start with `i` are `i32`, with `m` `bool`.

use rhumb_ir::{Axis, Base, Binary, Compare, Elem, Expr, GraphBuilder, Op, Pairing, Unary, Verified};

use crate::rewrite::language::{Node, binary_sign, compare_sign};

/// Lengths of the static axes: `g` groups `h`, `p` counts pairs of `d`.
const STATIC: [(char, u32); 5] = [('h', 4), ('d', 5), ('p', 2), ('n', 3), ('c', 2)];

/// The graph that computes the expression `text`.
///
/// It also has a softmax over `k` of an input of its own, which makes `k` the axis of keys, tells the
/// length of every dynamic axis, and is nothing that a rule applies to.
pub(super) fn graph(text: &str) -> Verified {
    let builder = GraphBuilder::new("case");
    for (name, length) in STATIC {
        let axis = builder.axis_of(&name.to_string(), length);
        if name == 'h' {
            builder.groups("g", 2, axis);
        }
    }
    for name in ["b", "q", "k"] {
        builder.axis(name);
    }
    let mut tokens = Tokens { builder: &builder, text, inputs: Vec::new() };
    let expr = tokens.expr().unwrap_or_else(|| panic!("malformed case `{text}`"));
    let [b, q, k] = ["b", "q", "k"].map(|name| axis(&builder, name));
    let keys = builder.input("keys", Elem::F32, [b, q, k]);
    let keys = builder.push(Op::Softmax { x: keys.value(), axis: k, sink: None, base: Base::Two });
    builder.output("result", expr, expr.ty().axes.iter());
    builder.output("keys_result", keys, [b, q, k]);
    builder.finish().unwrap_or_else(|error| panic!("case `{text}`: {error}"))
}

fn axis(builder: &GraphBuilder, name: &str) -> Axis {
    builder.axis_named(name).unwrap_or_else(|| panic!("no axis `{name}`"))
}

struct Tokens<'g, 't> {
    builder: &'g GraphBuilder,
    text: &'t str,
    inputs: Vec<(&'t str, Expr<'g>)>,
}

impl<'g, 't> Tokens<'g, 't> {
    fn token(&mut self) -> Option<&'t str> {
        let text = self.text.trim_start();
        let end = match text.chars().next()? {
            '(' | ')' => 1,
            _ => text.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(text.len()),
        };
        self.text = &text[end..];
        Some(&text[..end])
    }

    fn close(&mut self) -> Option<()> {
        (self.token()? == ")").then_some(())
    }

    fn axis(&mut self) -> Option<Axis> {
        let name = self.token()?;
        Some(axis(self.builder, name))
    }

    fn expr(&mut self) -> Option<Expr<'g>> {
        let token = self.token()?;
        if token == "(" {
            let op = self.op()?;
            self.close()?;
            return Some(self.builder.push(op));
        }
        if let Some((name, axes)) = token.split_once(':') {
            return Some(self.input(name, axes));
        }
        match <Node as egg::FromOp>::from_op(token, Vec::new()).ok()? {
            Node::Const(number) => Some(self.builder.push(Op::Const(number.scalar()))),
            _ => None,
        }
    }

    fn input(&mut self, name: &'t str, axes: &str) -> Expr<'g> {
        if let Some((_, expr)) = self.inputs.iter().find(|(known, _)| *known == name) {
            return *expr;
        }
        let elem = match name.chars().next() {
            Some('i') => Elem::I32,
            Some('m') => Elem::Bool,
            _ => Elem::F32,
        };
        let dims = axes.chars().map(|name| axis(self.builder, &name.to_string()));
        let expr = self.builder.input(name, elem, dims);
        self.inputs.push((name, expr));
        expr
    }

    fn op(&mut self) -> Option<Op> {
        let name = self.token()?;
        Some(match name {
            "iota" => Op::Iota(self.axis()?),
            "size" => Op::Size(self.axis()?),
            "f32" => Op::Cast(Elem::F32, self.expr()?.value()),
            "i32" => Op::Cast(Elem::I32, self.expr()?.value()),
            "select" => {
                let (cond, on_true) = (self.expr()?.value(), self.expr()?.value());
                Op::Select { cond, on_true, on_false: self.expr()?.value() }
            }
            "gather" => {
                let (table, axis) = (self.expr()?.value(), self.axis()?);
                Op::Gather { table, axis, index: self.expr()?.value() }
            }
            "dot" => {
                let (a, b) = (self.expr()?.value(), self.expr()?.value());
                Op::Dot { a, b, axis: self.axis()? }
            }
            "rotate" => {
                let (x, angle) = (self.expr()?.value(), self.expr()?.value());
                let (dim, pair) = (self.axis()?, self.axis()?);
                let (pairing, start) = self.token()?.split_once(':')?;
                let pairing = if pairing == "half" { Pairing::Half } else { Pairing::Interleaved };
                Op::Rotate { x, angle, dim, pair, pairing, start: start.parse().ok()? }
            }
            "softmax" | "logsumexp" => {
                let (x, axis) = (self.expr()?.value(), self.axis()?);
                let sink = if self.text.trim_start().starts_with("none") {
                    self.token()?;
                    None
                } else {
                    Some(self.expr()?.value())
                };
                let base = if self.token()? == "e" { Base::E } else { Base::Two };
                match name {
                    "softmax" => Op::Softmax { x, axis, sink, base },
                    _ => Op::LogSumExp { x, axis, sink, base },
                }
            }
            _ => {
                if let Some(op) = Unary::ALL.into_iter().find(|op| op.name() == name) {
                    return Some(Op::Unary(op, self.expr()?.value()));
                }
                let (a, b) = (self.expr()?.value(), self.expr()?.value());
                let binary = Binary::ALL.into_iter().find(|op| binary_sign(*op) == name);
                let compare = Compare::ALL.into_iter().find(|op| compare_sign(*op) == name);
                match (binary, compare) {
                    (Some(op), _) => Op::Binary(op, a, b),
                    (_, Some(op)) => Op::Compare(op, a, b),
                    _ => return None,
                }
            }
        })
    }
}
