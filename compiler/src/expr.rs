//! Expressions: what is left of a graph where tables are cut out of it, and one walk over them.
//!
//! What is computed of an expression, be it code, intervals or costs, is a [`Domain`]. A domain makes something of each node once its
//! operands are made. Nodes are an enum that every domain matches on in full: a new operation is named by rustc wherever it has to be known.

use rhumb_ir::{Axis, Binary, Compare, Elem, Graph, Op, Scalar, Unary, Value};

use crate::problem::{Problem, Source, TensorId};

/// An operation of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Node {
    /// The sum of the products of a query and a key, computed before.
    Product,
    /// The element of a table or of a constant.
    Table(TensorId),
    /// The element of an input.
    Input(TensorId),
    Const(Scalar),
    /// The index along an axis.
    Iota(Axis),
    /// The length of an axis.
    Size(Axis),
    Unary(Unary, Value),
    Binary(Binary, [Value; 2]),
    /// `x y + z`, where a domain takes the product and the sum together.
    MulAdd([Value; 3]),
    Compare(Compare, [Value; 2]),
    Select([Value; 3]),
    Cast(Elem, Value),
    /// The element of `table` at an index along an axis of it.
    Gather {
        table: Value,
        axis: Axis,
        index: Value,
    },
    /// A rotation of `x`, whose angle's cosines and sines are tables.
    Rotate {
        x: Value,
    },
    /// A sum of products over an axis.
    Dot {
        a: Value,
        b: Value,
        axis: Axis,
    },
    /// What no expression computes: a softmax, a log-sum-exp, a scheme op; an input or a table that has no tensor.
    Opaque,
}

impl Node {
    /// The values that it is computed from, in order.
    pub(crate) fn operands(&self) -> Vec<Value> {
        match *self {
            Node::Product
            | Node::Table(_)
            | Node::Input(_)
            | Node::Const(_)
            | Node::Iota(_)
            | Node::Size(_)
            | Node::Opaque => Vec::new(),
            Node::Unary(_, x) | Node::Cast(_, x) | Node::Rotate { x } => vec![x],
            Node::Binary(_, operands) | Node::Compare(_, operands) => operands.to_vec(),
            Node::MulAdd(operands) | Node::Select(operands) => operands.to_vec(),
            Node::Gather { table, axis: _, index } => vec![table, index],
            Node::Dot { a, b, axis: _ } => vec![a, b],
        }
    }
}

impl Problem {
    /// The node of a value where those tables can be read that `readable` tells.
    pub(crate) fn node(&self, value: Value, readable: impl Fn(TensorId) -> bool) -> Node {
        let table = self.table_of.get(&Source::Value(value)).copied().filter(|table| readable(*table));
        Node::of(&self.graph, value, table, || self.input(value))
    }
}

impl Node {
    /// The node of a value, which may have a table that can be read, or be an input.
    pub(crate) fn of(
        graph: &Graph,
        value: Value,
        table: Option<TensorId>,
        input: impl FnOnce() -> Option<TensorId>,
    ) -> Node {
        if let Some(table) = table {
            return Node::Table(table);
        }
        match *graph.op(value) {
            Op::Input { .. } => input().map_or(Node::Opaque, Node::Input),
            Op::Const(scalar) => Node::Const(scalar),
            Op::Iota(axis) => Node::Iota(axis),
            Op::Size(axis) => Node::Size(axis),
            Op::Unary(op, x) => Node::Unary(op, x),
            Op::Binary(op, a, b) => Node::Binary(op, [a, b]),
            Op::Compare(op, a, b) => Node::Compare(op, [a, b]),
            Op::Select { cond, on_true, on_false } => Node::Select([cond, on_true, on_false]),
            Op::Cast(elem, x) => Node::Cast(elem, x),
            Op::Gather { table, axis, index } => Node::Gather { table, axis, index },
            Op::Rotate { x, .. } => Node::Rotate { x },
            Op::Dot { a, b, axis } => Node::Dot { a, b, axis },
            // `Op` is open to more; what is not known here is refused by name.
            _ => Node::Opaque,
        }
    }
}

/// Something that is made of expressions.
pub(crate) trait Domain {
    /// Why a node has nothing here.
    type Error;

    /// Whether a value is made already, or given.
    fn is_known(&self, value: Value) -> bool;

    /// The node that a value stands for here.
    fn node(&self, value: Value) -> Node;

    /// The values that a node needs made first, in order.
    fn operands(&self, node: &Node) -> Vec<Value> {
        node.operands()
    }

    /// Makes a value of its node, whose operands are known; it is known from then on.
    ///
    /// # Errors
    /// Where the node has nothing in this domain.
    fn make(&mut self, value: Value, node: Node) -> Result<(), Self::Error>;
}

/// Makes a value and all that it needs, operands first, in their order, each once.
///
/// # Errors
/// That of the first node that has nothing in the domain.
pub(crate) fn walk<D: Domain>(domain: &mut D, root: Value) -> Result<(), D::Error> {
    // Values to visit, and nodes whose operands have been visited.
    let mut stack = vec![(root, None)];
    while let Some((value, node)) = stack.pop() {
        if domain.is_known(value) {
            continue;
        }
        match node {
            None => {
                let node = domain.node(value);
                stack.push((value, Some(node)));
                stack.extend(domain.operands(&node).into_iter().rev().map(|operand| (operand, None)));
            }
            Some(node) => domain.make(value, node)?,
        }
    }
    Ok(())
}
