//! The printer of the text form. It is total: handles that lead nowhere print as `%?7` or `?7`, so that errors can show them.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use crate::graph::Graph;
use crate::op::{Attr, Base, Op, Scalar, Site, SiteId, Value};
use crate::types::{Axis, Elem, ElemKind, Extent, Type};

/// Lists of numbers are wrapped at this column.
const WIDTH: usize = 100;
/// Elements of a list that an error message shows.
const SHOWN: usize = 4;

/// Whether `name` can stand in the text form without quotes.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a label can be the name of a value: an identifier that may contain dots.
fn is_value_name(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// Prints one op without its result, long data shortened.
pub(crate) fn op_text(graph: &Graph, op: &Op) -> String {
    Printer::new(graph).brief(op)
}

/// How much of a long list is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// The first elements, for a message.
    Short,
    /// All, over several lines.
    Whole,
}

/// Prints parts of one graph; knows the names of its values.
pub(crate) struct Printer<'g> {
    graph: &'g Graph,
    names: Vec<String>,
}

impl<'g> Printer<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Printer<'g> {
        Printer { graph, names: names(graph) }
    }

    pub(crate) fn value(&self, value: Value) -> String {
        match self.names.get(value.index()) {
            Some(name) => format!("%{name}"),
            None => format!("%?{}", value.index()),
        }
    }

    pub(crate) fn axis(&self, axis: Axis) -> String {
        match self.graph.axes.get(axis.index()) {
            Some(info) => name_text(&info.name),
            None => format!("?{}", axis.index()),
        }
    }

    fn dims(&self, dims: impl IntoIterator<Item = Axis>) -> String {
        let names: Vec<String> = dims.into_iter().map(|axis| self.axis(axis)).collect();
        names.join(", ")
    }

    /// `f32[b, h]`; a scalar has no brackets.
    pub(crate) fn shaped(&self, elem: Elem, dims: impl IntoIterator<Item = Axis>) -> String {
        let dims = self.dims(dims);
        if dims.is_empty() { elem.name().to_owned() } else { format!("{elem}[{dims}]") }
    }

    pub(crate) fn ty(&self, ty: Type) -> String {
        self.shaped(ty.elem, ty.axes.iter())
    }

    /// The op, without its result and type.
    pub(crate) fn op(&self, op: &Op, data: Data) -> String {
        let value = |v: &Value| self.value(*v);
        let axis = |a: &Axis| self.axis(*a);
        match op {
            Op::Input { name, dims: _, elem: _ } => format!("input {name:?}"),
            Op::Const(scalar) => format!("const {}", scalar_text(*scalar)),
            Op::Table { dims: _, elem, data: elements } => {
                let elements = elements.iter().map(|x| element_text(*elem, *x));
                format!("table {}", list_text(elements, data, 4))
            }
            Op::Iota(a) => format!("iota {}", axis(a)),
            Op::Size(a) => format!("size {}", axis(a)),
            Op::Unary(unary, x) => format!("{} {}", unary.name(), value(x)),
            Op::Binary(binary, a, b) => format!("{} {}, {}", binary.name(), value(a), value(b)),
            Op::Compare(compare, a, b) => format!("{} {}, {}", compare.name(), value(a), value(b)),
            Op::Select { cond, on_true, on_false } => {
                format!("select {}, {}, {}", value(cond), value(on_true), value(on_false))
            }
            Op::Cast(elem, x) => format!("cast {} to {elem}", value(x)),
            Op::Gather { table, axis: a, index } => {
                format!("gather {} over {} at {}", value(table), axis(a), value(index))
            }
            Op::Rotate { x, angle, dim, pair, pairing, start } => {
                let from = if *start == 0 { String::new() } else { format!(" from {start}") };
                let (x, dim, angle, pair) = (value(x), axis(dim), value(angle), axis(pair));
                format!("rotate {x} over {dim} by {angle} over {pair} {}{from}", pairing.name())
            }
            Op::Dot { a, b, axis: along } => format!("dot {}, {} over {}", value(a), value(b), axis(along)),
            Op::Softmax { x, axis, sink, base } => self.normalised("softmax", *x, *axis, *sink, *base),
            Op::LogSumExp { x, axis, sink, base } => self.normalised("logsumexp", *x, *axis, *sink, *base),
            Op::Scheme { scheme, hook, x, site, attrs, instance: _ } => {
                let mut text = format!("scheme {}.{}", name_text(scheme), hook.name());
                if let Some(x) = x {
                    let _ = write!(text, " {}", value(x));
                }
                let _ = write!(text, " @{}", site.index());
                if !attrs.is_empty() {
                    let attrs: Vec<String> = attrs
                        .iter()
                        .map(|(name, attr)| format!("{} = {}", name_text(name), self.attr(attr, data)))
                        .collect();
                    let _ = write!(text, " {{{}}}", attrs.join(", "));
                }
                text
            }
        }
    }

    fn normalised(&self, op: &str, x: Value, axis: Axis, sink: Option<Value>, base: Base) -> String {
        let mut text = format!("{op} {} over {}", self.value(x), self.axis(axis));
        if let Some(sink) = sink {
            let _ = write!(text, " sink {}", self.value(sink));
        }
        match base {
            Base::E => {}
            Base::Two => text.push_str(" base 2"),
        }
        text
    }

    fn attr(&self, attr: &Attr, data: Data) -> String {
        match attr {
            Attr::Bool(x) => x.to_string(),
            Attr::Int(x) => x.to_string(),
            Attr::Float(x) => real_text(*x),
            Attr::Str(text) => format!("{text:?}"),
            Attr::List(list) => list_text(list.iter().map(|x| real_text(*x)), data, 4),
            Attr::Value(value) => self.value(*value),
        }
    }

    /// The op for a message: with its type where that says what the op does.
    pub(crate) fn brief(&self, op: &Op) -> String {
        let text = self.op(op, Data::Short);
        match op {
            Op::Input { name: _, dims, elem } | Op::Table { dims, elem, data: _ } => {
                format!("{text} : {}", self.shaped(*elem, dims.iter().copied()))
            }
            _ => text,
        }
    }

    /// The whole line of a value: `%s = dot %q, %k over d : f32[h, q, k]`.
    pub(crate) fn line(&self, value: Value, data: Data) -> String {
        let Some(node) = self.graph.nodes.get(value.index()) else { return self.value(value) };
        let ty = match &node.op {
            Op::Input { name: _, dims, elem } | Op::Table { dims, elem, data: _ } => {
                self.shaped(*elem, dims.iter().copied())
            }
            _ => self.ty(node.ty),
        };
        format!("{} = {} : {ty}", self.value(value), self.op(&node.op, data))
    }

    pub(crate) fn axis_line(&self, axis: Axis) -> String {
        let Some(info) = self.graph.axes.get(axis.index()) else { return self.axis(axis) };
        let crate::types::AxisInfo { name, extent, groups } = info;
        let extent = match extent {
            Extent::Static(n) => n.to_string(),
            Extent::Dynamic => "?".to_owned(),
        };
        let groups = groups.map_or_else(String::new, |finer| format!(" groups {}", self.axis(finer)));
        format!("axis {} = {extent}{groups}", name_text(name))
    }

    pub(crate) fn site_line(&self, id: SiteId) -> String {
        let Some(site) = self.graph.sites.get(id.index()) else { return format!("site @{}", id.index()) };
        let Site { query, key, head, dim, q_pos, k_pos, q_index, k_index, length } = *site;
        let head = head.map_or_else(String::new, |head| format!("head = {}, ", self.axis(head)));
        format!(
            "site @{} {{query = {}, key = {}, {head}dim = {}, q_pos = {}, k_pos = {}, q_index = {}, k_index = {}, length = {}}}",
            id.index(),
            self.axis(query),
            self.axis(key),
            self.axis(dim),
            self.value(q_pos),
            self.value(k_pos),
            self.value(q_index),
            self.value(k_index),
            self.value(length),
        )
    }

    pub(crate) fn output_line(&self, index: usize) -> String {
        let Some(output) = self.graph.outputs.get(index) else { return "output".to_owned() };
        let crate::graph::Output { name, value, dims, elem } = output;
        let ty = match self.graph.nodes.get(value.index()) {
            Some(_) => self.shaped(*elem, dims.iter().copied()),
            None => format!("?[{}]", self.dims(dims.iter().copied())),
        };
        format!("output {name:?} = {} : {ty}", self.value(*value))
    }

    pub(crate) fn header(&self) -> String {
        format!("graph {}", name_text(&self.graph.name))
    }
}

