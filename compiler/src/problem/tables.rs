//! Tables, made before the tile loop: transformed rows, cosines and sines, terms.
//!
//! # Where a transformation goes
//! Cost is iterations. The query side of the dot is transformed while a query tile is loaded: `{h, q, d}` either way, and a table of it
//! would be written and read back for nothing. The key side is loaded once for every query tile of every head of its group: made first,
//! it costs `{g, k, d}` instead of `{h, query tiles, k, d}`, which is never less. So keys and values that are transformed always have a
//! table, and queries never do. Values free of keys or of queries that the score reads for every element are tables too, small ones.

use rhumb_ir::{Axis, AxisSet, Op, Value, Walk};

use super::planner::Planner;
use super::{KeyTerm, Origin, PlanError, Source, Storage, Table, TensorId, Term};
use crate::expr::Node;

/// A step of preparing what a table is made of.
enum Task {
    Visit(Value),
    /// The angle of a rotation, prepared.
    Angle(Value),
    /// An operand of a sum or a lookup, prepared.
    Reduced(Value),
    /// An index, prepared.
    Rotations(Value),
}

impl Planner<'_> {
    /// The tensor that holds rows of keys or values: the input itself, or a table made of it. Products read single precision.
    pub(super) fn rows(&mut self, value: Value, what: &'static str) -> Result<TensorId, PlanError> {
        let input = self.inputs.get(&value).copied();
        if let Some(input) = input.filter(|input| self.tensors[*input].storage == Storage::F32) {
            return Ok(input);
        }
        self.prepare(value)?;
        if self.is_double(value) {
            return Ok(self.single(value, self.graph.ty(value).axes, "rows are read in single precision"));
        }
        self.factors(value)?;
        let reason = match input.map(|input| self.tensors[input].storage.bytes()) {
            Some(1) => "read from 8 bits once, not for every query tile",
            Some(_) => "read from 16 bits once, not for every query tile",
            None if what == "keys" => "keys are transformed once, not for every query tile",
            None => "values are transformed once, not for every query tile",
        };
        Ok(self.table(Source::Value(value), value, Storage::F32, false, reason))
    }

    /// Whether a value has a table of double precision, which a sum reads.
    fn is_double(&self, value: Value) -> bool {
        let table = self.table_of.get(&Source::Value(value));
        table.is_some_and(|table| self.tensors[*table].storage != Storage::F32)
    }

    /// A table of a value in single precision, over some axes.
    fn single(&mut self, value: Value, axes: AxisSet, reason: &'static str) -> TensorId {
        let source = Source::Sum(vec![Term { value, negative: false }]);
        self.table_over(axes, source, value, Storage::F32, false, reason)
    }

    /// The tensor that holds rows of keys, one for each key: where all keys of a block share a row, a table repeats it.
    pub(super) fn key_rows(&mut self, value: Value, key: Axis) -> Result<TensorId, PlanError> {
        let axes = self.graph.ty(value).axes;
        if axes.contains(key) {
            return self.rows(value, "keys");
        }
        if !self.is_double(value) {
            self.rows(value, "keys")?;
        }
        let axes = self.graph.join(axes, AxisSet::EMPTY.with(key));
        Ok(self.single(value, axes, "keys of a block share a row"))
    }

    /// A table of a sum of terms in double precision; `None` for no terms.
    pub(super) fn sum(&mut self, terms: Vec<Term>, reason: &'static str) -> Result<Option<TensorId>, PlanError> {
        let Some(first) = terms.first().map(|term| term.value) else { return Ok(None) };
        let axes = self.prepare_sum(&terms, AxisSet::EMPTY)?;
        Ok(Some(self.table_over(axes, Source::Sum(terms), first, Storage::F64, true, reason)))
    }

    /// Prepares the terms of a sum; gives their axes and `axes`.
    fn prepare_sum(&mut self, terms: &[Term], axes: AxisSet) -> Result<AxisSet, PlanError> {
        for term in terms {
            self.prepare(term.value)?;
        }
        Ok(terms.iter().fold(axes, |axes, term| self.graph.join(axes, self.graph.ty(term.value).axes)))
    }

    /// The tables of a sum of terms that vary over keys; `None` for no terms.
    pub(super) fn key_term(&mut self, terms: Vec<Term>, key: Axis) -> Result<Option<KeyTerm>, PlanError> {
        let Some(first) = terms.first().map(|term| term.value) else { return Ok(None) };
        let axes = self.prepare_sum(&terms, AxisSet::EMPTY.with(key))?;
        let reason = "varies over keys alone: computed in double precision, kept in two parts";
        let high = self.table_over(axes, Source::Sum(terms), first, Storage::F32, true, reason);
        let name = format!("low {}", self.tensors[high].name);
        let low = self.tensor(name, Origin::Table, self.tensors[high].dims.clone(), Storage::F32);
        if let Some(step) = self.tables.last_mut() {
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
        if self.table_of.contains_key(&Source::Sin(angle)) {
            return;
        }
        let reason = "an angle, reduced in double precision, once per call";
        let cosines = self.table(Source::Cos(angle), angle, Storage::F32, true, reason);
        let name = self.tensors[cosines].name.replacen("cos", "sin", 1);
        let sines = self.tensor(name, Origin::Table, self.tensors[cosines].dims.clone(), Storage::F32);
        self.table_of.insert(Source::Sin(angle), sines);
        if let Some(step) = self.tables.last_mut() {
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
        if let Some(&table) = self.table_of.get(&source) {
            return table;
        }
        let dims = self.order.iter().copied().filter(|axis| axes.contains(*axis)).collect();
        let short = self.names[value.index()].clone();
        let name = match &source {
            Source::Value(_) | Source::Squares { .. } => short,
            Source::Sum(_) => format!("sum {short}"),
            Source::Cos(_) => format!("cos {short}"),
            Source::Sin(_) => format!("sin {short}"),
        };
        let target = self.tensor(name, Origin::Table, dims, storage);
        self.table_of.insert(source.clone(), target);
        self.step(target, source, double, reason);
        target
    }

    /// Adds a step that makes `target`; `double` asks for double precision, which rotations in place do not have.
    pub(super) fn step(&mut self, target: TensorId, source: Source, double: bool, reason: &'static str) {
        let turned = match &source {
            Source::Value(value) => {
                let over: AxisSet = self.tensors[target].dims.iter().copied().collect();
                self.rotate_in_place(*value, (over, None), double)
            }
            Source::Sum(terms) => {
                terms.iter().for_each(|term| self.rotate_before(term.value, "rotated before it is a term"));
                None
            }
            Source::Cos(angle) | Source::Sin(angle) => {
                self.rotate_before(*angle, "rotated before it is an angle");
                None
            }
            Source::Squares { .. } => None,
        };
        let inner = turned.or(self.tensors[target].dims.last().copied());
        let double = double && turned.is_none();
        let after = match &source {
            Source::Value(value) | Source::Cos(value) | Source::Sin(value) => self.of_results[value.index()],
            Source::Sum(terms) => terms.iter().any(|term| self.of_results[term.value.index()]),
            Source::Squares { .. } => false,
        };
        self.tables.push(Table { target, second: None, source, inner, double, after, reason });
    }

    /// Decides which rotations in `root` are computed in place, where a loop makes elements over the axes `over`, and makes tables of the
    /// others. The loop turns rows pair by pair, each element once, at one index of all other axes. It runs along `axis`, or along that of
    /// the first rotation, which is given back.
    pub(super) fn rotate_in_place(
        &mut self,
        root: Value,
        (over, mut axis): (AxisSet, Option<Axis>),
        double: bool,
    ) -> Option<Axis> {
        let whole = axis.is_none();
        let (mut blocks, mut walk) = (Vec::new(), Walk::of([root]));
        while let Some(value) = walk.next() {
            let made = value != root && self.table_of.contains_key(&Source::Value(value));
            if made || !self.rotates[value.index()] {
                continue;
            }
            match *self.graph.op(value) {
                Op::Rotate { x, dim, pair, start, .. } => {
                    let end = start + 2 * self.graph.static_extent(pair).unwrap_or(0);
                    let apart = blocks.iter().all(|&(from, to)| end <= from || to <= start);
                    let along = axis.is_none_or(|axis| axis == dim) && !self.graph.varies(over, pair);
                    if whole && value == root || !double && along && apart {
                        axis = Some(dim);
                        blocks.push((start, end));
                        walk.enter([x]);
                    } else {
                        self.rotated_table(value, "rotated before it is read element by element");
                    }
                }
                // Of these, rotations have tables.
                Op::Dot { .. } | Op::Gather { .. } => {}
                ref op => walk.enter(op.operands()),
            }
        }
        axis
    }

    /// Makes tables of all rotations in `root`: what visits elements one by one reads them.
    fn rotate_before(&mut self, root: Value, reason: &'static str) {
        let mut walk = Walk::of([root]);
        while let Some(value) = walk.next() {
            match self.graph.op(value) {
                _ if !self.rotates[value.index()] => {}
                Op::Rotate { .. } => self.rotated_table(value, reason),
                op => walk.enter(op.operands()),
            }
        }
    }

    fn rotated_table(&mut self, value: Value, reason: &'static str) {
        self.table(Source::Value(value), value, Storage::F32, false, reason);
    }

    /// A table of a value that the tile loop reads.
    pub(super) fn hoist(&mut self, value: Value, reason: &'static str) -> Result<(), PlanError> {
        if matches!(self.graph.op(value), Op::Const(_)) {
            return Ok(());
        }
        self.prepare(value)?;
        let storage = Storage::of_table(self.graph.ty(value).elem, false);
        self.table(Source::Value(value), value, storage, true, reason);
        Ok(())
    }

    /// Makes tables of all that expressions over queries and keys read and that varies over less.
    pub(super) fn hoist_operands(
        &mut self,
        values: impl Iterator<Item = Value>,
        query: Axis,
        key: Axis,
        dot: Option<Value>,
    ) -> Result<(), PlanError> {
        let mut walk = Walk::of(values);
        while let Some(value) = walk.next() {
            if Some(value) == dot {
                continue;
            }
            if !self.over_both(value, query, key) {
                self.hoist(value, "read by the score for every element")?;
            } else if !self.inputs.contains_key(&value) {
                walk.enter(self.read_by_pairs(value, query, key)?);
            }
        }
        Ok(())
    }

    /// The operands that an op reads where it is computed for every query and key.
    fn read_by_pairs(&mut self, value: Value, query: Axis, key: Axis) -> Result<Vec<Value>, PlanError> {
        if let Op::Table { .. } = self.graph.op(value) {
            return self.prepare(value).map(|()| Vec::new());
        }
        match self.node(value) {
            Node::Table(_) | Node::Input(_) => Ok(Vec::new()),
            node @ (Node::Unary(..)
            | Node::Binary(..)
            | Node::MulAdd(_)
            | Node::Compare(..)
            | Node::Select(_)
            | Node::Cast(..)) => Ok(node.operands()),
            Node::Gather { table, axis: _, index } => {
                if self.over_both(table, query, key) {
                    return Err(
                        self.not(value, "the score gathers from a table that varies over queries and keys both; make what is gathered an input")
                    );
                }
                self.hoist(table, "gathered from by the score")?;
                Ok(vec![index])
            }
            Node::Dot { .. } => {
                Err(self.not(value, "this dot varies over queries and keys, and the score can have one such dot"))
            }
            Node::Rotate { .. } => Err(self.not(
                value,
                "a rotation inside the score would run for every query and key; rotate the query or the key",
            )),
            Node::Product | Node::Const(_) | Node::Iota(_) | Node::Size(_) | Node::Opaque => {
                Err(self.not(value, "this op can't be computed inside the score; make its result an input"))
            }
        }
    }

    /// Whether a value is computed per pair of a query and a key.
    pub(super) fn over_both(&self, value: Value, query: Axis, key: Axis) -> bool {
        if self.one_query == Some(query) {
            return self.of_dot.get(value.index()) == Some(&true);
        }
        let axes = self.graph.ty(value).axes;
        self.graph.varies(axes, query) && self.graph.varies(axes, key)
    }

    /// Makes tables of what the log-sum-exp output reads besides the log-sum-exp itself.
    pub(super) fn hoist_around(&mut self, value: Value, leaf: Value) -> Result<(), PlanError> {
        let graph = self.graph;
        // The values that depend on the log-sum-exp.
        let around = self.reaches(|op| op == graph.op(leaf));
        let mut walk = Walk::of([value]);
        walk.pass(leaf);
        while let Some(value) = walk.next() {
            if !around[value.index()] {
                self.prepare(value)?;
                self.rotate_before(value, "rotated before it is read beside the log-sum-exp");
                continue;
            }
            match graph.op(value) {
                op @ (Op::Unary(..) | Op::Binary(..) | Op::Select { .. } | Op::Compare(..) | Op::Cast(..)) => {
                    walk.enter(op.operands());
                }
                _ => return Err(self.not(value, "only elementwise ops can follow the log-sum-exp")),
            }
        }
        Ok(())
    }

    /// Makes what a table of `value` is made of: constants, cosines and sines of angles.
    pub(super) fn prepare(&mut self, value: Value) -> Result<(), PlanError> {
        let mut tasks = vec![Task::Visit(value)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit(value) => {
                    let known = self.table_of.contains_key(&Source::Value(value)) || self.inputs.contains_key(&value);
                    if !known && self.prepared.insert(value) {
                        let next = self.prepare_op(value)?;
                        tasks.extend(next.into_iter().rev());
                    }
                }
                Task::Angle(angle) => self.cosines_and_sines(angle),
                Task::Reduced(operand) => self.reduced(operand),
                Task::Rotations(index) => self.rotate_before(index, "rotated before it is looked up"),
            }
        }
        Ok(())
    }

    /// The tasks that prepare an op, in order.
    fn prepare_op(&mut self, value: Value) -> Result<Vec<Task>, PlanError> {
        match self.graph.op(value).clone() {
            Op::Table { dims, elem, data: _ } => {
                let storage = Storage::of_table(elem, true);
                let name = self.names[value.index()].clone();
                let id = self.tensor(name, Origin::Constant(value), dims, storage);
                self.table_of.insert(Source::Value(value), id);
                Ok(Vec::new())
            }
            Op::Softmax { .. } | Op::LogSumExp { .. } => {
                Err(self.not(value, "a softmax can't be an operand here; make two graphs of it"))
            }
            Op::Scheme { scheme, hook, .. } => Err(PlanError::NotLowered { scheme, hook }),
            Op::Rotate { x, angle, .. } => Ok(vec![Task::Visit(angle), Task::Angle(angle), Task::Visit(x)]),
            Op::Dot { a, b, axis: _ } => Ok(vec![Task::Visit(a), Task::Reduced(a), Task::Visit(b), Task::Reduced(b)]),
            Op::Gather { table, axis: _, index } => {
                Ok(vec![Task::Visit(table), Task::Reduced(table), Task::Visit(index), Task::Rotations(index)])
            }
            op => Ok(op.operands().into_iter().map(Task::Visit).collect()),
        }
    }

    /// Makes tables of what a sum, or a lookup at an index of its own, would compute again for each of its elements.
    fn reduced(&mut self, operand: Value) {
        self.rotate_before(operand, "rotated before it is reduced");
        let nested = self.reduces[operand.index()] && !self.table_of.contains_key(&Source::Value(operand));
        if nested {
            let storage = Storage::of_table(self.graph.ty(operand).elem, true);
            self.table(Source::Value(operand), operand, storage, true, "computed once, not for every element of a sum");
        }
    }
}
