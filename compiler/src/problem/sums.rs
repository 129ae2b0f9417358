//! Sums of products, wherever they stand in a score: brought together, so that each sum is one value.
//!
//! Kernels keep one number for all dots of a query and a key: their sum. Rewriting leaves terms between the dots, differences, and factors that
//! only some of them have. Here `((a + x) - b) c` becomes `(a' - b') + x c`, where `a'` and `b'` have the factor on the rows of their queries, or
//! on those of their keys where it varies over keys.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::RangeInclusive;

use rhumb_ir::{Axis, Binary, Expr, GraphBuilder, Op, Scalar, Unary, Value, Verified};

use super::PlanError;

/// Numbers that rows are multiplied with: with others they may overflow where their products do not, or lose digits.
const NUMBERS: RangeInclusive<f64> = 1e-30..=1e30;

/// The most terms beside the dots that a sum is taken apart into.
const MOST_TERMS: usize = 64;

/// A number, and values that do not vary over queries and keys both, all multiplied.
#[derive(Clone, Debug, PartialEq)]
struct Factor {
    number: f64,
    /// In ascending order.
    values: Vec<Value>,
}

impl Factor {
    const ONE: Factor = Factor { number: 1.0, values: Vec::new() };

    fn times(&self, other: &Factor) -> Factor {
        let mut values = [&self.values[..], &other.values].concat();
        values.sort_unstable();
        Factor { number: self.number * other.number, values }
    }
}

/// A value with a factor.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    value: Value,
    factor: Factor,
}

/// What a value adds up: dots and the rest, each with a factor; `-inf` where a mask hides it.
#[derive(Clone, Debug, Default)]
struct Sum {
    dots: Vec<Part>,
    rest: Vec<Part>,
    /// Conditions, and whether each hides where it holds.
    masks: Vec<(Value, bool)>,
}

impl Sum {
    fn of_rest(value: Value) -> Sum {
        Sum { rest: vec![Part { value, factor: Factor::ONE }], ..Sum::default() }
    }

    fn plus(mut self, other: Sum) -> Option<Sum> {
        other.dots.into_iter().for_each(|part| add(&mut self.dots, part));
        other.rest.into_iter().for_each(|part| add(&mut self.rest, part));
        self.masks.extend(other.masks);
        (self.rest.len() <= MOST_TERMS).then_some(self)
    }

    /// None where a factor is out of range, and for a sum that is masked, unless the factor is above 0.
    fn times(mut self, factor: &Factor) -> Option<Sum> {
        let keeps_masks = factor.values.is_empty() && factor.number > 0.0;
        if !self.masks.is_empty() && !keeps_masks {
            return None;
        }
        let mut parts = self.dots.iter_mut().chain(&mut self.rest);
        let fits = parts.all(|part| {
            part.factor = part.factor.times(factor);
            NUMBERS.contains(&part.factor.number.abs())
        });
        fits.then_some(self)
    }

    /// What its dots are multiplied with if they are the dots of `basis`, each with one number more; none if they are others.
    fn ratio(&self, basis: &Sum) -> Option<f64> {
        let alike = |(own, other): (&Part, &Part)| own.value == other.value && own.factor.values == other.factor.values;
        let of = |(own, other): (&Part, &Part)| own.factor.number / other.factor.number;
        let same = self.dots.len() == basis.dots.len() && self.dots.iter().zip(&basis.dots).all(alike);
        let ratio = self.dots.iter().zip(&basis.dots).map(of).next().filter(|_| same)?;
        self.dots.iter().zip(&basis.dots).all(|pair| of(pair) == ratio).then_some(ratio)
    }
}

/// Adds a part to others, in the order of their values; numbers of the same value are added up.
fn add(parts: &mut Vec<Part>, part: Part) {
    let alike = |other: &&mut Part| other.value == part.value && other.factor.values == part.factor.values;
    if let Some(known) = parts.iter_mut().find(alike) {
        known.factor.number += part.factor.number;
        return;
    }
    let at = parts.partition_point(|other| other.value < part.value);
    parts.insert(at, part);
}

/// What a value is to the dots.
enum Form {
    /// It is computed of none.
    Free,
    /// A sum of some.
    Sum(Sum),
    /// Something else.
    Other,
}

