//! The parser: statements. Nothing in it recurses, and what it allocates is bounded by the length of the text.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::fault::Fault;
use crate::graph::{Graph, Node, Output};
use crate::infer::infer;
use crate::names::{ELEMS, op_names};
use crate::op::{Op, Scalar, Site, SiteId, Value};
use crate::suggest::closest;
use crate::types::{Axis, AxisInfo, Elem, Extent, MAX_AXES, Type};
use crate::verify::{Place, Verified};

use super::error::{ParseError, ParseFault};
use super::grammar;
use super::lex::{Lexer, Span, Token, shorten, unquote};
use super::op::Draft;
use super::print::Printer;

impl Graph {
    /// Reads the text form and checks the graph.
    ///
    /// # Errors
    /// [`ParseError`] tells the first mistake: where, what and how to mend it.
    pub fn parse(text: &str) -> Result<Verified, ParseError> {
        let mut parser = Parser::new(text);
        match parser.graph() {
            Ok(()) => parser.finish(),
            Err((span, fault)) => Err(parser.locate(span, fault)),
        }
    }
}

impl FromStr for Verified {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Verified, ParseError> {
        Graph::parse(text)
    }
}

/// A mistake and where it is.
pub(super) type Fallible<T> = Result<T, (Span, ParseFault)>;

/// A type as written, the axes in the order of writing.
pub(super) struct Annotation {
    pub(super) elem: Elem,
    pub(super) dims: Vec<Axis>,
    pub(super) span: Span,
}

