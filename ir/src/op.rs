//! The operations of the IR.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::instance::Instance;
use crate::types::{Axis, Elem};
use crate::unary::Unary;

/// A value of a graph: a handle into its arena. Every operand of an op was made before the op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Position of the value in [`Graph::nodes`](crate::Graph::nodes).
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A site of a graph: a handle into [`Graph::sites`](crate::Graph::sites).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub(crate) u32);

impl SiteId {
    /// Position of the site in [`Graph::sites`](crate::Graph::sites).
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A scalar constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A real number, kept in double precision until a kernel needs it.
    F32(f64),
    /// An integer.
    I32(i32),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    /// Its element type.
    pub fn elem(self) -> Elem {
        match self {
            Scalar::F32(_) => Elem::F32,
            Scalar::I32(_) => Elem::I32,
            Scalar::Bool(_) => Elem::Bool,
        }
    }

    /// Its value as a number; `true` is 1.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::F32(x) => x,
            Scalar::I32(x) => f64::from(x),
            Scalar::Bool(x) => f64::from(u8::from(x)),
        }
    }
}

/// Elementwise operations of two operands of one element type, `f32` or `i32` but where noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binary {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient. Of integers: rounded down (`-1 / 2` is `-1`), and 0 when the divisor is 0.
    Div,
    /// `a - b * floor(a / b)`: the remainder with the sign of the divisor. Of integers: 0 when the divisor is 0.
    Mod,
    /// The lesser; NaN if either is NaN.
    Min,
    /// The greater; NaN if either is NaN.
    Max,
    /// `a^b`; `f32`. Defined as `exp2(b * log2(a))` for `a > 0`, 1 where `b` is 0, 0 where `a` is 0 and `b > 0`, NaN where `a < 0` and
    /// `b` is not 0.
    Pow,
    /// Logical and; `bool`.
    And,
    /// Logical or; `bool`.
    Or,
}

/// Comparisons: two operands of one element type (`f32` or `i32`) to `bool`. Against NaN all are false but [`Compare::Ne`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compare {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// Which two elements of a rotary block of `2n` elements make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pairing {
    /// Element `j` with element `j + n` (GPT-NeoX, Llama in Hugging Face).
    Half,
    /// Element `2j` with element `2j + 1` (RoFormer, GPT-J).
    Interleaved,
}

/// The base of a softmax or log-sum-exp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// Powers of `e`: what users write.
    E,
    /// Powers of 2: what fusion makes of it.
    Two,
}

/// The part of attention that a scheme op transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// The query, before the score is computed.
    Query,
    /// The key, before the score is computed.
    Key,
    /// The score.
    Score,
    /// The mask: a `bool` value, true where the query attends to the key.
    Mask,
}

/// An attribute of a scheme op.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Float(f64),
    /// A name, as of a pairing.
    Str(String),
    /// A list of numbers.
    List(Vec<f64>),
    /// A value of the graph: an explicit position, a learned table, document ids.
    Value(Value),
}

macro_rules! attr_from {
    ($($from:ty => $attr:expr),* $(,)?) => {$(
        impl From<$from> for Attr {
            fn from(x: $from) -> Attr {
                $attr(x)
            }
        }
    )*};
}

attr_from!(bool => Attr::Bool, i64 => Attr::Int, f64 => Attr::Float, String => Attr::Str, Vec<f64> => Attr::List, Value => Attr::Value);

impl From<i32> for Attr {
    fn from(x: i32) -> Attr {
        Attr::Int(x.into())
    }
}

impl From<&str> for Attr {
    fn from(x: &str) -> Attr {
        Attr::Str(x.to_owned())
    }
}

/// The attributes of a scheme op, by name.
pub type Attrs = BTreeMap<String, Attr>;

/// Where a scheme op stands: the axes of the attention around it and the values that positions come from.
///
/// Positions feed rotations and biases; indices count tokens and feed masks. They differ for packed documents, patches and clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The axis of queries.
    pub query: Axis,
    /// The axis of keys.
    pub key: Axis,
    /// The axis of query heads, if the attention has heads.
    pub head: Option<Axis>,
    /// The axis that query and key are contracted over.
    pub dim: Axis,
    /// Position of each query.
    pub q_pos: Value,
    /// Position of each key.
    pub k_pos: Value,
    /// Token index of each query, `i32`, counted from the first key.
    pub q_index: Value,
    /// Token index of each key, `i32`.
    pub k_index: Value,
    /// The number of tokens so far, `i32`: what length-dependent schemes compare with their training length.
    pub length: Value,
}

impl Site {
    /// The axes it names.
    pub fn axes(&self) -> impl Iterator<Item = Axis> + use<> {
        let Site { query, key, head, dim, q_pos: _, k_pos: _, q_index: _, k_index: _, length: _ } = *self;
        [Some(query), Some(key), head, Some(dim)].into_iter().flatten()
    }

