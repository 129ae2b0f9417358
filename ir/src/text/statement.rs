//! The parser: statements.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::Fault;
use crate::graph::{Node, Output};
use crate::infer::infer;
use crate::op::{Op, Scalar, Site, SiteId, Value};
use crate::types::{Axis, AxisInfo, AxisSet, Elem, ElemKind, Extent, MAX_AXES, Type};

use super::error::ParseFault;
use super::grammar;
use super::lex::Token;
use super::op::Draft;
use super::parser::{Fallible, Parser, unknown};
use super::print::Printer;
use super::source::Span;

/// A type as written, the axes in the order of writing.
struct Annotation {
    elem: Elem,
    dims: Vec<Axis>,
    span: Span,
}

impl<'s> Parser<'s> {
    pub(super) fn axis_statement(&mut self) -> Fallible<()> {
        self.form = grammar::AXIS;
        self.advance();
        let (name, span) = self.ident("the name of an axis")?;
        if self.graph.axes.len() == MAX_AXES {
            return Err((span, ParseFault::TooMany { what: "axes", limit: MAX_AXES }));
        }
        let axis = Axis(self.graph.axes.len() as u8);
        if self.axis_names.insert(name, axis).is_some() {
            return Err((span, ParseFault::Redefined { what: "axis", name: name.to_owned() }));
        }
        self.punct('=')?;
        let extent = if self.eat(Token::Punct('?')) {
            Extent::Dynamic
        } else {
            Extent::Static(self.integer("length", "a length, or `?`")?)
        };
        if self.eat(Token::Ident("groups")) {
            let (finer, span) = self.ident("the axis that it groups")?;
            self.groups.push((axis, finer, span));
        }
        self.graph.axes.push(AxisInfo { name: name.to_owned(), extent, groups: None });
        Ok(())
    }

    /// Finds the axes that others group; those may be declared in any order.
    pub(super) fn bind_groups(&mut self) -> Fallible<()> {
        for (axis, finer, span) in std::mem::take(&mut self.groups) {
            let finer = self.find_axis(finer, span)?;
            self.graph.axes[axis.index()].groups = Some(finer);
        }
        Ok(())
    }

    pub(super) fn value_statement(&mut self, name: &'s str) -> Fallible<()> {
        self.form = grammar::VALUE;
        let name_span = self.span;
        let numbered = name.chars().all(|c| c.is_ascii_digit());
        if name.is_empty() || !numbered && name.starts_with(|c: char| !c.is_ascii_alphabetic() && c != '_') {
            return Err((name_span, self.expected("a value's name: `%` and a number, or a letter first")));
        }
        self.advance();
        if self.value_names.contains_key(name) {
            return Err((name_span, ParseFault::Redefined { what: "value", name: format!("%{name}") }));
        }
        let Ok(position) = u32::try_from(self.graph.nodes.len()) else {
            return Err((name_span, ParseFault::TooMany { what: "ops", limit: u32::MAX as usize }));
        };
        self.punct('=')?;
        let start = self.span.start;
        let draft = self.op()?;
        let op_span = self.since(start);
        let annotation = if self.eat(Token::Punct(':')) { Some(self.annotation()?) } else { None };
        let op = self.complete(draft, annotation.as_ref(), op_span)?;
        let ty = infer(&self.graph, &op).map_err(|error| (op_span, Fault::Op(error).into()))?;
        if let Some(Annotation { elem, dims, span }) = annotation {
            let elem_of_value = if matches!(op, Op::Input { .. }) { elem.widened() } else { elem };
            let written = Type { elem: elem_of_value, axes: dims.iter().copied().collect() };
            if written != ty || dims.len() != written.axes.len() {
                let printer = Printer::new(&self.graph);
                let (written, inferred) = (printer.shaped(elem, dims), printer.ty(ty));
                return Err((span, ParseFault::TypeMismatch { written, inferred }));
            }
        }
        let label = match &op {
            // The name that the printer gives to an input by itself.
            Op::Input { name: input, dims: _, elem: _ } if input == name => None,
            _ => Some(name).filter(|_| !numbered).map(str::to_owned),
        };
        self.graph.nodes.push(Node { op, ty, label });
        self.value_names.insert(name, Value(position));
        Ok(())
    }

