//! Recognition: matches attention in a fused graph and decides what is made where.

use rhumb_ir::{Axis, AxisSet, Op, Value, Verified};

use super::outputs::{Logged, Request, Summed};
use super::planner::{Added, Planner};
use super::powers;
use super::products::{Dots, Use};
use super::sums::together;
use super::{Attention, Combiner, LogSum, PlanError, Problem, Reduction, Source, TensorId, Term};
use crate::rewrite::RowPlaces;

/// What a fused graph computes, for any machine.
///
/// # Errors
/// [`PlanError`] names the op that has no place in the kernels.
pub fn recognize(graph: &Verified) -> Result<Problem, PlanError> {
    let mut graph = powers::of_two(graph)?.unwrap_or_else(|| graph.clone());
    let (mut added, mut is_together) = (Added::default(), false);
    loop {
        let (wanted, name, value) = match Planner::new(&graph, added).run() {
            Ok(problem) => return Ok(problem),
            Err(Stop::Refused(error)) => return Err(error),
            Err(Stop::Apart(dots, axes)) => {
                if std::mem::replace(&mut is_together, true) {
                    return Err(apart(&graph, &dots));
                }
                graph = together(&graph, &dots, axes)?;
                continue;
            }
            Err(Stop::OneQuery(score)) => (&mut added.query, "one_query", score),
            Err(Stop::OneElement(values)) => (&mut added.element, "one_element", values),
        };
        if wanted.is_some() {
            return Err(too_many_axes(&graph, value));
        }
        let (wider, axis) = with_axis(&graph, name, value)?;
        *wanted = Some(axis);
        graph = wider;
    }
}

/// Why there is no plan of a graph as it is.
enum Stop {
    Refused(PlanError),
    /// The score uses more of these dots than one sum, or has terms between them; with the axes of queries and keys.
    Apart(Vec<Value>, (Axis, Axis)),
    /// No axis can be that of queries for this score: one of a single query has to be added.
    OneQuery(Value),
    /// These values are one number for each key: an axis of a single element has to be added.
    OneElement(Value),
}

impl From<PlanError> for Stop {
    fn from(error: PlanError) -> Stop {
        Stop::Refused(error)
    }
}

/// The graph with an axis of length 1 that nothing varies over, wanted for a value.
fn with_axis(graph: &Verified, name: &str, value: Value) -> Result<(Verified, Axis), PlanError> {
    let mut name = name.to_owned();
    while graph.axis_named(&name).is_some() {
        name.push('_');
    }
    let Ok(builder) = graph.rebuild(|b, _, op| Ok::<_, std::convert::Infallible>(b.push(op)));
    let axis = builder.axis_of(&name, 1);
    builder.finish().map(|wider| (wider, axis)).map_err(|_| too_many_axes(graph, value))
}

fn too_many_axes(graph: &Verified, value: Value) -> PlanError {
    let reason = "this takes an axis of length 1 beside those of the graph (of single queries where keys or values vary over every axis of the \
                  score, of single elements where values have none), and the graph has no axis left for it; leave out an axis";
    PlanError::NotAttention { op: graph.line(value), reason: reason.to_owned() }
}

fn apart(graph: &Verified, dots: &[Value]) -> PlanError {
    let reason = "the score has a second dot of queries and keys, and uses more of the two than their sum; add them before anything else";
    PlanError::NotAttention {
        op: dots.get(1).map_or_else(String::new, |dot| graph.line(*dot)),
        reason: reason.to_owned(),
    }
}

/// The loops of an attention, and what its scores are made of.
struct Loops {
    query: Axis,
    key: Axis,
    /// The axis of the elements of each reduction's values, which goes to the result.
    value_dims: Vec<Axis>,
    /// The axes of independent attentions, outermost first.
    outer: Vec<Axis>,
    terms: Vec<Term>,
    masks: Vec<Term>,
    /// The dots of query and key.
    dots: Option<Dots>,
}

impl Loops {
    /// The leaf of the score that the dots of query and key add up to.
    fn dot(&self) -> Option<Value> {
        self.dots.as_ref().map(|dots| dots.leaf)
    }
}

/// The terms of a score by where they are computed.
struct Terms {
    /// Per pair of a query and a key.
    pairs: Vec<Term>,
    /// In a table of keys.
    keys: Vec<Term>,
    /// In a table of queries.
    queries: Vec<Term>,
}

