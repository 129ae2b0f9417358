//! The text form: printer and parser.

mod error;
mod grammar;
mod lex;
mod op;
mod parse;
mod print;
mod report;

pub use error::{ParseError, ParseFault};
pub(crate) use print::{Printer, is_identifier, op_text};
pub(crate) use report::Report;
