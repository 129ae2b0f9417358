//! From chosen forms back to an IR graph.

use std::collections::BTreeMap;

use egg::{Id, Language, RecExpr};
use rhumb_ir::{Axis, Base, Expr, Graph, GraphBuilder, Op, Pairing, Value, Verified};

use super::error::RewriteError;
use super::extract::Extraction;
use super::facts::EGraph;
use super::language::Node;
use super::place::{Item, Place, item};

/// The term of a root under an extraction, operands before users, each item once.
pub(crate) fn term(egraph: &EGraph, extraction: &Extraction, root: Id) -> Option<RecExpr<Node>> {
    let mut expr = RecExpr::default();
    let mut done: BTreeMap<Item, Id> = BTreeMap::new();
    let mut path = vec![(item(egraph.find(root), Place::Whole), false)];
    while let Some((item, entered)) = path.pop() {
        if done.contains_key(&item) {
            continue;
        }
        let form = extraction.form(item)?;
        if entered {
            let children: Vec<Id> = form.children.iter().filter_map(|child| done.get(child).copied()).collect();
            let made = match form.node() {
                Some(node) => {
                    let mut children = children.into_iter();
                    expr.add(node.clone().map_children(|child| children.next().unwrap_or(child)))
                }
                // The graph does not say where a value is computed.
                None => *children.first()?,
            };
            done.insert(item, made);
        } else {
            path.push((item, true));
            path.extend(form.children.iter().rev().map(|child| (*child, false)));
        }
    }
    Some(expr)
}

/// A node of a term that refers to what has been rebuilt already.
#[derive(Clone, Copy)]
enum Made<'g> {
    Value(Expr<'g>),
    Axis(Axis),
    Block(Pairing, u32),
    Base(Base),
    NoSink,
}

impl<'g> Made<'g> {
    fn value(self) -> Option<Value> {
        match self {
            Made::Value(expr) => Some(expr.value()),
            _ => None,
        }
    }

    fn axis(self) -> Option<Axis> {
        match self {
            Made::Axis(axis) => Some(axis),
            _ => None,
        }
    }
}

/// A graph, and the value of each node of the terms that it was built of; parameters have none.
pub(crate) struct Rebuilt {
    pub(crate) graph: Verified,
    pub(crate) values: Vec<Vec<Option<Value>>>,
}

/// Builds the graph that computes `terms`, one for each output of `original`: same name, axes, inputs (unused ones too) and outputs.
pub(crate) fn rebuild(original: &Graph, terms: &[RecExpr<Node>]) -> Result<Rebuilt, RewriteError> {
    let builder = GraphBuilder::new(&original.name);
    for axis in original.axes() {
        builder.declare(axis.clone());
    }
    let mut leaves: BTreeMap<u32, Expr<'_>> = BTreeMap::new();
    for (_, value) in original.inputs() {
        leaves.insert(value.index() as u32, leaf(&builder, original, value));
    }
    // Equal nodes of different outputs are one value.
    let mut shared: BTreeMap<Node, Id> = BTreeMap::new();
    let mut made: Vec<Made<'_>> = Vec::new();
    let mut values = Vec::with_capacity(terms.len());
    for (output, term) in original.outputs().iter().zip(terms) {
        let mut ids: Vec<Id> = Vec::with_capacity(term.len());
        let mut result = None;
        for node in term {
            let node = node.clone().map_children(|child| ids[usize::from(child)]);
            let id = match shared.get(&node) {
                Some(id) => *id,
                None => {
                    let next = make(&builder, original, &mut leaves, &made, &node)
                        .ok_or_else(|| RewriteError::IllTyped { node: node.to_string() })?;
                    let id = Id::from(made.len());
                    made.push(next);
                    shared.insert(node, id);
                    id
                }
            };
            ids.push(id);
            result = made.get(usize::from(id)).copied();
        }
        values.push(ids.iter().map(|id| made.get(usize::from(*id))?.value()).collect());
        match result {
            Some(Made::Value(expr)) => {
                builder.output_as(&output.name, output.elem, expr, output.dims.iter().copied());
            }
            _ => return Err(RewriteError::IllTyped { node: output.name.clone() }),
        }
    }
    Ok(Rebuilt { graph: builder.finish().map_err(RewriteError::Rebuild)?, values })
}

/// An input or table of the original, with its label.
fn leaf<'g>(builder: &'g GraphBuilder, original: &Graph, value: Value) -> Expr<'g> {
    let node = original.node(value);
    let expr = builder.push(node.op.clone());
    match &node.label {
        Some(label) => expr.label(label),
        None => expr,
    }
}

fn make<'g>(
    builder: &'g GraphBuilder,
    original: &Graph,
    leaves: &mut BTreeMap<u32, Expr<'g>>,
    made: &[Made<'g>],
    node: &Node,
) -> Option<Made<'g>> {
    let child = |id: &Id| made.get(usize::from(*id)).copied();
    let value = |id: &Id| child(id)?.value();
    let axis = |id: &Id| child(id)?.axis();
    let op = match node {
        Node::Axis(axis) => return Some(Made::Axis(*axis)),
        Node::Block(pairing, start) => return Some(Made::Block(*pairing, *start)),
        Node::Base(base) => return Some(Made::Base(*base)),
        Node::NoSink => return Some(Made::NoSink),
        Node::Leaf(index) => {
            if let Some(expr) = leaves.get(index) {
                return Some(Made::Value(*expr));
            }
            let value = original.values().nth(*index as usize)?;
            let expr = leaf(builder, original, value);
            leaves.insert(*index, expr);
            return Some(Made::Value(expr));
        }
        Node::Const(number) => Op::Const(number.scalar()),
        Node::Iota([along]) => Op::Iota(axis(along)?),
        Node::Size([along]) => Op::Size(axis(along)?),
        Node::Unary(op, [x]) => Op::Unary(*op, value(x)?),
        Node::Binary(op, [a, b]) => Op::Binary(*op, value(a)?, value(b)?),
        Node::Compare(op, [a, b]) => Op::Compare(*op, value(a)?, value(b)?),
        Node::Cast(elem, [x]) => Op::Cast(*elem, value(x)?),
        Node::Select([cond, on_true, on_false]) => {
            Op::Select { cond: value(cond)?, on_true: value(on_true)?, on_false: value(on_false)? }
        }
        Node::Gather([table, along, index]) => {
            Op::Gather { table: value(table)?, axis: axis(along)?, index: value(index)? }
        }
        Node::Rotate([x, angle, dim, pair, block]) => {
            let Made::Block(pairing, start) = child(block)? else { return None };
            Op::Rotate { x: value(x)?, angle: value(angle)?, dim: axis(dim)?, pair: axis(pair)?, pairing, start }
        }
        Node::Dot([a, b, along]) => Op::Dot { a: value(a)?, b: value(b)?, axis: axis(along)? },
        Node::Softmax([x, along, sink, base]) | Node::LogSumExp([x, along, sink, base]) => {
            let Made::Base(base) = child(base)? else { return None };
            let sink = match child(sink)? {
                Made::NoSink => None,
                sink => Some(sink.value()?),
            };
            let (x, axis) = (value(x)?, axis(along)?);
            match node {
                Node::Softmax(_) => Op::Softmax { x, axis, sink, base },
                _ => Op::LogSumExp { x, axis, sink, base },
            }
        }
    };
    Some(Made::Value(builder.push(op)))
}
