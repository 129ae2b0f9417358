//! What a scheme in text consists of: its declaration, and one list of operations whose operands come before them.

use std::sync::Arc;

use rhumb_ir::source::Span;
use rhumb_ir::{Binary, Compare, Elem, Hook, Unary};

use crate::info::SchemeInfo;

/// The number of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(pub(super) u32);

impl Id {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A scheme in text, read and checked as far as it can be without the attention around.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) info: SchemeInfo,
    /// What stands for an attribute that is left out; of the same number as in `info`.
    pub(super) attributes: Vec<Attribute>,
    pub(super) axes: Vec<OwnAxis>,
    pub(super) nodes: Vec<Node>,
    /// The last that is said of each hook.
    pub(super) hooks: Vec<(Hook, Id)>,
    pub(super) requirements: Vec<Requirement>,
    /// The whole text, for places in errors.
    pub(super) source: Arc<str>,
}

/// What an attribute stands for in expressions.
#[derive(Clone, Debug)]
pub(super) enum Attribute {
    /// A number, truth value, name or list, and what it is when left out.
    Constant { default: Option<rhumb_ir::Attr> },
    /// A value of the graph.
    Tensor { elem: Elem, axes: Vec<TensorAxis> },
}

/// An axis that a tensor may have.
#[derive(Clone, Debug)]
pub(super) enum TensorAxis {
    /// One of the attention.
    Site(SiteAxis),
    /// One of the scheme's own, and its length if that is told.
    Own { axis: usize, length: Option<Id> },
}

/// An axis of the attention around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SiteAxis {
    Head,
    Query,
    Key,
    Dim,
}

impl SiteAxis {
    pub(super) const ALL: [(&'static str, SiteAxis); 4] =
        [("head", SiteAxis::Head), ("query", SiteAxis::Query), ("key", SiteAxis::Key), ("dim", SiteAxis::Dim)];
}

/// An axis that a scheme names.
#[derive(Clone, Debug)]
pub(super) struct OwnAxis {
    pub(super) name: String,
    pub(super) source: AxisSource,
}

/// Where an axis comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum AxisSource {
    /// The scheme declares it, of this length.
    Declared(Id),
    /// The value of an attribute has it.
    Attribute(usize),
}

/// Something that must hold of constants.
#[derive(Clone, Debug)]
pub(super) struct Requirement {
    pub(super) condition: Id,
    pub(super) message: String,
}

/// What an operation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Bool,
    List,
    Name,
    Axis,
}

impl Kind {
    /// As errors name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Number => "a number",
            Kind::Bool => "a truth value",
            Kind::List => "a list",
            Kind::Name => "a name",
            Kind::Axis => "an axis",
        }
    }

    /// Several of it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Number => "numbers",
            Kind::Bool => "truth values",
            Kind::List => "a list",
            Kind::Name => "a name in quotes",
            Kind::Axis => "an axis",
        }
    }
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) kind: Kind,
    /// Whether the compiler knows it.
    pub(super) is_constant: bool,
    /// The hook whose operand it reads.
    pub(super) reads: Option<Hook>,
    pub(super) span: Span,
}

/// What an operation does.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Number {
        x: f64,
        elem: Elem,
    },
    Bool(bool),
    Name(String),
    List(Vec<Id>),
    /// The query, key or score that a hook is given.
    Operand,
    Known(Known),
    Attribute(usize),
    /// The index along an axis of the scheme's own; or that axis itself, where a function works along one.
    Index(usize),
    /// The axis of a head's elements.
    Dim,
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    /// The quotient of real numbers.
    Quotient(Id, Id),
    /// The quotient rounded down.
    Floored(Id, Id),
    /// The angle of the point `(x, y)`, of `y` and `x`.
    Atan2(Id, Id),
    Compare(Compare, Id, Id),
    Select(Id, Id, Id),
    Cast(Elem, Id),
    Length(Id),
    /// The element of a list.
    Element {
        list: Id,
        index: Id,
    },
    Gather {
        table: Id,
        axis: usize,
        index: Id,
    },
    Rotate {
        x: Id,
        angle: Id,
        pair: usize,
        pairing: Option<Id>,
        from: Option<Id>,
    },
    Dot {
        a: Id,
        b: Id,
        axis: DotAxis,
    },
    Sum {
        x: Id,
        axis: DotAxis,
    },
}

/// An axis that a sum goes over.
#[derive(Clone, Copy, Debug)]
pub(super) enum DotAxis {
    Own(usize),
    Dim,
}

impl Op {
    /// What it is computed of.
    pub(super) fn operands(&self) -> Vec<Id> {
        match self {
            Op::Number { .. } | Op::Bool(_) | Op::Name(_) => Vec::new(),
            Op::Operand | Op::Known(_) | Op::Attribute(_) | Op::Index(_) | Op::Dim => Vec::new(),
            Op::List(elements) => elements.clone(),
            Op::Unary(_, x) | Op::Cast(_, x) | Op::Length(x) | Op::Sum { x, axis: _ } => vec![*x],
            Op::Binary(_, a, b) | Op::Quotient(a, b) | Op::Floored(a, b) | Op::Atan2(a, b) | Op::Compare(_, a, b) => {
                vec![*a, *b]
            }
            Op::Dot { a, b, axis: _ } => vec![*a, *b],
            Op::Select(a, b, c) => vec![*a, *b, *c],
            Op::Element { list, index } => vec![*list, *index],
            Op::Gather { table, axis: _, index } => vec![*table, *index],
            Op::Rotate { x, angle, pair: _, pairing, from } => {
                [*x, *angle].into_iter().chain(*pairing).chain(*from).collect()
            }
        }
    }
}

/// What the attention around tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    QueryPosition,
    KeyPosition,
    QueryIndex,
    KeyIndex,
    Length,
    Head,
    Heads,
    HeadDim,
}

impl Known {
    pub(super) const ALL: [(&'static str, Known); 8] = [
        ("q_pos", Known::QueryPosition),
        ("k_pos", Known::KeyPosition),
        ("q_index", Known::QueryIndex),
        ("k_index", Known::KeyIndex),
        ("length", Known::Length),
        ("head", Known::Head),
        ("heads", Known::Heads),
        ("head_dim", Known::HeadDim),
    ];

    /// Whether the compiler knows it.
    pub(super) fn is_constant(self) -> bool {
        matches!(self, Known::Head | Known::Heads | Known::HeadDim)
    }
}

/// Numbers that have names.
pub(super) const NUMBERS: [(&str, f64); 3] = [("pi", std::f64::consts::PI), ("inf", f64::INFINITY), ("nan", f64::NAN)];

/// Words that begin or join something.
pub(super) const WORDS: [&str; 9] = ["scheme", "axis", "require", "and", "or", "not", "true", "false", "mask"];