/// The graph with all of `dots` in one sum, wherever the graph uses them.
///
/// # Errors
/// [`PlanError::NotAttention`] names an op that uses more of the dots than one sum of all.
pub(super) fn together(graph: &Verified, dots: &[Value], axes: (Axis, Axis)) -> Result<Verified, PlanError> {
    let search = Search { graph, dots: dots.iter().copied().collect(), axes };
    let sums = search.used_sums()?;
    let Some(basis) = sums.values().next() else { return Ok(graph.clone()) };
    let mut made: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    let mut total: Option<Value> = None;
    let Ok(builder) = graph.rebuild(|builder, value, op| {
        let new = match sums.get(&value) {
            Some(sum) => {
                let write = Write { search: &search, builder, made: &made };
                let all = *total.get_or_insert_with(|| write.total(basis).value());
                write.sum(sum, builder.expr(all), sum.ratio(basis).unwrap_or(1.0))
            }
            None => builder.push(op),
        };
        made.push(new.value());
        Ok::<_, Infallible>(new)
    });
    match builder.finish() {
        Ok(graph) => Ok(graph.prune()),
        Err(error) => Err(search.not(dots[0], error.to_string())),
    }
}

struct Search<'g> {
    graph: &'g Verified,
    dots: BTreeSet<Value>,
    /// Of queries and of keys.
    axes: (Axis, Axis),
}

impl Search<'_> {
    fn not(&self, value: Value, reason: impl Into<String>) -> PlanError {
        PlanError::NotAttention { op: self.graph.line(value), reason: reason.into() }
    }

    fn varies(&self, value: Value, axis: Axis) -> bool {
        self.graph.varies(self.graph.ty(value).axes, axis)
    }

    /// The sums of all dots that something else is computed of.
    fn used_sums(&self) -> Result<BTreeMap<Value, Sum>, PlanError> {
        let mut forms: Vec<Form> = Vec::with_capacity(self.graph.nodes().len());
        for value in self.graph.values() {
            let form = self.form(value, &forms);
            forms.push(form);
        }
        let mut used: BTreeMap<Value, Sum> = BTreeMap::new();
        let outputs = self.graph.outputs().iter().map(|output| output.value);
        // What is in the way stands below what is made of it.
        for user in self.graph.below_in_order(outputs, |_| true) {
            if matches!(forms[user.index()], Form::Sum(_)) {
                continue;
            }
            for operand in self.graph.op(user).operands() {
                let Form::Sum(sum) = &forms[operand.index()] else { continue };
                if sum.dots.len() < self.dots.len() {
                    let reason = "this op takes some of the dots of queries and keys that the score has, and not the others; kernels keep the sum of \
                                  all dots alone: add them before anything else, each with a factor at most";
                    return Err(self.not(user, reason));
                }
                used.insert(operand, sum.clone());
            }
        }
        let mut sums = used.iter();
        let Some((_, basis)) = sums.next() else { return Ok(used) };
        match sums.find(|(_, sum)| sum.ratio(basis).is_none()) {
            Some((value, _)) => {
                let reason = "the score has two sums of the same dots of queries and keys that differ in more than a number for all; kernels keep one \
                              sum of dots: make it one";
                Err(self.not(*value, reason))
            }
            None => Ok(used),
        }
    }

    fn form(&self, value: Value, forms: &[Form]) -> Form {
        if self.dots.contains(&value) {
            let dots = vec![Part { value, factor: Factor::ONE }];
            return Form::Sum(Sum { dots, ..Sum::default() });
        }
        let op = self.graph.op(value);
        if op.operands().iter().all(|operand| matches!(forms[operand.index()], Form::Free)) {
            return Form::Free;
        }
        self.sum(op, forms).map_or(Form::Other, Form::Sum)
    }

    /// An op on sums as a sum, if it is one.
    fn sum(&self, op: &Op, forms: &[Form]) -> Option<Sum> {
        let sum = |x: Value| match &forms[x.index()] {
            Form::Free => Some(Sum::of_rest(x)),
            Form::Sum(sum) => Some(sum.clone()),
            Form::Other => None,
        };
        let is_free = |x: Value| matches!(forms[x.index()], Form::Free);
        let negated = Factor { number: -1.0, values: Vec::new() };
        let hidden = |x: Value| *self.graph.op(x) == Op::Const(Scalar::F32(f64::NEG_INFINITY));
        match *op {
            Op::Binary(Binary::Add, a, b) => sum(a)?.plus(sum(b)?),
            Op::Binary(Binary::Sub, a, b) => sum(a)?.plus(sum(b)?.times(&negated)?),
            Op::Unary(Unary::Neg, x) => sum(x)?.times(&negated),
            Op::Binary(Binary::Mul, a, b) => {
                let (x, factor) = if is_free(b) { (a, b) } else { (b, a) };
                let (x, factor) = (sum(x)?, self.factor(factor, is_free(factor))?);
                self.takes(&x, &factor).then(|| x.times(&factor))?
            }
            Op::Binary(Binary::Div, a, b) => {
                let divisor = self.factor(b, is_free(b)).filter(|divisor| divisor.values.is_empty())?;
                sum(a)?.times(&Factor { number: 1.0 / divisor.number, values: Vec::new() })
            }
            Op::Select { cond, on_true, on_false } if is_free(cond) && (hidden(on_true) || hidden(on_false)) => {
                let hides = hidden(on_true);
                let mut sum = sum(if hides { on_false } else { on_true })?;
                sum.masks.push((cond, hides));
                Some(sum)
            }
            _ => None,
        }
    }

    /// A value that is computed of no dot, as a factor; none if it varies over queries and keys both, or is out of range.
    fn factor(&self, value: Value, is_free: bool) -> Option<Factor> {
        let (query, key) = self.axes;
        match self.graph.op(value) {
            Op::Const(Scalar::F32(number)) => {
                NUMBERS.contains(&number.abs()).then(|| Factor { number: *number, values: Vec::new() })
            }
            _ => {
                let fits = is_free && !(self.varies(value, query) && self.varies(value, key));
                fits.then(|| Factor { number: 1.0, values: vec![value] })
            }
        }
    }

    /// Whether the rows of all dots take a factor: it is the same for all elements of a row.
    fn takes(&self, sum: &Sum, factor: &Factor) -> bool {
        let dims = sum.dots.iter().filter_map(|part| match *self.graph.op(part.value) {
            Op::Dot { axis, .. } => Some(axis),
            _ => None,
        });
        dims.into_iter().all(|dim| !factor.values.iter().any(|value| self.varies(*value, dim)))
    }
}

