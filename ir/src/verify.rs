//! The verifier.
//!
//! What it checks, by group; all mistakes of a group are collected, and those of the first group end the run, since nothing after it can
//! follow a handle that leads nowhere.
//!
//! - Handles: every axis, value and site named by an axis, node, site or output exists; operands stand before the op that takes them;
//!   stored types have axes of the graph.
//! - Axes: names are identifiers and unique; a static length is at least 1 and at most `i32::MAX`, since indices are `i32`; an axis that
//!   groups another has, as that one, a static length, and the finer is a multiple of it; groups do not nest.
//! - Nodes: the typing rules hold (see [`infer`](crate::infer): element types, axes an op works along, no axis beside one that groups
//!   it, rotary blocks, lengths and elements of tables, values of sites made before the ops that refer to them); the stored type is the
//!   inferred one; the static part of a value's size in bytes fits in memory terms.
//! - Sites: the axes differ and none groups another; indices and the length are `i32`, positions are numbers; what belongs to the queries
//!   is free of the key axis and the other way round, and nothing varies over the contracted axis.
//! - Names: inputs and outputs have names, unique among both.
//! - Outputs: there is one; its dimensions are exactly the axes of its value, and its element type is that of its value, or one of 16
//!   bits for `f32`.
//!
//! What it does not check: whether schemes exist and take their attributes (lowering does), whether dynamic lengths agree (each call
//! does), whether a value is used, whether the graph is attention-shaped (planning does).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use crate::fault::Fault;
use crate::graph::{Graph, Node, Output};
use crate::infer::{OpError, axes_text, infer_at};
use crate::op::{Op, Site, SiteId, Value};
use crate::place::Place;
use crate::text::print::{Printer, is_identifier};
use crate::text::report::Report;
use crate::types::{Axis, AxisInfo, AxisSet, Elem, Extent, Type};

/// A graph that passed [`Graph::verify`]: what every later stage takes, so that the check can't be skipped.
///
/// A later stage may refuse a verified graph with an error; it never panics on one.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified(Graph);

impl Verified {
    /// The graph, to be changed and verified again.
    pub fn into_inner(self) -> Graph {
        self.0
    }

    /// A graph in which [`check`] found no problem.
    pub(crate) fn checked(graph: Graph) -> Verified {
        Verified(graph)
    }

    /// A graph made from a verified one by a change that keeps it so.
    pub(crate) fn still(graph: Graph) -> Verified {
        debug_assert!(check(&graph, &[]).is_empty(), "the change broke the graph");
        Verified(graph)
    }
}

impl Deref for Verified {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.0
    }
}

impl fmt::Display for Verified {
    /// The text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One mistake in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What wrote it, where that is known: see [`GraphBuilder::written_by`](crate::GraphBuilder::written_by).
    pub by: Option<String>,
    /// The line of the text form that it is in, long data shortened.
    pub line: String,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    /// The message, the line with an arrow, and a hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = (0, self.line.chars().count());
        let (message, hint) = (&self.fault.finding(), Some(self.fault.hint()));
        let place = match &self.by {
            Some(by) => format!("{}, of {by}", self.place),
            None => self.place.to_string(),
        };
        Report { message, place: &place, number: None, line: &self.line, span, hint }.fmt(f)
    }
}

/// All mistakes of a graph.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyError {
    /// The graph's name.
    pub graph: String,
    /// The mistakes: those of axes first, then of ops, sites and outputs in their order.
    pub problems: Vec<Problem>,
}

/// Problems that the printed error shows; all are in [`VerifyError::problems`].
const SHOWN: usize = 20;

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "graph `{}` has {count} problem{}", self.graph, if count == 1 { "" } else { "s" })?;
        for problem in self.problems.iter().take(SHOWN) {
            write!(f, "\n\n{problem}")?;
        }
        if count > SHOWN {
            write!(f, "\n\nand {} more", count - SHOWN)?;
        }
        Ok(())
    }
}

crate::debug_as_display!(VerifyError);

impl std::error::Error for VerifyError {}

impl Graph {
    /// Checks the graph.
    ///
    /// # Errors
    /// [`VerifyError`] lists every mistake.
    pub fn verify(self) -> Result<Verified, VerifyError> {
        let problems = check(&self, &[]);
        if problems.is_empty() { Ok(Verified(self)) } else { Err(VerifyError { graph: self.name, problems }) }
    }
}

