//! The typing rules: one function, used by the builder, the parser and the verifier.

use thiserror::Error;

use crate::graph::Graph;
use crate::op::{Binary, Compare, Hook, Op, Site, SiteId, Value};
use crate::types::{Axis, AxisSet, Elem, Extent, Type};
use crate::unary::Unary;

/// Why an op is not well formed. The text says what was found; [`OpError::hint`] says what would mend it.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpError {
    /// An operand, site or axis handle of another graph, or of a later node.
    BadHandle {
        /// The kind of handle.
        what: &'static str,
        /// Its index.
        index: usize,
    },
    /// An operand has an element type that the op does not take.
    ElemMismatch {
        /// The op.
        op: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: Elem,
    },
    /// Two operands differ in element type.
    ElemClash {
        /// The op.
        op: String,
        /// Type of the first operand.
        left: Elem,
        /// Type of the second.
        right: Elem,
    },
    /// An operand lacks an axis that the op works along.
    MissingAxis {
        /// The op.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// The axis.
        axis: String,
        /// The axes the operand has.
        found: String,
    },
    /// An operand has an axis that it must not have.
    ExtraAxis {
        /// The op.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// The axis.
        axis: String,
    },
    /// An axis needs a static length.
    DynamicAxis {
        /// The op.
        op: &'static str,
        /// The axis.
        axis: String,
    },
    /// A rotary block that does not fit.
    RotaryBlock {
        /// Number of pairs.
        pairs: u32,
        /// First element.
        start: u32,
        /// The axis.
        axis: String,
        /// Its length.
        extent: u32,
    },
    /// A dimension is named twice.
    RepeatedDim {
        /// What has the dimensions.
        what: String,
        /// The axis.
        axis: String,
    },
    /// Dimensions with an axis and another that groups it.
    RelatedDims {
        /// What has the dimensions.
        what: String,
        /// The finer axis.
        axis: String,
        /// The axis that groups it.
        coarser: String,
    },
    /// A table whose data does not match its dimensions.
    TableLength {
        /// Its dimensions.
        dims: String,
        /// Elements needed.
        expected: u64,
        /// Elements given.
        found: usize,
    },
    /// A table element that its element type can't hold.
    TableElement {
        /// Position of the element.
        index: usize,
        /// The element, printed.
        value: String,
        /// The element type.
        elem: Elem,
    },
    /// A value of an element type that only tensors in memory have.
    StoredOnly {
        /// What would have the type.
        what: &'static str,
        /// The type.
        elem: Elem,
    },
    /// A scheme op at a hook with the wrong operands.
    SchemeOperands {
        /// The hook.
        hook: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A scheme op in front of a value of its site.
    LateSite {
        /// Position of the site.
        site: usize,
        /// The field of the site.
        field: &'static str,
    },
    /// A scheme op without a scheme.
    NoScheme,
}

crate::display_with_hint!(OpError);