/// Writes sums to the new graph.
struct Write<'a, 'g> {
    search: &'a Search<'a>,
    builder: &'g GraphBuilder,
    /// The new value of each value of the graph before.
    made: &'a [Value],
}

impl<'g> Write<'_, 'g> {
    fn expr(&self, value: Value) -> Expr<'g> {
        self.builder.expr(self.made[value.index()])
    }

    /// The sum of the dots, their factors on their rows.
    fn total(&self, basis: &Sum) -> Expr<'g> {
        let (first, rest) = match &basis.dots[..] {
            [first, rest @ ..] => (self.dot(first), rest),
            [] => (self.builder.scalar(0.0), &[][..]),
        };
        rest.iter().fold(first, |sum, part| sum + self.dot(part))
    }

    fn dot(&self, part: &Part) -> Expr<'g> {
        let graph = self.search.graph;
        let Op::Dot { a, b, axis } = *graph.op(part.value) else { return self.expr(part.value) };
        if part.factor == Factor::ONE {
            return self.expr(part.value);
        }
        let keyed = |value: Value| self.search.varies(value, self.search.axes.1);
        let (of_keys, of_queries): (Vec<Value>, Vec<Value>) =
            part.factor.values.iter().partition(|value| keyed(**value));
        let queries = Factor { number: part.factor.number, values: of_queries };
        let keys = Factor { number: 1.0, values: of_keys };
        let (of_a, of_b) = if keyed(a) { (keys, queries) } else { (queries, keys) };
        self.scaled(a, &of_a).dot(self.scaled(b, &of_b), axis)
    }

    /// A value with its factor.
    fn scaled(&self, value: Value, factor: &Factor) -> Expr<'g> {
        let Factor { number, values } = factor;
        // What is the same for most elements first.
        let number = (*number != 1.0).then(|| self.builder.scalar(*number));
        let factor = number.into_iter().chain(values.iter().map(|value| self.expr(*value))).reduce(|a, b| a * b);
        factor.map_or(self.expr(value), |factor| self.expr(value) * factor)
    }

    fn sum(&self, sum: &Sum, total: Expr<'g>, ratio: f64) -> Expr<'g> {
        let total = if ratio == 1.0 { total } else { total * ratio };
        let all = sum.rest.iter().fold(total, |all, part| match &part.factor {
            Factor { number: -1.0, values } if values.is_empty() => all - self.expr(part.value),
            factor => all + self.scaled(part.value, factor),
        });
        sum.masks.iter().fold(all, |all, (cond, hides)| {
            let (cond, low) = (self.expr(*cond), self.builder.scalar(f64::NEG_INFINITY));
            if *hides { cond.select(low, all) } else { cond.select(all, low) }
        })
    }
}
