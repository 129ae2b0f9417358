//! Extraction: one form for every class, the cheapest as a whole.
//!
//! Two steps. The first gives each class its cheapest form were nothing shared: a fixpoint that cannot produce a cycle. The second
//! counts every class once and swaps forms, one at a time, as long as the whole gets cheaper; so a value with several users is paid
//! once, and all outputs are chosen together. Classes are visited in order of their ids, and ties go to the lesser node: the result
//! is a function of the e-graph.

use egg::{Id, Language};

use super::cost::{Cost, node_cost};
use super::facts::EGraph;
use super::language::Node;

/// A form for every class that has one.
pub(crate) struct Extraction {
    chosen: Vec<Option<(Node, Cost)>>,
    /// Cost of all the roots together, shared work counted once.
    pub(crate) total: Cost,
}

/// A form of a class, with what it costs once its children are there.
struct Form {
    node: Node,
    own: Cost,
}

/// Rounds of the second step; each can only make the whole cheaper.
const ROUNDS: usize = 8;

impl Extraction {
    /// Chooses forms for all that `roots` need. `None` if some root has no finite form.
    pub(crate) fn new(egraph: &EGraph, roots: &[Id]) -> Option<Extraction> {
        let roots: Vec<usize> = roots.iter().map(|id| usize::from(egraph.find(*id))).collect();
        let forms = forms(egraph);
        let mut chosen = cheapest_alone(&forms);
        let mut total = cost_together(&forms, &chosen, &roots)?;
        for _ in 0..ROUNDS {
            let before = total;
            for class in reachable(&forms, &chosen, &roots) {
                for other in 0..forms[class].len() {
                    let kept = chosen[class];
                    chosen[class] = Some(other);
                    match cost_together(&forms, &chosen, &roots) {
                        Some(cost) if cost < total => total = cost,
                        _ => chosen[class] = kept,
                    }
                }
            }
            if total == before {
                break;
            }
        }
        let chosen = forms
            .into_iter()
            .zip(chosen)
            .map(|(forms, choice)| forms.into_iter().nth(choice?).map(|form| (form.node, form.own)))
            .collect();
        Some(Extraction { chosen, total })
    }

    /// The form chosen for a class.
    pub(crate) fn node(&self, egraph: &EGraph, class: Id) -> Option<&Node> {
        self.chosen.get(usize::from(egraph.find(class)))?.as_ref().map(|(node, _)| node)
    }
}

/// The forms of every class, by the index of its id, each list sorted.
fn forms(egraph: &EGraph) -> Vec<Vec<Form>> {
    let mut forms: Vec<Vec<Form>> = Vec::new();
    for class in egraph.classes() {
        let index = usize::from(class.id);
        if forms.len() <= index {
            forms.resize_with(index + 1, Vec::new);
        }
        let mut nodes: Vec<Form> = class
            .nodes
            .iter()
            .map(|node| {
                let node = node.clone().map_children(|id| egraph.find(id));
                let own = node_cost(egraph, class.id, &node);
                Form { node, own }
            })
            .collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        nodes.dedup_by(|a, b| a.node == b.node);
        forms[index] = nodes;
    }
    forms
}

/// The form of each class that is cheapest as a tree.
///
/// The rank is the cost, then the depth: both grow from operand to user, the depth even where costs saturate, so choices form no cycle.
fn cheapest_alone(forms: &[Vec<Form>]) -> Vec<Option<usize>> {
    let mut ranks: Vec<Option<(Cost, u32)>> = vec![None; forms.len()];
    let rank = |ranks: &[Option<(Cost, u32)>], form: &Form| {
        form.node.children().iter().try_fold((form.own, 0u32), |(cost, depth), child| {
            let (c, d) = (*ranks.get(usize::from(*child))?)?;
            Some((cost.plus(c), depth.max(d.saturating_add(1))))
        })
    };
    let mut changed = true;
    while changed {
        changed = false;
        for (class, forms) in forms.iter().enumerate() {
            for form in forms {
                let Some(found) = rank(&ranks, form) else { continue };
                if ranks[class].is_none_or(|best| found < best) {
                    ranks[class] = Some(found);
                    changed = true;
                }
            }
        }
    }
    let pick = |forms: &Vec<Form>, best: Option<(Cost, u32)>| {
        forms.iter().position(|form| best.is_some() && rank(&ranks, form) == best)
    };
    forms.iter().zip(&ranks).map(|(forms, best)| pick(forms, *best)).collect()
}

/// Classes that `roots` need under a choice, operands before users.
fn reachable(forms: &[Vec<Form>], chosen: &[Option<usize>], roots: &[usize]) -> Vec<usize> {
    let mut order = Vec::new();
    visit(forms, chosen, roots, &mut |class| order.push(class));
    order
}

/// Cost of all that `roots` need under a choice, each class once. `None` if the choice is incomplete or cyclic.
fn cost_together(forms: &[Vec<Form>], chosen: &[Option<usize>], roots: &[usize]) -> Option<Cost> {
    let mut total = Cost::ZERO;
    let complete = visit(forms, chosen, roots, &mut |class| {
        if let Some(form) = chosen[class].and_then(|choice| forms[class].get(choice)) {
            total = total.plus(form.own);
        }
    });
    complete.then_some(total)
}

/// Calls `each` on every class that `roots` need, operands first. Tells whether there was a form for each, and no cycle.
fn visit(forms: &[Vec<Form>], chosen: &[Option<usize>], roots: &[usize], each: &mut impl FnMut(usize)) -> bool {
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut state = vec![0u8; forms.len()];
    for root in roots {
        // The classes on the way from the root, each with the number of children already entered.
        let mut path = vec![(*root, 0usize)];
        while let Some((class, entered)) = path.pop() {
            if entered == 0 {
                match state[class] {
                    DONE => continue,
                    OPEN => return false,
                    _ => state[class] = OPEN,
                }
            }
            let Some(form) = chosen[class].and_then(|choice| forms[class].get(choice)) else { return false };
            match form.node.children().get(entered) {
                Some(child) => {
                    let child = usize::from(*child);
                    path.push((class, entered + 1));
                    match state[child] {
                        DONE => {}
                        OPEN => return false,
                        _ => path.push((child, 0)),
                    }
                }
                None => {
                    state[class] = DONE;
                    each(class);
                }
            }
        }
    }
    true
}
