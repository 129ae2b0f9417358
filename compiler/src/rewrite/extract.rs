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
    /// Chooses forms for all that `roots` need; `written` are the forms of the user's graph. `None` if some root has no finite form.
    ///
    /// The second step starts once from the cheapest forms alone and once from the forms as written: the better end is taken.
    pub(crate) fn new(egraph: &EGraph, roots: &[Id], written: &[(Id, Node)]) -> Option<Extraction> {
        let roots: Vec<usize> = roots.iter().map(|id| usize::from(egraph.find(*id))).collect();
        let forms = forms(egraph);
        let mut walk = Walk { marks: vec![(0, false); forms.len()], round: 0 };
        let alone = cheapest_alone(&forms);
        let mut as_written = alone.clone();
        for (class, node) in written {
            let node = node.clone().map_children(|id| egraph.find(id));
            let class = usize::from(egraph.find(*class));
            if let Some(form) = forms[class].iter().position(|form| form.node == node) {
                as_written[class] = Some(form);
            }
        }
        let ends = [alone, as_written].into_iter().filter_map(|mut chosen| {
            let total = walk.improve(&forms, &mut chosen, &roots)?;
            Some((total, chosen))
        });
        // Of equals the first is taken.
        let (total, chosen) = ends.min_by_key(|(total, _)| *total)?;
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

/// Walks over what a choice needs. Marks are kept from walk to walk, so that each costs only what it visits.
struct Walk {
    /// For each class: the last walk that met it, and whether that walk was through with it.
    marks: Vec<(u32, bool)>,
    round: u32,
}

impl Walk {
    /// Swaps forms, one at a time, as long as all that `roots` need gets cheaper; gives the cost in the end.
    fn improve(&mut self, forms: &[Vec<Form>], chosen: &mut [Option<usize>], roots: &[usize]) -> Option<Cost> {
        let mut total = self.cost(forms, chosen, roots)?;
        for _ in 0..ROUNDS {
            let before = total;
            for class in self.reachable(forms, chosen, roots) {
                for other in 0..forms[class].len() {
                    let kept = chosen[class].replace(other);
                    match self.cost(forms, chosen, roots) {
                        Some(cost) if cost < total => total = cost,
                        _ => chosen[class] = kept,
                    }
                }
            }
            if total == before {
                break;
            }
        }
        Some(total)
    }

    /// Classes that `roots` need under a choice, operands before users.
    fn reachable(&mut self, forms: &[Vec<Form>], chosen: &[Option<usize>], roots: &[usize]) -> Vec<usize> {
        let mut order = Vec::new();
        self.visit(forms, chosen, roots, &mut |class, _| order.push(class));
        order
    }

    /// Cost of all that `roots` need under a choice, each class once. `None` if the choice is incomplete or cyclic.
    fn cost(&mut self, forms: &[Vec<Form>], chosen: &[Option<usize>], roots: &[usize]) -> Option<Cost> {
        let mut total = Cost::ZERO;
        let complete = self.visit(forms, chosen, roots, &mut |_, form| total = total.plus(form.own));
        complete.then_some(total)
    }

    /// Calls `each` on every class that `roots` need, operands first. Tells whether there was a form for each, and no cycle.
    fn visit(
        &mut self,
        forms: &[Vec<Form>],
        chosen: &[Option<usize>],
        roots: &[usize],
        each: &mut impl FnMut(usize, &Form),
    ) -> bool {
        self.round += 1;
        for root in roots {
            // The classes on the way from the root, each with the number of children already entered.
            let mut path = vec![(*root, 0usize)];
            while let Some((class, entered)) = path.pop() {
                if entered == 0 {
                    match self.marks[class] {
                        (round, true) if round == self.round => continue,
                        (round, false) if round == self.round => return false,
                        _ => self.marks[class] = (self.round, false),
                    }
                }
                let Some(form) = chosen[class].and_then(|choice| forms[class].get(choice)) else { return false };
                match form.node.children().get(entered) {
                    Some(child) => {
                        path.push((class, entered + 1));
                        path.push((usize::from(*child), 0));
                    }
                    None => {
                        self.marks[class] = (self.round, true);
                        each(class, form);
                    }
                }
            }
        }
        true
    }
}
