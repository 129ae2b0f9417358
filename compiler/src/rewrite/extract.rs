//! Extraction: one form for every class at every place that it is wanted at, the cheapest as a whole.
//!
//! What is chosen for is an [item](super::place::Item), a class at a place; forms and what they cost there are those of [`super::place`]. So where
//! rows of keys are computed is chosen together with the form that they are computed by.
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

use super::cost::Cost;
use super::extents::Extents;
use super::facts::EGraph;
use super::language::Node;
use super::place::{Form, Item, Place, beside, forms, item, place};

/// A form for every item that has one.
pub(crate) struct Extraction {
    forms: Vec<Vec<Form>>,
    chosen: Vec<Option<usize>>,
    /// Cost of all the roots together, shared work counted once.
    pub(crate) total: Cost,
}

/// Rounds of the second step; each can only make the whole cheaper.
const ROUNDS: usize = 8;

/// Items that the second step may visit from one start, all rounds together.
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

    /// Chooses forms where axes have these lengths.
    pub(crate) fn with(egraph: &EGraph, roots: &[Id], extents: &Extents) -> Option<Extraction> {
        let forms = forms(egraph, extents);
        let start = vec![None; forms.len()];
        Extraction::best(egraph, forms, roots, std::iter::once(start))
    }

    /// Chooses forms where axes have other lengths than those that this choice was made for. It starts from the cheapest forms alone, and
    /// from the ops of this choice, each in the place that is the cheapest there. The cost of these comes with it.
    pub(crate) fn again(&self, egraph: &EGraph, roots: &[Id], extents: &Extents) -> Option<(Extraction, Cost)> {
        let (forms, needed) = (forms(egraph, extents), indices(egraph, roots));
        let mut same = Choice::new(&forms, self.chosen.clone(), &needed)?;
        same.repeat_ops();
        same.improve(&needed, |item| place(item) == Place::Loaded);
        let Choice { chosen, total, .. } = same;
        // Of equals this choice is taken: it comes first.
        let starts = [chosen, vec![None; forms.len()]];
        Some((Extraction::best(egraph, forms, roots, starts.into_iter())?, total))
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
            choice.improve(&roots, |_| true);
            Some((choice.total, choice.chosen))
        });
        let (total, chosen) = ends.min_by_key(|(total, _)| *total)?;
        Some(Extraction { forms, chosen, total })
    }

    /// The form chosen for an item.
    pub(crate) fn form(&self, item: Item) -> Option<&Form> {
        let choice = (*self.chosen.get(item)?)?;
        self.forms[item].get(choice)
    }

    /// All items that the roots need, operands before users.
    pub(crate) fn used(&self, egraph: &EGraph, roots: &[Id]) -> Vec<Item> {
        let roots = indices(egraph, roots);
        let choice = Choice::new(&self.forms, self.chosen.clone(), &roots);
        choice.map_or_else(Vec::new, |mut choice| choice.reachable(&roots))
    }

    /// What each form of an item costs that the roots need, with all that it alone needs.
    pub(crate) fn prices(&self, egraph: &EGraph, roots: &[Id], item: Item) -> Vec<(&Form, Option<Cost>)> {
        let choice = Choice::new(&self.forms, self.chosen.clone(), &indices(egraph, roots));
        let Some(mut choice) = choice else { return Vec::new() };
        let kept = choice.chosen[item];
        let without = |choice: &mut Choice<'_>| {
            let children = choice.form(item).map_or_else(Vec::new, |form| form.children.clone());
            let own = choice.form(item).map_or(Cost::ZERO, |form| form.own);
            choice.release(&children);
            let rest = choice.total.minus(own);
            choice.take(&children);
            rest
        };
        let price = |number: usize| {
            let complete = choice.swap(item, number) && !choice.is_cyclic(item);
            let price = complete.then(|| choice.total.minus(without(&mut choice)));
            if let Some(kept) = kept {
                choice.swap(item, kept);
            }
            price
        };
        let prices: Vec<Option<Cost>> = (0..self.forms[item].len()).map(price).collect();
        self.forms[item].iter().zip(prices).collect()
    }
}

