//! The parser: ops and literals.

use crate::op::{Attr, Attrs, Base, Binary, Compare, Hook, Op, Pairing};
use crate::types::{Elem, ElemKind};
use crate::unary::Unary;

use super::error::ParseFault;
use super::lex::Token;
use super::parser::{Fallible, Parser, unknown};
use super::source::{Span, shorten};

/// An op as far as its text tells it; the type behind it may tell the rest.
pub(super) enum Draft<'s> {
    Op(Op),
    Input(String),
    Const(Literal<'s>),
    Table(Vec<Literal<'s>>),
}

/// A number or truth value.
#[derive(Clone, Copy)]
pub(super) struct Literal<'s> {
    text: &'s str,
    span: Span,
}

impl Literal<'_> {
    fn is_bool(self) -> bool {
        matches!(self.text, "true" | "false")
    }

    fn is_whole(self) -> bool {
        self.text.trim_start_matches('-').chars().all(|c| c.is_ascii_digit())
    }

    /// The element type it has by itself.
    pub(super) fn elem(self) -> Elem {
        match self {
            _ if self.is_bool() => Elem::Bool,
            _ if self.is_whole() => Elem::I32,
            _ => Elem::F32,
        }
    }

    /// Its value in an element type.
    pub(super) fn read(self, elem: Elem, what: &'static str) -> Fallible<f64> {
        let misfit = |found| Err((self.span, ParseFault::Literal { found, what, elem: elem.name() }));
        match elem.kind() {
            ElemKind::Truth => match self.text {
                "true" => Ok(1.0),
                "false" => Ok(0.0),
                _ => misfit("a number"),
            },
            _ if self.is_bool() => misfit("a truth value"),
            ElemKind::Real => self.real(),
            ElemKind::Whole if !self.is_whole() => misfit("a real number"),
            ElemKind::Whole => self.text.parse::<i32>().map(f64::from).map_err(|_| self.bad("32-bit integer")),
        }
    }

    fn real(self) -> Fallible<f64> {
        match self.text {
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            "nan" => Ok(f64::NAN),
            // `parse` takes other spellings of infinity, and makes it of numbers that are too large.
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| self.bad("real number"))
            }
            _ => Err(self.bad("real number")),
        }
    }

    fn bad(self, kind: &'static str) -> (Span, ParseFault) {
        (self.span, ParseFault::BadNumber { text: shorten(self.text), kind })
    }
}

