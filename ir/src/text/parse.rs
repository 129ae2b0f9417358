//! The parser: the whole text.

use std::str::FromStr;

use crate::fault::Fault;
use crate::graph::Graph;
use crate::op::{Op, SiteId};
use crate::place::Place;
use crate::verify::Verified;

use super::error::{ParseError, ParseFault};
use super::grammar;
use super::lex::Token;
use super::parser::{Fallible, Parser};
use super::source::{Located, Span};

impl Graph {
    /// Reads the text form and checks the graph.
    ///
    /// # Errors
    /// [`ParseError`] tells the first mistake: where, what and how to mend it.
    pub fn parse(text: &str) -> Result<Verified, ParseError> {
        let mut parser = Parser::new(text);
        match parser.graph() {
            Ok(()) => parser.finish(),
            Err((span, fault)) => Err(parser.locate(span, fault)),
        }
    }
}

impl FromStr for Verified {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Verified, ParseError> {
        Graph::parse(text)
    }
}

impl Parser<'_> {
    fn graph(&mut self) -> Fallible<()> {
        self.keyword("graph")?;
        self.graph.name = self.name("the graph's name")?.0;
        self.header.end = self.last_end;
        while self.token != Token::End {
            self.form = grammar::STATEMENT;
            if !self.at_new_line() {
                return Err((self.span, self.expected("the end of the line")));
            }
            let start = self.span.start;
            match self.token {
                Token::Ident("axis") => {
                    self.axis_statement()?;
                    self.axis_spans.push(self.since(start));
                    continue;
                }
                Token::Ident("site") => {
                    self.bind_groups()?;
                    self.site_statement()?;
                    self.site_spans.push(self.since(start));
                }
                Token::Ident("output") => {
                    self.bind_groups()?;
                    self.output_statement()?;
                    self.output_spans.push(self.since(start));
                }
                Token::Value(name) => {
                    self.bind_groups()?;
                    self.value_statement(name)?;
                    self.node_spans.push(self.since(start));
                }
                _ => return Err((self.span, self.expected("`axis`, `site`, `output` or `%name =`"))),
            }
        }
        self.bind_groups()
    }

    fn finish(mut self) -> Result<Verified, ParseError> {
        // Sites are numbered in the text; handles count them in that order.
        let order: Vec<SiteId> = self.site_numbers.values().copied().collect();
        let mut place = vec![SiteId(0); order.len()];
        for (new, old) in order.iter().enumerate() {
            place[old.index()] = SiteId(new as u32);
        }
        let (sites, spans) = (&self.graph.sites, &self.site_spans);
        let sites = order.iter().map(|old| sites[old.index()]).collect();
        self.site_spans = order.iter().map(|old| spans[old.index()]).collect();
        self.graph.sites = sites;
        for node in &mut self.graph.nodes {
            if let Op::Scheme { site, .. } = &mut node.op {
                *site = place[site.index()];
            }
        }
        let graph = std::mem::take(&mut self.graph);
        graph.verify().map_err(|error| {
            let (place, fault) = match error.problems.into_iter().next() {
                Some(problem) => (problem.place, problem.fault),
                None => (Place::Graph, Fault::NoOutput),
            };
            let span = match place {
                Place::Graph => None,
                Place::Axis(index) => self.axis_spans.get(index),
                Place::Op(index) => self.node_spans.get(index),
                Place::Site(index) => self.site_spans.get(index),
                Place::Output(index) => self.output_spans.get(index),
            };
            self.locate(span.copied().unwrap_or(self.header), fault.into())
        })
    }

    fn locate(&self, span: Span, fault: ParseFault) -> ParseError {
        let Located { line, column, width, source_line } = Located::of(self.source, span);
        ParseError { line, column, width, source_line, fault: Box::new(fault) }
    }
}
