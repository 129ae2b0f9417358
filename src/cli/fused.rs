//! The fused graph, and why its ops are where they are.

use rhumb::compiler::CompileError;
use rhumb::compiler::problem::recognize;
use rhumb::compiler::rewrite::{Fused, Regime, RewriteOptions, fuse, origins, write_form};
use rhumb::plugins::lower;
use rhumb::prelude::*;

use super::error::CliError;

/// A graph before and after rewriting.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) lowered: Verified,
    pub(super) fused: Fused,
}

impl Rewritten {
    pub(super) fn of(graph: &Verified, registry: &Registry) -> Result<Rewritten, CliError> {
        let lowered = lower(graph, registry).map_err(CompileError::Lower)?;
        let fused = fuse(&lowered, &RewriteOptions::default()).map_err(CompileError::Rewrite)?;
        Ok(Rewritten { lowered, fused })
    }

    /// The fused graph, each op with the place where it is computed and the rule that it comes from; then the form for few queries, if it is
    /// another. What a graph without a plan, or without a proof, does not tell is left out.
    pub(super) fn noted(&self) -> String {
        let mut text = self.noted_form(self.fused.graph(), Regime::ManyQueries);
        if let Some(few) = self.fused.few_queries() {
            // A string takes all that is written to it.
            let _ = write_form(&mut text, &self.noted_form(few, Regime::FewQueries));
        }
        text
    }

    fn noted_form(&self, graph: &Verified, regime: Regime) -> String {
        let rules = origins(&self.lowered, &RewriteOptions::default(), regime).unwrap_or_default();
        let problem = recognize(graph).ok();
        let places = problem.as_ref().map(rhumb::compiler::problem::Problem::places).unwrap_or_default();
        // The planner may have changed what rewriting left.
        let is_planned = |value: rhumb::ir::Value| {
            problem.as_ref().is_some_and(|problem| problem.graph.nodes().get(value.index()) == Some(graph.node(value)))
        };
        graph.annotated(|value| {
            let place = places.get(value.index()).cloned().flatten().filter(|_| is_planned(value));
            let rule = rules.get(value.index()).cloned().flatten();
            match (place, rule) {
                (Some(place), Some(rule)) => Some(format!("{place}; by {rule}")),
                (Some(place), None) => Some(place.to_string()),
                (None, rule) => rule.map(|rule| format!("by {rule}")),
            }
        })
    }
}
