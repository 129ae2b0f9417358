//! All rules, as rewrites that check their side conditions.

use std::sync::LazyLock;

use egg::{Applier, ENodeOrVar, Id, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};

use super::conditions::{Condition, any, no_infinite_constant};
use super::facts::{EGraph, Facts};
use super::fold::{FOLD, FoldApplier, FoldSearcher};
use super::kind::Kind;
use super::language::Node;
use super::rule::{FloatClass, Rule};
use super::rules::all;

/// All rules, in table order.
pub fn rules() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(all);
    &RULES
}

/// The rewrites that a legality allows, in table order, folding first.
pub(crate) fn rewrites(allowed: FloatClass) -> &'static [Rewrite<Node, Facts>] {
    static EXACT: LazyLock<Vec<Rewrite<Node, Facts>>> = LazyLock::new(|| compile(FloatClass::Exact));
    static REASSOCIATING: LazyLock<Vec<Rewrite<Node, Facts>>> = LazyLock::new(|| compile(FloatClass::Reassociating));
    static FINITE_ONLY: LazyLock<Vec<Rewrite<Node, Facts>>> = LazyLock::new(|| compile(FloatClass::FiniteOnly));
    match allowed {
        FloatClass::Exact => &EXACT,
        FloatClass::Reassociating => &REASSOCIATING,
        FloatClass::FiniteOnly => &FINITE_ONLY,
    }
}

fn compile(allowed: FloatClass) -> Vec<Rewrite<Node, Facts>> {
    let fold = Rewrite::new(FOLD, FoldSearcher, FoldApplier).ok();
    fold.into_iter().chain(rules().iter().filter_map(|rule| compile_rule(rule, allowed))).collect()
}

/// The rewrite of a rule; `None` where `allowed` rules it out.
pub(crate) fn compile_rule(rule: &Rule, allowed: FloatClass) -> Option<Rewrite<Node, Facts>> {
    let mut when = rule.when.clone();
    // A malformed pattern is a bug of a table: the test that every rule compiles finds it.
    let lhs: Pattern<Node> = rule.lhs.parse().ok()?;
    if rule.class > allowed || rule.class == FloatClass::FiniteOnly {
        let downgrades = rule.downgrades.iter().filter(|(class, _)| *class <= allowed);
        let mut either: Vec<Condition> = downgrades.map(|(_, condition)| condition.clone()).collect();
        if rule.class <= allowed {
            either.push(no_infinite_constant(lhs.vars()));
        }
        when.push(any(either)?);
    }
    let rhs: Pattern<Node> = rule.rhs.parse().ok()?;
    Rewrite::new(rule.name, lhs, Checked { rhs, when }).ok()
}

/// Applies a pattern where the side conditions hold and the result has the type of what it replaces.
struct Checked {
    rhs: Pattern<Node>,
    when: Vec<Condition>,
}

impl Checked {
    fn fits(&self, egraph: &EGraph, class: Id, subst: &Subst) -> bool {
        let mut kinds: Vec<Option<Kind>> = Vec::with_capacity(self.rhs.ast.len());
        for node in &self.rhs.ast {
            let kind = match node {
                ENodeOrVar::Var(var) => egraph[subst[*var]].data.kind,
                ENodeOrVar::ENode(node) => egraph.analysis.kind(node, |id| kinds[usize::from(id)]),
            };
            if kind.is_none() {
                return false;
            }
            kinds.push(kind);
        }
        kinds.last() == Some(&egraph[class].data.kind)
    }
}

impl Applier<Node, Facts> for Checked {
    fn get_pattern_ast(&self) -> Option<&PatternAst<Node>> {
        Some(&self.rhs.ast)
    }

    fn apply_one(
        &self,
        egraph: &mut EGraph,
        class: Id,
        subst: &Subst,
        searched: Option<&PatternAst<Node>>,
        rule: Symbol,
    ) -> Vec<Id> {
        // egg looks at its limit after all matches of a rule: there can be many.
        let full = egraph.total_size() > egraph.analysis.node_limit;
        if !full
            && self.when.iter().all(|condition| condition.holds(egraph, class, subst))
            && self.fits(egraph, class, subst)
        {
            self.rhs.apply_one(egraph, class, subst, searched, rule)
        } else {
            Vec::new()
        }
    }

    fn vars(&self) -> Vec<Var> {
        self.rhs.vars()
    }
}
