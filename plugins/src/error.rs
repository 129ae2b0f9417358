//! What a scheme finds wrong with its attributes or its place.

use std::fmt::Display;

use rhumb_ir::{Elem, Hook};
use thiserror::Error;

/// Why a scheme can't be made or applied. The text says what was found; [`SchemeError::hint`] says what would mend it.
///
/// It does not name the scheme: the error around it does ([`LowerError`](crate::LowerError), [`BuildError`](crate::BuildError)).
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SchemeError {
    /// An attribute that the scheme does not have.
    UnknownAttr {
        /// The attribute.
        name: String,
        /// The known attribute that reads most like it.
        suggestion: Option<String>,
        /// All known attributes.
        known: Vec<String>,
    },
    /// An attribute of the wrong type.
    AttrType {
        /// The attribute.
        name: String,
        /// What it takes.
        expected: String,
        /// What was given, printed.
        found: String,
    },
    /// An attribute outside its range.
    AttrRange {
        /// The attribute.
        name: String,
        /// What was given, printed.
        found: String,
        /// The range.
        expected: String,
    },
    /// An attribute that the scheme can't do without.
    AttrMissing {
        /// The attribute.
        name: String,
        /// What it takes.
        expected: String,
    },
    /// Two attributes that exclude each other.
    AttrClash {
        /// One attribute.
        first: String,
        /// The other.
        second: String,
    },
    /// A value attribute of the wrong type or over the wrong axes.
    AttrValue {
        /// The attribute.
        name: String,
        /// Type of the value, printed.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The scheme depends on the head, and the attention around it has none.
    NoHeads,
    /// An axis whose length must be static.
    DynamicAxis {
        /// The axis.
        axis: String,
    },
    /// An axis that is too long for the tables of a scheme.
    LongAxis {
        /// The axis.
        axis: String,
        /// Its length.
        length: u32,
        /// The longest that schemes take.
        most: u32,
    },
    /// A rotary block that does not fit the head dimension.
    RotaryDim {
        /// What does not fit: the rotary dimension or the head dimension.
        what: String,
        /// Its size.
        found: u32,
        /// What would fit.
        expected: String,
    },
    /// A hook that made a value of the wrong element type.
    ResultType {
        /// The hook.
        hook: Hook,
        /// What it made.
        found: Elem,
        /// What it should make.
        expected: Elem,
    },
    /// A hook that the scheme does not have.
    Hook {
        /// The hook.
        hook: Hook,
        /// The hooks it has.
        known: Vec<Hook>,
    },
    /// A value of the graph that the scheme reads and its attributes do not tell.
    Untold {
        /// The value: what the scheme calls it, or the number it has.
        value: String,
    },
    /// Anything else, for schemes of other crates.
    Other {
        /// What was found.
        message: String,
        /// What would mend it.
        hint: String,
    },
}

rhumb_ir::display_with_hint!(SchemeError);

impl SchemeError {
    /// An error of a scheme's own: what was found, and what would mend it.
    pub fn other(message: impl Into<String>, hint: impl Into<String>) -> SchemeError {
        SchemeError::Other { message: message.into(), hint: hint.into() }
    }

    /// An attribute outside its range.
    pub fn range(name: &str, found: impl Display, expected: impl Into<String>) -> SchemeError {
        SchemeError::AttrRange { name: name.to_owned(), found: format!("{found}"), expected: expected.into() }
    }

    /// Two attributes that exclude each other.
    pub fn clash(first: &str, second: &str) -> SchemeError {
        SchemeError::AttrClash { first: first.to_owned(), second: second.to_owned() }
    }

    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            SchemeError::UnknownAttr { name, .. } => format!("unknown attribute `{name}`"),
            SchemeError::AttrType { name, found, .. } => format!("attribute `{name}` can't be {found}"),
            SchemeError::AttrRange { name, found, .. } => format!("attribute `{name}` can't be {found}"),
            SchemeError::AttrMissing { name, .. } => format!("attribute `{name}` is missing"),
            SchemeError::AttrClash { first, second } => {
                format!("attributes `{first}` and `{second}` exclude each other")
            }
            SchemeError::AttrValue { name, found, .. } => format!("the value of attribute `{name}` can't be {found}"),
            SchemeError::NoHeads => "the scheme depends on the head, and its site has no head axis".to_owned(),
            SchemeError::DynamicAxis { axis } => {
                format!("the scheme needs a static length of axis `{axis}`, which is dynamic")
            }
            SchemeError::LongAxis { axis, length, most } => {
                format!("axis `{axis}` has length {length}; tables of schemes end at {most}")
            }
            SchemeError::RotaryDim { what, found, .. } => format!("{what} can't be {found}"),
            SchemeError::ResultType { hook, found, expected } => {
                format!("the {} hook made a value of type {found}, expected {expected}", hook.name())
            }
            SchemeError::Hook { hook, .. } => format!("the scheme does nothing at the {} hook", hook.name()),
            SchemeError::Untold { value } => {
                format!("the scheme reads {value}, a value of the graph that its attributes do not tell")
            }
            SchemeError::Other { message, .. } => message.clone(),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            SchemeError::UnknownAttr { name: _, suggestion, known } => match suggestion {
                Some(suggestion) => format!("did you mean `{suggestion}`?"),
                None if known.is_empty() => "the scheme takes no attributes".to_owned(),
                None => format!("the scheme takes {}", quoted(known)),
            },
            SchemeError::AttrType { expected, .. } | SchemeError::AttrRange { expected, .. } => {
                format!("give {expected}")
            }
            SchemeError::AttrMissing { name, expected } => format!("add `{name}`: {expected}"),
            SchemeError::AttrClash { first, second } => format!("leave out `{first}` or `{second}`"),
            SchemeError::AttrValue { name: _, found: _, expected } => format!("give {expected}"),
            SchemeError::NoHeads => "give the site a head axis of static length".to_owned(),
            SchemeError::DynamicAxis { axis } => format!("declare axis `{axis}` with a number for its length"),
            SchemeError::LongAxis { axis, most, .. } => format!("declare axis `{axis}` with at most {most}"),
            SchemeError::RotaryDim { what: _, found: _, expected } => format!("give {expected}"),
            SchemeError::ResultType { hook: Hook::Mask, .. } => "end the expression in a comparison".to_owned(),
            SchemeError::ResultType { .. } => "end the expression in an f32 value".to_owned(),
            SchemeError::Hook { hook: _, known } => {
                let known: Vec<String> = known.iter().map(|hook| hook.name().to_owned()).collect();
                if known.is_empty() { "remove the op".to_owned() } else { format!("it has {}", quoted(&known)) }
            }
            SchemeError::Untold { value: _ } => {
                "declare it as an attribute of type `Value`, and read it by `SchemeContext::value`".to_owned()
            }
            SchemeError::Other { message: _, hint } => hint.clone(),
        }
    }
}

/// Names as `a`, `b` and `c`.
pub(crate) fn quoted(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|name| format!("`{name}`")).collect();
            format!("{} and `{last}`", most.join(", "))
        }
    }
}
