//! Rewriting: a lowered graph to an equal one that costs less.
//!
//! The ops of a graph go into one e-graph, all outputs together. Rules, one table per theory in `rules/`, add equal forms until nothing
//! new turns up. Then the cheapest whole is extracted, where an op costs the size of the iteration space it runs in times a unit cost:
//! so work moves out of the space of (query, key) pairs by itself, onto the query, onto terms per key, or away. Where calls of few queries
//! cost less by another form, that is extracted too, of the same e-graph. [`explain`](fn@explain) gives the proof that the results equal the
//! user's graph.
//!
//! Invariants:
//! - Plugins and users never see powers of 2, moved factors or merged masks: they come into being here.
//! - The result has the inputs (unused ones too), outputs and axes of the original, in the same order.
//! - Every form of a class has the same type; a rule that would break that is not applied.
//! - No clock and no hash order takes part: equal graphs give equal results, on every machine.

mod apply;
mod conditions;
pub(crate) mod constants;
mod cost;
mod error;
mod explain;
mod extents;
mod extract;
mod facts;
mod fold;
mod kind;
pub(crate) mod language;
mod origin;
mod place;
mod proof;
mod rebuild;
mod row_places;
mod rule;
mod rules;
#[cfg(test)]
mod tests;
mod untimed;

use std::fmt;
use std::time::Duration;

use egg::{BackoffScheduler, Id, RecExpr, Runner};
use rhumb_ir::{Base, Op, Verified};

pub use apply::rules;
pub use cost::Cost;
pub use error::RewriteError;
pub use explain::{Explanation, Proof, Step, explain};
pub use extents::Regime;
pub use origin::origins;
pub(crate) use row_places::RowPlaces;
pub use row_places::{Placed, Price};
pub use rule::{FloatClass, Rule, Theory};

use extents::Extents;
use extract::Extraction;
use facts::{EGraph, Facts};
use language::Node;
use untimed::untimed;

/// Matches of one rule in one round beyond which the rule pauses.
const MATCH_LIMIT: usize = 1_000;

/// What rewriting may do, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RewriteOptions {
    /// The most that rules may do to floating-point results.
    pub float_class: FloatClass,
    /// Rounds of rule application.
    pub iteration_limit: usize,
    /// Nodes in the e-graph.
    pub node_limit: usize,
}

impl Default for RewriteOptions {
    /// All rules, 32 rounds, 4,000 nodes: the usual attention graphs come to rest well within.
    fn default() -> RewriteOptions {
        RewriteOptions { float_class: FloatClass::FiniteOnly, iteration_limit: 32, node_limit: 4_000 }
    }
}

/// Why rule application stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// No rule adds anything new.
    Saturated,
    /// [`RewriteOptions::iteration_limit`].
    IterationLimit,
    /// [`RewriteOptions::node_limit`].
    NodeLimit,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Saturated => "saturated",
            Stop::IterationLimit => "iteration limit",
            Stop::NodeLimit => "node limit",
        })
    }
}

/// What rewriting did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Rounds of rule application.
    pub iterations: usize,
    /// Nodes in the e-graph at the end.
    pub nodes: usize,
    /// Classes of equal nodes at the end.
    pub classes: usize,
    /// Why it stopped. At a limit the result is right, but maybe not the cheapest.
    pub stop: Stop,
    /// Cost of the original graph.
    pub cost_before: Cost,
    /// Cost of the fused graph.
    pub cost_after: Cost,
    /// What calls of few queries cost, where that is another question.
    pub few_queries: Option<FewQueries>,
    /// How often each rule added something, in order of name.
    pub fired: Vec<(String, usize)>,
}

/// What calls of few queries cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FewQueries {
    /// By the form for many queries.
    pub shared: Cost,
    /// By the form that costs least.
    pub least: Cost,
    /// Whether they have that form: it saves enough to be another.
    pub own: bool,
}

impl FewQueries {
    /// The part of the work that a form of its own saves at least: for less it is not worth a plan, and results that round otherwise.
    pub const WORTH: f64 = 1.0 / 64.0;
}

impl fmt::Display for FewQueries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FewQueries { shared, least, own } = self;
        match own {
            true => write!(f, "{least} by a form of their own, {shared} by that for many"),
            false if least < shared => {
                write!(f, "{shared} by the same form; {least} by another, which saves too little to be worth it")
            }
            false => write!(f, "{shared} by the same form, and no other costs less"),
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { iterations, nodes, classes, stop, cost_before, cost_after, few_queries, fired } = self;
        writeln!(f, "{stop} after {iterations} iterations, {nodes} nodes in {classes} classes")?;
        writeln!(f, "cost {cost_before} -> {cost_after}")?;
        if let Some(cost) = few_queries {
            writeln!(f, "cost of few queries: {cost}")?;
        }
        fired.iter().try_for_each(|(rule, count)| writeln!(f, "{count:6} {rule}"))
    }
}

