//! The parser's state, the smallest things it reads, and the names in scope.

use std::collections::BTreeMap;

use rhumb_ir::source::{Span, shorten};
use rhumb_ir::{Hook, Unary, closest};

use super::error::{SchemeTextError, SchemeTextFault, unknown};
use super::lex::{Lexer, Token};
use super::tree::{Attribute, Id, Kind, Known, NUMBERS, Node, Op, OwnAxis, Requirement, SiteAxis, WORDS};

/// A mistake and where it is.
pub(super) type Fallible<T> = Result<T, (Span, SchemeTextFault)>;

pub(super) const SCHEME: &str = "scheme name(attribute: f32 = 1.0) { score = ... }";

/// More operations than any scheme needs.
const MOST_NODES: usize = 10_000;

/// Functions that are no operation of one operand of the IR.
pub(super) const FUNCTIONS: [(&str, &str); 12] = [
    ("min", "min(a, b)"),
    ("max", "max(a, b)"),
    ("pow", "pow(base, exponent)"),
    ("div", "div(a, b)"),
    ("atan2", "atan2(y, x)"),
    ("select", "select(condition, on_true, on_false)"),
    ("f32", "f32(x)"),
    ("i32", "i32(x)"),
    ("len", "len(list)"),
    ("rotate", "rotate(query, angle, pair, \"half\", 0)"),
    ("dot", "dot(a, b, axis)"),
    ("sum", "sum(x, axis)"),
];

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Value(Id),
    Attribute(usize),
    Axis(usize),
}

/// One scheme under construction.
#[derive(Default)]
pub(super) struct Draft<'s> {
    pub(super) names: BTreeMap<&'s str, Named>,
    /// Values that nothing has read, and where they are given.
    pub(super) unread: BTreeMap<&'s str, Span>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) kinds: Vec<Kind>,
    /// The names that attributes take, by the number of the attribute.
    pub(super) choices: BTreeMap<usize, Vec<String>>,
    pub(super) axes: Vec<OwnAxis>,
    pub(super) nodes: Vec<Node>,
    pub(super) hooks: Vec<(Hook, Id, Span)>,
    pub(super) requirements: Vec<Requirement>,
}

pub(super) struct Parser<'s> {
    pub(super) source: &'s str,
    lexer: Lexer<'s>,
    pub(super) token: Token<'s>,
    pub(super) span: Span,
    /// The token before.
    pub(super) last: Span,
    /// The form of what is being read, for errors.
    pub(super) form: &'static str,
    /// Brackets, signs and powers around the token.
    pub(super) depth: usize,
    /// The length that the type of a list tells.
    pub(super) list_length: Option<usize>,
    pub(super) draft: Draft<'s>,
}

impl<'s> Parser<'s> {
    pub(super) fn new(source: &'s str) -> Parser<'s> {
        let mut lexer = Lexer::new(source);
        let (token, span) = lexer.next();
        let (form, draft) = (SCHEME, Draft::default());
        Parser { source, lexer, token, span, last: span, form, depth: 0, list_length: None, draft }
    }

    pub(super) fn locate(&self, (span, fault): (Span, SchemeTextFault)) -> SchemeTextError {
        SchemeTextError::at(self.source, span, fault)
    }

    pub(super) fn advance(&mut self) {
        self.last = self.span;
        (self.token, self.span) = self.lexer.next();
    }

    pub(super) fn eat(&mut self, punct: &str) -> bool {
        let found = self.token == Token::Punct(punct);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.token == Token::Ident(word);
        if found {
            self.advance();
        }
        found
    }

    /// The error for a token that can't stand here.
    pub(super) fn unexpected<T>(&self, expected: &str) -> Fallible<T> {
        let fault = match self.token {
            Token::Bad(character) => SchemeTextFault::BadCharacter { character },
            Token::OpenStr => SchemeTextFault::OpenString,
            token => {
                SchemeTextFault::Expected { expected: expected.to_owned(), found: token.describe(), form: self.form }
            }
        };
        Err((self.span, fault))
    }

    pub(super) fn punct(&mut self, punct: &str) -> Fallible<()> {
        if self.eat(punct) { Ok(()) } else { self.unexpected(&format!("`{punct}`")) }
    }

    pub(super) fn ident(&mut self, expected: &str) -> Fallible<(&'s str, Span)> {
        let Token::Ident(name) = self.token else { return self.unexpected(expected) };
        let span = self.span;
        self.advance();
        Ok((name, span))
    }

    pub(super) fn string(&mut self, expected: &str) -> Fallible<&'s str> {
        let Token::Str(text) = self.token else { return self.unexpected(expected) };
        self.advance();
        Ok(text)
    }

