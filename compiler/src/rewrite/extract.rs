//! Extraction: one form for every class, the cheapest as a whole.
//!
//! Two steps. The first gives each class its cheapest form were nothing shared; its choices form no cycle. The second counts every class
//! once and swaps forms, one at a time, as long as the whole gets cheaper; so a value with several users is paid once, and all outputs
//! are chosen together. Classes are visited in order of their ids, and ties go to the form of lesser [rank](Node::rank): the result is a
//! function of the e-graph. Work is counted and bounded, so that no graph takes long; where the second step ends early the choice is as
//! right, if dearer.
//!
//! What a form costs depends on how long axes are. The form for calls of many queries is chosen first; that for few, from it on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use egg::{Id, Language};

use super::cost::{Cost, node_cost};
use super::extents::Extents;
use super::facts::EGraph;
use super::language::Node;

/// A form for every class that has one.
pub(crate) struct Extraction {
    forms: Vec<Vec<Form>>,
    chosen: Vec<Option<usize>>,
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

/// Classes that the second step may visit from one start, all rounds together.
const MOST_VISITS: usize = 4_000_000;

impl Extraction {
    /// Chooses forms for all that `roots` need; `written` are the forms of the user's graph, in its order. `None` if some root has no
    /// finite form.
    ///
    /// The second step starts once from the cheapest forms alone and once from the forms as written, with the cheapest way from there to
    /// the other classes: the better end is taken. What the user computed once is then computed once at the start, even where it would
    /// take several swaps to get there.
    pub(crate) fn new(egraph: &EGraph, roots: &[Id], written: &[(Id, Node)]) -> Option<Extraction> {
        let forms = forms(egraph, &egraph.analysis.extents);
        let starts = [vec![None; forms.len()], as_written(egraph, &forms, written)];
        Extraction::best(egraph, forms, roots, starts.into_iter())
    }

    /// Chooses forms where axes have other lengths than those that this choice was made for. It starts from the cheapest forms alone, and
    /// from this choice. The cost of this choice there comes with it.
    pub(crate) fn again(&self, egraph: &EGraph, roots: &[Id], extents: &Extents) -> Option<(Extraction, Cost)> {
        let forms = forms(egraph, extents);
        let same = Choice::new(&forms, self.chosen.clone(), &indices(egraph, roots))?.total;
        // Of equals this choice is taken: it comes first.
        let starts = [self.chosen.clone(), vec![None; forms.len()]];
        Some((Extraction::best(egraph, forms, roots, starts.into_iter())?, same))
    }

    /// The forms as the user wrote them, but for what is known to be constant.
    pub(crate) fn written(egraph: &EGraph, roots: &[Id], written: &[(Id, Node)]) -> Option<Extraction> {
        let forms = forms(egraph, &egraph.analysis.extents);
        let Choice { chosen, total, .. } =
            Choice::new(&forms, cheapest(&forms, &as_written(egraph, &forms, written)), &indices(egraph, roots))?;
        Some(Extraction { forms, chosen, total })
    }

    /// The cheapest end of the second step from any of some starts, each of which gives some classes their forms; of equals the first.
    fn best(
        egraph: &EGraph,
        forms: Vec<Vec<Form>>,
        roots: &[Id],
        starts: impl Iterator<Item = Vec<Option<usize>>>,
    ) -> Option<Extraction> {
        let roots = indices(egraph, roots);
        let ends = starts.filter_map(|given| {
            let mut choice = Choice::new(&forms, cheapest(&forms, &given), &roots)?;
            choice.improve(&roots);
            Some((choice.total, choice.chosen))
        });
        let (total, chosen) = ends.min_by_key(|(total, _)| *total)?;
        Some(Extraction { forms, chosen, total })
    }

