//! Types of Rust that stand for attributes.

use rhumb_ir::{Attr, Expr, Value};

use super::info::AttrKind;
use super::range::AttrRange;

/// A type that a field of a declared scheme can have: what stands for it in the text form.
///
/// A type of one's own is a [`Choice`] of a few names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type of an attribute",
    note = "attributes are `bool`, `i32`, `u32`, `f64`, `Vec<f64>`, `[f64; N]`, `Value`, `IntOrValue`, `ListOrValue`, a `Choice`, or an \
            `Option` of one"
)]
pub trait AttrType: Sized {
    /// What is taken for it.
    fn kind() -> AttrKind;

    /// The numbers that it can hold, where it is of numbers. What a scheme declares is a part of these.
    fn range() -> AttrRange {
        AttrRange::all()
    }

    /// What `attr` stands for, if it is of the kind and in the range.
    fn read(attr: &Attr) -> Option<Self>;

    /// As an attribute; `None` if it stands for nothing.
    fn write(&self) -> Option<Attr>;
}

/// A type whose few values have names in the text form.
///
/// ```
/// use rhumb_plugins::Choice;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Side { Left, Right }
///
/// impl Choice for Side {
///     const NAMES: &'static [(&'static str, Side)] = &[("left", Side::Left), ("right", Side::Right)];
/// }
/// ```
pub trait Choice: Copy + PartialEq + 'static {
    /// All values, each with its name.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> AttrType for T {
    fn kind() -> AttrKind {
        AttrKind::Name(T::NAMES.iter().map(|(name, _)| (*name).to_owned()).collect())
    }

    fn read(attr: &Attr) -> Option<T> {
        let Attr::Str(given) = attr else { return None };
        T::NAMES.iter().find(|(name, _)| name == given).map(|(_, value)| *value)
    }

    fn write(&self) -> Option<Attr> {
        T::NAMES.iter().find(|(_, value)| value == self).map(|(name, _)| Attr::Str((*name).to_owned()))
    }
}

impl AttrType for bool {
    fn kind() -> AttrKind {
        AttrKind::Bool
    }

    fn read(attr: &Attr) -> Option<bool> {
        if let Attr::Bool(x) = attr { Some(*x) } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::Bool(*self))
    }
}

impl AttrType for i32 {
    fn kind() -> AttrKind {
        AttrKind::Int
    }

    fn range() -> AttrRange {
        (i32::MIN..=i32::MAX).into()
    }

    fn read(attr: &Attr) -> Option<i32> {
        if let Attr::Int(x) = attr { i32::try_from(*x).ok() } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::Int(i64::from(*self)))
    }
}

impl AttrType for u32 {
    fn kind() -> AttrKind {
        AttrKind::Int
    }

    fn range() -> AttrRange {
        (0.0..=f64::from(u32::MAX)).into()
    }

    fn read(attr: &Attr) -> Option<u32> {
        if let Attr::Int(x) = attr { u32::try_from(*x).ok() } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::Int(i64::from(*self)))
    }
}

impl AttrType for f64 {
    fn kind() -> AttrKind {
        AttrKind::Float
    }

    fn range() -> AttrRange {
        AttrRange::finite()
    }

    fn read(attr: &Attr) -> Option<f64> {
        match attr {
            Attr::Float(x) => Some(*x),
            Attr::Int(x) => Some(*x as f64),
            _ => None,
        }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::Float(*self))
    }
}

impl AttrType for Vec<f64> {
    fn kind() -> AttrKind {
        AttrKind::List
    }

    fn range() -> AttrRange {
        AttrRange::finite()
    }

    fn read(attr: &Attr) -> Option<Vec<f64>> {
        if let Attr::List(list) = attr { Some(list.clone()) } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::List(self.clone()))
    }
}

impl<const N: usize> AttrType for [f64; N] {
    fn kind() -> AttrKind {
        AttrKind::List
    }

    fn range() -> AttrRange {
        AttrRange { length: Some(N), ..AttrRange::finite() }
    }

    fn read(attr: &Attr) -> Option<[f64; N]> {
        if let Attr::List(list) = attr { list.as_slice().try_into().ok() } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::List(self.to_vec()))
    }
}

impl AttrType for Value {
    fn kind() -> AttrKind {
        AttrKind::Value
    }

    fn read(attr: &Attr) -> Option<Value> {
        if let Attr::Value(value) = attr { Some(*value) } else { None }
    }

    fn write(&self) -> Option<Attr> {
        Some(Attr::Value(*self))
    }
}

/// What need not be given: `None` stands for an attribute that is left out.
impl<T: AttrType> AttrType for Option<T> {
    fn kind() -> AttrKind {
        T::kind()
    }

    fn range() -> AttrRange {
        T::range()
    }

    fn read(attr: &Attr) -> Option<Option<T>> {
        T::read(attr).map(Some)
    }

    fn write(&self) -> Option<Attr> {
        self.as_ref().and_then(T::write)
    }
}

/// A number known when the graph is built, or one that each call tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrValue {
    /// Known now.
    Int(i32),
    /// An `i32` value of the graph.
    Value(Value),
}

impl AttrType for IntOrValue {
    fn kind() -> AttrKind {
        AttrKind::IntOrValue
    }

    fn range() -> AttrRange {
        i32::range()
    }

    fn read(attr: &Attr) -> Option<IntOrValue> {
        i32::read(attr).map(IntOrValue::Int).or_else(|| Value::read(attr).map(IntOrValue::Value))
    }

    fn write(&self) -> Option<Attr> {
        match self {
            IntOrValue::Int(x) => x.write(),
            IntOrValue::Value(value) => value.write(),
        }
    }
}

impl From<i32> for IntOrValue {
    fn from(x: i32) -> IntOrValue {
        IntOrValue::Int(x)
    }
}

impl From<Value> for IntOrValue {
    fn from(value: Value) -> IntOrValue {
        IntOrValue::Value(value)
    }
}

impl From<Expr<'_>> for IntOrValue {
    fn from(x: Expr<'_>) -> IntOrValue {
        IntOrValue::Value(x.value())
    }
}

/// Numbers known when the graph is built, or some that each call tells.
#[derive(Clone, Debug, PartialEq)]
pub enum ListOrValue {
    /// Known now.
    List(Vec<f64>),
    /// A value of the graph.
    Value(Value),
}

impl AttrType for ListOrValue {
    fn kind() -> AttrKind {
        AttrKind::ListOrValue
    }

    fn range() -> AttrRange {
        AttrRange::finite()
    }

    fn read(attr: &Attr) -> Option<ListOrValue> {
        match attr {
            Attr::List(list) => Some(ListOrValue::List(list.clone())),
            _ => Value::read(attr).map(ListOrValue::Value),
        }
    }

    fn write(&self) -> Option<Attr> {
        match self {
            ListOrValue::List(list) => list.write(),
            ListOrValue::Value(value) => value.write(),
        }
    }
}

/// Whether two attributes are the same to the bit.
pub(crate) fn same_bits(a: &Attr, b: &Attr) -> bool {
    match (a, b) {
        (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
        (Attr::List(a), Attr::List(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
        _ => a == b,
    }
}
