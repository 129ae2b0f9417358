//! What a scheme in text does: its operations as ops of the graph, those of constants done here.

use rhumb_ir::source::Located;
use rhumb_ir::{Attr, Axis, Binary, Compare, Elem, Expr, Op as IrOp, Pairing, Unary};

use super::constant::{Constant, Trouble};
use super::tree::{AxisSource, Definition, DotAxis, Id, Known, Op};
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

/// The most elements of all constants of a hook.
const MOST: usize = 1 << 23;

/// Whole powers up to this are products, which negative bases have too.
const MOST_FACTORS: f64 = 64.0;

/// What an operation made.
#[derive(Clone, Debug)]
pub(super) enum Item<'g> {
    Constant(Constant),
    Expr(Expr<'g>),
    List(Vec<f64>),
    Name(String),
    /// An axis, which functions name.
    Axis,
}

/// Does the operations of a scheme at one place.
pub(super) struct Evaluator<'a, 'g> {
    pub(super) definition: &'a Definition,
    pub(super) values: &'a [Attr],
    pub(super) cx: &'a SchemeContext<'g>,
    operand: Option<Expr<'g>>,
    items: Vec<Option<Item<'g>>>,
    /// Elements of the constants made so far.
    size: usize,
}

impl<'a, 'g> Evaluator<'a, 'g> {
    pub(super) fn new(
        definition: &'a Definition,
        values: &'a [Attr],
        cx: &'a SchemeContext<'g>,
        operand: Option<Expr<'g>>,
    ) -> Evaluator<'a, 'g> {
        let items = vec![None; definition.nodes.len()];
        Evaluator { definition, values, cx, operand, items, size: 0 }
    }

