//! Attributes of schemes: what a scheme declares, and how it reads what it is given.

use rhumb_ir::{Attr, Attrs, Expr, Value};

use crate::error::SchemeError;

/// What kind of attribute a scheme takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttrKind {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Int,
    /// A real number; an integer will do.
    Float,
    /// One of these names.
    Name(&'static [&'static str]),
    /// A list of numbers.
    List,
    /// A value of the graph.
    Value,
    /// An integer, or an `i32` value of the graph.
    IntOrValue,
    /// A list of numbers, or a value of the graph.
    ListOrValue,
}

impl AttrKind {
    /// What the attribute takes, in words.
    pub fn describe(self) -> String {
        match self {
            AttrKind::Bool => "true or false".to_owned(),
            AttrKind::Int => "an integer".to_owned(),
            AttrKind::Float => "a number".to_owned(),
            AttrKind::Name(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                names.join(" or ")
            }
            AttrKind::List => "a list of numbers".to_owned(),
            AttrKind::Value => "a value of the graph".to_owned(),
            AttrKind::IntOrValue => "an integer or a value of the graph".to_owned(),
            AttrKind::ListOrValue => "a list of numbers or a value of the graph".to_owned(),
        }
    }
}

/// What is known of one attribute of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttrInfo {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: AttrKind,
    /// What stands in when it is left out, in words or as text; empty for an attribute that must be given.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

impl AttrInfo {
    /// An attribute.
    pub const fn new(name: &'static str, kind: AttrKind, default: &'static str, doc: &'static str) -> AttrInfo {
        AttrInfo { name, kind, default, doc }
    }
}

/// A number known when the graph is built, or one that each call tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrValue {
    /// Known now.
    Int(i64),
    /// An `i32` value of the graph.
    Value(Value),
}

impl IntOrValue {
    /// As an attribute.
    pub fn attr(self) -> Attr {
        match self {
            IntOrValue::Int(x) => Attr::Int(x),
            IntOrValue::Value(value) => Attr::Value(value),
        }
    }
}

impl From<i32> for IntOrValue {
    fn from(x: i32) -> IntOrValue {
        IntOrValue::Int(i64::from(x))
    }
}

impl From<u32> for IntOrValue {
    fn from(x: u32) -> IntOrValue {
        IntOrValue::Int(i64::from(x))
    }
}

impl From<i64> for IntOrValue {
    fn from(x: i64) -> IntOrValue {
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

/// Reads the attributes of a scheme op; every method tells a typed error where the attribute has another type.
///
/// Attributes that the scheme does not declare are refused before the reader is made.
#[derive(Clone, Copy, Debug)]
pub struct AttrReader<'a> {
    attrs: &'a Attrs,
}

impl<'a> AttrReader<'a> {
    pub(crate) fn new(attrs: &'a Attrs) -> AttrReader<'a> {
        AttrReader { attrs }
    }

    fn read<T>(
        &self,
        name: &str,
        kind: AttrKind,
        read: impl Fn(&'a Attr) -> Option<T>,
    ) -> Result<Option<T>, SchemeError> {
        let Some(attr) = self.attrs.get(name) else { return Ok(None) };
        read(attr).map(Some).ok_or_else(|| self.wrong_type(name, kind))
    }

    /// A truth value; `false` if left out.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn flag(&self, name: &str) -> Result<bool, SchemeError> {
        let read = |attr: &Attr| if let Attr::Bool(x) = attr { Some(*x) } else { None };
        Ok(self.read(name, AttrKind::Bool, read)?.unwrap_or(false))
    }

    /// An integer, if given.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn int(&self, name: &str) -> Result<Option<i64>, SchemeError> {
        self.read(name, AttrKind::Int, |attr| if let Attr::Int(x) = attr { Some(*x) } else { None })
    }

    /// A number, if given; integers are converted.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn float(&self, name: &str) -> Result<Option<f64>, SchemeError> {
        self.read(name, AttrKind::Float, |attr| match attr {
            Attr::Float(x) => Some(*x),
            Attr::Int(x) => Some(*x as f64),
            _ => None,
        })
    }

    /// One of a few names, if given: each stands for what is beside it.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else or another name.
    pub fn name<T: Copy>(&self, name: &str, choices: &[(&'static str, T)]) -> Result<Option<T>, SchemeError> {
        let read = |attr: &Attr| match attr {
            Attr::Str(given) => choices.iter().find(|(choice, _)| choice == given).map(|(_, x)| *x),
            _ => None,
        };
        let Some(attr) = self.attrs.get(name) else { return Ok(None) };
        read(attr).map(Some).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(choice, _)| format!("\"{choice}\"")).collect();
            SchemeError::AttrType { name: name.to_owned(), expected: names.join(" or "), found: attr_text(attr) }
        })
    }

    /// A list of numbers, if given.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn list(&self, name: &str) -> Result<Option<&'a [f64]>, SchemeError> {
        self.read(name, AttrKind::List, |attr| if let Attr::List(x) = attr { Some(x.as_slice()) } else { None })
    }

    /// A value of the graph, if given.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn value(&self, name: &str) -> Result<Option<Value>, SchemeError> {
        self.read(name, AttrKind::Value, |attr| if let Attr::Value(x) = attr { Some(*x) } else { None })
    }

    /// An integer or a value of the graph, if given.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] if it is something else.
    pub fn int_or_value(&self, name: &str) -> Result<Option<IntOrValue>, SchemeError> {
        self.read(name, AttrKind::IntOrValue, |attr| match attr {
            Attr::Int(x) => Some(IntOrValue::Int(*x)),
            Attr::Value(x) => Some(IntOrValue::Value(*x)),
            _ => None,
        })
    }

    /// The error that an attribute is not what it should be.
    pub fn wrong_type(&self, name: &str, kind: AttrKind) -> SchemeError {
        let found = self.attrs.get(name).map_or_else(|| "nothing".to_owned(), attr_text);
        SchemeError::AttrType { name: name.to_owned(), expected: kind.describe(), found }
    }

    /// The attribute as it was given, if it was: for kinds that the other methods do not read.
    pub fn get(&self, name: &str) -> Option<&'a Attr> {
        self.attrs.get(name)
    }
}

/// `x`, or the error that the attribute is missing.
///
/// # Errors
/// [`SchemeError::AttrMissing`] if there is no `x`.
pub fn required<T>(x: Option<T>, name: &str, kind: AttrKind) -> Result<T, SchemeError> {
    x.ok_or_else(|| SchemeError::AttrMissing { name: name.to_owned(), expected: kind.describe() })
}

/// An attribute as a reader of an error sees it.
pub(crate) fn attr_text(attr: &Attr) -> String {
    match attr {
        Attr::Bool(x) => format!("{x}"),
        Attr::Int(x) => format!("the integer {x}"),
        Attr::Float(x) => format!("the number {x:?}"),
        Attr::Str(x) => format!("\"{x}\""),
        Attr::List(x) => format!("a list of {} numbers", x.len()),
        Attr::Value(_) => "a value of the graph".to_owned(),
    }
}
