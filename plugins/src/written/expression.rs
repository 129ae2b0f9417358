//! The parser: expressions.

use rhumb_ir::source::Span;
use rhumb_ir::{Binary, Compare, Elem, Hook, Unary};

use super::error::{SchemeTextFault, unknown};
use super::lex::Token;
use super::parse::number;
use super::parser::{Fallible, Named, Parser};
use super::tree::{Id, Kind, Known, NUMBERS, Op};

/// Brackets, signs and powers around each other.
const MOST_DEEP: usize = 64;

impl<'s> Parser<'s> {
    /// An expression.
    pub(super) fn expression(&mut self) -> Fallible<Id> {
        self.deeper(|parser| parser.chain(&["or"], |parser| parser.chain(&["and"], Parser::negation)))
    }

    /// What `read` reads, one level deeper.
    fn deeper(&mut self, read: impl FnOnce(&mut Parser<'s>) -> Fallible<Id>) -> Fallible<Id> {
        if self.depth >= MOST_DEEP {
            return Err((self.span, SchemeTextFault::TooDeep { most: MOST_DEEP }));
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    /// Operands with operators between them that join from the left.
    fn chain(&mut self, operators: &[&str], mut operand: impl FnMut(&mut Parser<'s>) -> Fallible<Id>) -> Fallible<Id> {
        let mut left = operand(self)?;
        loop {
            let (Token::Punct(sign) | Token::Ident(sign)) = self.token else { return Ok(left) };
            if !operators.contains(&sign) {
                return Ok(left);
            }
            self.advance();
            let right = operand(self)?;
            left = self.join(sign, left, right)?;
        }
    }

    /// Two operands and the sign between them.
    fn join(&mut self, sign: &str, a: Id, b: Id) -> Fallible<Id> {
        let span = self.of(a).span.to(self.of(b).span);
        let compare = [
            ("==", Compare::Eq),
            ("!=", Compare::Ne),
            ("<", Compare::Lt),
            ("<=", Compare::Le),
            (">", Compare::Gt),
            (">=", Compare::Ge),
        ];
        if let Some((_, op)) = compare.into_iter().find(|(known, _)| *known == sign) {
            if self.of(a).kind == Kind::Name && matches!(op, Compare::Eq | Compare::Ne) {
                self.want(b, Kind::Name, &format!("`{sign}` with a name before it"))?;
                self.check_names(a, b)?;
            } else {
                self.operands(&[a, b], Kind::Number, sign)?;
            }
            return self.node(Op::Compare(op, a, b), Kind::Bool, span);
        }
        let (op, kind) = match sign {
            "and" => (Op::Binary(Binary::And, a, b), Kind::Bool),
            "or" => (Op::Binary(Binary::Or, a, b), Kind::Bool),
            "+" => (Op::Binary(Binary::Add, a, b), Kind::Number),
            "-" => (Op::Binary(Binary::Sub, a, b), Kind::Number),
            "*" => (Op::Binary(Binary::Mul, a, b), Kind::Number),
            "%" => (Op::Binary(Binary::Mod, a, b), Kind::Number),
            "^" => (Op::Binary(Binary::Pow, a, b), Kind::Number),
            _ => (Op::Quotient(a, b), Kind::Number),
        };
        self.operands(&[a, b], kind, sign)?;
        self.node(op, kind, span)
    }

    pub(super) fn operands(&self, operands: &[Id], kind: Kind, sign: &str) -> Fallible<()> {
        operands.iter().try_for_each(|id| self.want(*id, kind, &format!("`{sign}`")).map(|_| ()))
    }

    /// A name that is compared with an attribute must be one that it takes.
    fn check_names(&self, a: Id, b: Id) -> Fallible<()> {
        for (attribute, name) in [(a, b), (b, a)] {
            if let (Op::Attribute(number), Op::Name(name_text)) = (&self.of(attribute).op, &self.of(name).op)
                && let Some(names) = self.draft.choices.get(number)
                && !names.contains(name_text)
            {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                return Err((self.of(name).span, unknown("name of this attribute", name_text, &names)));
            }
        }
        Ok(())
    }

    fn negation(&mut self) -> Fallible<Id> {
        let start = self.span;
        if !self.eat_word("not") {
            return self.comparison();
        }
        self.deeper(|parser| {
            let x = parser.negation()?;
            parser.want(x, Kind::Bool, "`not`")?;
            parser.node(Op::Unary(Unary::Not, x), Kind::Bool, start.to(parser.last))
        })
    }

    /// A comparison; these do not chain, for `a < b < c` would compare a truth value.
    fn comparison(&mut self) -> Fallible<Id> {
        let left = self.sum()?;
        let Token::Punct(sign @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) = self.token else { return Ok(left) };
        self.advance();
        let right = self.sum()?;
        if let Token::Punct("==" | "!=" | "<" | "<=" | ">" | ">=") = self.token {
            self.form = "a < b and b < c";
            return self.unexpected("`and`, for comparisons do not chain");
        }
        self.join(sign, left, right)
    }

    fn sum(&mut self) -> Fallible<Id> {
        self.chain(&["+", "-"], |parser| parser.chain(&["*", "/", "%"], Parser::sign))
    }

    /// A sign in front, which binds less than a power: `-x ^ 2` is `-(x ^ 2)`.
    fn sign(&mut self) -> Fallible<Id> {
        let start = self.span;
        if !self.eat("-") {
            return self.power();
        }
        self.deeper(|parser| {
            let x = parser.sign()?;
            parser.want(x, Kind::Number, "`-`")?;
            parser.node(Op::Unary(Unary::Neg, x), Kind::Number, start.to(parser.last))
        })
    }

    /// A power, which joins from the right.
    fn power(&mut self) -> Fallible<Id> {
        let base = self.postfix()?;
        if !self.eat("^") {
            return Ok(base);
        }
        let exponent = self.deeper(Parser::sign)?;
        self.join("^", base, exponent)
    }

    /// A value, and the indices behind it.
    fn postfix(&mut self) -> Fallible<Id> {
        let mut x = self.primary()?;
        while self.token == Token::Punct("[") && (self.of(x).kind == Kind::List || self.is_same_line()) {
            let start = self.of(x).span;
            self.advance();
            let index = self.expression()?;
            if self.of(x).kind == Kind::List {
                self.want(index, Kind::Number, "an index")?;
                self.punct("]")?;
                x = self.node(Op::Element { list: x, index }, Kind::Number, start.to(self.last))?;
                continue;
            }
            x = self.gather(x, index, start)?;
            while self.eat(",") {
                let axis = self.expression()?;
                x = self.gather(x, axis, start)?;
            }
            self.punct("]")?;
        }
        Ok(x)
    }

    fn is_same_line(&self) -> bool {
        !self.source[self.last.end..self.span.start].contains('\n')
    }

    /// What stands behind the axis of an index into a tensor.
    fn gather(&mut self, table: Id, axis: Id, start: Span) -> Fallible<Id> {
        self.form = "table[axis: index]";
        let Op::Index(axis) = self.of(axis).op else {
            let (expected, found) = ("an axis", self.of(axis).kind.name());
            let what = "an index into a tensor, `table[axis: index]`,".to_owned();
            return Err((self.of(axis).span, SchemeTextFault::Kind { what, expected, found }));
        };
        self.punct(":")?;
        let index = self.expression()?;
        self.want(index, Kind::Number, "an index")?;
        let kind = self.of(table).kind;
        self.node(Op::Gather { table, axis, index }, kind, start.to(self.last))
    }

    fn primary(&mut self) -> Fallible<Id> {
        let span = self.span;
        match self.token {
            Token::Number(text) => {
                let (x, elem) = number(text).map_err(|fault| (span, fault))?;
                self.advance();
                self.node(Op::Number { x, elem }, Kind::Number, span)
            }
            Token::Str(text) => {
                self.advance();
                self.node(Op::Name(text.to_owned()), Kind::Name, span)
            }
            Token::Punct("(") => {
                self.advance();
                let x = self.expression()?;
                self.punct(")")?;
                Ok(x)
            }
            Token::Punct("[") => {
                self.advance();
                let mut elements = Vec::new();
                self.list("]", |parser| {
                    let element = parser.expression()?;
                    parser.want(element, Kind::Number, "a list")?;
                    elements.push(parser.constant(element, "an element of a list")?);
                    Ok(())
                })?;
                self.node(Op::List(elements), Kind::List, span.to(self.last))
            }
            Token::Ident(name) => {
                self.advance();
                if self.token == Token::Punct("(") && !matches!(name, "and" | "or" | "not") {
                    return self.call(name, span);
                }
                self.name(name, span)
            }
            _ => self.unexpected("a value"),
        }
    }

    /// What a name stands for.
    fn name(&mut self, name: &'s str, span: Span) -> Fallible<Id> {
        if let Some((_, known)) = Known::ALL.into_iter().find(|(known, _)| *known == name) {
            return self.node(Op::Known(known), Kind::Number, span);
        }
        if let Some((_, x)) = NUMBERS.into_iter().find(|(known, _)| *known == name) {
            return self.node(Op::Number { x, elem: Elem::F32 }, Kind::Number, span);
        }
        if let Some(hook) = Hook::ALL.into_iter().find(|hook| hook.name() == name) {
            return match self.last(hook) {
                Some((_, id, _)) => Ok(id),
                None if hook == Hook::Mask => Err((span, self.no_value(name))),
                None => {
                    let id = self.node(Op::Operand, Kind::Number, span)?;
                    self.draft.nodes[id.index()].reads = Some(hook);
                    Ok(id)
                }
            };
        }
        match (name, self.draft.names.get(name).copied()) {
            ("dim", _) => self.node(Op::Dim, Kind::Axis, span),
            ("true" | "false", _) => self.node(Op::Bool(name == "true"), Kind::Bool, span),
            (_, Some(Named::Value(id))) => {
                self.draft.unread.remove(name);
                Ok(id)
            }
            (_, Some(Named::Attribute(number))) => {
                let kind = self.draft.kinds[number];
                self.node(Op::Attribute(number), kind, span)
            }
            (_, Some(Named::Axis(axis))) => self.node(Op::Index(axis), Kind::Number, span),
            (_, None) => Err((span, self.no_value(name))),
        }
    }
}