impl OpError {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            OpError::BadHandle { what, index } => format!("{what} {index} does not exist here"),
            OpError::ElemMismatch { op, expected, found } => format!("`{op}` takes {expected}, found {found}"),
            OpError::ElemClash { op, left, right } => {
                format!("`{op}` takes two operands of one element type, found {left} and {right}")
            }
            OpError::MissingAxis { op, operand, axis, found } => {
                format!("`{op}` works along axis `{axis}`, which its {operand} does not have (it has {found})")
            }
            OpError::ExtraAxis { op, operand, axis } => {
                format!("the {operand} of `{op}` varies over axis `{axis}`, which it must be free of")
            }
            OpError::DynamicAxis { op, axis } => {
                format!("`{op}` needs a static length of axis `{axis}`, which is dynamic")
            }
            OpError::RotaryBlock { pairs, start, axis, extent } => format!(
                "a rotary block of {pairs} pairs from element {start} ends past axis `{axis}`, which has {extent} elements"
            ),
            OpError::RepeatedDim { what, axis } => format!("axis `{axis}` is named twice in the dimensions of {what}"),
            OpError::RelatedDims { what, axis, coarser } => {
                format!("{what} has both axis `{axis}` and axis `{coarser}`, which groups it")
            }
            OpError::TableLength { dims, expected, found } => {
                format!("a table over {dims} needs {expected} elements, found {found}")
            }
            OpError::TableElement { index, value, elem } => {
                format!("table element {index} is {value}, which is no {elem}")
            }
            OpError::StoredOnly { what, elem } => {
                format!("{what} of {elem}, which is a type of tensors in memory: of inputs and outputs alone")
            }
            OpError::SchemeOperands { hook, expected } => format!("a scheme op at the {hook} hook takes {expected}"),
            OpError::LateSite { site, field } => {
                format!("site @{site} takes its `{field}` from a value that is made after this op")
            }
            OpError::NoScheme => "a scheme op needs the name of a scheme".to_owned(),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            OpError::BadHandle { .. } => "use handles of this graph, made before the op that takes them",
            OpError::ElemMismatch { .. } | OpError::ElemClash { .. } => "convert an operand with `cast`",
            OpError::MissingAxis { .. } => "give the operand that axis, or name another axis",
            OpError::ExtraAxis { .. } => "reduce or gather that axis first, or use another operand",
            OpError::DynamicAxis { .. } => "declare the axis with a number for its length",
            OpError::RotaryBlock { .. } => "use fewer pairs: at most half of the elements from the start of the block",
            OpError::RepeatedDim { .. } => "name each axis once; a second axis of the same length needs its own name",
            OpError::RelatedDims { .. } => "name one of the two: an index of the finer axis tells that of the coarser",
            OpError::TableLength { .. } => "give one element for every combination of indices, row-major",
            OpError::TableElement { .. } => "use whole numbers of 32 bits for i32, and 0 or 1 for bool",
            OpError::StoredOnly { .. } => "use f32, as whatever is computed; an output can be stored in 16 bits",
            OpError::SchemeOperands { .. } => {
                "pass the query, key or score to transform; the mask hook makes its value"
            }
            OpError::LateSite { .. } => "make the values of a site before the first op that refers to it",
            OpError::NoScheme => "give the name under which the scheme is registered",
        }
    }
}

/// Prints axes as `[b, h]`.
pub(crate) fn axes_text(graph: &Graph, axes: impl IntoIterator<Item = Axis>) -> String {
    let names: Vec<&str> =
        axes.into_iter().map(|a| graph.axes.get(a.index()).map_or("?", |info| info.name.as_str())).collect();
    format!("[{}]", names.join(", "))
}

/// The type of `op`'s result, were it the next node of `graph`.
///
/// # Errors
/// [`OpError`] where the operands do not fit the op.
pub fn infer(graph: &Graph, op: &Op) -> Result<Type, OpError> {
    Infer { graph, limit: graph.nodes.len() }.op(op)
}

/// [`infer`] for an op that stands at `position`: only earlier nodes may be operands.
pub(crate) fn infer_at(graph: &Graph, op: &Op, position: usize) -> Result<Type, OpError> {
    Infer { graph, limit: position }.op(op)
}

struct Infer<'a> {
    graph: &'a Graph,
    limit: usize,
}

