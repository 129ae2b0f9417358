//! The parser: functions.

use rhumb_ir::source::Span;
use rhumb_ir::{Binary, Elem, Unary};

use super::error::SchemeTextFault;
use super::parser::{FUNCTIONS, Fallible, Parser};
use super::tree::{DotAxis, Id, Kind, Op};

/// A function and what it is given.
struct Call<'a> {
    name: &'a str,
    form: String,
    arguments: Vec<Id>,
    span: Span,
}

impl Call<'_> {
    /// As many arguments as the function takes.
    fn arguments<const N: usize>(&self) -> Fallible<[Id; N]> {
        let expected = if N == 1 { "one argument".to_owned() } else { format!("{N} arguments") };
        <[Id; N]>::try_from(self.arguments.clone()).map_err(|_| self.miscounted(expected))
    }

    fn miscounted(&self, expected: String) -> (Span, SchemeTextFault) {
        let (function, found, form) = (self.name.to_owned(), self.arguments.len(), self.form.clone());
        (self.span, SchemeTextFault::Arguments { function, expected, found, form })
    }

    /// What errors call it.
    fn what(&self) -> String {
        format!("`{}`", self.name)
    }
}

impl<'s> Parser<'s> {
    /// A function's arguments, behind its name.
    pub(super) fn call(&mut self, name: &'s str, start: Span) -> Fallible<Id> {
        self.advance();
        let mut arguments = Vec::new();
        self.list(")", |parser| {
            arguments.push(parser.expression()?);
            Ok(())
        })?;
        let span = start.to(self.last);
        if let Some(unary) = Unary::ALL.into_iter().find(|unary| unary.name() == name) {
            return self.unary(unary, &Call { name, form: format!("{name}(x)"), arguments, span });
        }
        let Some((_, form)) = FUNCTIONS.into_iter().find(|(known, _)| *known == name) else {
            return Err((start, Parser::no_function(name)));
        };
        let call = Call { name, form: form.to_owned(), arguments, span };
        match name {
            "select" => self.select(&call),
            "len" => self.len(&call),
            "f32" => self.cast(Elem::F32, &call),
            "i32" => self.cast(Elem::I32, &call),
            "rotate" => self.rotate(&call),
            "dot" => self.dot(&call),
            "sum" => self.sum_over(&call),
            _ => self.binary(&call),
        }
    }

    fn unary(&mut self, unary: Unary, call: &Call<'_>) -> Fallible<Id> {
        let [x] = call.arguments()?;
        let kind = if unary == Unary::Not { Kind::Bool } else { Kind::Number };
        self.want(x, kind, &call.what())?;
        self.node(Op::Unary(unary, x), kind, call.span)
    }

    fn binary(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let [a, b] = call.arguments()?;
        self.operands(&[a, b], Kind::Number, call.name)?;
        let op = match call.name {
            "min" => Op::Binary(Binary::Min, a, b),
            "max" => Op::Binary(Binary::Max, a, b),
            "pow" => Op::Binary(Binary::Pow, a, b),
            "atan2" => Op::Atan2(a, b),
            _ => Op::Floored(a, b),
        };
        self.node(op, Kind::Number, call.span)
    }

    fn select(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let [condition, a, b] = call.arguments()?;
        self.want(condition, Kind::Bool, "the condition of `select`")?;
        let kind = if self.of(a).kind == Kind::Bool { Kind::Bool } else { Kind::Number };
        self.operands(&[a, b], kind, call.name)?;
        self.node(Op::Select(condition, a, b), kind, call.span)
    }

    fn len(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let [list] = call.arguments()?;
        self.want(list, Kind::List, &call.what())?;
        self.node(Op::Length(list), Kind::Number, call.span)
    }

    fn cast(&mut self, elem: Elem, call: &Call<'_>) -> Fallible<Id> {
        let [x] = call.arguments()?;
        if self.of(x).kind != Kind::Bool {
            self.want(x, Kind::Number, &call.what())?;
        }
        self.node(Op::Cast(elem, x), Kind::Number, call.span)
    }

    fn rotate(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let (x, angle, pair, rest) = match call.arguments[..] {
            [x, angle, pair, ref rest @ ..] if rest.len() <= 2 => (x, angle, pair, rest),
            _ => return Err(call.miscounted("3 to 5 arguments".to_owned())),
        };
        self.operands(&[x, angle], Kind::Number, call.name)?;
        let DotAxis::Own(pair) = self.axis_of(pair)? else { return Err(self.no_axis(pair)) };
        let (pairing, from) = (rest.first().copied(), rest.get(1).copied());
        if let Some(pairing) = pairing {
            self.want(pairing, Kind::Name, "the pairing of `rotate`")?;
        }
        if let Some(from) = from {
            self.want(from, Kind::Number, "the first element of `rotate`")?;
            self.constant(from, "the first element of a rotation")?;
        }
        self.node(Op::Rotate { x, angle, pair, pairing, from }, Kind::Number, call.span)
    }

    fn dot(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let [a, b, axis] = call.arguments()?;
        self.operands(&[a, b], Kind::Number, call.name)?;
        let axis = self.axis_of(axis)?;
        self.node(Op::Dot { a, b, axis }, Kind::Number, call.span)
    }

    fn sum_over(&mut self, call: &Call<'_>) -> Fallible<Id> {
        let [x, axis] = call.arguments()?;
        self.operands(&[x], Kind::Number, call.name)?;
        let axis = self.axis_of(axis)?;
        self.node(Op::Sum { x, axis }, Kind::Number, call.span)
    }

    /// The axis that an argument names.
    fn axis_of(&self, argument: Id) -> Fallible<DotAxis> {
        match self.of(argument).op {
            Op::Index(axis) => Ok(DotAxis::Own(axis)),
            Op::Dim => Ok(DotAxis::Dim),
            _ => Err(self.no_axis(argument)),
        }
    }

    fn no_axis(&self, argument: Id) -> (Span, SchemeTextFault) {
        let node = self.of(argument);
        let found = if matches!(node.op, Op::Dim) { "the axis of a head's elements" } else { node.kind.name() };
        let (what, expected) = ("this argument".to_owned(), "an axis");
        (node.span, SchemeTextFault::Kind { what, expected, found })
    }
}