/// One name for each value, without the `%`: its label (an input's name, where it has none), `label.2` and so on where an earlier value
/// has that name, its position where it has no label.
fn names(graph: &Graph) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut next = std::collections::BTreeMap::<&str, usize>::new();
    let mut names = Vec::with_capacity(graph.nodes.len());
    for (position, node) in graph.nodes.iter().enumerate() {
        let own = match (&node.label, &node.op) {
            (Some(label), _) => Some(label.as_str()),
            (None, Op::Input { name, dims: _, elem: _ }) => Some(name.as_str()),
            _ => None,
        };
        let name = match own.filter(|label| is_value_name(label)) {
            None => position.to_string(),
            Some(label) if !taken.contains(label) => label.to_owned(),
            Some(label) => {
                let count = next.entry(label).or_insert(1);
                loop {
                    *count += 1;
                    let name = format!("{label}.{count}");
                    if !taken.contains(&name) {
                        break name;
                    }
                }
            }
        };
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// A name as it stands in the text: quoted unless it is an identifier.
fn name_text(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { format!("{name:?}") }
}

/// The shortest text that reads back as the same number, and reads as a real number: `1.0`, `1e-7`, `-inf`, `nan`.
fn real_text(x: f64) -> String {
    if x.is_nan() { "nan".to_owned() } else { format!("{x:?}") }
}

fn scalar_text(scalar: Scalar) -> String {
    match scalar {
        Scalar::F32(x) => real_text(x),
        Scalar::I32(x) => x.to_string(),
        Scalar::Bool(x) => x.to_string(),
    }
}

fn element_text(elem: Elem, x: f64) -> String {
    match elem.kind() {
        ElemKind::Real => real_text(x),
        // A verified element is whole: `{}` shows it without a point, and shows what is wrong with others. Adding 0 makes -0 a 0.
        ElemKind::Whole => (x + 0.0).to_string(),
        ElemKind::Truth if x == 0.0 => "false".to_owned(),
        ElemKind::Truth if x == 1.0 => "true".to_owned(),
        ElemKind::Truth => x.to_string(),
    }
}

/// `[1.0, 2.0]`; over several lines where that is longer than [`WIDTH`].
fn list_text(elements: impl ExactSizeIterator<Item = String>, data: Data, indent: usize) -> String {
    let count = elements.len();
    if data == Data::Short && count > SHOWN {
        let shown: Vec<String> = elements.take(SHOWN).collect();
        return format!("[{}, ... {count} in all]", shown.join(", "));
    }
    let elements: Vec<String> = elements.collect();
    let length: usize = elements.iter().map(|text| text.len() + 2).sum();
    if data == Data::Short || length <= WIDTH - 30 {
        return format!("[{}]", elements.join(", "));
    }
    let mut text = "[".to_owned();
    let mut column = usize::MAX;
    for element in &elements {
        if column.saturating_add(element.len() + 2) > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(element);
        text.push(',');
        column += element.len() + 1;
    }
    text.push_str("\n]");
    text
}

impl fmt::Display for Graph {
    /// The text form. [`Graph::parse`] reads it back; what it reads prints the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &|_| None)
    }
}