/// All problems of a graph. Those of poisoned values are left out: they are known already.
pub(crate) fn check(graph: &Graph, poisoned: &[bool]) -> Vec<Problem> {
    let mut check = Check { graph, printer: Printer::new(graph), poisoned, problems: Vec::new() };
    check.handles();
    if check.problems.is_empty() {
        check.axes();
        check.nodes();
        check.sites();
        check.names();
        check.outputs();
    }
    check.problems.sort_by_key(|problem| problem.place);
    check.problems
}

struct Check<'g> {
    graph: &'g Graph,
    printer: Printer<'g>,
    poisoned: &'g [bool],
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn report(&mut self, place: Place, fault: Fault) {
        let line = match place {
            Place::Graph => self.printer.header(),
            Place::Axis(index) => Axis::from_index(index).map_or_else(String::new, |axis| self.printer.axis_line(axis)),
            Place::Op(index) => {
                let value = Value(index as u32);
                let op = self.graph.nodes.get(index).map(|node| self.printer.brief(&node.op));
                format!("{} = {}", self.printer.value(value), op.unwrap_or_default())
            }
            Place::Site(index) => self.printer.site_line(SiteId(index as u32)),
            Place::Output(index) => self.printer.output_line(index),
        };
        self.problems.push(Problem { place, by: None, line, fault });
    }

    fn is_poisoned(&self, value: Value) -> bool {
        self.poisoned.get(value.index()) == Some(&true)
    }

    fn handles(&mut self) {
        let Graph { name: _, axes, nodes, sites, outputs } = self.graph;
        let bad_axis =
            |axis: Axis| (axis.index() >= axes.len()).then(|| OpError::BadHandle { what: "axis", index: axis.index() });
        let bad_value = |value: Value, limit: usize| {
            (value.index() >= limit).then(|| OpError::BadHandle { what: "value", index: value.index() })
        };
        let mut found = Vec::new();
        for (index, AxisInfo { name: _, extent: _, groups }) in axes.iter().enumerate() {
            found.extend(groups.and_then(bad_axis).map(|error| (Place::Axis(index), error)));
        }
        for (index, Node { op, ty: Type { elem: _, axes: stored }, label: _ }) in nodes.iter().enumerate() {
            let bad_site = match op {
                Op::Scheme { site, .. } if site.index() >= sites.len() => {
                    Some(OpError::BadHandle { what: "site", index: site.index() })
                }
                _ => None,
            };
            let error = (op.operands().into_iter().find_map(|operand| bad_value(operand, index)))
                .or_else(|| op.axes().into_iter().chain(stored.iter()).find_map(bad_axis))
                .or(bad_site);
            found.extend(error.map(|error| (Place::Op(index), error)));
        }
        for (index, site) in sites.iter().enumerate() {
            let error = (site.axes().find_map(bad_axis))
                .or_else(|| site.values().into_iter().find_map(|(_, value)| bad_value(value, nodes.len())));
            found.extend(error.map(|error| (Place::Site(index), error)));
        }
        for (index, Output { name: _, value, dims, elem: _ }) in outputs.iter().enumerate() {
            let error = bad_value(*value, nodes.len()).or_else(|| dims.iter().copied().find_map(bad_axis));
            found.extend(error.map(|error| (Place::Output(index), error)));
        }
        for (place, error) in found {
            self.report(place, Fault::Op(error));
        }
    }

    fn axes(&mut self) {
        let axes = &self.graph.axes;
        let mut names = BTreeMap::new();
        for (index, info) in axes.iter().enumerate() {
            let AxisInfo { name, extent, groups } = info;
            let place = Place::Axis(index);
            if !is_identifier(name) {
                self.report(place, Fault::AxisName { name: name.clone() });
            }
            if names.insert(name, index).is_some() {
                self.report(place, Fault::DuplicateAxis { name: name.clone() });
            }
            if let Extent::Static(length) = *extent
                && !(1..=i32::MAX as u32).contains(&length)
            {
                self.report(place, Fault::AxisLength { name: name.clone(), length: length.into() });
            }
            let Some(finer) = groups.map(|finer| &axes[finer.index()]) else { continue };
            let (axis, finer_name) = (name.clone(), finer.name.clone());
            match (*extent, finer.extent) {
                _ if std::ptr::eq(finer, info) || finer.groups.is_some() => {
                    self.report(place, Fault::NestedGroups { axis, finer: finer_name });
                }
                (Extent::Static(groups), Extent::Static(count)) => {
                    if groups == 0 || count % groups != 0 {
                        self.report(place, Fault::UnevenGroups { axis, groups, finer: finer_name, count });
                    }
                }
                (Extent::Dynamic, _) | (_, Extent::Dynamic) => {
                    self.report(place, Fault::DynamicGroups { axis, finer: finer_name });
                }
            }
        }
    }

    fn nodes(&mut self) {
        for (index, Node { op, ty, label: _ }) in self.graph.nodes.iter().enumerate() {
            if self.is_poisoned(Value(index as u32)) {
                continue;
            }
            let place = Place::Op(index);
            match infer_at(self.graph, op, index) {
                Err(error) => self.report(place, Fault::Op(error)),
                Ok(inferred) if inferred != *ty => {
                    let (stored, inferred) = (self.printer.ty(*ty), self.printer.ty(inferred));
                    self.report(place, Fault::StaleType { stored, inferred });
                }
                Ok(_) => {
                    if !self.fits(*ty) {
                        self.report(place, Fault::TooLarge { ty: self.printer.ty(*ty) });
                    }
                }
            }
        }
    }

    /// Whether a value's size in bytes, dynamic axes counted as 1, can be that of an object in memory.
    fn fits(&self, ty: Type) -> bool {
        let lengths = ty.axes.iter().filter_map(|axis| self.graph.static_extent(axis));
        lengths.map(u64::from).try_fold(ty.elem.bytes() as u64, u64::checked_mul).is_some_and(|n| n <= i64::MAX as u64)
    }

    fn sites(&mut self) {
        for (index, site) in self.graph.sites.iter().enumerate() {
            if site.values().into_iter().any(|(_, value)| self.is_poisoned(value)) {
                continue;
            }
            for fault in self.site(site) {
                self.report(Place::Site(index), fault);
            }
        }
    }

    fn site(&self, site: &Site) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut seen = AxisSet::EMPTY;
        for axis in site.axes() {
            let name = |axis: Axis| self.graph.axis(axis).name.clone();
            let related = |other: &Axis| {
                self.graph.axis(*other).groups == Some(axis) || self.graph.axis(axis).groups == Some(*other)
            };
            if seen.contains(axis) {
                faults.push(Fault::SiteAxisTwice { axis: name(axis) });
            } else if let Some(other) = seen.iter().find(related) {
                faults.push(Fault::SiteAxesRelated { axis: name(axis), other: name(other) });
            }
            seen = seen.with(axis);
        }
        for (field, value) in site.values() {
            let Type { elem, axes } = self.graph.ty(value);
            let (fits, expected) = match field {
                "q_pos" | "k_pos" => (elem != Elem::Bool, "f32 or i32"),
                _ => (elem == Elem::I32, "i32"),
            };
            if !fits {
                faults.push(Fault::SiteElem { field, expected, found: elem });
            }
            let free_of = match field {
                "q_pos" | "q_index" => [Some(site.key), None, Some(site.dim)],
                "k_pos" | "k_index" => [Some(site.query), None, Some(site.dim)],
                _ => [Some(site.query), Some(site.key), Some(site.dim)],
            };
            if let Some(axis) = free_of.into_iter().flatten().find(|axis| axes.contains(*axis)) {
                faults.push(Fault::SiteVaries { field, axis: self.graph.axis(axis).name.clone() });
            }
        }
        faults
    }

    fn names(&mut self) {
        let inputs = self.graph.nodes.iter().enumerate().filter_map(|(index, node)| match &node.op {
            Op::Input { name, dims: _, elem: _ } => Some((Place::Op(index), name)),
            _ => None,
        });
        let outputs = self.graph.outputs.iter().enumerate().map(|(index, output)| (Place::Output(index), &output.name));
        let mut taken = BTreeMap::new();
        for (place, name) in inputs.chain(outputs) {
            if name.is_empty() {
                self.report(place, Fault::EmptyName);
            } else if let Some(&first) = taken.get(name) {
                self.report(place, Fault::DuplicateName { name: name.clone(), first });
            } else {
                taken.insert(name, place);
            }
        }
    }

    fn outputs(&mut self) {
        if self.graph.outputs.is_empty() {
            self.report(Place::Graph, Fault::NoOutput);
        }
        for (index, Output { name: _, value, dims, elem }) in self.graph.outputs.iter().enumerate() {
            let Type { elem: found, axes } = self.graph.ty(*value);
            if (elem.widened() != found || elem.is_input_only()) && !self.is_poisoned(*value) {
                self.report(Place::Output(index), Fault::OutputElem { stored: *elem, found });
            }
            let named: AxisSet = dims.iter().copied().collect();
            if (named != axes || dims.len() != named.len()) && !self.is_poisoned(*value) {
                let dims = axes_text(self.graph, dims.iter().copied());
                let axes = axes_text(self.graph, axes.iter());
                self.report(Place::Output(index), Fault::OutputDims { dims, axes });
            }
        }
    }
}

#[cfg(test)]
mod tests;