/// A graph after rewriting. Prints as IR text; a form of its own for few queries follows, as comments.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    graph: Verified,
    few_queries: Option<Verified>,
    statistics: Statistics,
}

impl Fused {
    /// The rewritten graph: the inputs, outputs and axes of the original. It is the form that costs least for calls of many queries.
    pub fn graph(&self) -> &Verified {
        &self.graph
    }

    /// The form that costs less for calls of few queries, if it is another: of the same inputs, outputs and axes.
    pub fn few_queries(&self) -> Option<&Verified> {
        self.few_queries.as_ref()
    }

    /// The rewritten graph, by value.
    pub fn into_graph(self) -> Verified {
        self.graph
    }

    /// What rewriting did.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

impl fmt::Display for Fused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.graph).fmt(f)?;
        match &self.few_queries {
            Some(few) => write_form(f, &few.to_string()),
            None => Ok(()),
        }
    }
}

/// Writes the text of a form for few queries beneath that for many, as comments: what is printed can be read again.
///
/// # Errors
/// Those of `f`.
pub fn write_form(f: &mut impl fmt::Write, few_queries: &str) -> fmt::Result {
    writeln!(f, "\n// Calls of few queries cost less by this form:")?;
    few_queries.lines().try_for_each(|line| writeln!(f, "{}", format!("// {line}").trim_end()))
}

/// Rewrites a graph to an equal one that costs less.
///
/// # Errors
/// [`RewriteError::NotLowered`] for a graph with scheme ops. Any other error is a fault of the rules, reported instead of a wrong result.
pub fn fuse(lowered: &Verified, options: &RewriteOptions) -> Result<Fused, RewriteError> {
    let saturated = saturate(lowered, options, false)?;
    let built = |terms: &Terms| rebuild::rebuild(lowered, terms).map(|rebuilt| rebuilt.graph);
    let graph = built(&saturated.terms)?;
    let few_queries = saturated.few_terms.as_ref().map(built).transpose()?;
    Ok(Fused { graph, few_queries, statistics: saturated.statistics })
}

/// An e-graph at rest, and what was chosen from it.
struct Saturated {
    runner: Runner<Node, Facts>,
    terms: Terms,
    /// The same for calls of few queries, where these have a form of their own.
    few_terms: Option<Terms>,
    statistics: Statistics,
}

impl Saturated {
    /// The terms for a regime; none where those for many queries serve few as well.
    fn terms(self, regime: Regime) -> Option<Terms> {
        match regime {
            Regime::ManyQueries => Some(self.terms),
            Regime::FewQueries => self.few_terms,
        }
    }
}

fn saturate(lowered: &Verified, options: &RewriteOptions, explained: bool) -> Result<Saturated, RewriteError> {
    untimed(|| run(lowered, options, explained))
}

fn run(lowered: &Verified, options: &RewriteOptions, explained: bool) -> Result<Saturated, RewriteError> {
    let mut runner = Runner::new(Facts { node_limit: options.node_limit, ..Facts::new(lowered) })
        // A rule that matches everywhere pauses for some rounds: no round takes long, even on graphs that never come to rest.
        .with_scheduler(BackoffScheduler::default().with_initial_match_limit(MATCH_LIMIT).with_ban_length(2))
        .with_iter_limit(options.iteration_limit)
        .with_node_limit(options.node_limit)
        .with_time_limit(Duration::MAX);
    if explained {
        runner = runner.with_explanations_enabled();
    }
    let roots = add_graph(&mut runner.egraph, lowered)?;
    runner.egraph.rebuild();
    // As yet every class has the one form that the user wrote, and operands have lesser ids than what takes them.
    let mut written: Vec<(Id, Node)> =
        runner.egraph.classes().flat_map(|class| class.nodes.iter().map(|node| (class.id, node.clone()))).collect();
    written.sort_unstable();
    let original = extraction(&runner.egraph, &roots, &written)?.total;

    let mut runner = runner.run(apply::rewrites(options.float_class));
    if let Some(what) = runner.egraph.analysis.conflict.take() {
        return Err(RewriteError::Contradiction { what });
    }
    let mut extraction = extraction(&runner.egraph, &roots, &written)?;
    let mut terms = chosen_terms(&runner.egraph, &extraction, &roots)?;
    let mut few = runner.egraph.analysis.few.as_ref();
    let saturated = matches!(runner.stop_reason, Some(egg::StopReason::Saturated));
    if !saturated && has_base(&terms, Base::E) && has_base(&terms, Base::Two) {
        // Stopped halfway through the change of bases: what shared a score would share none.
        extraction = Extraction::written(&runner.egraph, &roots, &written).ok_or_else(no_form)?;
        terms = chosen_terms(&runner.egraph, &extraction, &roots)?;
        few = None;
    }
    let few = few.map(|extents| form_for_few(&runner.egraph, &roots, (&extraction, extents))).transpose()?;
    let (few_queries, few_terms) = few.unzip();
    let statistics = statistics(&runner, (original, extraction.total, few_queries));
    Ok(Saturated { runner, terms, few_terms: few_terms.flatten(), statistics })
}

