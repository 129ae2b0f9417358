//! The fused graph, and why its ops are where they are.

use std::sync::Arc;

use rhumb::compiler::problem::{Place, recognize};
use rhumb::compiler::rewrite::{Fused, Regime, RewriteOptions, fuse, origins, write_form};
use rhumb::compiler::{CompileError, choose};
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

    /// The fused graph, each op with the place where it is computed for a target and the rule that it comes from; then the form for few queries,
    /// if it is another. What a graph without a plan, or without a proof, does not tell is left out.
    pub(super) fn noted(&self, target: &Target) -> String {
        let mut text = self.noted_form(self.fused.graph(), Regime::ManyQueries, target);
        if let Some(few) = self.fused.few_queries() {
            // A string takes all that is written to it.
            let _ = write_form(&mut text, &self.noted_form(few, Regime::FewQueries, target));
        }
        text
    }

    fn noted_form(&self, graph: &Verified, regime: Regime, target: &Target) -> String {
        let rules = origins(&self.lowered, &RewriteOptions::default(), regime).unwrap_or_default();
        let places = places(graph, target).unwrap_or_default();
        graph.annotated(|value| {
            let place = places.get(value.index()).cloned().flatten();
            let rule = rules.get(value.index()).cloned().flatten();
            match (place, rule) {
                (Some(place), Some(rule)) => Some(format!("{place}; by {rule}")),
                (Some(place), None) => Some(place.to_string()),
                (None, rule) => rule.map(|rule| format!("by {rule}")),
            }
        })
    }
}

/// Where each value of a graph is computed, if it has a plan; `None` for what the planner has in another form.
fn places(graph: &Verified, target: &Target) -> Option<Vec<Option<Place>>> {
    let problem = Arc::new(recognize(graph).ok()?);
    // A head that is too long for any tile has places all the same.
    let (places, planned) = match choose(&problem, target) {
        Ok((plan, _)) => (plan.places(), plan.graph.clone()),
        Err(_) => (problem.places(), problem.graph.clone()),
    };
    let mut found: Vec<Option<rhumb::ir::Value>> = Vec::with_capacity(graph.nodes().len());
    let mut left: &[rhumb::ir::Value] = &planned.values().collect::<Vec<_>>();
    for value in graph.values() {
        let op = graph.op(value);
        let is_made = op.operands().iter().all(|operand| found[operand.index()].is_some());
        let op = op.map_operands(|operand| found[operand.index()].unwrap_or(operand));
        // The planner keeps the order of what it leaves as it was.
        let at = left.iter().position(|other| is_made && *planned.op(*other) == op);
        found.push(at.map(|at| left[at]));
        left = at.map_or(left, |at| &left[at + 1..]);
    }
    Some(found.into_iter().map(|at| at.and_then(|at| places.get(at.index()).cloned().flatten())).collect())
}
