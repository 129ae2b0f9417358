//! The outputs of a graph: what each asks of an attention, or that it asks for none.

use rhumb_ir::{Axis, Op, Value, Walk};

use super::planner::{Normalised, Planner};
use super::{Origin, PlanError, Source, Storage, TensorId, Term};
use crate::abi::MOST_REDUCTIONS;
use crate::weighted::WeightedSum;

/// The outputs, by what they ask for.
#[derive(Default)]
pub(super) struct Outputs {
    /// Sums of values that a softmax weighs, or scores themselves, and where each is written.
    weighed: Vec<(Value, TensorId)>,
    /// An output's value, the log-sum-exp in it, and where it is written.
    log_sum: Option<(Value, Value, TensorId)>,
    /// Those that are computed of sums and of the log-sum-exp.
    pub(super) made: Vec<(Value, TensorId)>,
    /// Those without an attention.
    pub(super) plain: Vec<(Value, TensorId)>,
}

/// What an output is made of.
#[derive(Default)]
struct Parts {
    weighed: Vec<Value>,
    log_sums: Vec<Value>,
}

/// A log-sum-exp that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Logged {
    /// The value that is written.
    pub(super) value: Value,
    /// The log-sum-exp in it.
    pub(super) leaf: Value,
    pub(super) output: TensorId,
    pub(super) of: Normalised,
}

/// Values that are summed up, and where their sum is written.
#[derive(Clone, Copy)]
pub(super) struct Summed {
    pub(super) values: Value,
    pub(super) target: TensorId,
}

/// What an attention is asked for.
#[derive(Clone)]
pub(super) struct Request {
    /// The score, or the weights where there is no softmax.
    pub(super) score: Value,
    pub(super) key: Axis,
    pub(super) softmax: bool,
    pub(super) sink: Option<Value>,
    pub(super) sums: Vec<Summed>,
    pub(super) log_sum: Option<Logged>,
}

impl Request {
    fn of(of: Normalised, softmax: bool) -> Request {
        let Normalised { score, key, sink } = of;
        Request { score, key, softmax, sink, sums: Vec::new(), log_sum: None }
    }

    fn normalised(&self) -> Normalised {
        Normalised { score: self.score, key: self.key, sink: self.sink }
    }
}