    /// The values it names, each with the name of its field.
    pub fn values(&self) -> [(&'static str, Value); 5] {
        let Site { query: _, key: _, head: _, dim: _, q_pos, k_pos, q_index, k_index, length } = *self;
        [("q_pos", q_pos), ("k_pos", k_pos), ("q_index", q_index), ("k_index", k_index), ("length", length)]
    }

    /// The same site with every value replaced by what `map` gives for it.
    #[must_use]
    pub fn map_values(&self, mut map: impl FnMut(Value) -> Value) -> Site {
        let Site { query, key, head, dim, q_pos, k_pos, q_index, k_index, length } = *self;
        let [q_pos, k_pos, q_index, k_index, length] = [q_pos, k_pos, q_index, k_index, length].map(&mut map);
        Site { query, key, head, dim, q_pos, k_pos, q_index, k_index, length }
    }
}

/// An operation. Operands are values made earlier; results have the type that [`infer`](crate::infer) gives.
///
/// Elementwise operations broadcast by axis name: the result varies over the axes of all operands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// A tensor bound at each call. `dims` is the order of its dimensions in memory terms: the first is outermost in a contiguous tensor.
    Input {
        /// The binding's name, unique in the graph.
        name: String,
        /// Its dimensions.
        dims: Vec<Axis>,
        /// The element type of the tensor, whose elements are [widened](Elem::widened).
        elem: Elem,
    },
    /// A scalar constant.
    Const(Scalar),
    /// A tensor constant over static axes, row-major in the order of `dims`; numbers are kept in double precision.
    Table {
        /// Its dimensions.
        dims: Vec<Axis>,
        /// Its element type.
        elem: Elem,
        /// Its elements.
        data: Arc<[f64]>,
    },
    /// The index along an axis, from 0: `i32`.
    Iota(Axis),
    /// The length of an axis: a scalar `i32`.
    Size(Axis),
    /// An elementwise operation of one operand.
    Unary(Unary, Value),
    /// An elementwise operation of two operands.
    Binary(Binary, Value, Value),
    /// An elementwise comparison.
    Compare(Compare, Value, Value),
    /// `on_true` where `cond` holds, else `on_false`.
    Select {
        /// `bool`.
        cond: Value,
        /// Taken where `cond` is true.
        on_true: Value,
        /// Taken where it is false.
        on_false: Value,
    },
    /// Conversion: `i32` to `f32` (nearest), `f32` to `i32` (toward zero, saturating, NaN to 0), `bool` to either (0 or 1).
    Cast(Elem, Value),
    /// `table` with `axis` indexed by `index` (`i32`); an index outside the axis takes the nearest element inside, and 0 where the
    /// axis is empty.
    Gather {
        /// What is indexed.
        table: Value,
        /// The axis of `table` that goes away.
        axis: Axis,
        /// The index.
        index: Value,
    },
    /// Rotates pairs of elements along `dim` by an angle in radians: `(a cos t - b sin t, b cos t + a sin t)`.
    ///
    /// The rotary block is the `2n` elements from `start`, with `n` the length of the axis `pair` of `angle`; elements outside pass.
    Rotate {
        /// What is rotated; has the axis `dim`.
        x: Value,
        /// The angle; has the axis `pair`.
        angle: Value,
        /// The axis whose elements are paired; static.
        dim: Axis,
        /// The axis of the angle that counts pairs; static.
        pair: Axis,
        /// Which elements pair up.
        pairing: Pairing,
        /// First element of the rotary block.
        start: u32,
    },
    /// Sum over `axis` of `a * b`. A factor of 0 leaves its term out even where the other factor is infinite or NaN: a key that a row
    /// does not see adds nothing to the row, whatever its value holds. Kernels promise this of the weights of a softmax that a mask or a
    /// score of `-inf` makes 0; in other dots a 0 beside an infinity or NaN may give NaN.
    Dot {
        /// First factor.
        a: Value,
        /// Second factor.
        b: Value,
        /// The axis that is summed over; in both factors.
        axis: Axis,
    },
    /// `base^x` normalised to sum to 1 along `axis`. With a sink, `base^sink` joins the sum. Where all scores, and the sink, are `-inf`,
    /// the result is 0. A score that is NaN or `inf` makes NaN of all that shares its sum.
    Softmax {
        /// The scores.
        x: Value,
        /// The axis of the sum.
        axis: Axis,
        /// An extra score that takes part in the sum alone; free of `axis`.
        sink: Option<Value>,
        /// The base.
        base: Base,
    },
    /// `log_base(sum(base^x))` along `axis`, the sink taking part in the sum; `-inf` where the sum is empty or all `-inf`.
    /// NaN where a score is NaN or `inf`.
    LogSumExp {
        /// The scores.
        x: Value,
        /// The axis of the sum, which goes away.
        axis: Axis,
        /// An extra score; free of `axis`.
        sink: Option<Value>,
        /// The base.
        base: Base,
    },
    /// A position scheme applied at one hook; lowering expands it into the other ops.
    Scheme {
        /// The scheme's name in the registry.
        scheme: String,
        /// What it transforms.
        hook: Hook,
        /// The value it transforms; `None` for [`Hook::Mask`], which makes a value.
        x: Option<Value>,
        /// The attention around it.
        site: SiteId,
        /// The scheme's attributes.
        attrs: Attrs,
        /// The scheme itself, which lowering applies; `None` where the name and the attributes are all there is, as in a parsed graph.
        instance: Option<Instance>,
    },
}

