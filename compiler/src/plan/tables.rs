//! What is made before the tile loop: tables, transformed rows, cosines and sines.
//!
//! # Where a transformation goes
//! Cost is iterations. The query side of the dot is transformed while a query tile is loaded: `{h, q, d}` either way, and a table of it
//! would be written and read back for nothing. The key side is loaded once for every query tile of every head of its group: made first,
//! it costs `{g, k, d}` instead of `{h, query tiles, k, d}`, which is never less. So keys and values that are transformed always have a
//! table, and queries never do. Values free of keys or of queries that the score reads for every element are tables too, small ones.

use rhumb_ir::{Axis, AxisSet, Elem, Op, Value};

use super::build::Planner;
use super::{KeyTerm, MapStep, Origin, PlanError, Source, Storage, TensorId, Term};

impl Planner<'_> {
    /// The tensor that holds rows of keys or values: the input itself, or a table made of it.
    pub(super) fn rows(&mut self, value: Value, what: &'static str) -> Result<TensorId, PlanError> {
        if let Some(&input) = self.inputs.get(&value) {
            return Ok(input);
        }
        self.prepare(value)?;
        let reason = if what == "keys" {
            "keys are transformed once, not for every query tile"
        } else {
            "values are transformed once, not for every query tile"
        };
        Ok(self.table(Source::Value(value), value, Storage::F32, false, reason))
    }

    /// A table of a sum of terms in double precision; `None` for no terms.
    pub(super) fn sum(&mut self, terms: Vec<Term>, reason: &'static str) -> Result<Option<TensorId>, PlanError> {
        let Some(first) = terms.first() else { return Ok(None) };
        for term in &terms {
            self.prepare(term.value)?;
        }
        let axes =
            terms.iter().fold(AxisSet::EMPTY, |axes, term| self.graph.join(axes, self.graph.ty(term.value).axes));
        let first = first.value;
        Ok(Some(self.table_over(axes, Source::Sum(terms), first, Storage::F64, true, reason)))
    }

    /// The tables of a sum of terms that vary over keys; `None` for no terms.
    pub(super) fn key_term(&mut self, terms: Vec<Term>, key: Axis) -> Result<Option<KeyTerm>, PlanError> {
        let Some(first) = terms.first().map(|term| term.value) else { return Ok(None) };
        for term in &terms {
            self.prepare(term.value)?;
        }
        let axes = terms
            .iter()
            .fold(AxisSet::EMPTY.with(key), |axes, term| self.graph.join(axes, self.graph.ty(term.value).axes));
        let reason = "varies over keys alone: computed in double precision, kept in two parts";
        let high = self.table_over(axes, Source::Sum(terms), first, Storage::F32, true, reason);
        let name = format!("low {}", self.tensors[high].name);
        let low = self.tensor(name, Origin::Table, self.tensors[high].dims.clone(), Storage::F32);
        if let Some(step) = self.maps.last_mut() {
            step.second = Some(low);
        }
        Ok(Some(KeyTerm { high, low }))
    }

    pub(super) fn table(
        &mut self,
        source: Source,
        value: Value,
        storage: Storage,
        double: bool,
        reason: &'static str,
    ) -> TensorId {
        self.table_over(self.graph.ty(value).axes, source, value, storage, double, reason)
    }

    /// The tables of an angle's cosine and sine, made in one step.
    fn cosines_and_sines(&mut self, angle: Value) {
        if self.tables.contains_key(&Source::Sin(angle)) {
            return;
        }
        let reason = "an angle, reduced in double precision, once per call";
        let cosines = self.table(Source::Cos(angle), angle, Storage::F32, true, reason);
        let name = self.tensors[cosines].name.replacen("cos", "sin", 1);
        let sines = self.tensor(name, Origin::Table, self.tensors[cosines].dims.clone(), Storage::F32);
        self.tables.insert(Source::Sin(angle), sines);
        if let Some(step) = self.maps.last_mut() {
            step.second = Some(sines);
        }
    }

    pub(super) fn table_over(
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
            Source::Value(_) | Source::Squares { .. } => short,
            Source::Sum(_) => format!("sum {short}"),
            Source::Cos(_) => format!("cos {short}"),
            Source::Sin(_) => format!("sin {short}"),
        };
        let target = self.tensor(name, Origin::Table, dims, storage);
        self.tables.insert(source.clone(), target);
        self.step(target, source, double, reason);
        target
    }

    pub(super) fn step(&mut self, target: TensorId, source: Source, double: bool, reason: &'static str) {
        let rotated = match &source {
            Source::Value(value) => self.rotated_axis(*value),
            _ => None,
        };
        let inner = rotated.or(self.tensors[target].dims.last().copied());
        self.maps.push(MapStep { target, second: None, source, inner, double, reason });
    }

    /// The axis of the rotations that a map step over `value` computes in place.
    pub(super) fn rotated_axis(&self, value: Value) -> Option<Axis> {
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
    pub(super) fn hoist(&mut self, value: Value, reason: &'static str) -> Result<(), PlanError> {
        if matches!(self.graph.op(value), Op::Const(_)) {
            return Ok(());
        }
        self.prepare(value)?;
        let storage = match self.graph.ty(value).elem {
            Elem::F32 => Storage::F32,
            Elem::I32 => Storage::I32,
            Elem::Bool => Storage::Mask,
        };
        self.table(Source::Value(value), value, storage, true, reason);
        Ok(())
    }

    /// Makes tables of all that an expression over queries and keys reads and that varies over less.
    pub(super) fn hoist_operands(
        &mut self,
        value: Value,
        query: Axis,
        key: Axis,
        dot: Option<Value>,
    ) -> Result<(), PlanError> {
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

    pub(super) fn over_both(&self, value: Value, query: Axis, key: Axis) -> bool {
        let axes = self.graph.ty(value).axes;
        self.graph.varies(axes, query) && self.graph.varies(axes, key)
    }

    /// Makes tables of what the log-sum-exp output reads besides the log-sum-exp itself.
    pub(super) fn hoist_around(&mut self, value: Value, leaf: Value) -> Result<(), PlanError> {
        if value == leaf {
            return Ok(());
        }
        if self.find(value, |op| op == self.graph.op(leaf)).is_none() {
            return self.prepare(value);
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
    pub(super) fn prepare(&mut self, value: Value) -> Result<(), PlanError> {
        self.prepare_inner(value, None)
    }

    pub(super) fn prepare_inner(&mut self, value: Value, rotated: Option<Axis>) -> Result<(), PlanError> {
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
                self.prepare_inner(angle, None)?;
                self.cosines_and_sines(angle);
                self.prepare_inner(x, Some(dim))?;
                if let Some(inner) = self.overlapping(value, x) {
                    self.prepare_inner(inner, Some(dim))?;
                    self.table(Source::Value(inner), inner, Storage::F32, false, "rotated again, with other pairs");
                }
                Ok(())
            }
            Op::Dot { a, b, axis: _ } | Op::Gather { table: a, axis: _, index: b } => {
                for operand in [a, b] {
                    self.prepare_inner(operand, None)?;
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
                    self.prepare_inner(operand, rotated)?;
                }
                Ok(())
            }
        }
    }

    /// A rotation under `x` whose block overlaps that of the rotation `outer`.
    pub(super) fn overlapping(&self, outer: Value, x: Value) -> Option<Value> {
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
