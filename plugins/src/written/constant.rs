//! Numbers that the compiler knows: over axes of fixed length, in double precision.

use std::collections::BTreeMap;

use rhumb_ir::{Axis, Binary, Compare, Elem, ElemKind, Expr, Op, Unary};

use crate::scheme::SchemeContext;

/// The most elements of one constant: more than any table of a scheme has.
const MOST: usize = 1 << 18;

/// Constant numbers, row-major over their axes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) elem: Elem,
    pub(super) axes: Vec<(Axis, usize)>,
    pub(super) data: Vec<f64>,
}

/// Why numbers can't be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// More elements than a constant may have.
    Large,
    /// An integer beyond 32 bits.
    Overflow,
}

impl Trouble {
    /// As errors say it, and what would mend it.
    pub(super) fn text(self) -> (&'static str, &'static str) {
        match self {
            Trouble::Large => ("this table of constants is too large", "use shorter axes, or fewer in one expression"),
            Trouble::Overflow => {
                ("this integer does not fit 32 bits", "compute in real numbers: `f32(x)`, or `2.0` for `2`")
            }
        }
    }
}

impl Constant {
    /// One number.
    pub(super) fn scalar(elem: Elem, x: f64) -> Constant {
        Constant { elem, axes: Vec::new(), data: vec![x] }
    }

    /// The index along an axis.
    pub(super) fn index(axis: Axis, length: u32) -> Result<Constant, Trouble> {
        if length as usize > MOST {
            return Err(Trouble::Large);
        }
        Ok(Constant {
            elem: Elem::I32,
            axes: vec![(axis, length as usize)],
            data: (0..length).map(f64::from).collect(),
        })
    }

    /// The number, if it is one.
    pub(super) fn single(&self) -> Option<f64> {
        if self.axes.is_empty() { self.data.first().copied() } else { None }
    }

    /// The same numbers as another element type.
    pub(super) fn cast(&self, elem: Elem) -> Constant {
        let convert = |x: &f64| match (self.elem, elem) {
            // As the IR has it: towards zero, into the range, NaN to 0.
            (Elem::F32, Elem::I32) => f64::from(*x as i32),
            _ => *x,
        };
        Constant { elem, axes: self.axes.clone(), data: self.data.iter().map(convert).collect() }
    }

    pub(super) fn unary(&self, op: Unary) -> Result<Constant, Trouble> {
        let elem = match op {
            Unary::Neg | Unary::Abs | Unary::Not => self.elem,
            _ => Elem::F32,
        };
        let data = self.data.iter().map(|x| op.real()(*x)).collect();
        Constant { elem, axes: self.axes.clone(), data }.in_range()
    }

    pub(super) fn binary(&self, op: Binary, other: &Constant) -> Result<Constant, Trouble> {
        let elem = match op {
            Binary::Pow => Elem::F32,
            Binary::And | Binary::Or => Elem::Bool,
            _ => self.common(other),
        };
        // An integer has no remainder of a division by 0.
        let is_whole = elem == Elem::I32;
        // To the last bit, and of negative bases too.
        let of = if op == Binary::Pow { f64::powf } else { op.real() };
        let apply = |a: f64, b: f64| if is_whole && op == Binary::Mod && b == 0.0 { 0.0 } else { of(a, b) };
        self.zip(other, elem, apply)?.in_range()
    }

    /// The quotient of real numbers.
    pub(super) fn quotient(&self, other: &Constant) -> Result<Constant, Trouble> {
        self.zip(other, Elem::F32, |a, b| a / b)
    }

    /// The angle of the point `(other, self)`.
    pub(super) fn atan2(&self, other: &Constant) -> Result<Constant, Trouble> {
        self.zip(other, Elem::F32, f64::atan2)
    }

    /// The quotient rounded down; of integers 0 when the divisor is 0.
    pub(super) fn floored(&self, other: &Constant) -> Result<Constant, Trouble> {
        let elem = self.common(other);
        let is_whole = elem == Elem::I32;
        self.zip(other, elem, |a, b| if is_whole && b == 0.0 { 0.0 } else { (a / b).floor() })?.in_range()
    }

    pub(super) fn compare(&self, op: Compare, other: &Constant) -> Result<Constant, Trouble> {
        self.zip(other, Elem::Bool, op.real())
    }