impl Planner<'_> {
    fn run(mut self) -> Result<Problem, Stop> {
        let outputs = self.sorted_outputs()?;
        let attention = match self.request(&outputs)? {
            Some(request) => {
                let loops = self.loops(&request)?;
                Some(self.attention(&request, loops)?)
            }
            None => None,
        };
        for (value, target) in outputs.made {
            self.plain(value)?;
            self.prepare(value)?;
            self.step(target, Source::Value(value), false, "computed of what the attention gives");
        }
        for (value, target) in outputs.plain {
            self.plain(value)?;
            self.prepare(value)?;
            let double = self.find(value, |op| matches!(op, Op::Rotate { .. })).is_none();
            self.step(target, Source::Value(value), double, "an output");
        }
        let inputs = self.graph.inputs().filter_map(|(_, value)| self.inputs.get(&value).copied()).collect();
        Ok(Problem {
            graph: self.graph.clone(),
            tensors: self.tensors,
            inputs,
            outputs: self.outputs,
            tables: self.tables,
            table_of: self.table_of,
            row_places: if attention.is_some() { RowPlaces::of(self.graph) } else { RowPlaces::default() },
            attention,
        })
    }

    /// Decides which axis each loop runs along, and the order of dimensions that tables take from them.
    fn loops(&mut self, request: &Request) -> Result<Loops, Stop> {
        let (graph, key) = (self.graph, request.key);
        let sums = request.sums.first().map(|sum| sum.target);
        let target = sums.or(request.log_sum.map(|log_sum| log_sum.output));
        let dims: Vec<Axis> = target.map_or_else(Vec::new, |target| self.tensors[target].dims.clone());
        let sink_axes = request.sink.map_or(AxisSet::EMPTY, |sink| graph.ty(sink).axes);
        let axes = graph.join(graph.ty(request.score).axes, sink_axes);
        let (mut terms, masks) = self.taken_apart(request);
        let read: Vec<Term> = terms.iter().chain(&masks).copied().collect();
        let values: Vec<Value> = request.sums.iter().map(|sum| sum.values).collect();
        let axis = self.query_axis((&read, axes, key), &values, &dims);
        let query = self.one_query.or(axis).ok_or(Stop::OneQuery(request.score))?;
        let dots = match self.dots(request.score, (&mut terms, &masks), (query, key))? {
            Some(Use::Apart(dots)) => return Err(Stop::Apart(dots, (query, key))),
            Some(Use::Sum(dots)) => Some(dots),
            None => None,
        };
        for dot in dots.iter().flat_map(|dots| &dots.dots) {
            if let Some(axis) = self.summed(*dot) {
                self.fixed(axis, "the dot of query and key runs over it")?;
            }
        }
        let dot = dots.as_ref().map(|dots| dots.leaf);
        if self.one_query.is_some() {
            for value in graph.values() {
                let of_dot = graph.op(value).operands().iter().any(|operand| self.of_dot[operand.index()]);
                self.of_dot.push(of_dot || Some(value) == dot);
            }
        }
        let value_dims = request.sums.iter().map(|sum| self.value_dim(sum, (axes, key)));
        let value_dims = value_dims.collect::<Result<Vec<Axis>, Stop>>()?;
        let own = value_dims.first();
        let outer: Vec<Axis> = dims.iter().copied().filter(|axis| *axis != query && Some(axis) != own).collect();
        let loops = Loops { query, key, value_dims, outer, terms, masks, dots };
        self.check_sums(request, &loops)?;
        self.order_axes(&loops);
        Ok(loops)
    }

    /// The axis of the elements of values, which goes to their sum: one of fixed length that the score does not have.
    fn value_dim(&self, sum: &Summed, (score, key): (AxisSet, Axis)) -> Result<Axis, Stop> {
        let (graph, value, dims) = (self.graph, sum.values, &self.tensors[sum.target].dims);
        let own = |axis: &&Axis| !graph.varies(score, **axis) && graph.ty(value).axes.contains(**axis);
        let fits = |axis: &&Axis| own(axis) && **axis != key && graph.static_extent(**axis).is_some();
        if let Some(&dim) = dims.iter().rev().find(fits) {
            return Ok(dim);
        }
        if let Some(&dim) = dims.iter().rev().find(own) {
            self.fixed(dim, "it is the head dimension of the values")?;
        }
        self.one_element.ok_or(Stop::OneElement(value))
    }

    /// Checks that a sum has a row for each query of each of the attentions.
    fn check_outer(&self, sum: &Summed, own: Axis, loops: &Loops) -> Result<(), PlanError> {
        let dims = &self.tensors[sum.target].dims;
        let rows: AxisSet = dims.iter().copied().filter(|axis| *axis != own).collect();
        let query = Some(loops.query).filter(|query| self.one_query != Some(*query));
        let all: AxisSet = loops.outer.iter().copied().chain(query).collect();
        let apart = |axis: &Axis| rows.contains(*axis) != all.contains(*axis);
        match rows.union(all).iter().find(apart) {
            Some(axis) => {
                let reason = format!(
                    "values that are summed up in one pass over keys vary over the same axes but for their elements', and these do not all \
                     vary over axis `{}`; make two graphs of it",
                    self.graph.axis(axis).name
                );
                Err(self.not(sum.values, reason))
            }
            None => Ok(()),
        }
    }

    /// Checks that no output varies along what is summed over.
    fn check_sums(&self, request: &Request, loops: &Loops) -> Result<(), PlanError> {
        let graph = self.graph;
        if let Some(Logged { leaf, output, .. }) = request.log_sum {
            self.check_log_sum(leaf, output, loops.query, &loops.outer)?;
        }
        for (sum, own) in request.sums.iter().zip(&loops.value_dims) {
            self.check_outer(sum, *own, loops)?;
        }
        // Tiles run along these for each index of the outer axes.
        let dots = loops.dots.iter().flat_map(|dots| &dots.dots);
        for inner in [loops.key].into_iter().chain(dots.filter_map(|dot| self.summed(*dot))) {
            let same = |axis: &&Axis| {
                let alone = |axis: Axis| AxisSet::EMPTY.with(axis);
                graph.varies(alone(**axis), inner) || graph.varies(alone(inner), **axis)
            };
            if let Some(axis) = loops.outer.iter().chain([&loops.query]).find(same) {
                let axis = &graph.axis(*axis).name;
                let reason = format!(
                    "an output varies along axis `{axis}`, which the scores are summed over; take the sum and what varies along the axis \
                     as two outputs of two graphs"
                );
                return Err(self.not(request.score, reason));
            }
        }
        Ok(())
    }

    /// Rows run along keys or queries, whatever else a table varies over: groups stand where their finer axis does.
    fn order_axes(&mut self, loops: &Loops) {
        let graph = self.graph;
        let all = || (0..graph.axes().len()).filter_map(Axis::from_index);
        self.order.clear();
        for axis in loops.outer.iter().copied().chain([loops.query, loops.key]) {
            self.order.push(axis);
            let groups = |other: &Axis| graph.axis(*other).groups == Some(axis) && !loops.outer.contains(other);
            self.order.extend(all().filter(groups));
        }
        let rest: Vec<Axis> = all().filter(|axis| !self.order.contains(axis)).collect();
        self.order.extend(rest);
    }

    /// The terms of a score by where they are computed.
    fn placed(&self, softmax: bool, loops: &Loops) -> Terms {
        let (&Loops { query, key, .. }, dot) = (loops, loops.dot());
        let terms = loops.terms.clone();
        if !softmax {
            return Terms { pairs: terms, keys: Vec::new(), queries: Vec::new() };
        }
        // A query's reference is among the terms of the keys it sees: masks that read products can't be evaluated by then.
        let by_dot = dot.is_some_and(|dot| {
            loops.masks.iter().any(|mask| self.find(mask.value, |op| op == self.graph.op(dot)).is_some())
        });
        let (pairs, rest): (Vec<Term>, Vec<Term>) = terms
            .into_iter()
            .partition(|term| self.over_both(term.value, query, key) || by_dot && self.keyed(term.value, key));
        let (keys, queries) = rest.into_iter().partition(|term| self.keyed(term.value, key));
        Terms { pairs, keys, queries }
    }

    fn attention(&mut self, request: &Request, loops: Loops) -> Result<Attention, PlanError> {
        let Terms { pairs: terms, keys, queries } = self.placed(request.softmax, &loops);
        let dot = loops.dot();
        let Loops { query, key, value_dims, outer, masks, dots, .. } = loops;
        // Terms of queries alone hide whole rows, at the end.
        let may_be_neg_inf = request.softmax && self.may_hide(terms.iter().chain(&keys), dot);
        let key_term = self.key_term(keys, key)?;
        let query_term = self.sum(queries, "varies over queries alone")?;
        self.hoist_operands(terms.iter().chain(&masks).map(|term| term.value), query, key, dot)?;
        let sink = match request.sink {
            Some(sink) => self.sum(vec![Term { value: sink, negative: false }], "the sink")?,
            None => None,
        };
        let products = match &dots {
            Some(dots) => self.products(dots, key)?,
            None => Vec::new(),
        };
        let reductions = self.reductions(&request.sums, &value_dims)?;
        let log_sum = match request.log_sum {
            Some(logged) => Some(self.log_sum(logged)?),
            None => None,
        };
        let on_grid = masks.iter().any(|mask| self.reads_rows(mask.value, (query, key), None));
        let values = reductions.iter().map(|reduction| reduction.value);
        let keys = products.iter().map(|product| product.key);
        let read: Vec<TensorId> = key_term.iter().map(|term| term.high).chain(values).chain(keys).collect();
        // The bound of scores by norms is of one product.
        let pruning = match request.softmax && products.len() <= 1 {
            true => self.pruning((query, key), (&terms, key_term), products.first(), &reductions),
            false => None,
        };
        let packed = self.packed(query, &outer, (&terms, &masks), dot, &read);
        let combiner = match request.softmax {
            true => Combiner::OnlineSoftmax { sink, log_sum },
            false => Combiner::Sum,
        };
        Ok(Attention {
            query,
            key,
            outer,
            packed,
            products,
            dot,
            terms,
            key_term,
            query_term,
            masks,
            on_grid,
            may_be_neg_inf,
            pruning,
            combiner,
            reductions,
        })
    }

    /// The sums of values, in their order: their accumulators are stacked in the tile.
    fn reductions(&mut self, sums: &[Summed], dims: &[Axis]) -> Result<Vec<Reduction>, PlanError> {
        let (mut reductions, mut first) = (Vec::new(), 0u32);
        for (index, (sum, &dim)) in sums.iter().zip(dims).enumerate() {
            let value = self.rows(sum.values, "values")?;
            let length = self.graph.static_extent(dim).unwrap_or(0);
            reductions.push(Reduction { index, first, value, scaled: None, dim, length, output: sum.target });
            // Lengths are below 2^31, and there are few.
            first = first.saturating_add(length);
        }
        Ok(reductions)
    }

    fn log_sum(&mut self, Logged { value, leaf, output, of }: Logged) -> Result<LogSum, PlanError> {
        self.hoist_around(value, leaf)?;
        let query_term = self.sum(self.query_terms(of), "varies over queries alone")?;
        Ok(LogSum { leaf, value, query_term, output })
    }

    /// The axis that a dot runs over.
    fn summed(&self, dot: Value) -> Option<Axis> {
        match *self.graph.op(dot) {
            Op::Dot { axis, .. } => Some(axis),
            _ => None,
        }
    }

    /// Checks that the log-sum-exp output can be written with the average.
    fn check_log_sum(&self, leaf: Value, target: TensorId, query: Axis, outer: &[Axis]) -> Result<(), PlanError> {
        let dims = &self.tensors[target].dims;
        // Groups of heads that the average has one by one are told by these.
        let known = |axis: &Axis| {
            *axis == query || outer.iter().any(|outer| outer == axis || self.graph.axis(*axis).groups == Some(*outer))
        };
        if !dims.iter().all(known) {
            let reason =
                "the log-sum-exp output varies over an axis that the average does not have; make two graphs of it";
            return Err(self.not(leaf, reason));
        }
        // The first of the attentions that share a log-sum-exp writes it: there must be one.
        let shared = |axis: &&Axis| !dims.contains(axis) && self.graph.static_extent(**axis).is_none();
        match outer.iter().find(shared) {
            Some(axis) => {
                let axis = &self.graph.axis(*axis).name;
                let reason = format!(
                    "the values vary over axis `{axis}`, which the score does not have and which has no fixed length: the log-sum-exp \
                     can't be written with their average; give the axis a length, or make two graphs of it"
                );
                Err(self.not(leaf, reason))
            }
            None => Ok(()),
        }
    }
}
