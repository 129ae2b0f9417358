//! Where classes are computed, and what that costs: the forms that extraction chooses from.
//!
//! A class is computed once for each index of its axes, or, where it is rows of keys or values that a product reads, for each key tile while
//! this is loaded. What a product reads is rows that are [`Place::Loaded`], and an enforcer takes them there from either place: it stages rows
//! that are computed in a tile, or keeps them in a table. So the choice of a place is a choice of a form, made together with all others.

use egg::{Id, Language};
use rhumb_ir::{AxisSet, Op};

use super::cost::{Cost, kept, node_cost, staged};
use super::extents::Extents;
use super::facts::{EGraph, Facts};
use super::language::Node;
use crate::op_cost::TASK_QUERIES;

/// Where a class is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Once for each index of its axes: for each query and key where it varies over both, in a table where it is rows.
    Whole,
    /// Rows, as a product reads them for each key tile.
    Loaded,
    /// Rows, in registers, for each key tile anew.
    InTile,
}

/// The number of places.
const PLACES: usize = 3;

/// A class at a place.
pub(crate) type Item = usize;

/// The item of a class, by its canonical id.
pub(crate) fn item(class: Id, place: Place) -> Item {
    PLACES * usize::from(class) + place as usize
}

/// The place of an item.
pub(crate) fn place(item: Item) -> Place {
    match item % PLACES {
        0 => Place::Whole,
        1 => Place::Loaded,
        _ => Place::InTile,
    }
}

/// The item of the same class in another place.
pub(crate) fn beside(of: Item, place: Place) -> Item {
    of / PLACES * PLACES + place as usize
}

/// A way to make an item, with what it costs once its children are there.
pub(crate) struct Form {
    pub(crate) step: Step,
    pub(crate) own: Cost,
    pub(crate) children: Vec<Item>,
}

/// What makes an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An op.
    Op(Node),
    /// Nothing: rows of an input that products read as they lie.
    Lies,
    /// Rows that are computed in a tile are stored for what reads them.
    Stage,
    /// Rows that are computed once are kept in a table.
    Keep,
}

impl Form {
    /// The op, if it is one.
    pub(crate) fn node(&self) -> Option<&Node> {
        match &self.step {
            Step::Op(node) => Some(node),
            _ => None,
        }
    }
}

/// The forms of every item, each list in order of rank; the order does not depend on the lengths of axes.
pub(crate) fn forms(egraph: &EGraph, extents: &Extents) -> Vec<Vec<Form>> {
    let classes = egraph.classes().map(|class| usize::from(class.id) + 1).max().unwrap_or(0);
    let mut rows = vec![false; classes];
    for class in egraph.classes() {
        rows[usize::from(class.id)] = is_rows(egraph, class.id);
    }
    let narrow = widened(egraph, &rows);
    let mut forms: Vec<Vec<Form>> = Vec::new();
    forms.resize_with(PLACES * classes, Vec::new);
    for class in egraph.classes() {
        let mut nodes: Vec<Node> =
            class.nodes.iter().map(|node| node.clone().map_children(|id| egraph.find(id))).collect();
        nodes.sort_by(|a, b| (a.rank(), a).cmp(&(b.rank(), b)));
        nodes.dedup();
        let facts = Rows { egraph, extents, rows: &rows, class: class.id };
        if facts.is_rows(class.id) {
            forms[item(class.id, Place::InTile)] = nodes.iter().filter_map(|node| facts.in_tile(node)).collect();
            forms[item(class.id, Place::Loaded)] = facts.loaded(&nodes, narrow[usize::from(class.id)]);
        }
        forms[item(class.id, Place::Whole)] = nodes.into_iter().map(|node| facts.whole(node)).collect();
    }
    forms
}

/// A class, which classes are rows, and how long axes are.
struct Rows<'e> {
    egraph: &'e EGraph,
    extents: &'e Extents,
    rows: &'e [bool],
    class: Id,
}