impl Infer<'_> {
    fn op(&self, op: &Op) -> Result<Type, OpError> {
        for operand in op.operands() {
            if operand.index() >= self.limit {
                return Err(OpError::BadHandle { what: "value", index: operand.index() });
            }
        }
        match op {
            Op::Input { name, dims, elem } => {
                Ok(Type { elem: elem.widened(), axes: self.dims(dims, || format!("input `{name}`"))? })
            }
            Op::Const(scalar) => Ok(Type { elem: scalar.elem(), axes: AxisSet::EMPTY }),
            Op::Table { dims, elem, data } => self.table(dims, *elem, data),
            Op::Iota(axis) => {
                self.axis(*axis)?;
                Ok(Type { elem: Elem::I32, axes: AxisSet::EMPTY.with(*axis) })
            }
            Op::Size(axis) => {
                self.axis(*axis)?;
                Ok(Type { elem: Elem::I32, axes: AxisSet::EMPTY })
            }
            Op::Unary(unary, x) => self.unary(*unary, *x),
            Op::Binary(binary, a, b) => self.binary(*binary, *a, *b),
            Op::Compare(compare, a, b) => self.compare(*compare, *a, *b),
            Op::Select { cond, on_true, on_false } => {
                let cond = self.ty(*cond);
                if cond.elem != Elem::Bool {
                    return Err(self.elem_mismatch("select", "a bool condition", cond.elem));
                }
                let ty = self.same_elem("select", *on_true, *on_false)?;
                Ok(Type { elem: ty.elem, axes: self.graph.join(cond.axes, ty.axes) })
            }
            Op::Cast(elem, x) => {
                let ty = self.ty(*x);
                if elem.is_stored_only() {
                    return Err(OpError::StoredOnly { what: "a value", elem: *elem });
                }
                if *elem == Elem::Bool && ty.elem != Elem::Bool {
                    return Err(self.elem_mismatch("cast to bool", "bool; compare with 0 instead", ty.elem));
                }
                Ok(Type { elem: *elem, axes: ty.axes })
            }
            Op::Gather { table, axis, index } => {
                self.has("gather", "table", *table, *axis)?;
                let (table, index) = (self.ty(*table), self.ty(*index));
                if index.elem != Elem::I32 {
                    return Err(self.elem_mismatch("gather", "an i32 index", index.elem));
                }
                let axes = self.graph.join(table.axes.without(*axis), index.axes);
                Ok(Type { elem: table.elem, axes })
            }
            Op::Rotate { x, angle, dim, pair, pairing: _, start } => self.rotate(*x, *angle, *dim, *pair, *start),
            Op::Dot { a, b, axis } => self.dot(*a, *b, *axis),
            Op::Softmax { x, axis, sink, base: _ } => self.normalised("softmax", *x, *axis, *sink),
            Op::LogSumExp { x, axis, sink, base: _ } => {
                let ty = self.normalised("logsumexp", *x, *axis, *sink)?;
                Ok(Type { elem: ty.elem, axes: ty.axes.without(*axis) })
            }
            Op::Scheme { scheme, hook, x, site, attrs: _, instance: _ } => self.scheme(op, (scheme, *hook), *x, *site),
        }
    }

    fn dot(&self, a: Value, b: Value, axis: Axis) -> Result<Type, OpError> {
        self.has("dot", "first operand", a, axis)?;
        self.has("dot", "second operand", b, axis)?;
        let ty = self.same_elem("dot", a, b)?;
        self.want_f32("dot", ty.elem)?;
        let (a, b) = (self.ty(a).axes.without(axis), self.ty(b).axes.without(axis));
        Ok(Type { elem: ty.elem, axes: self.graph.join(a, b) })
    }

    fn compare(&self, compare: Compare, a: Value, b: Value) -> Result<Type, OpError> {
        let ty = self.same_elem(compare.name(), a, b)?;
        if ty.elem == Elem::Bool {
            return Err(self.elem_mismatch(compare.name(), "f32 or i32", Elem::Bool));
        }
        Ok(Type { elem: Elem::Bool, axes: ty.axes })
    }

    fn scheme(
        &self,
        op: &Op,
        (scheme, hook): (&str, Hook),
        x: Option<Value>,
        site_id: SiteId,
    ) -> Result<Type, OpError> {
        let Some(site) = self.graph.sites.get(site_id.index()) else {
            return Err(OpError::BadHandle { what: "site", index: site_id.index() });
        };
        self.site(site_id.index(), site)?;
        if scheme.is_empty() {
            return Err(OpError::NoScheme);
        }
        match (hook, x) {
            (Hook::Mask, None) => {
                let mut axes = AxisSet::EMPTY.with(site.query).with(site.key);
                for operand in [site.q_pos, site.k_pos, site.q_index, site.k_index].into_iter().chain(op.operands()) {
                    axes = self.graph.join(axes, self.ty(operand).axes);
                }
                Ok(Type { elem: Elem::Bool, axes })
            }
            (Hook::Mask, Some(_)) => {
                Err(OpError::SchemeOperands { hook: "mask", expected: "no operand but its attributes" })
            }
            (Hook::Query | Hook::Key | Hook::Score, None) => {
                Err(OpError::SchemeOperands { hook: hook.name(), expected: "the value it transforms" })
            }
            (Hook::Query | Hook::Key | Hook::Score, Some(x)) => {
                let ty = self.ty(x);
                if ty.elem == Elem::F32 { Ok(ty) } else { Err(self.elem_mismatch("scheme", "f32", ty.elem)) }
            }
        }
    }

    fn site(&self, id: usize, site: &Site) -> Result<(), OpError> {
        for axis in site.axes() {
            self.axis(axis)?;
        }
        match site.values().into_iter().find(|(_, value)| value.index() >= self.limit) {
            Some((field, _)) => Err(OpError::LateSite { site: id, field }),
            None => Ok(()),
        }
    }

    fn table(&self, dims: &[Axis], elem: Elem, data: &[f64]) -> Result<Type, OpError> {
        if elem.is_stored_only() {
            return Err(OpError::StoredOnly { what: "a constant table", elem });
        }
        let axes = self.dims(dims, || "a table".to_owned())?;
        let mut expected = 1u64;
        for &dim in dims {
            expected = expected.saturating_mul(u64::from(self.static_extent("table", dim)?));
        }
        if expected != data.len() as u64 {
            let dims = axes_text(self.graph, dims.iter().copied());
            return Err(OpError::TableLength { dims, expected, found: data.len() });
        }
        if let Some(index) = data.iter().position(|x| !elem.holds(*x)) {
            return Err(OpError::TableElement { index, value: data[index].to_string(), elem });
        }
        Ok(Type { elem, axes })
    }

    fn unary(&self, unary: Unary, x: Value) -> Result<Type, OpError> {
        let ty = self.ty(x);
        let (fits, expected) = match unary {
            Unary::Not => (ty.elem == Elem::Bool, "bool"),
            Unary::Neg | Unary::Abs => (ty.elem != Elem::Bool, "f32 or i32"),
            _ => (ty.elem == Elem::F32, "f32"),
        };
        if fits { Ok(ty) } else { Err(self.elem_mismatch(unary.name(), expected, ty.elem)) }
    }

    fn binary(&self, binary: Binary, a: Value, b: Value) -> Result<Type, OpError> {
        let ty = self.same_elem(binary.name(), a, b)?;
        let (fits, expected) = match binary {
            Binary::And | Binary::Or => (ty.elem == Elem::Bool, "bool"),
            Binary::Pow => (ty.elem == Elem::F32, "f32"),
            _ => (ty.elem != Elem::Bool, "f32 or i32"),
        };
        if fits { Ok(ty) } else { Err(self.elem_mismatch(binary.name(), expected, ty.elem)) }
    }

    fn rotate(&self, x: Value, angle: Value, dim: Axis, pair: Axis, start: u32) -> Result<Type, OpError> {
        self.has("rotate", "operand", x, dim)?;
        self.has("rotate", "angle", angle, pair)?;
        let (x, angle) = (self.ty(x), self.ty(angle));
        self.want_f32("rotate", x.elem)?;
        self.want_f32("rotate", angle.elem)?;
        self.free("rotate", "angle", angle.axes, dim)?;
        if x.axes.contains(pair) {
            return Err(OpError::ExtraAxis { op: "rotate", operand: "operand", axis: self.name(pair) });
        }
        let (extent, pairs) = (self.static_extent("rotate", dim)?, self.static_extent("rotate", pair)?);
        if u64::from(start) + 2 * u64::from(pairs) > u64::from(extent) {
            return Err(OpError::RotaryBlock { pairs, start, axis: self.name(dim), extent });
        }
        Ok(Type { elem: Elem::F32, axes: self.graph.join(x.axes, angle.axes.without(pair)) })
    }

    fn normalised(&self, op: &'static str, x: Value, axis: Axis, sink: Option<Value>) -> Result<Type, OpError> {
        self.has(op, "operand", x, axis)?;
        let ty = self.ty(x);
        self.want_f32(op, ty.elem)?;
        let Some(sink) = sink else { return Ok(ty) };
        let sink = self.ty(sink);
        self.want_f32(op, sink.elem)?;
        self.free(op, "sink", sink.axes, axis)?;
        Ok(Type { elem: Elem::F32, axes: self.graph.join(ty.axes, sink.axes) })
    }

    fn ty(&self, value: Value) -> Type {
        self.graph.nodes[value.index()].ty
    }

    fn name(&self, axis: Axis) -> String {
        self.graph.axis(axis).name.clone()
    }

    fn axis(&self, axis: Axis) -> Result<(), OpError> {
        if axis.index() < self.graph.axes.len() {
            Ok(())
        } else {
            Err(OpError::BadHandle { what: "axis", index: axis.index() })
        }
    }

    fn static_extent(&self, op: &'static str, axis: Axis) -> Result<u32, OpError> {
        match self.graph.axis(axis).extent {
            Extent::Static(n) => Ok(n),
            Extent::Dynamic => Err(OpError::DynamicAxis { op, axis: self.name(axis) }),
        }
    }

    fn dims(&self, dims: &[Axis], what: impl Fn() -> String) -> Result<AxisSet, OpError> {
        let mut set = AxisSet::EMPTY;
        for &dim in dims {
            self.axis(dim)?;
            if set.contains(dim) {
                return Err(OpError::RepeatedDim { what: what(), axis: self.name(dim) });
            }
            set = set.with(dim);
        }
        for &dim in dims {
            if let Some(finer) = self.graph.axis(dim).groups.filter(|finer| set.contains(*finer)) {
                return Err(OpError::RelatedDims { what: what(), axis: self.name(finer), coarser: self.name(dim) });
            }
        }
        Ok(set)
    }

    fn has(&self, op: &'static str, operand: &'static str, value: Value, axis: Axis) -> Result<(), OpError> {
        self.axis(axis)?;
        let axes = self.ty(value).axes;
        if axes.contains(axis) {
            Ok(())
        } else {
            Err(OpError::MissingAxis { op, operand, axis: self.name(axis), found: axes_text(self.graph, axes.iter()) })
        }
    }

    /// Checks that a value over `axes` can be combined along `axis` with one that has it: that it has neither that axis, nor one that
    /// groups it or that it groups. (With a finer axis the result would lose `axis`; a coarser one is not free of it.)
    fn free(&self, op: &'static str, operand: &'static str, axes: AxisSet, axis: Axis) -> Result<(), OpError> {
        let related = |other: Axis| {
            other == axis || self.graph.axis(other).groups == Some(axis) || self.graph.axis(axis).groups == Some(other)
        };
        match axes.iter().find(|other| related(*other)) {
            Some(other) => Err(OpError::ExtraAxis { op, operand, axis: self.name(other) }),
            None => Ok(()),
        }
    }

    fn want_f32(&self, op: &str, elem: Elem) -> Result<(), OpError> {
        if elem == Elem::F32 { Ok(()) } else { Err(self.elem_mismatch(op, "f32", elem)) }
    }

    fn elem_mismatch(&self, op: &str, expected: &'static str, found: Elem) -> OpError {
        OpError::ElemMismatch { op: op.to_owned(), expected, found }
    }

    fn same_elem(&self, op: &str, a: Value, b: Value) -> Result<Type, OpError> {
        let (a, b) = (self.ty(a), self.ty(b));
        if a.elem != b.elem {
            return Err(OpError::ElemClash { op: op.to_owned(), left: a.elem, right: b.elem });
        }
        Ok(Type { elem: a.elem, axes: self.graph.join(a.axes, b.axes) })
    }
}
