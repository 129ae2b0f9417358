//! Constant folding as a rewrite: a class that is known to be a constant gets the constant's form.

use std::borrow::Cow;

use egg::{Applier, ENodeOrVar, Id, Language, PatternAst, SearchMatches, Searcher, Subst, Symbol, Var};

use super::constants::fold;
use super::facts::{EGraph, Facts};
use super::language::Node;

/// The name of the folding rule in statistics and proofs.
pub(crate) const FOLD: &str = "fold";

/// Finds classes that are known to be a constant but have no constant form yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoldSearcher;

/// Adds the constant form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoldApplier;

impl Searcher<Node, Facts> for FoldSearcher {
    fn search_eclass_with_limit(&self, egraph: &EGraph, class: Id, limit: usize) -> Option<SearchMatches<'_, Node>> {
        let class = &egraph[class];
        let is_scalar = class.data.ty().is_some_and(|ty| ty.axes.is_empty());
        if limit == 0 || !is_scalar || class.data.constant.is_none() {
            return None;
        }
        if class.nodes.iter().any(|node| matches!(node, Node::Const(_))) {
            return None;
        }
        let constant = |id: Id| egraph[id].data.constant;
        let node = class
            .nodes
            .iter()
            .find(|node| fold(&egraph.analysis.graph, node, constant, |id| egraph[id].data.kind).is_some())?;
        // The node itself with a variable for each child: what a proof shows as the left-hand side.
        let (mut ast, mut subst) = (PatternAst::default(), Subst::default());
        let mut vars = 0u32;
        let node = node.clone().map_children(|child| {
            let var = Var::from_u32(vars);
            vars += 1;
            subst.insert(var, child);
            ast.add(ENodeOrVar::Var(var))
        });
        ast.add(ENodeOrVar::ENode(node));
        Some(SearchMatches { eclass: class.id, substs: vec![subst], ast: Some(Cow::Owned(ast)) })
    }

    fn vars(&self) -> Vec<Var> {
        Vec::new()
    }
}

impl Applier<Node, Facts> for FoldApplier {
    fn apply_one(
        &self,
        egraph: &mut EGraph,
        class: Id,
        subst: &Subst,
        searched: Option<&PatternAst<Node>>,
        rule: Symbol,
    ) -> Vec<Id> {
        let Some(number) = egraph[class].data.constant else { return Vec::new() };
        let changed = match searched {
            Some(from) => {
                let to: PatternAst<Node> = vec![ENodeOrVar::ENode(Node::Const(number))].into();
                egraph.union_instantiations(from, &to, subst, rule).1
            }
            None => {
                let folded = egraph.add(Node::Const(number));
                egraph.union(class, folded)
            }
        };
        if changed { vec![class] } else { Vec::new() }
    }
}