    /// What an operation makes, as a value of the graph.
    pub(super) fn expr(mut self, id: Id) -> Result<Expr<'g>, SchemeError> {
        self.evaluate(id)?;
        Ok(self.lift(id, None))
    }

    /// Checks tensors, lengths of axes and what the scheme requires.
    pub(super) fn check(mut self) -> Result<(), SchemeError> {
        self.check_tensors()?;
        for axis in 0..self.definition.axes.len() {
            self.length(axis)?;
        }
        for requirement in &self.definition.requirements {
            let holds = self.constant(requirement.condition)?.data.iter().all(|x| *x != 0.0);
            if !holds {
                let span = self.definition.nodes[requirement.condition.index()].span;
                let condition = &self.definition.source[span.start..span.end];
                let hint = format!("see that `{}` holds", condition.split_whitespace().collect::<Vec<_>>().join(" "));
                return Err(SchemeError::other(requirement.message.clone(), hint));
            }
        }
        Ok(())
    }

    /// The constant that an operation makes.
    pub(super) fn constant(&mut self, id: Id) -> Result<Constant, SchemeError> {
        self.evaluate(id)?;
        match &self.items[id.index()] {
            Some(Item::Constant(constant)) => Ok(constant.clone()),
            // What has to be constant was checked when the text was read.
            _ => Err(self.wrong(id, "this is no constant", "use numbers, attributes, `heads`, `head_dim` and axes")),
        }
    }

    /// The length of an axis that the scheme declares or a tensor has, 0 for one that a call tells.
    fn length(&mut self, axis: usize) -> Result<u32, SchemeError> {
        let AxisSource::Declared(length) = self.definition.axes[axis].source else { return Ok(0) };
        let found = self.constant(length)?.single();
        let whole = found.filter(|x| x.fract() == 0.0 && (1.0..=1_048_576.0).contains(x));
        whole.map(|x| x as u32).ok_or_else(|| {
            let name = &self.definition.axes[axis].name;
            let found = found.map_or_else(|| "more than one number".to_owned(), |x| format!("{x}"));
            let message = format!("the length of axis `{name}` is {found}");
            self.wrong(length, &message, "see that it is a whole number from 1 to 1048576")
        })
    }

    /// An axis of the scheme's own.
    fn axis(&mut self, axis: usize) -> Result<Axis, SchemeError> {
        match self.definition.axes[axis].source {
            AxisSource::Declared(_) => {
                let length = self.length(axis)?;
                Ok(self.cx.axis(&self.definition.axes[axis].name, length))
            }
            AxisSource::Attribute(number) => self.axis_of_tensor(number, axis),
        }
    }

    fn dot_axis(&mut self, axis: DotAxis) -> Result<Axis, SchemeError> {
        match axis {
            DotAxis::Own(axis) => self.axis(axis),
            DotAxis::Dim => Ok(self.cx.dim_axis()),
        }
    }

    /// Does an operation, and all that it needs before it: operands have lower numbers, and so have lengths of axes.
    fn evaluate(&mut self, id: Id) -> Result<(), SchemeError> {
        let mut needed = vec![false; id.index() + 1];
        needed[id.index()] = true;
        for index in (0..=id.index()).rev() {
            if needed[index] && self.items[index].is_none() {
                let op = &self.definition.nodes[index].op;
                for operand in op.operands().into_iter().chain(self.length_of_axis(op)) {
                    needed[operand.index()] = true;
                }
            }
        }
        for (index, is_needed) in needed.into_iter().enumerate() {
            if is_needed && self.items[index].is_none() {
                let item = self.operation(Id(index as u32))?;
                if let Item::Constant(constant) = &item {
                    self.size += constant.data.len();
                    if self.size > MOST {
                        return Err(self.trouble(Id(index as u32), Trouble::Large));
                    }
                }
                self.items[index] = Some(item);
            }
        }
        Ok(())
    }

    /// The length of the axis that an operation names, where the scheme declares it.
    fn length_of_axis(&self, op: &Op) -> Option<Id> {
        let axis = match op {
            Op::Index(axis) | Op::Gather { axis, .. } | Op::Rotate { pair: axis, .. } => *axis,
            Op::Dot { axis: DotAxis::Own(axis), .. } | Op::Sum { axis: DotAxis::Own(axis), .. } => *axis,
            _ => return None,
        };
        match self.definition.axes[axis].source {
            AxisSource::Declared(length) => Some(length),
            AxisSource::Attribute(_) => None,
        }
    }

    fn operation(&mut self, id: Id) -> Result<Item<'g>, SchemeError> {
        let definition = self.definition;
        let constant = |elem, x| Ok(Item::Constant(Constant::scalar(elem, x)));
        match &definition.nodes[id.index()].op {
            Op::Number { x, elem } => constant(*elem, *x),
            Op::Bool(x) => constant(Elem::Bool, f64::from(u8::from(*x))),
            Op::Name(name) => Ok(Item::Name(name.clone())),
            Op::List(elements) => self.list(elements),
            Op::Operand => match self.operand {
                Some(x) => Ok(Item::Expr(x)),
                None => Err(self.wrong(id, "there is no query, key or score here", "read it in its own hook")),
            },
            Op::Known(known) => self.known(id, *known),
            Op::Attribute(number) => self.attribute(*number),
            Op::Index(axis) => {
                let axis = self.axis(*axis)?;
                let length = self.cx.length_of(axis)?;
                self.made(id, Constant::index(axis, length))
            }
            Op::Dim => Ok(Item::Axis),
            Op::Unary(op, x) => self.unary(id, *op, *x),
            Op::Binary(op, a, b) => self.binary(id, *op, (*a, *b)),
            Op::Quotient(a, b) | Op::Floored(a, b) => self.quotient(id, (*a, *b)),
            Op::Atan2(y, x) => self.atan2(id, (*y, *x)),
            Op::Compare(op, a, b) => self.compare(id, *op, (*a, *b)),
            Op::Select(condition, a, b) => self.select(id, *condition, (*a, *b)),
            Op::Cast(elem, x) => Ok(match self.item(*x) {
                Item::Constant(x) => Item::Constant(x.cast(*elem)),
                _ => Item::Expr(self.as_elem(*x, *elem)),
            }),
            Op::Length(list) => constant(Elem::I32, self.numbers(*list).len() as f64),
            Op::Element { list, index } => self.element(id, *list, *index),
            Op::Gather { table, axis, index } => {
                let (axis, index) = (self.axis(*axis)?, self.whole(*index)?);
                Ok(Item::Expr(self.lift(*table, None).gather(axis, index)))
            }
            Op::Rotate { x, angle, pair, pairing, from } => self.rotate((*x, *angle), *pair, (*pairing, *from)),
            Op::Dot { a, b, axis } => self.dot(id, (*a, *b), *axis),
            Op::Sum { x, axis } => self.sum(*x, *axis),
        }
    }

    fn list(&mut self, elements: &[Id]) -> Result<Item<'g>, SchemeError> {
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            let single = if let Item::Constant(x) = self.item(*element) { x.single() } else { None };
            list.push(single.ok_or_else(|| {
                self.wrong(*element, "an element of a list is one number", "write the list's elements one by one")
            })?);
        }
        Ok(Item::List(list))
    }

    fn known(&mut self, id: Id, known: Known) -> Result<Item<'g>, SchemeError> {
        let cx = self.cx;
        let number = |x: u32| Ok(Item::Constant(Constant::scalar(Elem::I32, f64::from(x))));
        match known {
            Known::QueryPosition => Ok(Item::Expr(cx.q_pos())),
            Known::KeyPosition => Ok(Item::Expr(cx.k_pos())),
            Known::QueryIndex => Ok(Item::Expr(cx.q_index())),
            Known::KeyIndex => Ok(Item::Expr(cx.k_index())),
            Known::Length => Ok(Item::Expr(cx.length())),
            Known::Head => self.made(id, Constant::index(cx.head_axis()?, cx.heads()?)),
            Known::Heads => number(cx.heads()?),
            Known::HeadDim => number(cx.head_dim()?),
        }
    }

    fn attribute(&mut self, number: usize) -> Result<Item<'g>, SchemeError> {
        let constant = |elem, x| Ok(Item::Constant(Constant::scalar(elem, x)));
        match &self.values[number] {
            Attr::Bool(x) => constant(Elem::Bool, f64::from(u8::from(*x))),
            Attr::Int(x) => constant(Elem::I32, *x as f64),
            Attr::Float(x) => constant(Elem::F32, *x),
            Attr::Str(name) => Ok(Item::Name(name.clone())),
            Attr::List(list) => Ok(Item::List(list.clone())),
            Attr::Value(value) => Ok(Item::Expr(self.cx.value(&self.definition.info.attributes[number].name, *value)?)),
        }
    }

    fn unary(&mut self, id: Id, op: Unary, x: Id) -> Result<Item<'g>, SchemeError> {
        if let Item::Constant(x) = self.item(x) {
            let made = x.unary(op);
            return self.made(id, made);
        }
        let takes_whole = matches!(op, Unary::Neg | Unary::Abs | Unary::Not);
        let x = if takes_whole { self.lift(x, None) } else { self.as_elem(x, Elem::F32) };
        Ok(Item::Expr(self.cx.builder().push(IrOp::Unary(op, x.value()))))
    }

    fn binary(&mut self, id: Id, op: Binary, operands: (Id, Id)) -> Result<Item<'g>, SchemeError> {
        if let (Item::Constant(a), Item::Constant(b)) = (self.item(operands.0), self.item(operands.1)) {
            let made = a.binary(op, b);
            return self.made(id, made);
        }
        if let (Binary::Pow, Item::Constant(exponent)) = (op, self.item(operands.1))
            && let Some(exponent) = exponent.single().filter(|x| x.fract() == 0.0 && x.abs() <= MOST_FACTORS)
        {
            return Ok(Item::Expr(power(self.as_elem(operands.0, Elem::F32), exponent as i32)));
        }
        let (a, b) = self.pair(operands);
        Ok(Item::Expr(match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Mod => a % b,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Pow => a.pow(b),
            Binary::And => a & b,
            Binary::Or => a | b,
        }))
    }

    /// The quotient of real numbers, or the one rounded down.
    fn quotient(&mut self, id: Id, operands: (Id, Id)) -> Result<Item<'g>, SchemeError> {
        let is_floored = matches!(self.definition.nodes[id.index()].op, Op::Floored(..));
        if let (Item::Constant(a), Item::Constant(b)) = (self.item(operands.0), self.item(operands.1)) {
            let made = if is_floored { a.floored(b) } else { a.quotient(b) };
            return self.made(id, made);
        }
        let (a, b) = self.pair(operands);
        if is_floored && a.ty().elem == Elem::I32 && b.ty().elem == Elem::I32 {
            return Ok(Item::Expr(a / b));
        }
        let (a, b) = (self.as_elem(operands.0, Elem::F32), self.as_elem(operands.1, Elem::F32));
        Ok(Item::Expr(if is_floored { (a / b).floor() } else { a / b }))
    }

    fn atan2(&mut self, id: Id, (y, x): (Id, Id)) -> Result<Item<'g>, SchemeError> {
        if let (Item::Constant(a), Item::Constant(b)) = (self.item(y), self.item(x)) {
            let made = a.atan2(b);
            return self.made(id, made);
        }
        Ok(Item::Expr(self.as_elem(y, Elem::F32).atan2(self.as_elem(x, Elem::F32))))
    }

    fn compare(&mut self, id: Id, op: Compare, operands: (Id, Id)) -> Result<Item<'g>, SchemeError> {
        match (self.item(operands.0), self.item(operands.1)) {
            (Item::Name(a), Item::Name(b)) => {
                let holds = if op == Compare::Eq { a == b } else { a != b };
                return Ok(Item::Constant(Constant::scalar(Elem::Bool, f64::from(u8::from(holds)))));
            }
            (Item::Constant(a), Item::Constant(b)) => {
                let made = a.compare(op, b);
                return self.made(id, made);
            }
            _ => {}
        }
        let (a, b) = self.pair(operands);
        Ok(Item::Expr(match op {
            Compare::Eq => a.eq(b),
            Compare::Ne => a.ne(b),
            Compare::Lt => a.lt(b),
            Compare::Le => a.le(b),
            Compare::Gt => a.gt(b),
            Compare::Ge => a.ge(b),
        }))
    }

    fn select(&mut self, id: Id, condition: Id, operands: (Id, Id)) -> Result<Item<'g>, SchemeError> {
        if let Item::Constant(choice) = self.item(condition) {
            if let Some(choice) = choice.single() {
                return Ok(self.item(if choice != 0.0 { operands.0 } else { operands.1 }).clone());
            }
            if let (Item::Constant(a), Item::Constant(b)) = (self.item(operands.0), self.item(operands.1)) {
                let made = choice.select(a, b);
                return self.made(id, made);
            }
        }
        let (a, b) = self.pair(operands);
        Ok(Item::Expr(self.lift(condition, None).select(a, b)))
    }

    fn element(&mut self, id: Id, list: Id, index: Id) -> Result<Item<'g>, SchemeError> {
        let numbers = self.numbers(list);
        if let Item::Constant(index) = self.item(index) {
            return Constant::of_list(&numbers, index).map(Item::Constant).map_err(|outside| {
                let message = format!("the list is {} long, and {outside} is no index of it", numbers.len());
                self.wrong(id, &message, "give a longer list; indices are whole and count from 0")
            });
        }
        if numbers.is_empty() {
            return Err(self.wrong(list, "the list is empty", "give a list of at least one number"));
        }
        let index = self.whole(index)?;
        let axis = self.cx.axis("element", numbers.len() as u32);
        Ok(Item::Expr(self.cx.table(&[axis], numbers).gather(axis, index)))
    }

    fn rotate(
        &mut self,
        (x, angle): (Id, Id),
        pair: usize,
        (pairing, from): (Option<Id>, Option<Id>),
    ) -> Result<Item<'g>, SchemeError> {
        let pairing = match pairing.map(|id| (id, self.item(id))) {
            None => Pairing::Half,
            Some((id, Item::Name(name))) => match Pairing::ALL.into_iter().find(|pairing| pairing.name() == name) {
                Some(pairing) => pairing,
                None => {
                    let message = format!("there is no pairing \"{name}\"");
                    return Err(self.wrong(id, &message, "pairings are \"half\" and \"interleaved\""));
                }
            },
            Some((id, _)) => return Err(self.wrong(id, "this is no pairing", "write \"half\" or \"interleaved\"")),
        };
        let start = match from {
            None => 0,
            Some(from) => match self.constant(from)?.single() {
                Some(x) if x.fract() == 0.0 && (0.0..=1_048_576.0).contains(&x) => x as u32,
                _ => return Err(self.wrong(from, "this is no element of a head", "give a whole number from 0")),
            },
        };
        let (axis, dim) = (self.axis(pair)?, self.cx.dim_axis());
        let (x, angle) = (self.as_elem(x, Elem::F32), self.as_elem(angle, Elem::F32));
        Ok(Item::Expr(x.rotate(angle, dim, axis, pairing, start)))
    }

    fn dot(&mut self, id: Id, operands: (Id, Id), axis: DotAxis) -> Result<Item<'g>, SchemeError> {
        let axis = self.dot_axis(axis)?;
        if let (Item::Constant(a), Item::Constant(b)) = (self.item(operands.0), self.item(operands.1)) {
            let made = a.binary(Binary::Mul, b).map(|product| product.sum(axis));
            return self.made(id, made);
        }
        let (a, b) = (self.as_elem(operands.0, Elem::F32), self.as_elem(operands.1, Elem::F32));
        Ok(Item::Expr(a.dot(b, axis)))
    }

    fn sum(&mut self, x: Id, axis: DotAxis) -> Result<Item<'g>, SchemeError> {
        let axis = self.dot_axis(axis)?;
        if let Item::Constant(x) = self.item(x) {
            return Ok(Item::Constant(x.sum(axis)));
        }
        let ones = vec![1.0; self.cx.length_of(axis)? as usize];
        Ok(Item::Expr(self.as_elem(x, Elem::F32).dot(self.cx.table(&[axis], ones), axis)))
    }

    /// What was made of an operand; operands come before what they are for.
    fn item(&self, id: Id) -> &Item<'g> {
        self.items[id.index()].as_ref().unwrap_or(&Item::Axis)
    }

    fn numbers(&self, id: Id) -> Vec<f64> {
        if let Item::List(list) = self.item(id) { list.clone() } else { Vec::new() }
    }

    /// An operand as a value of the graph; whole constants as real numbers where they stand beside `beside`, which is real.
    fn lift(&self, id: Id, beside: Option<Elem>) -> Expr<'g> {
        match self.item(id) {
            Item::Expr(x) => *x,
            Item::Constant(x) if beside == Some(Elem::F32) && x.elem == Elem::I32 => x.cast(Elem::F32).expr(self.cx),
            Item::Constant(x) => x.expr(self.cx),
            // Kinds were checked when the text was read.
            Item::List(_) | Item::Name(_) | Item::Axis => self.cx.scalar(f64::NAN),
        }
    }

    /// Two operands side by side.
    fn pair(&self, (a, b): (Id, Id)) -> (Expr<'g>, Expr<'g>) {
        let elem = |id: Id| match self.item(id) {
            Item::Expr(x) => Some(x.ty().elem),
            Item::Constant(x) => Some(x.elem),
            _ => None,
        };
        (self.lift(a, elem(b)), self.lift(b, elem(a)))
    }

    fn as_elem(&self, id: Id, elem: Elem) -> Expr<'g> {
        let x = self.lift(id, Some(elem));
        if x.ty().elem == elem { x } else { x.cast(elem) }
    }

    /// An index, which must be whole.
    fn whole(&self, id: Id) -> Result<Expr<'g>, SchemeError> {
        let x = self.lift(id, None);
        if x.ty().elem == Elem::I32 { Ok(x) } else { Err(self.wrong(id, "an index is whole", "write `i32(floor(x))`")) }
    }

    fn made(&self, id: Id, made: Result<Constant, Trouble>) -> Result<Item<'g>, SchemeError> {
        made.map(Item::Constant).map_err(|trouble| self.trouble(id, trouble))
    }

    fn trouble(&self, id: Id, trouble: Trouble) -> SchemeError {
        let (message, hint) = trouble.text();
        self.wrong(id, message, hint)
    }

    /// What is wrong with an operation, and where it stands.
    fn wrong(&self, id: Id, message: &str, hint: &str) -> SchemeError {
        let node = &self.definition.nodes[id.index()];
        let Located { line, column, .. } = Located::of(&self.definition.source, node.span);
        SchemeError::other(format!("{message}, at line {line}, column {column} of its text"), hint)
    }
}

/// A whole power, of any base.
fn power(x: Expr<'_>, exponent: i32) -> Expr<'_> {
    let (mut square, mut rest, mut product) = (x, exponent.unsigned_abs(), None);
    while rest > 0 {
        if rest % 2 == 1 {
            product = Some(product.map_or(square, |product| product * square));
        }
        rest /= 2;
        if rest > 0 {
            square = square * square;
        }
    }
    let product = product.unwrap_or_else(|| x.builder().scalar(1.0));
    if exponent < 0 { 1.0 / product } else { product }
}