    /// The form chosen for a class.
    pub(crate) fn node(&self, egraph: &EGraph, class: Id) -> Option<&Node> {
        let class = usize::from(egraph.find(class));
        let choice = (*self.chosen.get(class)?)?;
        self.forms[class].get(choice).map(|form| &form.node)
    }
}

/// The classes of some ids, as indices.
fn indices(egraph: &EGraph, ids: &[Id]) -> Vec<usize> {
    ids.iter().map(|id| usize::from(egraph.find(*id))).collect()
}

/// The forms of every class, by the index of its id, each list in order of rank; the order does not depend on the lengths of axes.
fn forms(egraph: &EGraph, extents: &Extents) -> Vec<Vec<Form>> {
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
                let own = node_cost(egraph, extents, class.id, &node);
                Form { node, own }
            })
            .collect();
        nodes.sort_by(|a, b| (a.node.rank(), &a.node).cmp(&(b.node.rank(), &b.node)));
        nodes.dedup_by(|a, b| a.node == b.node);
        forms[index] = nodes;
    }
    forms
}

/// The form that the user wrote of each class that has one: of several that came to be equal the first, so that choices form no cycle.
fn as_written(egraph: &EGraph, forms: &[Vec<Form>], written: &[(Id, Node)]) -> Vec<Option<usize>> {
    let mut given: Vec<Option<usize>> = vec![None; forms.len()];
    for (class, node) in written {
        let class = usize::from(egraph.find(*class));
        let node = node.clone().map_children(|id| egraph.find(id));
        if given[class].is_none() {
            given[class] = forms[class].iter().position(|form| form.node == node);
        }
    }
    given
}

/// The form of each class that is cheapest as a tree, where the classes of `given` have a form already and cost nothing.
///
/// The rank is the cost, then the depth: both grow from operand to user, the depth even where costs saturate. So classes are settled by
/// rising rank, each once, and choices form no cycle.
fn cheapest(forms: &[Vec<Form>], given: &[Option<usize>]) -> Vec<Option<usize>> {
    type Rank = (Cost, u32);
    let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); forms.len()];
    // What is known of a form: children that are not settled, and the rank from those that are.
    let mut waits: Vec<Vec<(usize, Rank)>> = Vec::with_capacity(forms.len());
    let mut heap: BinaryHeap<Reverse<(Rank, usize, usize)>> = BinaryHeap::new();
    for (class, list) in forms.iter().enumerate() {
        let mut wait = Vec::with_capacity(list.len());
        for (index, form) in list.iter().enumerate() {
            for child in form.node.children() {
                users[usize::from(*child)].push((class, index));
            }
            wait.push((form.node.len(), (form.own, 0)));
            if given[class].is_none() && form.node.is_leaf() {
                heap.push(Reverse(((form.own, 0), class, index)));
            }
        }
        waits.push(wait);
        if let Some(index) = given[class] {
            heap.push(Reverse(((Cost::ZERO, 0), class, index)));
        }
    }
    let mut chosen: Vec<Option<usize>> = vec![None; forms.len()];
    while let Some(Reverse((rank, class, index))) = heap.pop() {
        if chosen[class].is_some() {
            continue;
        }
        chosen[class] = Some(index);
        for &(user, form) in &users[class] {
            let (missing, known) = &mut waits[user][form];
            *missing -= 1;
            *known = (known.0.plus(rank.0), known.1.max(rank.1.saturating_add(1)));
            if *missing == 0 && given[user].is_none() {
                heap.push(Reverse((*known, user, form)));
            }
        }
    }
    chosen
}

/// A choice of forms, with how often each class is used by what the roots need. Choices form no cycle.
struct Choice<'a> {
    forms: &'a [Vec<Form>],
    chosen: Vec<Option<usize>>,
    uses: Vec<u32>,
    total: Cost,
    /// Classes visited so far.
    visits: usize,
    /// For each class: the last walk that met it.
    marks: Vec<u32>,
    walk: u32,
}

impl<'a> Choice<'a> {
    /// `None` if the roots need a class without a form.
    fn new(forms: &'a [Vec<Form>], chosen: Vec<Option<usize>>, roots: &[usize]) -> Option<Choice<'a>> {
        let (uses, marks) = (vec![0; forms.len()], vec![0; forms.len()]);
        let mut choice = Choice { forms, chosen, uses, total: Cost::ZERO, visits: 0, marks, walk: 0 };
        roots.iter().all(|root| choice.take(&[*root])).then_some(choice)
    }

    fn children(&self, class: usize) -> Option<&'a Form> {
        self.chosen[class].and_then(|choice| self.forms[class].get(choice))
    }

