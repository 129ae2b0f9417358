//! The graph: arenas of axes, values, sites and outputs.

use crate::op::{Op, Site, SiteId, Value};
use crate::types::{Axis, AxisInfo, AxisSet, Elem, Extent, Type};

/// A value's definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What computes it.
    pub op: Op,
    /// Its type, as [`infer`](crate::infer) gives it.
    pub ty: Type,
    /// A label for readers, kept by the text form.
    pub label: Option<String>,
}

/// A result of the graph, written to a tensor at each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The binding's name, unique among outputs and inputs.
    pub name: String,
    /// What is written.
    pub value: Value,
    /// The order of the tensor's dimensions: exactly the axes of `value`.
    pub dims: Vec<Axis>,
    /// The element type of the tensor: that of `value`, or one that it is rounded to (see [`Elem::widened`]).
    pub elem: Elem,
}

/// A graph of tensor operations over named axes.
///
/// Nodes are append-only and refer to earlier nodes alone. A graph made by [`GraphBuilder`](crate::GraphBuilder), by the parser or by a
/// pass is checked by [`Graph::verify`](crate::Graph::verify) before anything runs it.
///
/// Two graphs are equal if they print the same and their scheme ops stand for the same instances: see [`Instance`](crate::Instance).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    pub(crate) axes: Vec<AxisInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) sites: Vec<Site>,
    pub(crate) outputs: Vec<Output>,
}

impl Graph {
    /// The axes, in order of declaration.
    pub fn axes(&self) -> &[AxisInfo] {
        &self.axes
    }

    /// The nodes, in order; each refers to earlier ones alone.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The sites that scheme ops refer to.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// All values, in order.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.nodes.len() as u32).map(Value)
    }

    /// What is known of an axis of this graph.
    pub fn axis(&self, axis: Axis) -> &AxisInfo {
        &self.axes[axis.index()]
    }

    /// The axis of a name.
    pub fn axis_named(&self, name: &str) -> Option<Axis> {
        self.axes.iter().position(|info| info.name == name).and_then(Axis::from_index)
    }

    /// The definition of a value of this graph.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.index()]
    }

    /// The op that computes a value of this graph.
    pub fn op(&self, value: Value) -> &Op {
        &self.node(value).op
    }

    /// The type of a value of this graph.
    pub fn ty(&self, value: Value) -> Type {
        self.node(value).ty
    }

    /// A site of this graph.
    pub fn site(&self, site: SiteId) -> &Site {
        &self.sites[site.index()]
    }

    /// The inputs: name and value, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Value)> {
        self.values().filter_map(|value| match self.op(value) {
            Op::Input { name, .. } => Some((name.as_str(), value)),
            _ => None,
        })
    }

    /// The static length of an axis, if it has one.
    pub fn static_extent(&self, axis: Axis) -> Option<u32> {
        match self.axis(axis).extent {
            Extent::Static(n) => Some(n),
            Extent::Dynamic => None,
        }
    }

    /// The axis that `axis` groups, and how many of its indices make a group; none if it groups none.
    pub fn grouped(&self, axis: Axis) -> Option<(Axis, u32)> {
        let finer = self.axis(axis).groups?;
        let ratio = self.static_extent(finer)?.checked_div(self.static_extent(axis)?)?;
        Some((finer, ratio.max(1)))
    }

    /// The axes of a value computed from values over `a` and over `b`: those in either set, without an axis that groups another of
    /// them. (A key of group `g` combined with the query of head `h` varies over `h` alone: the head tells its group.)
    pub fn join(&self, a: AxisSet, b: AxisSet) -> AxisSet {
        let both = a.union(b);
        both.iter().filter(|axis| !self.axis(*axis).groups.is_some_and(|finer| both.contains(finer))).collect()
    }

    /// Whether a value over `axes` changes along `axis`, directly or through an axis that groups it.
    pub fn varies(&self, axes: AxisSet, axis: Axis) -> bool {
        axes.iter().any(|a| a == axis || self.axis(a).groups == Some(axis))
    }
}
