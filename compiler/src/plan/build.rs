//! The planner: matches attention in a fused graph and decides what is made where.

use std::collections::BTreeMap;

use rhumb_ir::{Axis, AxisSet, Base, Elem, Op, Scalar, Unary, Value, Verified};

use super::{
    Attention, Content, LogSum, MapStep, Origin, Plan, PlanError, ScratchLayout, Source, Storage, Tensor, TensorId,
    Term, TileShape, Vectors, Weighted,
};

/// Plans a fused graph for a machine's vectors.
///
/// # Errors
/// [`PlanError`] names the op that has no place in the kernels.
pub fn plan(graph: &Verified, vectors: Vectors) -> Result<Plan, PlanError> {
    Planner::new(graph).run(vectors)
}

struct Planner<'a> {
    graph: &'a Verified,
    tensors: Vec<Tensor>,
    maps: Vec<MapStep>,
    tables: BTreeMap<Source, TensorId>,
    inputs: BTreeMap<Value, TensorId>,
    outputs: Vec<TensorId>,
    /// Axes in the order that dimensions of tables take.
    order: Vec<Axis>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Verified) -> Self {
        let mut planner = Planner {
            graph,
            tensors: Vec::new(),
            maps: Vec::new(),
            tables: BTreeMap::new(),
            inputs: BTreeMap::new(),
            outputs: Vec::new(),
            order: (0..graph.axes().len()).filter_map(Axis::from_index).collect(),
        };
        for (name, value) in graph.inputs() {
            let Op::Input { name: _, dims, elem } = graph.op(value) else { continue };
            let storage = match elem {
                Elem::F32 => Storage::F32,
                Elem::I32 => Storage::I32,
                Elem::Bool => Storage::Byte,
            };
            let id = planner.tensor(name.to_owned(), Origin::Input(value), dims.clone(), storage);
            planner.inputs.insert(value, id);
        }
        for (index, output) in graph.outputs().iter().enumerate() {
            let storage = match graph.ty(output.value).elem {
                Elem::F32 => Storage::F32,
                Elem::I32 => Storage::I32,
                Elem::Bool => Storage::Byte,
            };
            let id = planner.tensor(output.name.clone(), Origin::Output(index), output.dims.clone(), storage);
            planner.outputs.push(id);
        }
        planner
    }

    fn run(mut self, vectors: Vectors) -> Result<Plan, PlanError> {
        let mut softmax: Option<(Value, TensorId)> = None;
        let mut log_sum: Option<(Value, Value, TensorId)> = None;
        let mut plain = Vec::new();
        for (output, &target) in self.graph.outputs().iter().zip(&self.outputs) {
            if let Some(leaf) = self.find(output.value, |op| matches!(op, Op::LogSumExp { .. })) {
                if log_sum.is_some() {
                    return Err(self.not(leaf, "a graph can have one log-sum-exp output; make a second graph"));
                }
                log_sum = Some((output.value, leaf, target));
            } else if let Some(inner) = self.find(output.value, |op| matches!(op, Op::Softmax { .. })) {
                if softmax.is_some() {
                    return Err(self.not(inner, "a graph can have one average of values; make a second graph"));
                }
                self.weighted_dot(output.value, inner)?;
                softmax = Some((output.value, target));
            } else {
                plain.push((output.value, target));
            }
        }
        let attention = if softmax.is_some() || log_sum.is_some() {
            Some(self.attention(softmax, log_sum, vectors)?)
        } else {
            None
        };
        for (value, target) in plain {
            self.prepare(value, true)?;
            let double = self.find(value, |op| matches!(op, Op::Rotate { .. })).is_none();
            self.step(target, Source::Value(value), double, "an output");
        }
        let scratch = scratch_layout(attention.as_ref(), self.graph.axes().len());
        Ok(Plan {
            graph: self.graph.clone(),
            tensors: self.tensors,
            maps: self.maps,
            tables: self.tables,
            attention,
            scratch,
        })
    }

    fn tensor(&mut self, name: String, origin: Origin, dims: Vec<Axis>, storage: Storage) -> TensorId {
        self.tensors.push(Tensor { name, origin, dims, storage });
        self.tensors.len() - 1
    }

    fn not(&self, value: Value, reason: impl Into<String>) -> PlanError {
        PlanError::NotAttention { op: self.graph.line(value), reason: reason.into() }
    }

    /// The first op of `value`'s definition, itself included, for which `wanted` holds.
    fn find(&self, value: Value, wanted: impl Fn(&Op) -> bool) -> Option<Value> {
        let mut seen = vec![false; value.index() + 1];
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            if wanted(self.graph.op(value)) {
                return Some(value);
            }
            stack.extend(self.graph.op(value).operands());
        }
        None
    }

    fn is_const(&self, value: Value, x: f64) -> bool {
        matches!(self.graph.op(value), Op::Const(Scalar::F32(c)) if *c == x)
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
        let reason = if value == inner {
            "the weights of a softmax can't be an output: kernels never hold them; take their `dot` with values, or `logsumexp`"
        } else {
            "this op stands between the softmax and the output; an output is the `dot` of the softmax itself with values, over the \
             axis it normalises"
        };
        Err(self.not(value, reason))
    }

    fn attention(
        &mut self,
        average: Option<(Value, TensorId)>,
        log_sum: Option<(Value, Value, TensorId)>,
        vectors: Vectors,
    ) -> Result<Attention, PlanError> {
        let graph = self.graph;
        // The score, from whichever output there is; both must normalise the same one.
        let mut found: Option<(Value, Axis, Option<Value>)> = None;
        let mut values = None;
        if let Some((output, target)) = average {
            let inner = self.find(output, |op| matches!(op, Op::Softmax { .. })).unwrap_or(output);
            let (softmax, value, _) = self.weighted_dot(output, inner)?;
            values = Some((value, target));
            if let Op::Softmax { x, axis, sink, base } = *graph.op(softmax) {
                self.base_two(softmax, base)?;
                found = Some((x, axis, sink));
            }
        }
        if let Some((_, leaf, _)) = log_sum
            && let Op::LogSumExp { x, axis, sink, base } = *graph.op(leaf)
        {
            self.base_two(leaf, base)?;
            let here = (x, axis, sink);
            if found.is_some_and(|found| found != here) {
                return Err(
                    self.not(leaf, "the log-sum-exp and the average use different scores; make two graphs of it")
                );
            }
            found = Some(here);
        }
        let Some((score, key, sink)) = found else {
            return Err(self.not(Value::clone(&graph.outputs()[0].value), "no softmax found"));
        };
        let inner = [Some(score), sink, values.map(|(value, _)| value)];
        for value in inner.into_iter().flatten() {
            if let Some(bad) = self.find(value, |op| matches!(op, Op::Softmax { .. } | Op::LogSumExp { .. })) {
                return Err(self.not(bad, "a softmax inside the score or the values of another; make two graphs of it"));
            }
        }

        let dims: Vec<Axis> = match (values, log_sum) {
            (Some((_, target)), _) | (None, Some((_, _, target))) => self.tensors[target].dims.clone(),
            (None, None) => Vec::new(),
        };
        let score_axes = graph.ty(score).axes;
        let (mut terms, mut masks) = (Vec::new(), Vec::new());
        self.flatten(Term { value: score, negative: false }, &mut terms, &mut masks);
        let dot = self.content_dot(&terms, score_axes, key)?;
        let query = self.query_axis(dot, score_axes, key, &dims, score)?;
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
                    return Err(self.not(value, "the values need an axis of fixed length that the score does not have"));
                };
                Some(dim)
            }
            None => None,
        };
        let outer: Vec<Axis> =
            dims.iter().copied().filter(|axis| *axis != query && Some(*axis) != weighted_dim).collect();
        if let Some((_, leaf, target)) = log_sum {
            let mut log_outer = self.tensors[target].dims.iter().filter(|axis| **axis != query);
            if !self.tensors[target].dims.contains(&query) || !log_outer.clone().all(|axis| outer.contains(axis)) {
                return Err(self.not(leaf, "the log-sum-exp output needs the axis of queries and those of the average"));
            }
            if log_outer.by_ref().count() != outer.len() {
                return Err(
                    self.not(leaf, "the values vary over an axis that the score does not have; make two graphs of it")
                );
            }
        }
        self.order = outer.iter().copied().chain([query, key]).collect();
        self.order.extend(
            (0..graph.axes().len())
                .filter_map(Axis::from_index)
                .filter(|axis| !outer.contains(axis) && *axis != query && *axis != key),
        );

        let both = |value: Value| {
            let axes = graph.ty(value).axes;
            graph.varies(axes, query) && graph.varies(axes, key)
        };
        let keyed = |value: Value| graph.varies(graph.ty(value).axes, key);
        let (tile_terms, rest): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(|term| both(term.value));
        let (key_terms, query_terms): (Vec<Term>, Vec<Term>) = rest.into_iter().partition(|term| keyed(term.value));
        let hides =
            tile_terms.iter().chain(&key_terms).chain(&query_terms).any(|term| self.reads_input(term.value, dot));
        let key_term = self.sum(key_terms, "varies over keys alone: shifted and added in double precision")?;
        let query_term = self.sum(query_terms, "varies over queries alone")?;
        for term in tile_terms.iter().chain(&masks) {
            self.hoist_operands(term.value, query, key, dot)?;
        }
        let sink = match sink {
            Some(sink) => self.sum(vec![Term { value: sink, negative: false }], "the sink")?,
            None => None,
        };
        let content = match dot {
            Some(dot) => Some(self.content(dot, query)?),
            None => None,
        };
        let weighted = match (values, weighted_dim) {
            (Some((value, output)), Some(dim)) => {
                let value = self.rows(value, "values")?;
                Some(Weighted { value, dim, length: graph.static_extent(dim).unwrap_or(0), output })
            }
            _ => None,
        };
        let log_sum = match log_sum {
            Some((value, leaf, output)) => {
                self.hoist_around(value, leaf)?;
                Some(LogSum { leaf, value, output })
            }
            None => None,
        };
        Ok(Attention {
            query,
            key,
            outer,
            content,
            terms: tile_terms,
            key_term,
            query_term,
            masks,
            hides,
            sink,
            weighted,
            log_sum,
            tile: tile_shape(vectors),
        })
    }

    /// Whether a floating-point input takes part in `value` other than through the dot of query and key.
    fn reads_input(&self, value: Value, dot: Option<Value>) -> bool {
        let mut seen = vec![false; value.index() + 1];
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if Some(value) == dot || std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            match self.graph.op(value) {
                Op::Input { elem: Elem::F32, .. } => return true,
                op => stack.extend(op.operands()),
            }
        }
        false
    }

    fn base_two(&self, value: Value, base: Base) -> Result<(), PlanError> {
        match base {
            Base::Two => Ok(()),
            Base::E => Err(self.not(value, "kernels take powers of 2: fuse the graph first, which rewrites this")),
        }
    }

    /// Takes the score apart into terms and masks.
    fn flatten(&self, term: Term, terms: &mut Vec<Term>, masks: &mut Vec<Term>) {
        use rhumb_ir::Binary;
        let Term { value, negative } = term;
        let mut go = |value, negative| self.flatten(Term { value, negative }, terms, masks);
        match *self.graph.op(value) {
            Op::Binary(Binary::Add, a, b) => {
                go(a, negative);
                go(b, negative);
            }
            Op::Binary(Binary::Sub, a, b) => {
                go(a, negative);
                go(b, !negative);
            }
            Op::Unary(Unary::Neg, x) => go(x, !negative),
            Op::Select { cond, on_true, on_false } if !negative && self.is_const(on_false, f64::NEG_INFINITY) => {
                self.conjuncts(Term { value: cond, negative: false }, masks);
                self.flatten(Term { value: on_true, negative }, terms, masks);
            }
            Op::Select { cond, on_true, on_false } if !negative && self.is_const(on_true, f64::NEG_INFINITY) => {
                self.conjuncts(Term { value: cond, negative: true }, masks);
                self.flatten(Term { value: on_false, negative }, terms, masks);
            }
            _ => terms.push(term),
        }
    }

    /// Takes a mask apart into conditions that must all hold.
    fn conjuncts(&self, mask: Term, masks: &mut Vec<Term>) {
        use rhumb_ir::Binary;
        let Term { value, negative } = mask;
        match *self.graph.op(value) {
            Op::Binary(Binary::And, a, b) if !negative => {
                self.conjuncts(Term { value: a, negative }, masks);
                self.conjuncts(Term { value: b, negative }, masks);
            }
            Op::Binary(Binary::Or, a, b) if negative => {
                self.conjuncts(Term { value: a, negative }, masks);
                self.conjuncts(Term { value: b, negative }, masks);
            }
            Op::Unary(Unary::Not, x) => self.conjuncts(Term { value: x, negative: !negative }, masks),
            _ => masks.push(mask),
        }
    }

    /// The one dot of queries and keys among the terms.
    fn content_dot(&self, terms: &[Term], score_axes: AxisSet, key: Axis) -> Result<Option<Value>, PlanError> {
        let mut found = None;
        for term in terms {
            let mut stack = vec![term.value];
            let mut seen = vec![false; term.value.index() + 1];
            while let Some(value) = stack.pop() {
                if std::mem::replace(&mut seen[value.index()], true) {
                    continue;
                }
                if let Op::Dot { a, b, .. } = *self.graph.op(value) {
                    let keyed = |x: Value| self.graph.varies(self.graph.ty(x).axes, key);
                    if keyed(a) != keyed(b) {
                        let (query, keys) = if keyed(a) { (b, a) } else { (a, b) };
                        let own = self.graph.ty(query).axes.iter().any(|axis| {
                            score_axes.contains(axis) && !self.graph.varies(self.graph.ty(keys).axes, axis)
                        });
                        if own {
                            if found.is_some_and(|found| found != value) {
                                return Err(self.not(
                                    value,
                                    "the score has a second dot of queries and keys; concatenate them along the head dimension",
                                ));
                            }
                            found = Some(value);
                            continue;
                        }
                    }
                }
                stack.extend(self.graph.op(value).operands());
            }
        }
        Ok(found)
    }

    /// The axis of queries: one that the output has, the query side of the dot varies over, and the key side does not.
    fn query_axis(
        &self,
        dot: Option<Value>,
        score_axes: AxisSet,
        key: Axis,
        dims: &[Axis],
        score: Value,
    ) -> Result<Axis, PlanError> {
        let free_of_keys = |axis: Axis| match dot.map(|dot| self.graph.op(dot)) {
            Some(&Op::Dot { a, b, .. }) => {
                let keyed = |x: Value| self.graph.varies(self.graph.ty(x).axes, key);
                let (query, keys) = if keyed(a) { (b, a) } else { (a, b) };
                self.graph.ty(query).axes.contains(axis)
                    && !self.graph.varies(self.graph.ty(keys).axes, axis)
                    && !self.graph.ty(keys).axes.iter().any(|other| self.graph.axis(other).groups == Some(axis))
            }
            _ => true,
        };
        let candidate =
            dims.iter().rev().copied().find(|axis| *axis != key && score_axes.contains(*axis) && free_of_keys(*axis));
        candidate.ok_or_else(|| {
            self.not(
                score,
                "no axis of queries: the score needs an axis that the query side varies over and the keys do not",
            )
        })
    }

    fn content(&mut self, dot: Value, query: Axis) -> Result<Content, PlanError> {
        let Op::Dot { a, b, axis: dim } = *self.graph.op(dot) else {
            return Err(self.not(dot, "expected a dot"));
        };
        let queried = |x: Value| self.graph.varies(self.graph.ty(x).axes, query);
        let (queries, keys) = if queried(a) { (a, b) } else { (b, a) };
        let Some(length) = self.graph.static_extent(dim) else {
            let axis = self.graph.axis(dim).name.clone();
            return Err(PlanError::DynamicAxis { axis, reason: "the dot of query and key runs over it" });
        };
        self.prepare(queries, false)?;
        let key = self.rows(keys, "keys")?;
        Ok(Content { dot, dim, length, query: queries, key })
    }

    /// The tensor that holds rows of keys or values: the input itself, or a table made of it.
    fn rows(&mut self, value: Value, what: &'static str) -> Result<TensorId, PlanError> {
        if let Some(&input) = self.inputs.get(&value) {
            return Ok(input);
        }
        self.prepare(value, true)?;
        let reason = if what == "keys" {
            "keys are transformed once, not for every query tile"
        } else {
            "values are transformed once, not for every query tile"
        };
        Ok(self.table(Source::Value(value), value, Storage::F32, false, reason))
    }

    /// A table of a sum of terms in double precision; `None` for no terms.
    fn sum(&mut self, terms: Vec<Term>, reason: &'static str) -> Result<Option<TensorId>, PlanError> {
        let Some(first) = terms.first() else { return Ok(None) };
        for term in &terms {
            self.prepare(term.value, true)?;
        }
        let axes =
            terms.iter().fold(AxisSet::EMPTY, |axes, term| self.graph.join(axes, self.graph.ty(term.value).axes));
        let first = first.value;
        Ok(Some(self.table_over(axes, Source::Sum(terms), first, Storage::F64, true, reason)))
    }

    fn table(
        &mut self,
        source: Source,
        value: Value,
        storage: Storage,
        double: bool,
        reason: &'static str,
    ) -> TensorId {
        self.table_over(self.graph.ty(value).axes, source, value, storage, double, reason)
    }

    fn table_over(
        &mut self,
        axes: AxisSet,
        source: Source,
        value: Value,
        storage: Storage,
        double: bool,
        reason: &'static str,
    ) -> TensorId {
        if let Some(&table) = self.tables.get(&source) {
            return table;
        }
        let dims = self.order.iter().copied().filter(|axis| axes.contains(*axis)).collect();
        let short = self.graph.value_names().swap_remove(value.index());
        let name = match &source {
            Source::Value(_) => short,
            Source::Sum(_) => format!("sum {short}"),
            Source::Cos(_) => format!("cos {short}"),
            Source::Sin(_) => format!("sin {short}"),
        };
        let target = self.tensor(name, Origin::Table, dims, storage);
        self.tables.insert(source.clone(), target);
        self.step(target, source, double, reason);
        target
    }

    fn step(&mut self, target: TensorId, source: Source, double: bool, reason: &'static str) {
        let rotated = match &source {
            Source::Value(value) => self.rotated_axis(*value),
            _ => None,
        };
        let inner = rotated.or(self.tensors[target].dims.last().copied());
        self.maps.push(MapStep { target, source, inner, double, reason });
    }

    /// The axis of the rotations that a map step over `value` computes in place.
    fn rotated_axis(&self, value: Value) -> Option<Axis> {
        let mut stack = vec![value];
        while let Some(at) = stack.pop() {
            if at != value && self.tables.contains_key(&Source::Value(at)) {
                continue;
            }
            match self.graph.op(at) {
                Op::Rotate { dim, .. } => return Some(*dim),
                Op::Dot { .. } | Op::Gather { .. } => {}
                op => stack.extend(op.operands()),
            }
        }
        None
    }

    /// A table of a value that the tile loop reads.
    fn hoist(&mut self, value: Value, reason: &'static str) -> Result<(), PlanError> {
        if matches!(self.graph.op(value), Op::Const(_)) {
            return Ok(());
        }
        self.prepare(value, true)?;
        let storage = match self.graph.ty(value).elem {
            Elem::F32 => Storage::F32,
            Elem::I32 => Storage::I32,
            Elem::Bool => Storage::Mask,
        };
        self.table(Source::Value(value), value, storage, true, reason);
        Ok(())
    }

    /// Makes tables of all that an expression over queries and keys reads and that varies over less.
    fn hoist_operands(&mut self, value: Value, query: Axis, key: Axis, dot: Option<Value>) -> Result<(), PlanError> {
        if Some(value) == dot || self.inputs.contains_key(&value) && self.over_both(value, query, key) {
            return Ok(());
        }
        if !self.over_both(value, query, key) {
            return self.hoist(value, "read by the score for every element");
        }
        match self.graph.op(value).clone() {
            Op::Unary(..) | Op::Binary(..) | Op::Compare(..) | Op::Select { .. } | Op::Cast(..) => {
                for operand in self.graph.op(value).operands() {
                    self.hoist_operands(operand, query, key, dot)?;
                }
                Ok(())
            }
            Op::Gather { table, axis: _, index } => {
                if self.over_both(table, query, key) {
                    return Err(
                        self.not(value, "the score gathers from a table that varies over queries and keys both")
                    );
                }
                self.hoist(table, "gathered from by the score")?;
                self.hoist_operands(index, query, key, dot)
            }
            Op::Dot { .. } => {
                Err(self.not(value, "this dot varies over queries and keys, and the score can have one such dot"))
            }
            Op::Rotate { .. } => Err(self.not(
                value,
                "a rotation inside the score would run for every query and key; rotate the query or the key",
            )),
            _ => Err(self.not(value, "this op can't be computed inside the score")),
        }
    }

    fn over_both(&self, value: Value, query: Axis, key: Axis) -> bool {
        let axes = self.graph.ty(value).axes;
        self.graph.varies(axes, query) && self.graph.varies(axes, key)
    }

    /// Makes tables of what the log-sum-exp output reads besides the log-sum-exp itself.
    fn hoist_around(&mut self, value: Value, leaf: Value) -> Result<(), PlanError> {
        if value == leaf {
            return Ok(());
        }
        if self.find(value, |op| op == self.graph.op(leaf)).is_none() {
            return self.prepare(value, true);
        }
        match self.graph.op(value) {
            Op::Unary(..) | Op::Binary(..) | Op::Select { .. } | Op::Compare(..) | Op::Cast(..) => {
                for operand in self.graph.op(value).operands() {
                    self.hoist_around(operand, leaf)?;
                }
                Ok(())
            }
            _ => Err(self.not(value, "only elementwise ops can follow the log-sum-exp")),
        }
    }

    /// Makes what a map step over `value` reads: constants, cosines and sines of angles, and rotations that can't be computed in place.
    ///
    /// `whole` tells that the step computes whole tensors; a query tile is computed from parts that are free of the head dimension.
    fn prepare(&mut self, value: Value, whole: bool) -> Result<(), PlanError> {
        self.prepare_inner(value, whole, None)
    }

    fn prepare_inner(&mut self, value: Value, whole: bool, rotated: Option<Axis>) -> Result<(), PlanError> {
        if self.tables.contains_key(&Source::Value(value)) || self.inputs.contains_key(&value) {
            return Ok(());
        }
        match self.graph.op(value).clone() {
            Op::Table { dims, elem, data: _ } => {
                let storage = match elem {
                    Elem::F32 => Storage::F64,
                    Elem::I32 => Storage::I32,
                    Elem::Bool => Storage::Mask,
                };
                let name = self.graph.value_names().swap_remove(value.index());
                let id = self.tensor(name, Origin::Constant(value), dims, storage);
                self.tables.insert(Source::Value(value), id);
                Ok(())
            }
            Op::Softmax { .. } | Op::LogSumExp { .. } => {
                Err(self.not(value, "a softmax can't be an operand here; make two graphs of it"))
            }
            Op::Scheme { scheme, hook, .. } => Err(PlanError::NotLowered { scheme, hook }),
            Op::Rotate { x, angle, dim, pair: _, pairing: _, start: _ } => {
                if rotated.is_some_and(|other| other != dim) {
                    return Err(self.not(value, "a rotation inside a rotation along another axis"));
                }
                self.prepare_inner(angle, true, None)?;
                let reason = "an angle, reduced in double precision, once per call";
                self.table(Source::Cos(angle), angle, Storage::F32, true, reason);
                self.table(Source::Sin(angle), angle, Storage::F32, true, reason);
                self.prepare_inner(x, whole, Some(dim))?;
                if let Some(inner) = self.overlapping(value, x) {
                    self.prepare_inner(inner, true, Some(dim))?;
                    self.table(Source::Value(inner), inner, Storage::F32, false, "rotated again, with other pairs");
                }
                Ok(())
            }
            Op::Dot { a, b, axis: _ } | Op::Gather { table: a, axis: _, index: b } => {
                for operand in [a, b] {
                    self.prepare_inner(operand, true, None)?;
                    // Rotations come in pairs of elements, which a reduction or a gather does not visit together.
                    if let Some(inner) = self.find(operand, |op| matches!(op, Op::Rotate { .. }))
                        && !self.tables.contains_key(&Source::Value(inner))
                    {
                        self.table(Source::Value(inner), inner, Storage::F32, false, "rotated before it is reduced");
                    }
                }
                Ok(())
            }
            op => {
                for operand in op.operands() {
                    self.prepare_inner(operand, whole, rotated)?;
                }
                Ok(())
            }
        }
    }

    /// A rotation under `x` whose block overlaps that of the rotation `outer`.
    fn overlapping(&self, outer: Value, x: Value) -> Option<Value> {
        let block = |op: &Op| match *op {
            Op::Rotate { pair, start, .. } => {
                let pairs = self.graph.static_extent(pair).unwrap_or(0);
                (start, start + 2 * pairs)
            }
            _ => (0, 0),
        };
        let (from, to) = block(self.graph.op(outer));
        self.find(x, |op| {
            let (inner_from, inner_to) = block(op);
            matches!(op, Op::Rotate { .. }) && inner_from < to && from < inner_to
        })
    }
}

