//! The parser's state, and the smallest things it reads: names and punctuation. Nothing in it recurses, and what it allocates is bounded
//! by the length of the text.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::names::op_names;
use crate::op::{SiteId, Value};
use crate::suggest::closest;
use crate::types::Axis;

use super::error::ParseFault;
use super::grammar;
use super::lex::{Lexer, Token, unquote};
use super::source::{Span, shorten};

/// A mistake and where it is.
pub(super) type Fallible<T> = Result<T, (Span, ParseFault)>;

pub(super) struct Parser<'s> {
    pub(super) source: &'s str,
    lexer: Lexer<'s>,
    pub(super) token: Token<'s>,
    pub(super) span: Span,
    /// End of the token before.
    pub(super) last_end: usize,
    /// Open brackets around the token.
    depth: usize,
    /// The form of the statement, for errors.
    pub(super) form: &'static str,
    pub(super) graph: Graph,
    pub(super) header: Span,
    pub(super) axis_names: BTreeMap<&'s str, Axis>,
    /// Axes whose finer axis may be declared later.
    pub(super) groups: Vec<(Axis, &'s str, Span)>,
    pub(super) value_names: BTreeMap<&'s str, Value>,
    /// Sites by the number in the text. Until the end of the text, handles count sites in the order of the text.
    pub(super) site_numbers: BTreeMap<u32, SiteId>,
    pub(super) axis_spans: Vec<Span>,
    pub(super) node_spans: Vec<Span>,
    pub(super) site_spans: Vec<Span>,
    pub(super) output_spans: Vec<Span>,
}

impl<'s> Parser<'s> {
    pub(super) fn new(source: &'s str) -> Parser<'s> {
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

    pub(super) fn since(&self, start: usize) -> Span {
        Span { start, end: self.last_end }
    }

    pub(super) fn at_new_line(&self) -> bool {
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

    pub(super) fn expected(&self, expected: &str) -> ParseFault {
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
    pub(super) fn site_number(&mut self) -> Fallible<(u32, Span)> {
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

    pub(super) fn find_axis(&self, name: &str, span: Span) -> Fallible<Axis> {
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
