//! The text form: printer and parser.

mod print;
mod report;

pub(crate) use print::{Data, Printer, is_identifier, op_text};
pub(crate) use report::Report;