/// Register and cache tiles: accumulators fill the registers but for a few, and a query tile has about 48 queries.
fn tile_shape(vectors: Vectors) -> TileShape {
    let Vectors { lanes, registers } = vectors;
    // Cranelift's backends copy on every multiply-add: more accumulators than this are spilled.
    let rows = if registers >= 32 && lanes > 4 { 8 } else { 4 };
    let columns = 3;
    TileShape { lanes, key_rows: rows, columns, value_rows: rows, blocks: (48 / (columns * lanes)).max(1), keys: 64 }
}

fn scratch_layout(attention: Option<&Attention>, axes: usize) -> ScratchLayout {
    let mut end = 0usize;
    let mut take = |bytes: usize| {
        let start = end;
        end = (end + bytes).next_multiple_of(64);
        start
    };
    let mut layout =
        ScratchLayout { outer: take(8 * axes.max(1)), range: take(8 * 4), shift: take(8), ..Default::default() };
    if let Some(attention) = attention {
        let tile = attention.tile;
        let queries = 4 * tile.queries();
        layout.queries = take(queries * attention.content.as_ref().map_or(0, |content| content.length as usize));
        layout.scores = take(queries * (tile.keys + tile.key_rows));
        layout.accumulators =
            take(queries * attention.weighted.as_ref().map_or(0, |weighted| weighted.length as usize));
        layout.maxima = take(queries);
        layout.tile_maxima = take(queries);
        layout.rescale = take(queries);
        layout.sums = take(queries);
        layout.key_terms = take(4 * (tile.keys + tile.key_rows));
        layout.key_rests = take(4 * (tile.keys + tile.key_rows));
        layout.lanes = take(8 * tile.queries());
    }
    layout.constants = take(0);
    layout.bytes = end;
    layout
}