impl Rows<'_> {
    fn is_rows(&self, class: Id) -> bool {
        self.rows[usize::from(class)]
    }

    fn axes(&self, class: Id) -> AxisSet {
        self.egraph[class].data.ty().map_or(AxisSet::EMPTY, |ty| ty.axes)
    }

    /// As it is computed once.
    fn whole(&self, node: Node) -> Form {
        let own = node_cost(self.egraph, self.extents, self.class, &node);
        let queries = self.egraph.analysis.queries;
        let is_read = |child: Id, other: Id| {
            let reads_rows = self.is_rows(child) && !self.is_rows(other);
            reads_rows && queries.iter().any(|axis| self.axes(self.class).contains(axis))
        };
        let place = |read: bool| if read { Place::Loaded } else { Place::Whole };
        let children = match node {
            Node::Dot([a, b, axis]) => {
                vec![item(a, place(is_read(a, b))), item(b, place(is_read(b, a))), item(axis, Place::Whole)]
            }
            ref node => node.children().iter().map(|child| item(*child, Place::Whole)).collect(),
        };
        Form { step: Step::Op(node), own, children }
    }

    /// As it is computed for each key tile; none of ops that have no row there. To compute a row again takes little beside storing it again, which
    /// is what staging counts: forms cost what they do where rows are computed once.
    fn in_tile(&self, node: &Node) -> Option<Form> {
        let once = |child: &Id| item(*child, Place::Whole);
        let again = |child: &Id| item(*child, if self.is_rows(*child) { Place::InTile } else { Place::Whole });
        let children = match node {
            Node::Leaf(_) | Node::Const(_) => Vec::new(),
            Node::Iota(_)
            | Node::Unary(..)
            | Node::Binary(..)
            | Node::Compare(..)
            | Node::Select(_)
            | Node::Cast(..) => node.children().iter().map(again).collect(),
            // What is looked up is in memory, and so are cosines and sines.
            Node::Gather(children) => children.iter().map(once).collect(),
            Node::Rotate([x, rest @ ..]) => [again(x)].into_iter().chain(rest.iter().map(once)).collect(),
            _ => return None,
        };
        let own = node_cost(self.egraph, self.extents, self.class, node);
        Some(Form { step: Step::Op(node.clone()), own, children })
    }

    /// As a product reads it.
    fn loaded(&self, nodes: &[Node], narrow: bool) -> Vec<Form> {
        let space = self.extents.space(self.axes(self.class));
        let (in_tile, whole) = (item(self.class, Place::InTile), item(self.class, Place::Whole));
        let is_leaf = nodes.iter().any(|node| matches!(node, Node::Leaf(_)));
        if is_leaf && !narrow {
            return vec![Form { step: Step::Lies, own: Cost::ZERO, children: vec![in_tile] }];
        }
        let stage = Form { step: Step::Stage, own: staged(space).times(self.loads()), children: vec![in_tile] };
        let keep = Form { step: Step::Keep, own: kept(space, narrow), children: vec![whole] };
        vec![stage, keep]
    }

    /// How often a row is loaded: by the queries of each task that reads it.
    fn loads(&self) -> u64 {
        let Facts { pairs, graph, .. } = &self.egraph.analysis;
        let pairs = *pairs;
        let shares = |axis| pairs.contains(axis) || graph.axis(axis).groups.is_some_and(|finer| pairs.contains(finer));
        let own: AxisSet = self.axes(self.class).iter().filter(|axis| shares(*axis)).collect();
        let queries = self.extents.space(pairs) / self.extents.space(own).max(1);
        queries.div_ceil(TASK_QUERIES as u64).max(1)
    }
}

/// Whether a class is rows of keys or values: it varies over keys and not over queries.
fn is_rows(egraph: &EGraph, class: Id) -> bool {
    let facts = &egraph.analysis;
    let axes = egraph[class].data.ty().map_or(AxisSet::EMPTY, |ty| ty.axes);
    facts.varies_over_keys(axes) && !facts.queries.iter().any(|axis| facts.graph.varies(axes, axis))
}

/// The classes of rows that repeat an input of fewer bits element by element, by their ids: a table of them takes several times its memory.
fn widened(egraph: &EGraph, rows: &[bool]) -> Vec<bool> {
    let (mut found, mut grows) = (vec![false; rows.len()], true);
    if egraph.analysis.graph.inputs().all(|(_, input)| !is_narrow(egraph.analysis.graph.op(input))) {
        return found;
    }
    let axes = |class: Id| egraph[class].data.ty().map(|ty| ty.axes);
    while std::mem::take(&mut grows) {
        for class in egraph.classes().filter(|class| rows[usize::from(class.id)]) {
            let index = usize::from(class.id);
            let repeats = |child: &Id| {
                let child = egraph.find(*child);
                found[usize::from(child)] && axes(child) == axes(class.id)
            };
            let is_one = |node: &Node| match node {
                Node::Leaf(leaf) => {
                    egraph.analysis.graph.nodes().get(*leaf as usize).is_some_and(|node| is_narrow(&node.op))
                }
                Node::Unary(..) | Node::Binary(..) | Node::Cast(..) => node.children().iter().any(repeats),
                _ => false,
            };
            if !found[index] && class.nodes.iter().any(is_one) {
                (found[index], grows) = (true, true);
            }
        }
    }
    found
}

/// Whether an op is an input of numbers in fewer than 32 bits.
fn is_narrow(op: &Op) -> bool {
    matches!(op, Op::Input { elem, .. } if elem.is_stored_only())
}