    /// This condition's choice between two.
    pub(super) fn select(&self, a: &Constant, b: &Constant) -> Result<Constant, Trouble> {
        let elem = a.common(b);
        // Adding what is chosen to nothing of the other keeps NaN and infinities of what is not chosen out.
        let chosen = self.zip(a, elem, |condition, a| if condition == 0.0 { 0.0 } else { a })?;
        let other = self.zip(b, elem, |condition, b| if condition == 0.0 { b } else { 0.0 })?;
        chosen.zip(&other, elem, |a, b| a + b)
    }

    /// The elements of a list at these indices; the first index that is outside, if one is.
    pub(super) fn of_list(list: &[f64], index: &Constant) -> Result<Constant, f64> {
        let element = |x: &f64| {
            let within = x.fract() == 0.0 && *x >= 0.0;
            if within { list.get(*x as usize).copied().ok_or(*x) } else { Err(*x) }
        };
        let data = index.data.iter().map(element).collect::<Result<_, f64>>()?;
        Ok(Constant { elem: Elem::F32, axes: index.axes.clone(), data })
    }

    /// The sum along an axis of the product of both.
    pub(super) fn sum(&self, axis: Axis) -> Constant {
        let Some(at) = self.axes.iter().position(|(own, _)| *own == axis) else { return self.clone() };
        let (length, inner) = (self.axes[at].1, self.axes[at + 1..].iter().map(|(_, n)| n).product::<usize>());
        let mut axes = self.axes.clone();
        axes.remove(at);
        let count = axes.iter().map(|(_, n)| n).product::<usize>();
        let element = |i: usize| {
            let (outer, within) = (i / inner.max(1), i % inner.max(1));
            (0..length).map(|j| self.data[(outer * length + j) * inner + within]).sum()
        };
        Constant { elem: Elem::F32, axes, data: (0..count).map(element).collect() }
    }

    /// The element type of the result of an operation of two.
    fn common(&self, other: &Constant) -> Elem {
        if self.elem == other.elem { self.elem } else { Elem::F32 }
    }

    /// An operation of two, over the axes of both.
    fn zip(&self, other: &Constant, elem: Elem, apply: impl Fn(f64, f64) -> f64) -> Result<Constant, Trouble> {
        let mut axes = self.axes.clone();
        axes.extend(other.axes.iter().filter(|(axis, _)| self.axes.iter().all(|(own, _)| own != axis)));
        let count = axes.iter().try_fold(1_usize, |count, (_, n)| count.checked_mul(*n).filter(|count| *count <= MOST));
        let count = count.ok_or(Trouble::Large)?;
        let (a, b) = (self.strides(&axes), other.strides(&axes));
        let data = (0..count)
            .map(|index| {
                let (mut rest, mut at) = (index, [0, 0]);
                for (number, (_, length)) in axes.iter().enumerate().rev() {
                    at[0] += rest % length * a[number];
                    at[1] += rest % length * b[number];
                    rest /= length;
                }
                apply(self.data[at[0]], other.data[at[1]])
            })
            .collect();
        Ok(Constant { elem, axes, data })
    }

    /// How far the elements of this lie apart along each of `axes`; 0 along those that it does not have.
    fn strides(&self, axes: &[(Axis, usize)]) -> Vec<usize> {
        let mut own = BTreeMap::new();
        let mut stride = 1;
        for (axis, length) in self.axes.iter().rev() {
            own.insert(*axis, stride);
            stride *= length;
        }
        axes.iter().map(|(axis, _)| own.get(axis).copied().unwrap_or(0)).collect()
    }

    fn in_range(self) -> Result<Constant, Trouble> {
        if self.data.iter().all(|x| self.elem.holds(*x)) { Ok(self) } else { Err(Trouble::Overflow) }
    }

    /// The numbers as a value of the graph.
    pub(super) fn expr<'g>(&self, cx: &SchemeContext<'g>) -> Expr<'g> {
        let axes: Vec<Axis> = self.axes.iter().map(|(axis, _)| *axis).collect();
        let builder = cx.builder();
        match (self.single(), self.elem.kind()) {
            (Some(x), ElemKind::Real) => cx.scalar(x),
            (Some(x), ElemKind::Whole) => cx.int(x as i32),
            (Some(x), ElemKind::Truth) => builder.bool(x != 0.0),
            (None, ElemKind::Real) => cx.table(&axes, self.data.clone()),
            (None, _) => builder.push(Op::Table { dims: axes, elem: self.elem, data: self.data.clone().into() }),
        }
    }
}