pub(super) struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    span: Span,
    /// End of the token before.
    last_end: usize,
    /// Open brackets around the token.
    depth: usize,
    /// The form of the statement, for errors.
    form: &'static str,
    graph: Graph,
    header: Span,
    axis_names: BTreeMap<&'s str, Axis>,
    /// Axes whose finer axis may be declared later.
    groups: Vec<(Axis, &'s str, Span)>,
    value_names: BTreeMap<&'s str, Value>,
    /// Sites by the number in the text. Until [`Parser::finish`], handles count sites in the order of the text.
    site_numbers: BTreeMap<u32, SiteId>,
    axis_spans: Vec<Span>,
    node_spans: Vec<Span>,
    site_spans: Vec<Span>,
    output_spans: Vec<Span>,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Parser<'s> {
        let mut lexer = Lexer::new(source);
        let (token, span) = lexer.next();
        Parser {
            source,
            lexer,
            token,
            span,
            last_end: span.start,
            depth: 0,
            form: grammar::HEADER,
            graph: Graph::default(),
            header: span,
            axis_names: BTreeMap::new(),
            groups: Vec::new(),
            value_names: BTreeMap::new(),
            site_numbers: BTreeMap::new(),
            axis_spans: Vec::new(),
            node_spans: Vec::new(),
            site_spans: Vec::new(),
            output_spans: Vec::new(),
        }
    }

    fn graph(&mut self) -> Fallible<()> {
        self.keyword("graph")?;
        self.graph.name = self.name("the graph's name")?.0;
        self.header.end = self.last_end;
        while self.token != Token::End {
            self.form = grammar::STATEMENT;
            if !self.at_new_line() {
                return Err((self.span, self.expected("the end of the line")));
            }
            let start = self.span.start;
            match self.token {
                Token::Ident("axis") => {
                    self.axis_statement()?;
                    self.axis_spans.push(self.since(start));
                    continue;
                }
                Token::Ident("site") => {
                    self.bind_groups()?;
                    self.site_statement()?;
                    self.site_spans.push(self.since(start));
                }
                Token::Ident("output") => {
                    self.bind_groups()?;
                    self.output_statement()?;
                    self.output_spans.push(self.since(start));
                }
                Token::Value(name) => {
                    self.bind_groups()?;
                    self.value_statement(name)?;
                    self.node_spans.push(self.since(start));
                }
                _ => return Err((self.span, self.expected("`axis`, `site`, `output` or `%name =`"))),
            }
        }
        self.bind_groups()
    }

    fn axis_statement(&mut self) -> Fallible<()> {
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
    fn bind_groups(&mut self) -> Fallible<()> {
        for (axis, finer, span) in std::mem::take(&mut self.groups) {
            let finer = self.find_axis(finer, span)?;
            self.graph.axes[axis.index()].groups = Some(finer);
        }
        Ok(())
    }

    fn value_statement(&mut self, name: &'s str) -> Fallible<()> {
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
            let written = Type { elem, axes: dims.iter().copied().collect() };
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
                Ok(Op::Const(match elem {
                    Elem::F32 => Scalar::F32(x),
                    Elem::I32 => Scalar::I32(x as i32),
                    Elem::Bool => Scalar::Bool(x != 0.0),
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
        let (name, mut span) = self.ident("an element type")?;
        let Some(elem) = ELEMS.into_iter().find(|elem| elem.name() == name) else {
            return Err((span, unknown("element type", name, ELEMS.into_iter().map(Elem::name))));
        };
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

    fn site_statement(&mut self) -> Fallible<()> {
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

    fn output_statement(&mut self) -> Fallible<()> {
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
        if elem != ty.elem || dims.iter().copied().collect::<crate::types::AxisSet>() != ty.axes {
            let printer = Printer::new(&self.graph);
            let (written, inferred) = (printer.shaped(elem, dims), printer.ty(ty));
            return Err((span, ParseFault::TypeMismatch { written, inferred }));
        }
        self.graph.outputs.push(Output { name, value, dims });
        Ok(())
    }

    fn finish(mut self) -> Result<Verified, ParseError> {
        // Sites are numbered in the text; handles count them in that order.
        let order: Vec<SiteId> = self.site_numbers.values().copied().collect();
        let mut place = vec![SiteId(0); order.len()];
        for (new, old) in order.iter().enumerate() {
            place[old.index()] = SiteId(new as u32);
        }
        let (sites, spans) = (&self.graph.sites, &self.site_spans);
        let sites = order.iter().map(|old| sites[old.index()]).collect();
        self.site_spans = order.iter().map(|old| spans[old.index()]).collect();
        self.graph.sites = sites;
        for node in &mut self.graph.nodes {
            if let Op::Scheme { site, .. } = &mut node.op {
                *site = place[site.index()];
            }
        }
        let graph = std::mem::take(&mut self.graph);
        graph.verify().map_err(|error| {
            let (place, fault) = match error.problems.into_iter().next() {
                Some(problem) => (problem.place, problem.fault),
                None => (Place::Graph, Fault::NoOutput),
            };
            let span = match place {
                Place::Graph => None,
                Place::Axis(index) => self.axis_spans.get(index),
                Place::Op(index) => self.node_spans.get(index),
                Place::Site(index) => self.site_spans.get(index),
                Place::Output(index) => self.output_spans.get(index),
            };
            self.locate(span.copied().unwrap_or(self.header), fault.into())
        })
    }

    fn locate(&self, Span { start, end }: Span, fault: ParseFault) -> ParseError {
        let before = &self.source[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.source[start..].find('\n').map_or(self.source.len(), |at| start + at);
        let source_line = self.source[line_start..line_end].trim_end_matches('\r').to_owned();
        ParseError {
            line: 1 + before.matches('\n').count(),
            column: 1 + self.source[line_start..start].chars().count(),
            width: self.source[start..end.clamp(start, line_end)].chars().count().max(1),
            source_line,
            fault: Box::new(fault),
        }
    }
}

/// Names and punctuation.
impl<'s> Parser<'s> {
    /// The next token of the statement; [`Token::End`] where it has no more.
    pub(super) fn token(&self) -> Token<'s> {
        if self.statement_ended() { Token::End } else { self.token }
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    pub(super) fn advance(&mut self) {
        match self.token {
            Token::Punct('[' | '{') => self.depth += 1,
            Token::Punct(']' | '}') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.last_end = self.span.end;
        (self.token, self.span) = self.lexer.next();
    }

    fn since(&self, start: usize) -> Span {
        Span { start, end: self.last_end }
    }

    fn at_new_line(&self) -> bool {
        self.source[self.last_end..self.span.start].contains('\n')
    }

    /// Whether the statement ended here: only brackets carry it over a line.
    fn statement_ended(&self) -> bool {
        self.depth == 0 && (self.token == Token::End || self.at_new_line())
    }

    pub(super) fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.token() == token;
        if found {
            self.advance();
        }
        found
    }

    fn expected(&self, expected: &str) -> ParseFault {
        match self.token {
            Token::Bad(character) => ParseFault::BadCharacter { character },
            Token::OpenStr => ParseFault::OpenString,
            token => {
                let (expected, found) = (expected.to_owned(), token.describe());
                ParseFault::Expected { expected, found, form: self.form }
            }
        }
    }

    /// The error for a token that can't stand here.
    pub(super) fn unexpected<T>(&self, expected: &str) -> Fallible<T> {
        if self.statement_ended() && self.at_new_line() {
            let end = Span { start: self.last_end, end: self.last_end };
            let (expected, found) = (expected.to_owned(), "the end of the line".to_owned());
            return Err((end, ParseFault::Expected { expected, found, form: self.form }));
        }
        Err((self.span, self.expected(expected)))
    }

    /// Whether the token belongs to the statement and passes `test`.
    fn want<T>(&mut self, expected: &str, test: impl FnOnce(Token<'s>) -> Option<T>) -> Fallible<(T, Span)> {
        let Some(found) = test(self.token()) else { return self.unexpected(expected) };
        let span = self.span;
        self.advance();
        Ok((found, span))
    }

    pub(super) fn keyword(&mut self, word: &str) -> Fallible<()> {
        self.want(&format!("`{word}`"), |token| (token == Token::Ident(word)).then_some(())).map(|_| ())
    }

    pub(super) fn punct(&mut self, c: char) -> Fallible<()> {
        self.want(&format!("`{c}`"), |token| (token == Token::Punct(c)).then_some(())).map(|_| ())
    }

    pub(super) fn ident(&mut self, expected: &str) -> Fallible<(&'s str, Span)> {
        self.want(expected, |token| match token {
            Token::Ident(name) => Some(name),
            _ => None,
        })
    }

    pub(super) fn string(&mut self, expected: &str) -> Fallible<(String, Span)> {
        let (text, span) = self.want(expected, |token| match token {
            Token::Str(text) => Some(text),
            _ => None,
        })?;
        Ok((unquote(text).map_err(|escape| (span, ParseFault::BadEscape { escape }))?, span))
    }

    /// A name: an identifier, or a string.
    pub(super) fn name(&mut self, expected: &str) -> Fallible<(String, Span)> {
        match self.token() {
            Token::Str(_) => self.string(expected),
            _ => self.ident(expected).map(|(name, span)| (name.to_owned(), span)),
        }
    }

    /// A whole number that fits; `kind` says what it is for.
    pub(super) fn integer(&mut self, kind: &'static str, expected: &str) -> Fallible<u32> {
        let (text, span) = self.want(expected, |token| match token {
            Token::Number(text) => Some(text),
            _ => None,
        })?;
        text.parse().map_err(|_| (span, ParseFault::BadNumber { text: shorten(text), kind }))
    }

    /// The number of a site.
    fn site_number(&mut self) -> Fallible<(u32, Span)> {
        let (text, span) = self.want("a site, as `@0`", |token| match token {
            Token::Site(text) => Some(text),
            _ => None,
        })?;
        let number = text.parse().map_err(|_| (span, ParseFault::BadNumber { text: shorten(text), kind: "index" }))?;
        Ok((number, span))
    }

    pub(super) fn site(&mut self) -> Fallible<SiteId> {
        let (number, span) = self.site_number()?;
        self.site_numbers.get(&number).copied().ok_or_else(|| (span, unknown("site", &format!("@{number}"), [])))
    }

    pub(super) fn axis(&mut self) -> Fallible<Axis> {
        let (name, span) = self.ident("an axis")?;
        self.find_axis(name, span)
    }

    fn find_axis(&self, name: &str, span: Span) -> Fallible<Axis> {
        let found = self.axis_names.get(name).copied();
        found.ok_or_else(|| (span, unknown("axis", name, self.axis_names.keys().copied())))
    }

    pub(super) fn value(&mut self) -> Fallible<Value> {
        let (name, span) = self.want("a value, as `%x`", |token| match token {
            Token::Value(name) => Some(name),
            _ => None,
        })?;
        self.value_names.get(name).copied().ok_or_else(|| {
            let ParseFault::Unknown { what, name, suggestion } =
                unknown("value", name, self.value_names.keys().copied())
            else {
                return (span, self.expected("a value"));
            };
            // A number close to another is no misspelling of it.
            let suggestion = suggestion.filter(|_| !name.starts_with(|c: char| c.is_ascii_digit()));
            let suggestion = suggestion.map(|name| format!("%{name}"));
            (span, ParseFault::Unknown { what, name: format!("%{name}"), suggestion })
        })
    }

    /// Elements separated by commas, up to `close`; a comma may stand behind the last.
    pub(super) fn list(
        &mut self,
        close: char,
        mut element: impl FnMut(&mut Parser<'s>) -> Fallible<()>,
    ) -> Fallible<()> {
        while !self.eat(Token::Punct(close)) {
            element(self)?;
            if !self.eat(Token::Punct(',')) && self.token != Token::Punct(close) {
                return self.unexpected(&format!("`,` or `{close}`"));
            }
        }
        Ok(())
    }

    /// The name of an op, an error for a word that is none.
    pub(super) fn op_name(&mut self) -> Fallible<&'s str> {
        let (name, span) = self.ident("an op")?;
        if op_names().all(|known| known != name) {
            return Err((span, unknown("op", name, op_names())));
        }
        self.form = grammar::form(name);
        Ok(name)
    }
}

pub(super) fn unknown<'a>(what: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> ParseFault {
    let suggestion = closest(name, known).map(str::to_owned);
    ParseFault::Unknown { what, name: shorten(name), suggestion }
}