impl Graph {
    /// Writes the text form, with notes as comments behind ops.
    fn write(&self, f: &mut dyn fmt::Write, note: &dyn Fn(Value) -> Option<String>) -> fmt::Result {
        let printer = Printer::new(self);
        writeln!(f, "{}", printer.header())?;
        if !self.axes.is_empty() {
            writeln!(f)?;
        }
        for axis in (0..self.axes.len()).filter_map(Axis::from_index) {
            writeln!(f, "{}", printer.axis_line(axis))?;
        }
        if !self.nodes.is_empty() {
            writeln!(f)?;
        }
        let mut printed = vec![false; self.sites.len()];
        for (value, node) in self.values().zip(&self.nodes) {
            // A site stands in front of the first op that refers to it: there all its values exist.
            if let Op::Scheme { site, .. } = &node.op
                && let Some(printed @ false) = printed.get_mut(site.index())
            {
                *printed = true;
                writeln!(f, "{}", printer.site_line(*site))?;
            }
            write!(f, "{}", printer.line(value, Data::Whole))?;
            match note(value) {
                // A comment ends with its line.
                Some(note) => writeln!(f, " // {}", note.replace(['\n', '\r'], " "))?,
                None => writeln!(f)?,
            }
        }
        for (index, _) in printed.iter().enumerate().filter(|(_, printed)| !**printed) {
            writeln!(f, "{}", printer.site_line(SiteId(index as u32)))?;
        }
        if !self.outputs.is_empty() {
            writeln!(f)?;
        }
        for index in 0..self.outputs.len() {
            writeln!(f, "{}", printer.output_line(index))?;
        }
        Ok(())
    }

    /// The text form with notes on values, as comments behind their ops: [`Graph::parse`] reads the same graph.
    pub fn annotated(&self, note: impl Fn(Value) -> Option<String>) -> String {
        let mut text = String::new();
        // A string takes all that is written to it.
        let _ = self.write(&mut text, &note);
        text
    }

    /// The names that the text form gives to the values, in order, without the `%`.
    pub fn value_names(&self) -> Vec<String> {
        names(self)
    }

    /// The line of a value in the text form, long data shortened: for messages.
    pub fn line(&self, value: Value) -> String {
        Printer::new(self).line(value, Data::Short)
    }

    /// A type in the text form: `f32[b, h]`, or `f32` for a scalar.
    pub fn type_text(&self, ty: Type) -> String {
        Printer::new(self).ty(ty)
    }
}
