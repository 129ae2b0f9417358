//! What can be wrong with a text.

use std::fmt;

use thiserror::Error;

use crate::fault::Fault;
use crate::suggest::did_you_mean;

use super::source::report;

/// A text that is no graph, or a graph that is not well formed: where, what and how to mend it.
#[derive(Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// Number of characters that are meant, at least 1.
    pub width: usize,
    /// The line's text.
    pub source_line: String,
    /// What is wrong.
    pub fault: Box<ParseFault>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { line, column, width, source_line, fault } = self;
        report(f, (*line, *column, *width, source_line), &fault.finding(), &fault.hint())
    }
}

crate::debug_as_display!(ParseError);

impl std::error::Error for ParseError {}

/// What is wrong with a text.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseFault {
    /// Something else should stand here.
    Expected {
        /// What should.
        expected: String,
        /// What does.
        found: String,
        /// The form of the statement.
        form: &'static str,
    },
    /// A character that no token starts with.
    BadCharacter {
        /// The character.
        character: char,
    },
    /// A string that its line ends inside.
    OpenString,
    /// A backslash followed by something else than an escape.
    BadEscape {
        /// The escape.
        escape: String,
    },
    /// A number that is none, or does not fit.
    BadNumber {
        /// The number.
        text: String,
        /// What it should be.
        kind: &'static str,
    },
    /// A name that nothing has.
    Unknown {
        /// The kind of thing.
        what: &'static str,
        /// The name.
        name: String,
        /// The closest name that exists.
        suggestion: Option<String>,
    },
    /// A name given twice.
    Redefined {
        /// The kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A site without one of its fields.
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// An op whose type is part of its meaning, without one.
    MissingType {
        /// The kind of op.
        what: &'static str,
    },
    /// A literal that an element type does not have.
    Literal {
        /// What it is.
        found: &'static str,
        /// What it is in.
        what: &'static str,
        /// The element type.
        elem: &'static str,
    },
    /// A type that is not the value's.
    TypeMismatch {
        /// The type as written.
        written: String,
        /// The type that the value has.
        inferred: String,
    },
    /// More axes, ops or sites than a graph can have.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The graph is not well formed.
    Graph(Fault),
}

crate::display_with_hint!(ParseFault);

impl From<Fault> for ParseFault {
    fn from(fault: Fault) -> ParseFault {
        ParseFault::Graph(fault)
    }
}

impl ParseFault {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            ParseFault::Expected { expected, found, .. } => format!("expected {expected}, found {found}"),
            ParseFault::BadCharacter { character } => format!("the character {character:?} means nothing here"),
            ParseFault::OpenString => "the string has no end on this line".to_owned(),
            ParseFault::BadEscape { escape } => format!("`{escape}` is no escape"),
            ParseFault::BadNumber { text, kind } => format!("`{text}` is no {kind}"),
            ParseFault::Unknown { what, name, suggestion } => {
                format!("there is no {what} `{name}`{}", did_you_mean(suggestion.as_deref()))
            }
            ParseFault::Redefined { what, name } => format!("{what} `{name}` was given before"),
            ParseFault::MissingField { field } => format!("the site lacks `{field}`"),
            ParseFault::MissingType { what } => format!("{what} needs its type written behind it"),
            ParseFault::Literal { found, what, elem } => format!("this is {found}, in {what} of type {elem}"),
            ParseFault::TypeMismatch { written, inferred } => {
                format!("{written} is written, but the type is {inferred}")
            }
            ParseFault::TooMany { what, limit } => format!("the graph has more than {limit} {what}"),
            ParseFault::Graph(source) => source.finding(),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        let hint = match self {
            ParseFault::Expected { form, .. } => return format!("the form is `{form}`"),
            ParseFault::BadCharacter { .. } => "names are of letters, digits and `_`; comments start with `//`",
            ParseFault::OpenString => {
                "end the string with `\"`; write a quote inside it as `\\\"`, a line break as `\\n`"
            }
            ParseFault::BadEscape { .. } => {
                "escapes are \\n \\r \\t \\0 \\\\ \\\" \\' and \\u{1f600}; a backslash is `\\\\`"
            }
            ParseFault::BadNumber { kind, .. } => match *kind {
                "32-bit integer" => "write a whole number from -2147483648 to 2147483647",
                "64-bit integer" => "write a smaller whole number, or a real number with a point: `1e30` or `1.0`",
                "length" => "write a whole number from 1 to 2147483647, or `?` for a length that each call tells",
                "index" => "write a whole number below 4294967296",
                _ => "write a number such as 1.0, -2.5e-3, inf, -inf or nan",
            },
            ParseFault::Unknown { what, suggestion, .. } => match (*what, suggestion) {
                ("axis" | "value", Some(name)) => {
                    return format!("write `{name}`, or define the name you wrote on a line above");
                }
                (_, Some(name)) => return format!("write `{name}`"),
                ("axis", None) => "declare it on a line above: `axis name = 64`, or `axis name = ?`",
                ("value" | "site", None) => "define it on a line above the first that uses it",
                ("element type", None) => "element types are f32, i32 and bool",
                ("hook", None) => "hooks are query, key, score and mask",
                ("pairing", None) => "pairings are half and interleaved",
                ("field", None) => "fields are query, key, head, dim, q_pos, k_pos, q_index, k_index and length",
                (_, None) => "the front page of `rhumb-ir` lists what there is",
            },
            ParseFault::Redefined { .. } => "use another name, or remove one of the two",
            ParseFault::MissingField { .. } => "only `head` may be left out: write `field = name` for all others",
            ParseFault::MissingType { .. } => "write `: f32[b, q]`, the axes in the order of the dimensions",
            ParseFault::Literal { elem, .. } => match *elem {
                "i32" => "i32 takes whole numbers without a point",
                "bool" => "bool takes true and false",
                _ => "f32 takes numbers",
            },
            ParseFault::TypeMismatch { .. } => {
                "write the type that it has; behind an op that is no input or table, it may be left away"
            }
            ParseFault::TooMany { .. } => "split the graph",
            ParseFault::Graph(fault) => fault.hint(),
        };
        hint.to_owned()
    }
}