    /// An op whose type was needed to understand it.
    fn complete(&self, draft: Draft<'s>, annotation: Option<&Annotation>, span: Span) -> Fallible<Op> {
        let needed = |what| annotation.ok_or((span, ParseFault::MissingType { what }));
        match draft {
            Draft::Op(op) => Ok(op),
            Draft::Input(name) => {
                let Annotation { elem, dims, span: _ } = needed("an input")?;
                Ok(Op::Input { name, dims: dims.clone(), elem: *elem })
            }
            Draft::Const(literal) => {
                // A whole number is an i32 unless the type says otherwise.
                let elem = annotation.map_or(literal.elem(), |annotation| annotation.elem);
                let x = literal.read(elem, "a constant")?;
                Ok(Op::Const(match elem.kind() {
                    ElemKind::Real => Scalar::F32(x),
                    ElemKind::Whole => Scalar::I32(x as i32),
                    ElemKind::Truth => Scalar::Bool(x != 0.0),
                }))
            }
            Draft::Table(literals) => {
                let Annotation { elem, dims, span: _ } = needed("a table")?;
                let data: Vec<f64> =
                    literals.into_iter().map(|literal| literal.read(*elem, "a table")).collect::<Fallible<_>>()?;
                Ok(Op::Table { dims: dims.clone(), elem: *elem, data: data.into() })
            }
        }
    }

    fn annotation(&mut self) -> Fallible<Annotation> {
        let (elem, mut span) = self.elem()?;
        let mut dims = Vec::new();
        if self.eat(Token::Punct('[')) {
            self.list(']', |parser| {
                dims.push(parser.axis()?);
                if dims.len() > MAX_AXES {
                    return Err((parser.span, ParseFault::TooMany { what: "axes", limit: MAX_AXES }));
                }
                Ok(())
            })?;
        }
        span.end = self.last_end;
        Ok(Annotation { elem, dims, span })
    }

    pub(super) fn site_statement(&mut self) -> Fallible<()> {
        self.form = grammar::SITE;
        const FIELDS: [&str; 9] = ["query", "key", "head", "dim", "q_pos", "k_pos", "q_index", "k_index", "length"];
        let start = self.span.start;
        self.advance();
        let (number, span) = self.site_number()?;
        let id = SiteId(self.graph.sites.len() as u32);
        if self.site_numbers.insert(number, id).is_some() {
            return Err((span, ParseFault::Redefined { what: "site", name: format!("@{number}") }));
        }
        let mut seen = BTreeSet::new();
        let (mut axes, mut values) = (BTreeMap::new(), BTreeMap::new());
        self.punct('{')?;
        self.list('}', |parser| {
            let (field, span) = parser.ident("a field of the site")?;
            if !FIELDS.contains(&field) {
                return Err((span, unknown("field", field, FIELDS)));
            }
            if !seen.insert(field) {
                return Err((span, ParseFault::Redefined { what: "field", name: field.to_owned() }));
            }
            parser.punct('=')?;
            match field {
                "query" | "key" | "head" | "dim" => drop(axes.insert(field, parser.axis()?)),
                _ => drop(values.insert(field, parser.value()?)),
            }
            Ok(())
        })?;
        let whole = self.since(start);
        let axis = |field| axes.get(field).copied().ok_or((whole, ParseFault::MissingField { field }));
        let value = |field| values.get(field).copied().ok_or((whole, ParseFault::MissingField { field }));
        self.graph.sites.push(Site {
            query: axis("query")?,
            key: axis("key")?,
            head: axes.get("head").copied(),
            dim: axis("dim")?,
            q_pos: value("q_pos")?,
            k_pos: value("k_pos")?,
            q_index: value("q_index")?,
            k_index: value("k_index")?,
            length: value("length")?,
        });
        Ok(())
    }

    pub(super) fn output_statement(&mut self) -> Fallible<()> {
        self.form = grammar::OUTPUT;
        let start = self.span.start;
        self.advance();
        let name = self.string("the output's name, in quotes")?.0;
        self.punct('=')?;
        let value = self.value()?;
        let so_far = self.since(start);
        if !self.eat(Token::Punct(':')) {
            return Err((so_far, ParseFault::MissingType { what: "an output" }));
        }
        let Annotation { elem, dims, span } = self.annotation()?;
        let ty = self.graph.ty(value);
        let fits = elem.widened() == ty.elem && !elem.is_input_only();
        if !fits || dims.iter().copied().collect::<AxisSet>() != ty.axes {
            let printer = Printer::new(&self.graph);
            let (written, inferred) = (printer.shaped(elem, dims), printer.ty(ty));
            return Err((span, ParseFault::TypeMismatch { written, inferred }));
        }
        self.graph.outputs.push(Output { name, value, dims, elem });
        Ok(())
    }
}