    /// Adds a use of each of `classes`, and of what they need if they had none. False if one has no form.
    fn take(&mut self, classes: &[usize]) -> bool {
        let mut complete = true;
        let mut stack = classes.to_vec();
        while let Some(class) = stack.pop() {
            self.visits += 1;
            self.uses[class] += 1;
            if self.uses[class] == 1 {
                match self.children(class) {
                    Some(form) => {
                        self.total = self.total.plus(form.own);
                        stack.extend(form.node.children().iter().map(|child| usize::from(*child)));
                    }
                    None => complete = false,
                }
            }
        }
        complete
    }

    /// Takes back a use of each of `classes`, and of what they needed if it was the last.
    fn release(&mut self, classes: &[usize]) {
        let mut stack = classes.to_vec();
        while let Some(class) = stack.pop() {
            self.visits += 1;
            self.uses[class] -= 1;
            if self.uses[class] == 0
                && let Some(form) = self.children(class)
            {
                self.total = self.total.minus(form.own);
                stack.extend(form.node.children().iter().map(|child| usize::from(*child)));
            }
        }
    }

    /// Gives a class that is in use another form. False if what that needs has no form.
    fn swap(&mut self, class: usize, other: usize) -> bool {
        let form = |choice: Option<usize>| choice.and_then(|choice| self.forms[class].get(choice));
        let (old, new) = (form(self.chosen[class]), form(Some(other)));
        let children = |form: Option<&Form>| -> Vec<usize> {
            form.map_or_else(Vec::new, |form| form.node.children().iter().map(|child| usize::from(*child)).collect())
        };
        let own = |form: Option<&Form>| form.map_or(Cost::ZERO, |form| form.own);
        self.chosen[class] = Some(other);
        self.total = self.total.plus(own(new)).minus(own(old));
        let complete = self.take(&children(new));
        self.release(&children(old));
        complete
    }

    /// Whether a class needs itself.
    fn is_cyclic(&mut self, class: usize) -> bool {
        self.walk += 1;
        let mut stack = vec![class];
        while let Some(at) = stack.pop() {
            let Some(form) = self.children(at) else { continue };
            for child in form.node.children() {
                let child = usize::from(*child);
                if child == class {
                    return true;
                }
                if std::mem::replace(&mut self.marks[child], self.walk) != self.walk {
                    self.visits += 1;
                    stack.push(child);
                }
            }
        }
        false
    }

    /// Swaps forms, one at a time, as long as all that `roots` need gets cheaper.
    fn improve(&mut self, roots: &[usize]) {
        for _ in 0..ROUNDS {
            let before = self.total;
            for class in self.reachable(roots) {
                for other in 0..self.forms[class].len() {
                    if self.visits > MOST_VISITS {
                        return;
                    }
                    let (kept, total) = (self.chosen[class], self.total);
                    let Some(kept) = kept.filter(|kept| *kept != other && self.uses[class] > 0) else { continue };
                    let better = self.swap(class, other) && self.total < total && !self.is_cyclic(class);
                    if !better {
                        self.swap(class, kept);
                    }
                }
            }
            if self.total == before {
                break;
            }
        }
    }

    /// Classes that `roots` need, operands before users.
    fn reachable(&mut self, roots: &[usize]) -> Vec<usize> {
        self.walk += 1;
        let mut order = Vec::new();
        // The classes on the way from a root, each with the number of children already entered.
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in roots {
            path.push((*root, 0));
            while let Some((class, entered)) = path.pop() {
                if entered == 0 && std::mem::replace(&mut self.marks[class], self.walk) == self.walk {
                    continue;
                }
                match self.children(class).and_then(|form| form.node.children().get(entered)) {
                    Some(child) => {
                        path.push((class, entered + 1));
                        path.push((usize::from(*child), 0));
                    }
                    None => order.push(class),
                }
            }
        }
        order
    }
}
