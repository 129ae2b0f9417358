//! The planner: matches attention in a fused graph and decides what is made where.

use crate::abi::FrameLayout;
use crate::machine::Machine;

use super::layout::{scratch_layout, tiling};
use super::planner::{Normalised, Planner};
use super::powers;
use rhumb_ir::{Axis, AxisSet, Op, Value, Verified};

use super::{Attention, LogSum, Plan, PlanError, Product, Reduction, Source, TensorId, Term};

/// Plans a fused graph for a machine.
///
/// # Errors
/// [`PlanError`] names the op that has no place in the kernels.
pub fn plan(graph: &Verified, machine: Machine) -> Result<Plan, PlanError> {
    let of_two = powers::of_two(graph)?;
    let graph = of_two.as_ref().unwrap_or(graph);
    match Planner::new(graph, None).run(machine) {
        Ok(plan) => Ok(plan),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::OneQuery(score)) => {
            let (graph, query) = with_one_query(graph, score)?;
            Planner::new(&graph, Some(query)).run(machine).map_err(|stop| match stop {
                Stop::Refused(error) => error,
                Stop::OneQuery(score) => too_many_axes(&graph, score),
            })
        }
    }
}

/// Why there is no plan of a graph as it is.
enum Stop {
    Refused(PlanError),
    /// No axis can be that of queries for this score: one of a single query has to be added.
    OneQuery(Value),
}

impl From<PlanError> for Stop {
    fn from(error: PlanError) -> Stop {
        Stop::Refused(error)
    }
}

/// The graph with an axis of length 1 that nothing varies over, to be that of queries.
fn with_one_query(graph: &Verified, score: Value) -> Result<(Verified, Axis), PlanError> {
    let mut name = "one_query".to_owned();
    while graph.axis_named(&name).is_some() {
        name.push('_');
    }
    let Ok(builder) = graph.rebuild(|b, _, op| Ok::<_, std::convert::Infallible>(b.push(op)));
    let query = builder.axis_of(&name, 1);
    builder.finish().map(|wider| (wider, query)).map_err(|_| too_many_axes(graph, score))
}

fn too_many_axes(graph: &Verified, score: Value) -> PlanError {
    let reason = "keys or values vary over every axis of the score, which is then that of single queries, and the graph has no axis left for \
                  these; leave out an axis";
    PlanError::NotAttention { op: graph.line(score), reason: reason.to_owned() }
}

