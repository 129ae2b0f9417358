//! What is declared of an attribute, and whether what is given fits it.

use std::fmt;

use rhumb_ir::Attr;

use super::range::{AttrRange, number};
use crate::error::SchemeError;

/// What kind of attribute a scheme takes. It prints as a word or two: `number`, `int|value`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttrKind {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Int,
    /// A real number; an integer will do.
    Float,
    /// One of these names.
    Name(Vec<String>),
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
    /// Whether `attr` is of this kind; what numbers it has is not looked at.
    pub fn takes(&self, attr: &Attr) -> bool {
        match (self, attr) {
            (AttrKind::Name(names), Attr::Str(name)) => names.contains(name),
            (AttrKind::Bool, Attr::Bool(_))
            | (AttrKind::Int | AttrKind::IntOrValue | AttrKind::Float, Attr::Int(_))
            | (AttrKind::Float, Attr::Float(_))
            | (AttrKind::List | AttrKind::ListOrValue, Attr::List(_))
            | (AttrKind::Value | AttrKind::IntOrValue | AttrKind::ListOrValue, Attr::Value(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for AttrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttrKind::Bool => "bool",
            AttrKind::Int => "int",
            AttrKind::Float => "number",
            AttrKind::Name(names) => return f.write_str(&quoted(names, "|")),
            AttrKind::List => "list",
            AttrKind::Value => "value",
            AttrKind::IntOrValue => "int|value",
            AttrKind::ListOrValue => "list|value",
        })
    }
}

fn quoted(names: &[String], between: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(between)
}

/// What is declared of one attribute of a scheme. [`scheme!`](crate::scheme!) makes it of the field that holds the attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct AttrInfo {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: AttrKind,
    /// Which numbers it takes, where it takes numbers.
    pub range: AttrRange,
    /// What stands in when it is left out, in words or as text; `None` for an attribute that must be given.
    pub default: Option<String>,
    /// What it does.
    pub doc: String,
}

impl AttrInfo {
    /// An attribute that must be given, and takes all of its kind.
    pub fn new(name: impl Into<String>, kind: AttrKind, doc: impl Into<String>) -> AttrInfo {
        AttrInfo { name: name.into(), kind, range: AttrRange::all(), default: None, doc: doc.into() }
    }

    /// All that the attribute takes, in words.
    pub fn expected(&self) -> String {
        self.expected_for(None)
    }

    /// The same, told to someone who gave the number `outside`.
    fn expected_for(&self, outside: Option<f64>) -> String {
        let or_value = |what: String| format!("{what}, or a value of the graph");
        match &self.kind {
            AttrKind::Bool => "true or false".to_owned(),
            AttrKind::Int => self.range.integer(outside),
            AttrKind::Float => self.range.real(),
            AttrKind::Name(names) => quoted(names, " or "),
            AttrKind::List => self.range.list(),
            AttrKind::Value => "a value of the graph".to_owned(),
            AttrKind::IntOrValue => or_value(self.range.integer(outside)),
            AttrKind::ListOrValue => or_value(self.range.list()),
        }
    }

    /// Checks that the attribute takes `attr`.
    ///
    /// # Errors
    /// [`SchemeError::AttrType`] for another kind or an unknown name, [`SchemeError::AttrRange`] for numbers out of range.
    pub fn check(&self, attr: &Attr) -> Result<(), SchemeError> {
        if !self.kind.takes(attr) {
            let (name, expected) = (self.name.clone(), self.expected());
            return Err(SchemeError::AttrType { name, expected, found: attr_text(attr) });
        }
        let is_outside = |x: f64| !self.range.contains(x);
        let (found, outside) = match attr {
            Attr::Int(x) if is_outside(*x as f64) => (x.to_string(), Some(*x as f64)),
            Attr::Float(x) if is_outside(*x) => (x.to_string(), Some(*x)),
            Attr::List(list) if self.range.length.is_some_and(|length| list.len() != length) => (attr_text(attr), None),
            Attr::List(list) => match list.iter().copied().find(|x| is_outside(*x)) {
                Some(x) => (format!("a list with {x}"), Some(x)),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        Err(SchemeError::range(&self.name, found, self.expected_for(outside)))
    }
}

/// An attribute as the default in a list of attributes.
pub(crate) fn attr_words(attr: &Attr) -> String {
    match attr {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => number(*x),
        Attr::Str(x) => x.clone(),
        Attr::List(list) => format!("[{}]", list.iter().map(|x| number(*x)).collect::<Vec<_>>().join(", ")),
        other => attr_text(other),
    }
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