impl Planner<'_> {
    /// Sorts the outputs.
    pub(super) fn sorted_outputs(&mut self) -> Result<Outputs, PlanError> {
        let mut sorted = Outputs::default();
        let mut parts = Vec::new();
        for output in self.graph.outputs() {
            parts.push(self.parts(output.value)?);
        }
        let mut log_sums: Vec<Value> = parts.iter().flat_map(|parts| parts.log_sums.iter().copied()).collect();
        let uses = log_sums.len();
        log_sums.dedup();
        if let [_, second, ..] = log_sums[..] {
            return Err(self.not(second, "a graph can have one log-sum-exp; make a second graph"));
        }
        // What is written to an output itself, where nothing else reads it.
        let read = |leaf: Value| parts.iter().filter(|parts| parts.weighed.contains(&leaf)).count();
        let mut kept: Vec<Value> = Vec::new();
        for ((output, &target), parts) in self.graph.outputs().iter().zip(&self.outputs).zip(&parts) {
            let value = output.value;
            match (&parts.weighed[..], &parts.log_sums[..]) {
                ([], []) => sorted.plain.push((value, target)),
                ([], [leaf]) if uses == 1 => sorted.log_sum = Some((value, *leaf, target)),
                ([leaf], []) if *leaf == value && read(value) == 1 => sorted.weighed.push((value, target)),
                (weighed, log_sums) => {
                    kept.extend(weighed.iter().chain(log_sums));
                    sorted.made.push((value, target));
                }
            }
        }
        for leaf in kept {
            self.keep(leaf, &mut sorted);
        }
        Ok(sorted)
    }

    /// What an output is made of.
    fn parts(&self, output: Value) -> Result<Parts, PlanError> {
        let softmax = self.find(output, |op| matches!(op, Op::Softmax { .. })).is_some();
        let (mut parts, mut walk) = (Parts::default(), Walk::of([output]));
        while let Some(value) = walk.next() {
            match self.graph.op(value) {
                Op::LogSumExp { .. } => parts.log_sums.push(value),
                Op::Softmax { .. } => return Err(self.not_averaged(output, value)),
                _ if self.average_of(value).is_some() => parts.weighed.push(value),
                _ if !softmax && WeightedSum::of(self.graph, value).is_some() => parts.weighed.push(value),
                op => walk.enter(op.operands()),
            }
        }
        Ok(parts)
    }

    /// Gives a sum or a log-sum-exp that outputs are computed of a tensor of its own, once.
    fn keep(&mut self, leaf: Value, sorted: &mut Outputs) {
        if self.table_of.contains_key(&Source::Value(leaf)) {
            return;
        }
        let axes = self.graph.ty(leaf).axes;
        // As the output that reads it first has them: rows are written along the same axis.
        let made = sorted.made.iter().map(|(_, target)| &self.tensors[*target].dims);
        let order = made.flatten().copied().chain(axes.iter());
        let mut dims: Vec<Axis> = Vec::new();
        for axis in order.filter(|axis| axes.contains(*axis)) {
            if !dims.contains(&axis) {
                dims.push(axis);
            }
        }
        let target = self.tensor(self.names[leaf.index()].clone(), Origin::Table, dims, Storage::F32);
        self.table_of.insert(Source::Value(leaf), target);
        match self.graph.op(leaf) {
            Op::LogSumExp { .. } => sorted.log_sum = Some((leaf, leaf, target)),
            _ => sorted.weighed.push((leaf, target)),
        }
        for value in self.graph.values() {
            let of_kept = value == leaf || self.graph.op(value).operands().iter().any(|x| self.of_results[x.index()]);
            self.of_results[value.index()] |= of_kept;
        }
    }

    /// What the outputs ask of an attention; none if they ask for none.
    pub(super) fn request(&self, outputs: &Outputs) -> Result<Option<Request>, PlanError> {
        let mut found: Option<Request> = None;
        for &(leaf, target) in &outputs.weighed {
            let (of, softmax, values) = self.weighed(leaf)?;
            let request = found.get_or_insert_with(|| Request::of(of, softmax));
            if request.softmax != softmax || request.normalised() != of {
                let reason =
                    "two outputs weigh values in different ways; one pass over keys has one way, make two graphs of it";
                return Err(self.not(leaf, reason));
            }
            if request.sums.len() == MOST_REDUCTIONS {
                let reason = format!(
                    "one pass over keys sums up {MOST_REDUCTIONS} tensors of values at most; concatenate some along the value dimension, or \
                     make two graphs of it"
                );
                return Err(self.not(leaf, reason));
            }
            request.sums.push(Summed { values, target });
        }
        let Some((value, leaf, output)) = outputs.log_sum else { return self.checked(found) };
        let Op::LogSumExp { x: score, axis: key, sink, base: _ } = *self.graph.op(leaf) else {
            return Err(self.not(leaf, "expected a log-sum-exp"));
        };
        let of = Normalised { score, key, sink };
        let mut request = found.unwrap_or_else(|| Request::of(of, true));
        if !request.softmax || !self.weighs_alike(request.normalised(), of) {
            let reason = "the log-sum-exp and the average use different scores; make two graphs of it";
            return Err(self.not(leaf, reason));
        }
        request.log_sum = Some(Logged { value, leaf, output, of });
        self.checked(Some(request))
    }

    /// Refuses softmaxes inside of what is normalised, weighed or compared.
    fn checked(&self, request: Option<Request>) -> Result<Option<Request>, PlanError> {
        let Some(Request { score, sink, sums, .. }) = &request else { return Ok(None) };
        let inner = [Some(*score), *sink].into_iter().flatten().chain(sums.iter().map(|sum| sum.values));
        for value in inner {
            if let Some(bad) = self.find(value, |op| matches!(op, Op::Softmax { .. } | Op::LogSumExp { .. })) {
                let reason = "a softmax inside the score or the values of another; make two graphs of it";
                return Err(self.not(bad, reason));
            }
        }
        Ok(request)
    }

    /// Takes `dot(softmax, values)` or `dot(weights, values)` apart: what weighs, whether by a softmax, and the values.
    fn weighed(&self, leaf: Value) -> Result<(Normalised, bool, Value), PlanError> {
        if let Some((of, values)) = self.average_of(leaf) {
            return Ok((of, true, values));
        }
        match WeightedSum::of(self.graph, leaf) {
            Some(WeightedSum { weights, values, key }) => {
                Ok((Normalised { score: weights, key, sink: None }, false, values))
            }
            None => Err(self.not(leaf, "no softmax found")),
        }
    }

    /// Takes `dot(softmax, values)` apart, if a value is such.
    fn average_of(&self, value: Value) -> Option<(Normalised, Value)> {
        let Op::Dot { a, b, axis } = *self.graph.op(value) else { return None };
        [(a, b), (b, a)].into_iter().find_map(|(weights, values)| match *self.graph.op(weights) {
            Op::Softmax { x: score, axis: key, sink, base: _ } if key == axis => {
                Some((Normalised { score, key, sink }, values))
            }
            _ => None,
        })
    }

    /// Refuses an output that reads a softmax other than by its `dot` with values.
    fn not_averaged(&self, value: Value, inner: Value) -> PlanError {
        if value == inner {
            let reason = "the weights of a softmax can't be an output: kernels never hold them; take their `dot` with values, or `logsumexp`";
            return self.not(value, reason);
        }
        // The op in the way is the one that takes the softmax.
        let takes = |user: &Value| self.graph.op(*user).operands().contains(&inner);
        let op = self.graph.values().take(value.index() + 1).find(takes).unwrap_or(value);
        let reason = "this op stands between the softmax and its values; weights are summed up by the `dot` of the softmax itself with \
                      values, over the axis it normalises";
        self.not(op, reason)
    }

    /// Takes what is asked for apart: the terms of the score, and the masks. Weights without a softmax are one term.
    pub(super) fn taken_apart(&self, request: &Request) -> (Vec<Term>, Vec<Term>) {
        let (mut terms, mut masks) = (Vec::new(), Vec::new());
        let whole = Term { value: request.score, negative: false };
        if request.softmax {
            self.flatten(whole, &mut terms, &mut masks);
        } else {
            terms.push(self.unmasked(whole, &mut masks));
        }
        (terms, masks)
    }
}
