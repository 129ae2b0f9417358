//! The egg language: IR ops whose parameters (axes, rotary blocks, bases) are leaf children, so that patterns can name them.

use std::fmt;
use std::hash::Hash;

use egg::{FromOp, FromOpError, Id, Language};
use rhumb_ir::{Axis, Base, Binary, Compare, Elem, Op, Pairing, Scalar, Unary, Value};

/// A constant with the equality of its bits, so that it can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Number {
    /// The bits of an `f32` constant, which the IR keeps in double precision.
    F32(u64),
    /// An integer.
    I32(i32),
    /// A truth value.
    Bool(bool),
}

impl Number {
    /// An `f32` constant.
    pub(crate) fn real(x: f64) -> Number {
        Number::F32(x.to_bits())
    }

    /// The constant as the IR has it.
    pub(crate) fn scalar(self) -> Scalar {
        match self {
            Number::F32(bits) => Scalar::F32(f64::from_bits(bits)),
            Number::I32(x) => Scalar::I32(x),
            Number::Bool(x) => Scalar::Bool(x),
        }
    }
}

impl From<Scalar> for Number {
    fn from(scalar: Scalar) -> Number {
        match scalar {
            Scalar::F32(x) => Number::real(x),
            Scalar::I32(x) => Number::I32(x),
            Scalar::Bool(x) => Number::Bool(x),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Number::F32(bits) => write!(f, "{:?}", f64::from_bits(bits)),
            Number::I32(x) => write!(f, "{x}i"),
            Number::Bool(x) => write!(f, "{x}"),
        }
    }
}

/// A node of the e-graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    /// An input or a table: the value of the user's graph.
    Leaf(u32),
    /// A constant.
    Const(Number),
    /// Parameter: an axis.
    Axis(Axis),
    /// Parameter: pairing and first element of a rotary block.
    Block(Pairing, u32),
    /// Parameter: base of a softmax or log-sum-exp.
    Base(Base),
    /// Parameter: the absent sink.
    NoSink,
    /// Index along an axis.
    Iota([Id; 1]),
    /// Length of an axis.
    Size([Id; 1]),
    /// `x, angle, dim, pair, block`.
    Rotate([Id; 5]),
    /// `a, b, axis`.
    Dot([Id; 3]),
    /// `x, axis, sink, base`.
    Softmax([Id; 4]),
    /// `x, axis, sink, base`.
    LogSumExp([Id; 4]),
    /// `cond, on_true, on_false`.
    Select([Id; 3]),
    /// `table, axis, index`.
    Gather([Id; 3]),
    /// Elementwise, one operand.
    Unary(Unary, [Id; 1]),
    /// Elementwise, two operands.
    Binary(Binary, [Id; 2]),
    /// Comparison.
    Compare(Compare, [Id; 2]),
    /// Conversion.
    Cast(Elem, [Id; 1]),
}

impl Node {
    /// The node of an op whose operands have been added; parameters are added through `add`. `None` for a scheme op.
    pub(crate) fn of(op: &Op, value: Value, id: impl Fn(Value) -> Id, mut add: impl FnMut(Node) -> Id) -> Option<Node> {
        Some(match op {
            Op::Input { .. } | Op::Table { .. } => Node::Leaf(value.index() as u32),
            Op::Const(scalar) => Node::Const((*scalar).into()),
            Op::Iota(axis) => Node::Iota([add(Node::Axis(*axis))]),
            Op::Size(axis) => Node::Size([add(Node::Axis(*axis))]),
            Op::Unary(op, x) => Node::Unary(*op, [id(*x)]),
            Op::Binary(op, a, b) => Node::Binary(*op, [id(*a), id(*b)]),
            Op::Compare(op, a, b) => Node::Compare(*op, [id(*a), id(*b)]),
            Op::Select { cond, on_true, on_false } => Node::Select([id(*cond), id(*on_true), id(*on_false)]),
            Op::Cast(elem, x) => Node::Cast(*elem, [id(*x)]),
            Op::Gather { table, axis, index } => Node::Gather([id(*table), add(Node::Axis(*axis)), id(*index)]),
            Op::Rotate { x, angle, dim, pair, pairing, start } => Node::Rotate([
                id(*x),
                id(*angle),
                add(Node::Axis(*dim)),
                add(Node::Axis(*pair)),
                add(Node::Block(*pairing, *start)),
            ]),
            Op::Dot { a, b, axis } => Node::Dot([id(*a), id(*b), add(Node::Axis(*axis))]),
            Op::Softmax { x, axis, sink, base } => {
                let axis = add(Node::Axis(*axis));
                let sink = sink.map_or_else(|| add(Node::NoSink), &id);
                Node::Softmax([id(*x), axis, sink, add(Node::Base(*base))])
            }
            Op::LogSumExp { x, axis, sink, base } => {
                let axis = add(Node::Axis(*axis));
                let sink = sink.map_or_else(|| add(Node::NoSink), &id);
                Node::LogSumExp([id(*x), axis, sink, add(Node::Base(*base))])
            }
            _ => return None,
        })
    }
}