    /// Elements separated by commas, up to `close`; a comma may stand behind the last.
    pub(super) fn list(
        &mut self,
        close: &str,
        mut element: impl FnMut(&mut Parser<'s>) -> Fallible<()>,
    ) -> Fallible<()> {
        while !self.eat(close) {
            element(self)?;
            if !self.eat(",") && self.token != Token::Punct(close) {
                return self.unexpected(&format!("`,` or `{close}`"));
            }
        }
        Ok(())
    }

    /// Adds an operation, whose operands are of the right kinds.
    pub(super) fn node(&mut self, op: Op, kind: Kind, span: Span) -> Fallible<Id> {
        if self.draft.nodes.len() >= MOST_NODES {
            return Err((span, SchemeTextFault::TooLong { most: MOST_NODES }));
        }
        let operands = op.operands();
        let of = |id: &Id| &self.draft.nodes[id.index()];
        let is_constant = match &op {
            Op::Operand => false,
            Op::Known(known) => known.is_constant(),
            Op::Attribute(number) => matches!(self.draft.attributes[*number], Attribute::Constant { .. }),
            op => !matches!(op, Op::Rotate { .. }) && operands.iter().all(|id| of(id).is_constant),
        };
        let mut reads = None;
        for hook in operands.iter().filter_map(|id| of(id).reads) {
            if reads.is_some_and(|other| other != hook) {
                let reader = "one expression".to_owned();
                return Err((span, SchemeTextFault::Reads { reader, operand: "query and the key, or the score" }));
            }
            reads = Some(hook);
        }
        self.draft.nodes.push(Node { op, kind, is_constant, reads, span });
        Ok(Id((self.draft.nodes.len() - 1) as u32))
    }

    pub(super) fn of(&self, id: Id) -> &Node {
        &self.draft.nodes[id.index()]
    }

    /// Checks that an operand is of a kind.
    pub(super) fn want(&self, id: Id, kind: Kind, what: &str) -> Fallible<Id> {
        let node = self.of(id);
        if node.kind == kind {
            return Ok(id);
        }
        let (expected, found) = (kind.plural(), node.kind.name());
        Err((node.span, SchemeTextFault::Kind { what: what.to_owned(), expected, found }))
    }

    /// Checks that an operand is known when the kernel is compiled.
    pub(super) fn constant(&self, id: Id, what: &'static str) -> Fallible<Id> {
        let node = self.of(id);
        if node.is_constant { Ok(id) } else { Err((node.span, SchemeTextFault::NotConstant { what })) }
    }

    /// Checks that a name can be given to something new; values may be given anew.
    pub(super) fn declare(&mut self, what: &'static str, (name, span): (&'s str, Span), named: Named) -> Fallible<()> {
        if is_reserved(name) {
            return Err((span, SchemeTextFault::Reserved { name: name.to_owned(), what }));
        }
        let before = self.draft.names.insert(name, named);
        match (before, named) {
            (None, _) | (Some(Named::Value(_)), Named::Value(_)) => Ok(()),
            (Some(before), _) => {
                let what = match before {
                    Named::Attribute(_) => "attribute",
                    Named::Axis(_) => "axis",
                    Named::Value(_) => "value",
                };
                Err((span, SchemeTextFault::Redefined { what, name: name.to_owned() }))
            }
        }
    }

    /// The fault of the first value that nothing reads, if there is one: most likely a hook that is misspelt.
    pub(super) fn unread(&self) -> Option<(Span, SchemeTextFault)> {
        let (name, span) = self.draft.unread.iter().min_by_key(|(_, span)| span.start)?;
        let suggestion = closest(name, Hook::ALL.iter().map(|hook| hook.name())).map(str::to_owned);
        Some((*span, SchemeTextFault::Unread { name: shorten(name), suggestion }))
    }

    /// The fault that no value has a name.
    pub(super) fn no_value(&self, name: &str) -> SchemeTextFault {
        let known = Known::ALL.iter().map(|(name, _)| *name);
        let numbers = NUMBERS.iter().map(|(name, _)| *name);
        let operands = ["query", "key", "score"];
        let names: Vec<&str> = self.draft.names.keys().copied().chain(known).chain(numbers).chain(operands).collect();
        unknown("value", name, &names)
    }

    /// The fault that no function has a name.
    pub(super) fn no_function(name: &str) -> SchemeTextFault {
        let names: Vec<&str> = unary_names().chain(FUNCTIONS.iter().map(|(name, _)| *name)).collect();
        unknown("function", name, &names)
    }
}

/// Functions that are operations of one operand of the IR; `-` and `not` have signs of their own.
pub(super) fn unary_names() -> impl Iterator<Item = &'static str> {
    Unary::ALL.into_iter().filter(|unary| !matches!(unary, Unary::Neg | Unary::Not)).map(Unary::name)
}

/// Whether the language has a name for itself.
fn is_reserved(name: &str) -> bool {
    let known = Known::ALL.iter().map(|(name, _)| *name);
    let numbers = NUMBERS.iter().map(|(name, _)| *name);
    let axes = SiteAxis::ALL.iter().map(|(name, _)| *name);
    let functions = FUNCTIONS.iter().map(|(name, _)| *name).chain(unary_names());
    known.chain(numbers).chain(axes).chain(functions).chain(WORDS).chain(["score", "bool"]).any(|word| word == name)
}