/// The chosen term of each output.
type Terms = Vec<RecExpr<Node>>;

/// What calls of few queries cost, where axes have these lengths then, and the terms of a form of their own, if that is worth it.
fn form_for_few(
    egraph: &EGraph,
    roots: &[Id],
    (shared, extents): (&Extraction, &Extents),
) -> Result<(FewQueries, Option<Terms>), RewriteError> {
    let (own, shared) = shared.again(egraph, roots, extents).ok_or_else(no_form)?;
    let is_worth_it = own.total.saves(FewQueries::WORTH, shared);
    let terms = is_worth_it.then(|| chosen_terms(egraph, &own, roots)).transpose()?;
    Ok((FewQueries { shared, least: own.total, own: is_worth_it }, terms))
}

/// What rules did, and the cost before, after, and for few queries.
fn statistics(
    runner: &Runner<Node, Facts>,
    (cost_before, cost_after, few_queries): (Cost, Cost, Option<FewQueries>),
) -> Statistics {
    let mut fired = std::collections::BTreeMap::new();
    for iteration in &runner.iterations {
        for (rule, count) in &iteration.applied {
            *fired.entry(rule.to_string()).or_insert(0) += count;
        }
    }
    Statistics {
        iterations: runner.iterations.len(),
        nodes: runner.egraph.total_size(),
        classes: runner.egraph.number_of_classes(),
        stop: match runner.stop_reason {
            Some(egg::StopReason::IterationLimit(_)) => Stop::IterationLimit,
            Some(egg::StopReason::NodeLimit(_)) => Stop::NodeLimit,
            _ => Stop::Saturated,
        },
        cost_before,
        cost_after,
        few_queries,
        fired: fired.into_iter().collect(),
    }
}

/// Adds the graph's ops; gives the class of each output.
fn add_graph(egraph: &mut EGraph, graph: &Verified) -> Result<Vec<Id>, RewriteError> {
    let ids = add_values(egraph, graph)?;
    Ok(graph.outputs().iter().map(|output| ids[output.value.index()]).collect())
}

/// Adds the graph's ops; gives the class of each value.
fn add_values(egraph: &mut EGraph, graph: &Verified) -> Result<Vec<Id>, RewriteError> {
    let mut ids: Vec<Id> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values().zip(graph.nodes()) {
        let lowered = Node::of(&node.op, value, |operand| ids[operand.index()], |parameter| egraph.add(parameter));
        let Some(lowered) = lowered else {
            let op = match &node.op {
                Op::Scheme { scheme, hook, .. } => format!("{scheme}.{}", hook.name()),
                other => format!("{other:?}"),
            };
            return Err(RewriteError::NotLowered { op, position: value.index() });
        };
        ids.push(egraph.add(lowered));
    }
    Ok(ids)
}

fn chosen_terms(egraph: &EGraph, extraction: &Extraction, roots: &[Id]) -> Result<Terms, RewriteError> {
    roots.iter().map(|root| rebuild::term(egraph, extraction, *root)).collect::<Option<Vec<_>>>().ok_or_else(no_form)
}

/// Whether a softmax or log-sum-exp among the terms has this base.
fn has_base(terms: &[RecExpr<Node>], base: Base) -> bool {
    terms.iter().flatten().any(|node| *node == Node::Base(base))
}

fn extraction(egraph: &EGraph, roots: &[Id], written: &[(Id, Node)]) -> Result<Extraction, RewriteError> {
    Extraction::new(egraph, roots, written).ok_or_else(no_form)
}

fn no_form() -> RewriteError {
    RewriteError::IllTyped { node: "an output without a form".to_owned() }
}