/// The place of an op in the list of its kind.
fn place<T: PartialEq>(all: &[T], op: &T) -> usize {
    all.iter().position(|other| other == op).unwrap_or(all.len())
}

impl Node {
    /// Which of equally dear forms of a class is taken: that of the least rank, and of those with the same op that with the older operands.
    /// So a constant factor ends up inside a rotation, a mask outside a sum, and operations stand in the order of their lists.
    pub(crate) fn rank(&self) -> (u8, usize) {
        match self {
            // What is there anyway.
            Node::Leaf(_) => (0, 0),
            Node::Const(_) => (1, 0),
            // Parameters have one form.
            Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => (2, 0),
            Node::Iota(_) => (3, 0),
            Node::Size(_) => (4, 0),
            // What takes whole rows comes before what takes elements.
            Node::Rotate(_) => (5, 0),
            Node::Dot(_) => (6, 0),
            Node::Softmax(_) => (7, 0),
            Node::LogSumExp(_) => (8, 0),
            // Masks are the outermost.
            Node::Select(_) => (9, 0),
            Node::Gather(_) => (10, 0),
            Node::Unary(op, _) => (11, place(&Unary::ALL, op)),
            Node::Binary(op, _) => (12, place(&Binary::ALL, op)),
            Node::Compare(op, _) => (13, place(&Compare::ALL, op)),
            Node::Cast(..) => (14, 0),
        }
    }
}

impl Language for Node {
    type Discriminant = (u8, u8);

    fn discriminant(&self) -> (u8, u8) {
        match self {
            Node::Leaf(_) => (0, 0),
            Node::Const(_) => (1, 0),
            Node::Axis(_) => (2, 0),
            Node::Block(..) => (3, 0),
            Node::Base(_) => (4, 0),
            Node::NoSink => (5, 0),
            Node::Iota(_) => (6, 0),
            Node::Size(_) => (7, 0),
            Node::Rotate(_) => (8, 0),
            Node::Dot(_) => (9, 0),
            Node::Softmax(_) => (10, 0),
            Node::LogSumExp(_) => (11, 0),
            Node::Select(_) => (12, 0),
            Node::Gather(_) => (13, 0),
            Node::Unary(op, _) => (14, *op as u8),
            Node::Binary(op, _) => (15, *op as u8),
            Node::Compare(op, _) => (16, *op as u8),
            Node::Cast(elem, _) => (17, *elem as u8),
        }
    }

    fn matches(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Leaf(a), Node::Leaf(b)) => a == b,
            (Node::Const(a), Node::Const(b)) => a == b,
            (Node::Axis(a), Node::Axis(b)) => a == b,
            (Node::Block(a, m), Node::Block(b, n)) => (a, m) == (b, n),
            (Node::Base(a), Node::Base(b)) => a == b,
            _ => self.discriminant() == other.discriminant(),
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            Node::Leaf(_) | Node::Const(_) | Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => &[],
            Node::Iota(ids) | Node::Size(ids) | Node::Unary(_, ids) | Node::Cast(_, ids) => ids,
            Node::Binary(_, ids) | Node::Compare(_, ids) => ids,
            Node::Dot(ids) | Node::Select(ids) | Node::Gather(ids) => ids,
            Node::Softmax(ids) | Node::LogSumExp(ids) => ids,
            Node::Rotate(ids) => ids,
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Node::Leaf(_) | Node::Const(_) | Node::Axis(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => &mut [],
            Node::Iota(ids) | Node::Size(ids) | Node::Unary(_, ids) | Node::Cast(_, ids) => ids,
            Node::Binary(_, ids) | Node::Compare(_, ids) => ids,
            Node::Dot(ids) | Node::Select(ids) | Node::Gather(ids) => ids,
            Node::Softmax(ids) | Node::LogSumExp(ids) => ids,
            Node::Rotate(ids) => ids,
        }
    }
}

