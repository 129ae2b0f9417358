//! The text form: printer and parser.
//!
//! `print` is the printer, and `report` shows a line of the text with what is wrong in it. Of the parser, `lex` makes tokens, `parser` has
//! its state and reads names and punctuation, `op` and `statement` read what these make up, and `parse` the whole. `source` finds places in a text, `error` and `grammar`
//! say what is wrong and what should stand there. `dot` prints for Graphviz.

mod dot;
pub(crate) mod error;
mod grammar;
mod lex;
mod op;
mod parse;
mod parser;
pub(crate) mod print;
pub(crate) mod report;
pub mod source;
mod statement;