/// The items of some roots.
fn indices(egraph: &EGraph, ids: &[Id]) -> Vec<Item> {
    ids.iter().map(|id| item(egraph.find(*id), Place::Whole)).collect()
}

/// The form that the user wrote of each item that has one: of several that came to be equal the first, so that choices form no cycle.
fn as_written(egraph: &EGraph, forms: &[Vec<Form>], written: &[(Id, Node)]) -> Vec<Option<usize>> {
    let mut given: Vec<Option<usize>> = vec![None; forms.len()];
    for (class, node) in written {
        let item = item(egraph.find(*class), Place::Whole);
        let node = node.clone().map_children(|id| egraph.find(id));
        if given[item].is_none() {
            given[item] = forms[item].iter().position(|form| form.node() == Some(&node));
        }
    }
    given
}

/// The form of each item that is cheapest as a tree, where the items of `given` have a form already and cost nothing.
///
/// The rank is the cost, then the depth: both grow from operand to user, the depth even where costs saturate. So items are settled by
/// rising rank, each once, and choices form no cycle.
fn cheapest(forms: &[Vec<Form>], given: &[Option<usize>]) -> Vec<Option<usize>> {
    type Rank = (Cost, u32);
    let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); forms.len()];
    // What is known of a form: children that are not settled, and the rank from those that are.
    let mut waits: Vec<Vec<(usize, Rank)>> = Vec::with_capacity(forms.len());
    let mut heap: BinaryHeap<Reverse<(Rank, usize, usize)>> = BinaryHeap::new();
    for (item, list) in forms.iter().enumerate() {
        let mut wait = Vec::with_capacity(list.len());
        for (index, form) in list.iter().enumerate() {
            for child in &form.children {
                users[*child].push((item, index));
            }
            wait.push((form.children.len(), (form.own, 0)));
            if given[item].is_none() && form.children.is_empty() {
                heap.push(Reverse(((form.own, 0), item, index)));
            }
        }
        waits.push(wait);
        if let Some(index) = given[item] {
            heap.push(Reverse(((Cost::ZERO, 0), item, index)));
        }
    }
    let mut chosen: Vec<Option<usize>> = vec![None; forms.len()];
    while let Some(Reverse((rank, item, index))) = heap.pop() {
        if chosen[item].is_some() {
            continue;
        }
        chosen[item] = Some(index);
        for &(user, form) in &users[item] {
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

/// A choice of forms, with how often each item is used by what the roots need. Choices form no cycle.
struct Choice<'a> {
    forms: &'a [Vec<Form>],
    chosen: Vec<Option<usize>>,
    uses: Vec<u32>,
    total: Cost,
    /// Items visited so far.
    visits: usize,
    /// For each item: the last walk that met it.
    marks: Vec<u32>,
    walk: u32,
}

impl<'a> Choice<'a> {
    /// `None` if the roots need an item without a form.
    fn new(forms: &'a [Vec<Form>], chosen: Vec<Option<usize>>, roots: &[usize]) -> Option<Choice<'a>> {
        let (uses, marks) = (vec![0; forms.len()], vec![0; forms.len()]);
        let mut choice = Choice { forms, chosen, uses, total: Cost::ZERO, visits: 0, marks, walk: 0 };
        roots.iter().all(|root| choice.take(&[*root])).then_some(choice)
    }

    fn form(&self, item: Item) -> Option<&'a Form> {
        self.chosen[item].and_then(|choice| self.forms[item].get(choice))
    }

    /// Adds a use of each of `items`, and of what they need if they had none. False if one has no form.
    fn take(&mut self, items: &[Item]) -> bool {
        let mut complete = true;
        let mut stack = items.to_vec();
        while let Some(item) = stack.pop() {
            self.visits += 1;
            self.uses[item] += 1;
            if self.uses[item] == 1 {
                match self.form(item) {
                    Some(form) => {
                        self.total = self.total.plus(form.own);
                        stack.extend(&form.children);
                    }
                    None => complete = false,
                }
            }
        }
        complete
    }

    /// Takes back a use of each of `items`, and of what they needed if it was the last.
    fn release(&mut self, items: &[Item]) {
        let mut stack = items.to_vec();
        while let Some(item) = stack.pop() {
            self.visits += 1;
            self.uses[item] -= 1;
            if self.uses[item] == 0
                && let Some(form) = self.form(item)
            {
                self.total = self.total.minus(form.own);
                stack.extend(&form.children);
            }
        }
    }

    /// Gives an item that is in use another form. False if what that needs has no form.
    fn swap(&mut self, item: Item, other: usize) -> bool {
        let form = |choice: Option<usize>| choice.and_then(|choice| self.forms[item].get(choice));
        let (old, new) = (form(self.chosen[item]), form(Some(other)));
        let children = |form: Option<&Form>| -> Vec<usize> { form.map_or_else(Vec::new, |form| form.children.clone()) };
        let own = |form: Option<&Form>| form.map_or(Cost::ZERO, |form| form.own);
        self.chosen[item] = Some(other);
        self.total = self.total.plus(own(new)).minus(own(old));
        let complete = self.take(&children(new));
        self.release(&children(old));
        complete
    }

    /// Whether an item needs itself.
    fn is_cyclic(&mut self, item: Item) -> bool {
        self.walk += 1;
        let mut stack = vec![item];
        while let Some(at) = stack.pop() {
            let Some(form) = self.form(at) else { continue };
            for &child in &form.children {
                if child == item {
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

    /// Gives classes that are computed in one place the same op in the other.
    fn repeat_ops(&mut self) {
        for whole in (0..self.forms.len()).filter(|item| place(*item) == Place::Whole) {
            let tile = beside(whole, Place::InTile);
            let (from, to) = match (self.uses[whole] > 0, self.uses[tile] > 0) {
                (true, false) => (whole, tile),
                (false, true) => (tile, whole),
                _ => continue,
            };
            let op = self.form(from).and_then(Form::node);
            let same = self.forms[to].iter().position(|form| form.node() == op);
            self.chosen[to] = same.or(self.chosen[to]);
        }
    }

    /// Swaps forms of some items, one at a time, as long as all that `roots` need gets cheaper.
    fn improve(&mut self, roots: &[usize], of: impl Fn(Item) -> bool) {
        for _ in 0..ROUNDS {
            let before = self.total;
            for item in self.reachable(roots).into_iter().filter(|item| of(*item)) {
                for other in 0..self.forms[item].len() {
                    if self.visits > MOST_VISITS {
                        return;
                    }
                    let (kept, total) = (self.chosen[item], self.total);
                    let Some(kept) = kept.filter(|kept| *kept != other && self.uses[item] > 0) else { continue };
                    let better = self.swap(item, other) && self.total < total && !self.is_cyclic(item);
                    if !better {
                        self.swap(item, kept);
                    }
                }
            }
            if self.total == before {
                break;
            }
        }
    }

    /// Items that `roots` need, operands before users.
    fn reachable(&mut self, roots: &[usize]) -> Vec<usize> {
        self.walk += 1;
        let mut order = Vec::new();
        // The items on the way from a root, each with the number of children already entered.
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in roots {
            path.push((*root, 0));
            while let Some((item, entered)) = path.pop() {
                if entered == 0 && std::mem::replace(&mut self.marks[item], self.walk) == self.walk {
                    continue;
                }
                match self.form(item).and_then(|form| form.children.get(entered)) {
                    Some(child) => {
                        path.push((item, entered + 1));
                        path.push((*child, 0));
                    }
                    None => order.push(item),
                }
            }
        }
        order
    }
}
