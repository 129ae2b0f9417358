//! Walks over the steps of proofs.

use std::collections::BTreeSet;
use std::rc::Rc;

use egg::{TreeExplanation, TreeTerm};

use super::language::Node;

/// What is made of the steps of a proof.
pub(super) trait Steps {
    /// A step from one term to the next; both are forms of one term.
    fn step(&mut self, previous: &TreeTerm<Node>, term: &Rc<TreeTerm<Node>>);

    /// A term whose operands have become what they become.
    fn done(&mut self, _: &Rc<TreeTerm<Node>>) {}
}

/// The steps of a proof in order; parts proved before, which `seen` has, are not proved again.
pub(super) fn walk(steps: &mut impl Steps, seen: &mut BTreeSet<(usize, usize)>, terms: &TreeExplanation<Node>) {
    let mut previous: Option<&Rc<TreeTerm<Node>>> = None;
    for term in terms {
        let from = previous.map_or(0, |term| Rc::as_ptr(term) as usize);
        if seen.insert((from, Rc::as_ptr(term) as usize)) {
            if let Some(previous) = previous {
                steps.step(previous, term);
            }
            for children in &term.child_proofs {
                walk(steps, seen, children);
            }
            steps.done(term);
        }
        previous = Some(term);
    }
}