impl Planner<'_> {
    fn run(mut self, machine: Machine) -> Result<Plan, Stop> {
        let mut softmax: Option<(Value, TensorId)> = None;
        let mut log_sum: Option<(Value, Value, TensorId)> = None;
        let mut plain = Vec::new();
        for (output, &target) in self.graph.outputs().iter().zip(&self.outputs) {
            if let Some(leaf) = self.find(output.value, |op| matches!(op, Op::LogSumExp { .. })) {
                if log_sum.is_some() {
                    return Err(self.not(leaf, "a graph can have one log-sum-exp output; make a second graph").into());
                }
                log_sum = Some((output.value, leaf, target));
            } else if let Some(inner) = self.find(output.value, |op| matches!(op, Op::Softmax { .. })) {
                if softmax.is_some() {
                    return Err(self.not(inner, "a graph can have one average of values; make a second graph").into());
                }
                self.weighted_dot(output.value, inner)?;
                softmax = Some((output.value, target));
            } else {
                plain.push((output.value, target));
            }
        }
        let attention = if softmax.is_some() || log_sum.is_some() {
            Some(self.attention(softmax, log_sum, machine)?)
        } else {
            None
        };
        for (value, target) in plain {
            self.plain(value)?;
            self.prepare(value)?;
            let double = self.find(value, |op| matches!(op, Op::Rotate { .. })).is_none();
            self.step(target, Source::Value(value), double, "an output");
        }
        let scratch = scratch_layout(self.graph, attention.as_ref())?;
        let frame = FrameLayout::new(self.graph.axes().len(), self.tensors.iter().map(|tensor| tensor.dims.len()));
        let inputs = self.graph.inputs().filter_map(|(_, value)| self.inputs.get(&value).copied()).collect();
        Ok(Plan {
            graph: self.graph.clone(),
            machine,
            tensors: self.tensors,
            inputs,
            outputs: self.outputs,
            tables: self.tables,
            table_of: self.table_of,
            attention,
            frame,
            scratch,
        })
    }

    /// Takes `dot(softmax, values)` apart: the softmax and the values.
    fn weighted_dot(&self, value: Value, inner: Value) -> Result<(Value, Value, Axis), PlanError> {
        let Op::Softmax { axis: key, .. } = *self.graph.op(inner) else {
            return Err(self.not(inner, "expected a softmax"));
        };
        if let Op::Dot { a, b, axis } = *self.graph.op(value)
            && axis == key
        {
            if a == inner {
                return Ok((a, b, axis));
            }
            if b == inner {
                return Ok((b, a, axis));
            }
        }
        if value == inner {
            let reason = "the weights of a softmax can't be an output: kernels never hold them; take their `dot` with values, or `logsumexp`";
            return Err(self.not(value, reason));
        }
        // The op in the way is the one that the average takes instead of the softmax, or the output's own.
        let weights = |value: &Value| self.find(*value, |op| op == self.graph.op(inner)).is_some();
        let op = match *self.graph.op(value) {
            Op::Dot { a, b, axis } if axis == key => [a, b].into_iter().find(weights).unwrap_or(value),
            _ => value,
        };
        let reason = "this op stands between the softmax and the output; an output is the `dot` of the softmax itself with values, over \
                      the axis it normalises";
        Err(self.not(op, reason))
    }

    fn attention(
        &mut self,
        average: Option<(Value, TensorId)>,
        log_sum: Option<(Value, Value, TensorId)>,
        machine: Machine,
    ) -> Result<Attention, Stop> {
        let graph = self.graph;
        // The score, from whichever output there is; both must normalise the same one.
        let mut found: Option<Normalised> = None;
        let mut values = None;
        if let Some((output, target)) = average {
            let inner = self.find(output, |op| matches!(op, Op::Softmax { .. })).unwrap_or(output);
            let (softmax, value, _) = self.weighted_dot(output, inner)?;
            values = Some((value, target));
            if let Op::Softmax { x: score, axis: key, sink, base: _ } = *graph.op(softmax) {
                found = Some(Normalised { score, key, sink });
            }
        }
        let mut logged: Option<Normalised> = None;
        if let Some((_, leaf, _)) = log_sum
            && let Op::LogSumExp { x: score, axis: key, sink, base: _ } = *graph.op(leaf)
        {
            let here = Normalised { score, key, sink };
            if found.is_some_and(|found| !self.weighs_alike(found, here)) {
                let reason = "the log-sum-exp and the average use different scores; make two graphs of it";
                return Err(self.not(leaf, reason).into());
            }
            found = found.or(Some(here));
            logged = Some(here);
        }
        let Some(Normalised { score, key, sink }) = found else {
            return Err(self.not(Value::clone(&graph.outputs()[0].value), "no softmax found").into());
        };
        let inner = [Some(score), sink, values.map(|(value, _)| value)];
        for value in inner.into_iter().flatten() {
            if let Some(bad) = self.find(value, |op| matches!(op, Op::Softmax { .. } | Op::LogSumExp { .. })) {
                let reason = "a softmax inside the score or the values of another; make two graphs of it";
                return Err(self.not(bad, reason).into());
            }
        }

        let dims: Vec<Axis> = match (values, log_sum) {
            (Some((_, target)), _) | (None, Some((_, _, target))) => self.tensors[target].dims.clone(),
            (None, None) => Vec::new(),
        };
        let sink_axes = sink.map_or(AxisSet::EMPTY, |sink| graph.ty(sink).axes);
        let score_axes = graph.join(graph.ty(score).axes, sink_axes);
        let (mut terms, mut masks) = (Vec::new(), Vec::new());
        self.flatten(Term { value: score, negative: false }, &mut terms, &mut masks);
        let read: Vec<Term> = terms.iter().chain(&masks).copied().collect();
        let axis = self.query_axis((&read, score_axes, key), values.map(|(value, _)| value), &dims);
        let query = self.one_query.or(axis).ok_or(Stop::OneQuery(score))?;
        let dot = self.product_dot(&read, query, key)?;
        if let Some(&Op::Dot { axis, .. }) = dot.map(|dot| graph.op(dot)) {
            self.fixed(axis, "the dot of query and key runs over it")?;
        }
        if self.one_query.is_some() {
            for value in graph.values() {
                let of_dot = graph.op(value).operands().iter().any(|operand| self.of_dot[operand.index()]);
                self.of_dot.push(of_dot || Some(value) == dot);
            }
        }
        let weighted_dim = match values {
            Some((value, _)) => {
                let free: Vec<Axis> = graph
                    .ty(value)
                    .axes
                    .iter()
                    .filter(|axis| {
                        *axis != key && !graph.varies(score_axes, *axis) && graph.static_extent(*axis).is_some()
                    })
                    .collect();
                let Some(&dim) = dims.iter().rev().find(|axis| free.contains(axis)) else {
                    let own = |axis: &&Axis| !graph.varies(score_axes, **axis) && graph.ty(value).axes.contains(**axis);
                    if let Some(&dim) = dims.iter().rev().find(own) {
                        self.fixed(dim, "it is the head dimension of the values")?;
                    }
                    let reason = "the values need an axis of fixed length that the score does not have";
                    return Err(self.not(value, reason).into());
                };
                Some(dim)
            }
            None => None,
        };
        let outer: Vec<Axis> =
            dims.iter().copied().filter(|axis| *axis != query && Some(*axis) != weighted_dim).collect();
        if let Some((_, leaf, target)) = log_sum {
            self.check_log_sum(leaf, target, query, &outer)?;
        }
        // Tiles run along these for each index of the outer axes.
        let within = [Some(key), dot.and_then(|dot| self.summed(dot))];
        for inner in within.into_iter().flatten() {
            let same = |axis: &&Axis| {
                let alone = |axis: Axis| AxisSet::EMPTY.with(axis);
                graph.varies(alone(**axis), inner) || graph.varies(alone(inner), **axis)
            };
            if let Some(axis) = outer.iter().chain([&query]).find(same) {
                let axis = &graph.axis(*axis).name;
                let reason = format!(
                    "an output varies along axis `{axis}`, which the scores are summed over; take the sum and what varies along the axis \
                     as two outputs of two graphs"
                );
                return Err(self.not(score, reason).into());
            }
        }
        // Rows along keys or queries, whatever else a table varies over: groups stand where their finer axis does.
        let all = || (0..graph.axes().len()).filter_map(Axis::from_index);
        self.order.clear();
        for axis in outer.iter().copied().chain([query, key]) {
            self.order.push(axis);
            let groups = |other: &Axis| graph.axis(*other).groups == Some(axis) && !outer.contains(other);
            self.order.extend(all().filter(groups));
        }
        let rest: Vec<Axis> = all().filter(|axis| !self.order.contains(axis)).collect();
        self.order.extend(rest);

        // A query's reference is among the terms of the keys it sees: masks that read products can't be evaluated by then.
        let by_dot =
            dot.is_some_and(|dot| masks.iter().any(|mask| self.find(mask.value, |op| op == graph.op(dot)).is_some()));
        let (tile_terms, rest): (Vec<Term>, Vec<Term>) = terms
            .into_iter()
            .partition(|term| self.over_both(term.value, query, key) || by_dot && self.keyed(term.value, key));
        let (key_terms, query_terms): (Vec<Term>, Vec<Term>) =
            rest.into_iter().partition(|term| self.keyed(term.value, key));
        // Terms of queries alone hide whole rows, at the end.
        let hides = self.may_hide(tile_terms.iter().chain(&key_terms), dot);
        let key_term = self.key_term(key_terms, key)?;
        let query_term = self.sum(query_terms, "varies over queries alone")?;
        self.hoist_operands(tile_terms.iter().chain(&masks).map(|term| term.value), query, key, dot)?;
        let sink = match sink {
            Some(sink) => self.sum(vec![Term { value: sink, negative: false }], "the sink")?,
            None => None,
        };
        let product = match dot {
            Some(dot) => Some(self.product(dot, key)?),
            None => None,
        };
        let reduction = match (values, weighted_dim) {
            (Some((value, output)), Some(dim)) => {
                let value = self.rows(value, "values")?;
                Some(Reduction { value, dim, length: graph.static_extent(dim).unwrap_or(0), output })
            }
            _ => None,
        };
        let log_sum = match log_sum {
            Some((value, leaf, output)) => {
                self.hoist_around(value, leaf)?;
                let terms = logged.map_or_else(Vec::new, |logged| self.query_terms(logged));
                let query_term = self.sum(terms, "varies over queries alone")?;
                Some(LogSum { leaf, value, query_term, output })
            }
            None => None,
        };
        let on_grid = masks.iter().any(|mask| self.reads_rows(mask.value, (query, key), None));
        let read = [
            key_term.map(|term| term.high),
            product.as_ref().map(|product| product.key),
            reduction.as_ref().map(|values| values.value),
        ];
        let read: Vec<TensorId> = read.into_iter().flatten().collect();
        let pruning = self.pruning((query, key), (&tile_terms, key_term), product.as_ref(), reduction.as_ref());
        let packed = self.packed(query, &outer, (&tile_terms, &masks), dot, &read);
        Ok(Attention {
            query,
            key,
            outer,
            packed,
            product,
            terms: tile_terms,
            key_term,
            query_term,
            masks,
            on_grid,
            may_be_neg_inf: hides,
            pruning,
            sink,
            reduction,
            log_sum,
            tiling: tiling(machine),
        })
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

    fn product(&mut self, dot: Value, key: Axis) -> Result<Product, PlanError> {
        let Op::Dot { a, b, axis: dim } = *self.graph.op(dot) else {
            return Err(self.not(dot, "expected a dot"));
        };
        let (queries, keys) = if self.keyed(a, key) { (b, a) } else { (a, b) };
        let length = self.fixed(dim, "the dot of query and key runs over it")?;
        self.prepare(queries)?;
        self.rotate_in_place(queries, (self.graph.ty(queries).axes, Some(dim)), false);
        let key = self.key_rows(keys, key)?;
        Ok(Product { dot, dim, length, query: queries, key })
    }
}
