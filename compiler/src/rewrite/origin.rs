//! Which rule put each op of a fused graph there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use egg::{Id, Language, RecExpr, TreeTerm};
use rhumb_ir::Verified;

use super::explain::{original_terms, prove_terms};
use super::language::Node;
use super::proof::{Steps, walk};
use super::{Regime, RewriteError, RewriteOptions, rebuild, saturate};

/// For each value of the graph that [`fuse`](super::fuse) makes of `lowered` for a regime: the rule that brought its op, the first in its
/// output's proof, or `None` for an op of `lowered`, whose operands may have changed. Where the form for few queries is that for many, there
/// are none for few.
///
/// # Errors
/// As [`explain`](fn@super::explain): without a proof nothing is known.
pub fn origins(
    lowered: &Verified,
    options: &RewriteOptions,
    regime: Regime,
) -> Result<Vec<Option<String>>, RewriteError> {
    let Some(terms) = saturate(lowered, options, false)?.terms(regime) else { return Ok(Vec::new()) };
    let proofs = prove_terms(lowered, options, &terms)?;
    let rebuilt = rebuild::rebuild(lowered, &terms)?;
    let mut origins = vec![None; rebuilt.graph.nodes().len()];
    let mut forms = Forms::default();
    let mut known: BTreeSet<Id> = BTreeSet::new();
    for term in &original_terms(lowered)? {
        known.extend(forms.of_term(term));
    }
    let mut rules: BTreeMap<Id, String> = BTreeMap::new();
    for proof in &proofs {
        let mut brought = Brought { forms: &mut forms, known: &mut known, rules: &mut rules };
        walk(&mut brought, &mut BTreeSet::new(), &proof.explanation_trees);
    }
    for (term, values) in terms.iter().zip(&rebuilt.values) {
        for (form, value) in forms.of_term(term).into_iter().zip(values) {
            if let (Some(value), Some(rule)) = (value, rules.get(&form)) {
                origins[value.index()] = Some(rule.clone());
            }
        }
    }
    Ok(origins)
}

/// Terms, each form once.
#[derive(Default)]
struct Forms {
    nodes: Vec<Node>,
    ids: BTreeMap<Node, Id>,
    /// Forms of terms of proofs by their address: what they start from, and what they arrive at.
    of_proof: BTreeMap<(usize, bool), Id>,
}

impl Forms {
    fn add(&mut self, node: Node) -> Id {
        let next = Id::from(self.nodes.len());
        let nodes = &mut self.nodes;
        *self.ids.entry(node).or_insert_with_key(|node| {
            nodes.push(node.clone());
            next
        })
    }

    /// The forms of a term's nodes, in order.
    fn of_term(&mut self, term: &RecExpr<Node>) -> Vec<Id> {
        let mut ids: Vec<Id> = Vec::with_capacity(term.len());
        for node in term {
            let node = node.clone().map_children(|child| ids[usize::from(child)]);
            ids.push(self.add(node));
        }
        ids
    }

    /// The form of a term of a proof. As deep as the proof, which has a limit.
    fn of(&mut self, term: &Rc<TreeTerm<Node>>, at_end: bool) -> Id {
        let key = (Rc::as_ptr(term) as usize, at_end);
        if let Some(form) = self.of_proof.get(&key) {
            return *form;
        }
        let ends = term.child_proofs.iter().map(|proof| if at_end { proof.last() } else { proof.first() });
        let children: Vec<Id> = ends.flatten().map(|child| self.of(child, at_end)).collect();
        let mut children = children.into_iter();
        let node = term.node.clone().map_children(|child| children.next().unwrap_or(child));
        let form = self.add(node);
        self.of_proof.insert(key, form);
        form
    }

    /// A form and all that it is made of.
    fn parts(&self, form: Id) -> BTreeSet<Id> {
        let (mut parts, mut left) = (BTreeSet::new(), vec![form]);
        while let Some(form) = left.pop() {
            if parts.insert(form) {
                left.extend(self.nodes[usize::from(form)].children());
            }
        }
        parts
    }
}

/// Notes what each step of a proof brings.
struct Brought<'a> {
    forms: &'a mut Forms,
    /// What was there before: of the user's graph, or by a step.
    known: &'a mut BTreeSet<Id>,
    rules: &'a mut BTreeMap<Id, String>,
}

impl Steps for Brought<'_> {
    fn step(&mut self, _: &TreeTerm<Node>, term: &Rc<TreeTerm<Node>>) {
        let Some(rule) = term.forward_rule.or(term.backward_rule) else { return };
        let after = self.forms.of(term, false);
        for form in self.forms.parts(after) {
            if self.known.insert(form) {
                self.rules.insert(form, rule.as_str().to_owned());
            }
        }
    }

    /// The same ops, with what became of their operands.
    fn done(&mut self, term: &Rc<TreeTerm<Node>>) {
        let end = self.forms.of(term, true);
        self.known.extend(self.forms.parts(end));
    }
}
