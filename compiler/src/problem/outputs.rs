//! The outputs of a graph: what each asks of an attention, or that it asks for none.

use rhumb_ir::{Axis, Op, Value};

use super::planner::{Normalised, Planner};
use super::{PlanError, TensorId, Term};
use crate::weighted::WeightedSum;

/// The outputs, by what they ask for.
#[derive(Default)]
pub(super) struct Outputs {
    /// The values weighed by a softmax, or by scores themselves.
    weighed: Option<(Value, TensorId)>,
    /// The output, the log-sum-exp in it, and where it is written.
    log_sum: Option<(Value, Value, TensorId)>,
    /// Those without an attention.
    pub(super) plain: Vec<(Value, TensorId)>,
}

/// A log-sum-exp that is an output.
#[derive(Clone, Copy)]
pub(super) struct Logged {
    /// The output's value.
    pub(super) value: Value,
    /// The log-sum-exp in it.
    pub(super) leaf: Value,
    pub(super) output: TensorId,
    pub(super) of: Normalised,
}

/// What an attention is asked for.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// The score, or the weights where there is no softmax.
    pub(super) score: Value,
    pub(super) key: Axis,
    pub(super) softmax: bool,
    pub(super) sink: Option<Value>,
    /// The values, and where their sum is written.
    pub(super) values: Option<(Value, TensorId)>,
    pub(super) log_sum: Option<Logged>,
}

impl Planner<'_> {
    /// Sorts the outputs.
    pub(super) fn sorted_outputs(&self) -> Result<Outputs, PlanError> {
        let mut sorted = Outputs::default();
        for (output, &target) in self.graph.outputs().iter().zip(&self.outputs) {
            let value = output.value;
            if let Some(leaf) = self.find(value, |op| matches!(op, Op::LogSumExp { .. })) {
                if sorted.log_sum.is_some() {
                    return Err(self.not(leaf, "a graph can have one log-sum-exp output; make a second graph"));
                }
                sorted.log_sum = Some((value, leaf, target));
                continue;
            }
            let inner = self.find(value, |op| matches!(op, Op::Softmax { .. }));
            if inner.is_none() && WeightedSum::of(self.graph, value).is_none() {
                sorted.plain.push((value, target));
                continue;
            }
            if sorted.weighed.is_some() {
                let op = inner.unwrap_or(value);
                return Err(self.not(op, "a graph can have one average of values; make a second graph"));
            }
            sorted.weighed = Some((value, target));
        }
        Ok(sorted)
    }

    /// What the outputs ask of an attention; none if they ask for none.
    pub(super) fn request(&self, outputs: &Outputs) -> Result<Option<Request>, PlanError> {
        let mut found: Option<Request> = None;
        if let Some((output, target)) = outputs.weighed {
            found = Some(self.weighed(output, target)?);
        }
        let Some((value, leaf, output)) = outputs.log_sum else { return self.checked(found) };
        let Op::LogSumExp { x: score, axis: key, sink, base: _ } = *self.graph.op(leaf) else {
            return Err(self.not(leaf, "expected a log-sum-exp"));
        };
        let of = Normalised { score, key, sink };
        let log_sum = Some(Logged { value, leaf, output, of });
        let request = match found {
            None => Request { score, key, softmax: true, sink, values: None, log_sum },
            Some(found) => {
                let other = Normalised { score: found.score, key: found.key, sink: found.sink };
                if !found.softmax || !self.weighs_alike(other, of) {
                    let reason = "the log-sum-exp and the average use different scores; make two graphs of it";
                    return Err(self.not(leaf, reason));
                }
                Request { log_sum, ..found }
            }
        };
        self.checked(Some(request))
    }

    /// Refuses softmaxes inside of what is normalised, weighed or compared.
    fn checked(&self, request: Option<Request>) -> Result<Option<Request>, PlanError> {
        let Some(Request { score, sink, values, .. }) = request else { return Ok(None) };
        let inner = [Some(score), sink, values.map(|(value, _)| value)];
        for value in inner.into_iter().flatten() {
            if let Some(bad) = self.find(value, |op| matches!(op, Op::Softmax { .. } | Op::LogSumExp { .. })) {
                let reason = "a softmax inside the score or the values of another; make two graphs of it";
                return Err(self.not(bad, reason));
            }
        }
        Ok(request)
    }

    /// Takes `dot(softmax, values)` or `dot(weights, values)` apart.
    fn weighed(&self, output: Value, target: TensorId) -> Result<Request, PlanError> {
        let Some(inner) = self.find(output, |op| matches!(op, Op::Softmax { .. })) else {
            let Some(WeightedSum { weights, values, key }) = WeightedSum::of(self.graph, output) else {
                return Err(self.not(output, "no softmax found"));
            };
            let values = Some((values, target));
            return Ok(Request { score: weights, key, softmax: false, sink: None, values, log_sum: None });
        };
        let values = Some((self.averaged(output, inner)?, target));
        match *self.graph.op(inner) {
            Op::Softmax { x: score, axis: key, sink, base: _ } => {
                Ok(Request { score, key, softmax: true, sink, values, log_sum: None })
            }
            _ => Err(self.not(inner, "expected a softmax")),
        }
    }

    /// The values of `dot(softmax, values)`.
    fn averaged(&self, value: Value, inner: Value) -> Result<Value, PlanError> {
        let Op::Softmax { axis: key, .. } = *self.graph.op(inner) else {
            return Err(self.not(inner, "expected a softmax"));
        };
        if let Op::Dot { a, b, axis } = *self.graph.op(value)
            && axis == key
        {
            if a == inner {
                return Ok(b);
            }
            if b == inner {
                return Ok(a);
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
