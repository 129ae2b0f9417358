//! The text form: printer and parser.

mod print;

pub(crate) use print::{Printer, op_text};
