//! What can be wrong with the text of a scheme.

use std::fmt;

use rhumb_ir::closest;
use rhumb_ir::source::{Located, Span, report};
use thiserror::Error;

use crate::error::SchemeError;

/// A text that declares no schemes: where, what and how to mend it.
#[derive(Clone, PartialEq)]
pub struct SchemeTextError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// Number of characters that are meant, at least 1.
    pub width: usize,
    /// The line's text.
    pub source_line: String,
    /// What is wrong.
    pub fault: Box<SchemeTextFault>,
}

impl SchemeTextError {
    /// The fault at a place of the source.
    pub(super) fn at(source: &str, span: Span, fault: SchemeTextFault) -> SchemeTextError {
        let Located { line, column, width, source_line } = Located::of(source, span);
        SchemeTextError { line, column, width, source_line, fault: Box::new(fault) }
    }
}

impl fmt::Display for SchemeTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchemeTextError { line, column, width, source_line, fault } = self;
        report(f, (*line, *column, *width, source_line), &fault.finding(), &fault.hint())
    }
}

rhumb_ir::debug_as_display!(SchemeTextError);

impl std::error::Error for SchemeTextError {}

/// What is wrong with the text of a scheme.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SchemeTextFault {
    /// Something else should stand here.
    Expected {
        /// What should.
        expected: String,
        /// What does.
        found: String,
        /// The form of what is being read.
        form: &'static str,
    },
    /// A character that no token starts with.
    BadCharacter {
        /// The character.
        character: char,
    },
    /// A string that its line ends inside.
    OpenString,
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
        /// What there is, in words.
        known: String,
    },
    /// A name given twice.
    Redefined {
        /// The kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that the language has.
    Reserved {
        /// The name.
        name: String,
        /// What it was given to.
        what: &'static str,
    },
    /// An operand of another kind than the operation works on.
    Kind {
        /// The operation.
        what: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// A function with more or fewer arguments than it takes.
    Arguments {
        /// The function.
        function: String,
        /// How many it takes, in words.
        expected: String,
        /// How many it is given.
        found: usize,
        /// Its form.
        form: String,
    },
    /// An expression that depends on what only a call knows, where a constant is needed.
    NotConstant {
        /// What the expression is.
        what: &'static str,
    },
    /// A hook that reads another hook's operand.
    Reads {
        /// What reads it.
        reader: String,
        /// The operand.
        operand: &'static str,
    },
    /// A default that the attribute does not take.
    Default {
        /// What is wrong with it.
        source: SchemeError,
    },
    /// A value that nothing reads.
    Unread {
        /// The value.
        name: String,
        /// The hook that reads most like it.
        suggestion: Option<String>,
    },
    /// A scheme that does nothing.
    NoHook {
        /// The scheme.
        name: String,
    },
    /// An expression in more brackets, signs and powers than are read.
    TooDeep {
        /// The most.
        most: usize,
    },
    /// A scheme of more operations than are read.
    TooLong {
        /// The most.
        most: usize,
    },
}

rhumb_ir::display_with_hint!(SchemeTextFault);

impl SchemeTextFault {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            SchemeTextFault::OpenString => "the string has no end on this line".to_owned(),
            SchemeTextFault::Expected { expected, found, .. } => format!("expected {expected}, found {found}"),
            SchemeTextFault::BadCharacter { character } => format!("the character {character:?} means nothing here"),
            SchemeTextFault::BadNumber { text, kind } => format!("`{text}` is no {kind}"),
            SchemeTextFault::Unknown { what, name, .. } => format!("there is no {what} `{name}`"),
            SchemeTextFault::Redefined { what, name } => format!("{what} `{name}` was declared before"),
            SchemeTextFault::Reserved { name, what } => {
                format!("`{name}` is a name of the language, and can't be given to {what}")
            }
            SchemeTextFault::Kind { what, expected, found } => format!("{what} takes {expected}, and this is {found}"),
            SchemeTextFault::Arguments { function, expected, found, .. } => {
                format!("`{function}` takes {expected}, and {found} are given")
            }
            SchemeTextFault::NotConstant { what } => format!("{what} must be known when the kernel is compiled"),
            SchemeTextFault::Reads { reader, operand } => format!("{reader} can't read the {operand}"),
            SchemeTextFault::Default { source } => source.finding(),
            SchemeTextFault::Unread { name, .. } => format!("nothing reads value `{name}`"),
            SchemeTextFault::NoHook { name } => format!("scheme `{name}` does nothing"),
            SchemeTextFault::TooDeep { most } => format!("the expression is nested more than {most} deep"),
            SchemeTextFault::TooLong { most } => format!("the scheme has more than {most} operations"),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        let hint = match self {
            SchemeTextFault::Expected { form, .. } => return format!("the form is `{form}`"),
            SchemeTextFault::BadCharacter { character } => match character {
                '&' => "write `and`",
                '!' => "write `not`, or `!=`",
                '?' => "write `select(condition, on_true, on_false)`",
                _ => "names are of letters, digits and `_`; comments start with `//`",
            },
            SchemeTextFault::OpenString => "end the string with `\"`",
            SchemeTextFault::BadNumber { kind, .. } => match *kind {
                "length of a list" => "write a whole number from 1 to 65536",
                "integer" => "write a whole number from -2147483648 to 2147483647",
                _ => "write a number such as 1, 0.5 or 2.5e-3",
            },
            SchemeTextFault::Unknown { suggestion: Some(name), .. }
            | SchemeTextFault::Unread { suggestion: Some(name), .. } => return format!("did you mean `{name}`?"),
            SchemeTextFault::Unknown { known, .. } => return known.clone(),
            SchemeTextFault::Redefined { .. } => "use another name, or remove one of the two",
            SchemeTextFault::Reserved { .. } => "use another name",
            SchemeTextFault::Kind { expected: "numbers", found: "a truth value", .. } => {
                "`select(condition, 1, 0)` makes a number of a truth value"
            }
            SchemeTextFault::Kind { expected: "numbers", found: "a list", .. } => {
                "take one of its numbers, as in `slopes[head]`"
            }
            SchemeTextFault::Unread { .. } => "read it in `query`, `key`, `score` or `mask`, or remove it",
            SchemeTextFault::Kind { expected, .. } => match *expected {
                "truth values" => "compare two numbers, as in `q_index >= k_index`",
                "an axis" => "declare one, as in `axis pair = head_dim / 2`",
                _ => return format!("give {expected}"),
            },
            SchemeTextFault::Arguments { form, .. } => return format!("the form is `{form}`"),
            SchemeTextFault::NotConstant { .. } => {
                "constants are numbers, attributes, `heads`, `head_dim`, `head` and axes, and what is computed of them"
            }
            SchemeTextFault::Reads { operand: "score", .. } => "the score is there in `score = ...` alone",
            SchemeTextFault::Reads { .. } => "`query` is there in `query = ...` alone, `key` in `key = ...`",
            SchemeTextFault::Default { source } => return source.hint(),
            SchemeTextFault::NoHook { .. } => {
                "say what it makes of the query, the key or the score, as in `score = score - 1`, or which keys a query \
                 sees, as in `mask = k_index <= q_index`"
            }
            SchemeTextFault::TooDeep { .. } => {
                "give parts of the expression names, as in `distance = abs(q_pos - k_pos)`"
            }
            SchemeTextFault::TooLong { .. } => "write the scheme in Rust, by `scheme!`",
        };
        hint.to_owned()
    }
}

/// The fault that nothing has a name.
pub(super) fn unknown(what: &'static str, name: &str, names: &[&str]) -> SchemeTextFault {
    let suggestion = closest(name, names.iter().copied()).map(str::to_owned);
    let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let known = match list.as_slice() {
        [] => format!("the scheme has no {what}"),
        list => format!("there is {}", list.join(", ")),
    };
    SchemeTextFault::Unknown { what, name: rhumb_ir::source::shorten(name), suggestion, known }
}