impl Op {
    /// The operands in order, those in attributes included.
    pub fn operands(&self) -> Vec<Value> {
        match self {
            Op::Input { name: _, dims: _, elem: _ }
            | Op::Const(_)
            | Op::Table { dims: _, elem: _, data: _ }
            | Op::Iota(_)
            | Op::Size(_) => Vec::new(),
            Op::Unary(_, x) | Op::Cast(_, x) => vec![*x],
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => vec![*a, *b],
            Op::Select { cond, on_true, on_false } => vec![*cond, *on_true, *on_false],
            Op::Gather { table, axis: _, index } => vec![*table, *index],
            Op::Rotate { x, angle, dim: _, pair: _, pairing: _, start: _ } => vec![*x, *angle],
            Op::Dot { a, b, axis: _ } => vec![*a, *b],
            Op::Softmax { x, axis: _, sink, base: _ } | Op::LogSumExp { x, axis: _, sink, base: _ } => {
                std::iter::once(*x).chain(*sink).collect()
            }
            Op::Scheme { scheme: _, hook: _, x, site: _, attrs, instance: _ } => x
                .iter()
                .copied()
                .chain(attrs.values().filter_map(|attr| match attr {
                    Attr::Value(value) => Some(*value),
                    _ => None,
                }))
                .collect(),
        }
    }

    /// The axes that the op names; those of its operands, or of its site, are not among them.
    pub fn axes(&self) -> Vec<Axis> {
        match self {
            Op::Input { name: _, dims, elem: _ } | Op::Table { dims, elem: _, data: _ } => dims.clone(),
            Op::Iota(axis) | Op::Size(axis) => vec![*axis],
            Op::Gather { table: _, axis, index: _ }
            | Op::Dot { a: _, b: _, axis }
            | Op::Softmax { x: _, axis, sink: _, base: _ }
            | Op::LogSumExp { x: _, axis, sink: _, base: _ } => vec![*axis],
            Op::Rotate { x: _, angle: _, dim, pair, pairing: _, start: _ } => vec![*dim, *pair],
            Op::Const(_)
            | Op::Unary(_, _)
            | Op::Binary(_, _, _)
            | Op::Compare(_, _, _)
            | Op::Select { cond: _, on_true: _, on_false: _ }
            | Op::Cast(_, _)
            | Op::Scheme { scheme: _, hook: _, x: _, site: _, attrs: _, instance: _ } => Vec::new(),
        }
    }

    /// The same op with every operand, those in attributes included, replaced by what `map` gives for it.
    #[must_use]
    pub fn map_operands(&self, mut map: impl FnMut(Value) -> Value) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Input { name: _, dims: _, elem: _ }
            | Op::Const(_)
            | Op::Table { dims: _, elem: _, data: _ }
            | Op::Iota(_)
            | Op::Size(_) => {}
            Op::Unary(_, x) | Op::Cast(_, x) => *x = map(*x),
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => {
                *a = map(*a);
                *b = map(*b);
            }
            Op::Select { cond, on_true, on_false } => {
                *cond = map(*cond);
                *on_true = map(*on_true);
                *on_false = map(*on_false);
            }
            Op::Gather { table, axis: _, index } => {
                *table = map(*table);
                *index = map(*index);
            }
            Op::Rotate { x, angle, dim: _, pair: _, pairing: _, start: _ } => {
                *x = map(*x);
                *angle = map(*angle);
            }
            Op::Dot { a, b, axis: _ } => {
                *a = map(*a);
                *b = map(*b);
            }
            Op::Softmax { x, axis: _, sink, base: _ } | Op::LogSumExp { x, axis: _, sink, base: _ } => {
                *x = map(*x);
                if let Some(sink) = sink {
                    *sink = map(*sink);
                }
            }
            Op::Scheme { scheme: _, hook: _, x, site: _, attrs, instance: _ } => {
                if let Some(x) = x {
                    *x = map(*x);
                }
                for attr in attrs.values_mut() {
                    if let Attr::Value(value) = attr {
                        *value = map(*value);
                    }
                }
            }
        }
        op
    }
}