/// The sign of a binary op in patterns and proofs.
pub(crate) fn binary_sign(op: Binary) -> &'static str {
    match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::Mod => "%",
        Binary::Min => "min",
        Binary::Max => "max",
        Binary::Pow => "pow",
        Binary::And => "and",
        Binary::Or => "or",
    }
}

/// The sign of a comparison in patterns and proofs.
pub(crate) fn compare_sign(op: Compare) -> &'static str {
    match op {
        Compare::Eq => "==",
        Compare::Ne => "!=",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Leaf(value) => write!(f, "%{value}"),
            Node::Const(number) => number.fmt(f),
            Node::Axis(axis) => write!(f, "axis:{}", axis.index()),
            Node::Block(Pairing::Half, start) => write!(f, "half:{start}"),
            Node::Block(Pairing::Interleaved, start) => write!(f, "interleaved:{start}"),
            Node::Base(Base::E) => f.write_str("e"),
            Node::Base(Base::Two) => f.write_str("two"),
            Node::NoSink => f.write_str("none"),
            Node::Iota(_) => f.write_str("iota"),
            Node::Size(_) => f.write_str("size"),
            Node::Rotate(_) => f.write_str("rotate"),
            Node::Dot(_) => f.write_str("dot"),
            Node::Softmax(_) => f.write_str("softmax"),
            Node::LogSumExp(_) => f.write_str("logsumexp"),
            Node::Select(_) => f.write_str("select"),
            Node::Gather(_) => f.write_str("gather"),
            Node::Unary(op, _) => f.write_str(op.name()),
            Node::Binary(op, _) => f.write_str(binary_sign(*op)),
            Node::Compare(op, _) => f.write_str(compare_sign(*op)),
            Node::Cast(elem, _) => f.write_str(elem.name()),
        }
    }
}

impl FromOp for Node {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Node, FromOpError> {
        let ids = children.as_slice();
        let node = match (op, ids) {
            ("none", []) => Some(Node::NoSink),
            ("e", []) => Some(Node::Base(Base::E)),
            ("two", []) => Some(Node::Base(Base::Two)),
            ("log2e", []) => Some(Node::Const(Number::real(std::f64::consts::LOG2_E))),
            ("ln2", []) => Some(Node::Const(Number::real(std::f64::consts::LN_2))),
            ("true", []) => Some(Node::Const(Number::Bool(true))),
            ("false", []) => Some(Node::Const(Number::Bool(false))),
            ("iota", &[axis]) => Some(Node::Iota([axis])),
            ("size", &[axis]) => Some(Node::Size([axis])),
            ("rotate", &[x, angle, dim, pair, block]) => Some(Node::Rotate([x, angle, dim, pair, block])),
            ("dot", &[a, b, axis]) => Some(Node::Dot([a, b, axis])),
            ("softmax", &[x, axis, sink, base]) => Some(Node::Softmax([x, axis, sink, base])),
            ("logsumexp", &[x, axis, sink, base]) => Some(Node::LogSumExp([x, axis, sink, base])),
            ("select", &[cond, on_true, on_false]) => Some(Node::Select([cond, on_true, on_false])),
            ("gather", &[table, axis, index]) => Some(Node::Gather([table, axis, index])),
            ("f32", &[x]) => Some(Node::Cast(Elem::F32, [x])),
            ("i32", &[x]) => Some(Node::Cast(Elem::I32, [x])),
            (number, []) => match number.strip_suffix('i') {
                Some(whole) => whole.parse().ok().map(|x| Node::Const(Number::I32(x))),
                None => number.parse().ok().map(|x| Node::Const(Number::real(x))),
            },
            (name, &[x]) => Unary::ALL.into_iter().find(|op| op.name() == name).map(|op| Node::Unary(op, [x])),
            (sign, &[a, b]) => {
                let binary = Binary::ALL.into_iter().find(|op| binary_sign(*op) == sign);
                let compare = Compare::ALL.into_iter().find(|op| compare_sign(*op) == sign);
                binary.map(|op| Node::Binary(op, [a, b])).or_else(|| compare.map(|op| Node::Compare(op, [a, b])))
            }
            _ => None,
        };
        node.ok_or_else(|| FromOpError::new(op, children))
    }
}