impl<'s> Parser<'s> {
    /// What stands behind `%name =`, without the type.
    pub(super) fn op(&mut self) -> Fallible<Draft<'s>> {
        let name = self.op_name()?;
        let op = match name {
            "input" => return Ok(Draft::Input(self.string("the input's name, in quotes")?.0)),
            "const" => return Ok(Draft::Const(self.literal()?)),
            "table" => {
                let mut elements = Vec::new();
                self.punct('[')?;
                self.list(']', |parser| {
                    elements.push(parser.literal()?);
                    Ok(())
                })?;
                return Ok(Draft::Table(elements));
            }
            "iota" => Op::Iota(self.axis()?),
            "size" => Op::Size(self.axis()?),
            "select" => {
                let cond = self.value()?;
                self.punct(',')?;
                let on_true = self.value()?;
                self.punct(',')?;
                Op::Select { cond, on_true, on_false: self.value()? }
            }
            "cast" => {
                let x = self.value()?;
                self.keyword("to")?;
                Op::Cast(self.elem()?.0, x)
            }
            "gather" => {
                let table = self.value()?;
                self.keyword("over")?;
                let axis = self.axis()?;
                self.keyword("at")?;
                Op::Gather { table, axis, index: self.value()? }
            }
            "rotate" => self.rotate()?,
            "dot" => {
                let a = self.value()?;
                self.punct(',')?;
                let b = self.value()?;
                self.keyword("over")?;
                Op::Dot { a, b, axis: self.axis()? }
            }
            "softmax" | "logsumexp" => {
                let x = self.value()?;
                self.keyword("over")?;
                let axis = self.axis()?;
                let sink = if self.eat(Token::Ident("sink")) { Some(self.value()?) } else { None };
                let base = if self.eat(Token::Ident("base")) { self.base()? } else { Base::E };
                match name {
                    "softmax" => Op::Softmax { x, axis, sink, base },
                    _ => Op::LogSumExp { x, axis, sink, base },
                }
            }
            "scheme" => self.scheme()?,
            _ => self.elementwise(name)?,
        };
        Ok(Draft::Op(op))
    }

    /// An element type.
    pub(super) fn elem(&mut self) -> Fallible<(Elem, Span)> {
        let (name, span) = self.ident("an element type")?;
        let found = Elem::ALL.into_iter().find(|elem| elem.name() == name);
        let elem = found.ok_or_else(|| (span, unknown("element type", name, Elem::ALL.into_iter().map(Elem::name))))?;
        Ok((elem, span))
    }

    fn elementwise(&mut self, name: &str) -> Fallible<Op> {
        let first = self.value()?;
        if let Some(unary) = Unary::ALL.into_iter().find(|op| op.name() == name) {
            return Ok(Op::Unary(unary, first));
        }
        self.punct(',')?;
        let second = self.value()?;
        let binary = Binary::ALL.into_iter().find(|op| op.name() == name).map(|op| Op::Binary(op, first, second));
        let compare = || Compare::ALL.into_iter().find(|op| op.name() == name).map(|op| Op::Compare(op, first, second));
        // Names of ops are known here: see `op_name`.
        binary.or_else(compare).map_or_else(|| self.unexpected("an op"), Ok)
    }

    fn rotate(&mut self) -> Fallible<Op> {
        let x = self.value()?;
        self.keyword("over")?;
        let dim = self.axis()?;
        self.keyword("by")?;
        let angle = self.value()?;
        self.keyword("over")?;
        let pair = self.axis()?;
        let (name, span) = self.ident("`half` or `interleaved`")?;
        let Some(pairing) = Pairing::ALL.into_iter().find(|pairing| pairing.name() == name) else {
            return Err((span, unknown("pairing", name, Pairing::ALL.map(Pairing::name))));
        };
        let start = if self.eat(Token::Ident("from")) { self.integer("index", "the first element")? } else { 0 };
        Ok(Op::Rotate { x, angle, dim, pair, pairing, start })
    }

    fn base(&mut self) -> Fallible<Base> {
        if self.eat(Token::Number("2")) { Ok(Base::Two) } else { self.unexpected("`2`") }
    }

    fn scheme(&mut self) -> Fallible<Op> {
        let scheme = self.name("the name of a scheme")?.0;
        self.punct('.')?;
        let (name, span) = self.ident("a hook")?;
        let Some(hook) = Hook::ALL.into_iter().find(|hook| hook.name() == name) else {
            return Err((span, unknown("hook", name, Hook::ALL.map(Hook::name))));
        };
        let x = if matches!(self.token(), Token::Value(_)) { Some(self.value()?) } else { None };
        let site = self.site()?;
        let mut attrs = Attrs::new();
        if self.eat(Token::Punct('{')) {
            self.list('}', |parser| {
                let (name, span) = parser.name("the name of an attribute")?;
                parser.punct('=')?;
                let attr = parser.attr()?;
                if attrs.insert(name.clone(), attr).is_some() {
                    return Err((span, ParseFault::Redefined { what: "attribute", name }));
                }
                Ok(())
            })?;
        }
        Ok(Op::Scheme { scheme, hook, x, site, attrs, instance: None })
    }

    fn attr(&mut self) -> Fallible<Attr> {
        match self.token() {
            Token::Value(_) => Ok(Attr::Value(self.value()?)),
            Token::Str(_) => Ok(Attr::Str(self.string("a string")?.0)),
            Token::Punct('[') => {
                self.advance();
                let mut list = Vec::new();
                self.list(']', |parser| {
                    list.push(parser.literal()?.read(Elem::F32, "a list")?);
                    Ok(())
                })?;
                Ok(Attr::List(list))
            }
            Token::Number(_) | Token::Ident("true" | "false" | "inf" | "nan") => {
                let literal = self.literal()?;
                match literal.elem().kind() {
                    ElemKind::Truth => Ok(Attr::Bool(literal.text == "true")),
                    ElemKind::Real => literal.real().map(Attr::Float),
                    ElemKind::Whole => literal.text.parse().map(Attr::Int).map_err(|_| literal.bad("64-bit integer")),
                }
            }
            _ => self.unexpected("a number, `true`, `false`, a string in quotes, a list in brackets or a value"),
        }
    }

    fn literal(&mut self) -> Fallible<Literal<'s>> {
        let span = self.span();
        if let Token::Number(text) | Token::Ident(text @ ("true" | "false" | "inf" | "nan")) = self.token() {
            self.advance();
            return Ok(Literal { text, span });
        }
        self.unexpected("a number, `true` or `false`")
    }
}
