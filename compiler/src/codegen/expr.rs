//! Emits IR expressions at one point of a loop nest: a scalar element, or `W` queries of one key.

use std::collections::BTreeMap;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;
use rhumb_ir::{Axis, AxisSet, Binary, Elem, Scalar, Value};

mod address;
mod arithmetic;
mod load;
mod lookup;

use super::error::CodegenError;
use super::loops::{Emitter, counted_loop};
use super::vocab::{Vocab, access};
use crate::expr::{Domain, Node, walk};
use crate::plan::{Plan, Source, TensorId};

/// The meaning of the lanes of a vector.
#[derive(Clone, Copy)]
enum Lanes {
    /// Indices along an axis, each clamped to it: the 32-bit words at this address hold them.
    Clamped(Axis, Ssa, Order),
    /// Successive indices along an axis, all of them elements; what varies along it is contiguous.
    Successive(Axis),
}

/// The order of the indices of lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each is the next one, until they are clamped.
    Successive,
    /// In any way.
    Any,
}

impl Lanes {
    fn axis(self) -> Axis {
        match self {
            Lanes::Clamped(axis, ..) | Lanes::Successive(axis) => axis,
        }
    }
}

/// Emits expressions of a plan's graph.
pub(crate) struct ExprEmitter<'a, 'f> {
    pub(crate) plan: &'a Plan,
    pub(crate) v: Vocab<'a, 'f>,
    /// Address of the frame.
    pub(crate) frame: Ssa,
    /// Address of the scratch memory.
    pub(crate) scratch: Ssa,
    /// The index along each axis that the point fixes, as `i64`; of the axis of lanes, that of the first lane.
    env: Vec<Option<Ssa>>,
    lanes: Option<Lanes>,
    memo: BTreeMap<Value, Ssa>,
    /// Tables that are not made yet where this code runs.
    unmade: Vec<TensorId>,
    /// Addresses of rows at this point.
    rows: Vec<Row>,
}

/// A tensor's row at a point.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) tensor: TensorId,
    /// The axis that it runs along.
    pub(crate) along: Axis,
    pub(crate) address: Ssa,
}

/// A point's indices, lanes and values, to restore.
pub(crate) struct Saved {
    env: Vec<Option<Ssa>>,
    lanes: Option<Lanes>,
    memo: BTreeMap<Value, Ssa>,
}

impl<'f> Emitter<'f> for ExprEmitter<'_, 'f> {
    type Known = Saved;

    fn fb(&mut self) -> &mut FunctionBuilder<'f> {
        ExprEmitter::fb(self)
    }

    fn save(&self) -> Saved {
        ExprEmitter::save(self)
    }

    fn restore(&mut self, known: Saved) {
        ExprEmitter::restore(self, known);
    }
}

impl Domain for ExprEmitter<'_, '_> {
    type Error = CodegenError;

    fn is_known(&self, value: Value) -> bool {
        self.memo.contains_key(&value)
    }

    fn node(&self, value: Value) -> Node {
        let node = |value| self.plan.node(value, |table| self.can_read(table));
        // A product that has not been computed joins the sum that uses it.
        if let Node::Binary(Binary::Add, [a, b]) = node(value)
            && self.plan.graph.ty(value).elem == Elem::F32
            && self.v.is_vector()
        {
            let product = |x: Value| match node(x) {
                Node::Binary(Binary::Mul, factors) if !self.is_known(x) => Some(factors),
                _ => None,
            };
            if let Some(([x, y], other)) = product(a).map(|of| (of, b)).or_else(|| product(b).map(|of| (of, a))) {
                return Node::MulAdd([x, y, other]);
            }
        }
        node(value)
    }

    fn operands(&self, node: &Node) -> Vec<Value> {
        match *node {
            // The sum so far comes first: products that wait for it would be kept.
            Node::MulAdd([x, y, sum]) => vec![sum, x, y],
            // Tables are read, and factors multiplied, at points of their own.
            Node::Gather { table, axis, index } => {
                if self.period((table, axis, index)).is_some() {
                    Vec::new()
                } else {
                    vec![index]
                }
            }
            Node::Dot { .. } => Vec::new(),
            Node::Rotate { .. } if self.has_clamped_lanes() => Vec::new(),
            ref node => node.operands(),
        }
    }

    fn make(&mut self, value: Value, node: Node) -> Result<(), CodegenError> {
        let ssa = self.emit_node(value, node)?;
        self.memo.insert(value, ssa);
        Ok(())
    }
}

impl<'a, 'f> ExprEmitter<'a, 'f> {
    pub(crate) fn new(plan: &'a Plan, v: Vocab<'a, 'f>, frame: Ssa, scratch: Ssa) -> Self {
        let env = vec![None; plan.graph.axes().len()];
        ExprEmitter {
            plan,
            v,
            frame,
            scratch,
            env,
            lanes: None,
            memo: BTreeMap::new(),
            unmade: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn fb(&mut self) -> &mut FunctionBuilder<'f> {
        self.v.fb
    }

    /// Tells that the code makes the table of this index: it and those after it can't be read.
    pub(crate) fn run_as_step(&mut self, index: usize) {
        self.unmade =
            self.plan.tables[index..].iter().flat_map(|step| [Some(step.target), step.second]).flatten().collect();
    }

    /// Runs `body` where tables that vary along one of these axes can't be read: what they hold is computed.
    pub(crate) fn without_tables_over<T>(&mut self, axes: [Axis; 2], body: impl FnOnce(&mut Self) -> T) -> T {
        let plan = self.plan;
        let over = plan.tables.iter().flat_map(|table| [Some(table.target), table.second]).flatten();
        let over = over.filter(|table| plan.tensors[*table].dims.iter().any(|axis| axes.contains(axis)));
        let outside = std::mem::take(&mut self.unmade);
        self.unmade = outside.iter().copied().chain(over).collect();
        let result = body(self);
        self.unmade = outside;
        result
    }

    /// The table of a value, if it has one that can be read here.
    pub(crate) fn table(&self, source: &Source) -> Option<TensorId> {
        self.plan.table_of.get(source).copied().filter(|table| self.can_read(*table))
    }

    /// Whether a table is made where this code runs.
    pub(crate) fn can_read(&self, table: TensorId) -> bool {
        !self.unmade.contains(&table)
    }

    /// Lanes are indices along an axis: the address is that of the 32-bit word with the first lane's index, clamped to the axis.
    pub(crate) fn set_lanes(&mut self, axis: Axis, clamped: Ssa, order: Order) {
        self.lanes = Some(Lanes::Clamped(axis, clamped, order));
    }

    /// Runs `body` with this many lanes, successive indices along an axis: none of them passes its end, and the tensors that vary along
    /// it are contiguous there.
    pub(crate) fn in_rows<T>(&mut self, axis: Axis, lanes: usize, body: impl FnOnce(&mut Self) -> T) -> T {
        let outside = (self.lanes, self.v.shape.lanes);
        self.lanes = (lanes > 1).then_some(Lanes::Successive(axis));
        self.v.shape.lanes = lanes;
        // Values of another shape are of no use here.
        let memo = std::mem::take(&mut self.memo);
        let result = body(self);
        self.memo = memo;
        (self.lanes, self.v.shape.lanes) = outside;
        result
    }

    /// Runs `body` in scalars of double precision.
    pub(crate) fn in_doubles<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        let outside = (self.lanes.take(), self.v.shape);
        (self.v.shape.lanes, self.v.shape.double) = (1, true);
        // Values of another shape are of no use here.
        let memo = std::mem::take(&mut self.memo);
        let result = body(self);
        self.memo = memo;
        (self.lanes, self.v.shape) = outside;
        result
    }

    /// Runs `body` where some tensors are read along their rows, each along an axis: what is found of their addresses once is not computed
    /// for each element. No other index of theirs changes meanwhile. A row may be given, whatever the indices are.
    pub(crate) fn with_rows<T>(
        &mut self,
        tensors: &[(TensorId, Axis)],
        given: Option<Row>,
        body: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, CodegenError> {
        let found = tensors.iter().filter(|(tensor, _)| given.is_none_or(|row| row.tensor != *tensor));
        let row =
            |&(tensor, along): &(TensorId, Axis)| Ok(Row { tensor, along, address: self.address(tensor, &[along])? });
        let rows = found.map(row).chain(given.map(Ok)).collect::<Result<Vec<Row>, CodegenError>>()?;
        let outside = std::mem::replace(&mut self.rows, rows);
        let result = body(self);
        self.rows = outside;
        Ok(result)
    }

    /// Runs `body` with the lanes of [`ExprEmitter::in_rows`] along another axis.
    pub(crate) fn along<T>(&mut self, axis: Axis, body: impl FnOnce(&mut Self) -> T) -> T {
        let lanes = self.v.shape.lanes;
        self.in_rows(axis, lanes, body)
    }

    /// Sets the index along an axis, which tells that of groups of it.
    pub(crate) fn set(&mut self, axis: Axis, index: Ssa) {
        for (env, info) in self.env.iter_mut().zip(self.plan.graph.axes()) {
            if info.groups == Some(axis) {
                *env = None;
            }
        }
        self.env[axis.index()] = Some(index);
    }

    pub(crate) fn seed(&mut self, value: Value, ssa: Ssa) {
        self.memo.insert(value, ssa);
    }

    pub(crate) fn save(&self) -> Saved {
        Saved { env: self.env.clone(), lanes: self.lanes, memo: self.memo.clone() }
    }

    pub(crate) fn restore(&mut self, saved: Saved) {
        self.env = saved.env;
        self.lanes = saved.lanes;
        self.memo = saved.memo;
    }

    /// Forgets values that vary along an axis: its index changed.
    pub(crate) fn forget(&mut self, axis: Axis) {
        let plan = self.plan;
        self.memo.retain(|value, _| !plan.graph.varies(plan.graph.ty(*value).axes, axis));
    }

    fn unsupported(&self, value: Value, reason: &'static str) -> CodegenError {
        CodegenError::Unsupported { op: self.plan.graph.line(value), reason }
    }

    /// Emits a sum of terms; floats.
    pub(crate) fn sum(&mut self, terms: &[crate::plan::Term]) -> Result<Ssa, CodegenError> {
        let mut sum = None;
        for term in terms {
            let x = self.emit(term.value)?;
            sum = Some(match (sum, term.negative) {
                (None, false) => x,
                (None, true) => self.fb().ins().fneg(x),
                (Some(sum), false) => self.v.fadd(sum, x),
                (Some(sum), true) => self.v.fsub(sum, x),
            });
        }
        Ok(match sum {
            Some(sum) => sum,
            None => self.v.float(0.0),
        })
    }

    /// The value at this point. Operands come first, in their order, each once.
    pub(crate) fn emit(&mut self, value: Value) -> Result<Ssa, CodegenError> {
        walk(self, value)?;
        self.made(value)
    }

    /// The SSA value of a value that has been emitted.
    fn made(&self, value: Value) -> Result<Ssa, CodegenError> {
        self.memo
            .get(&value)
            .copied()
            .ok_or_else(|| self.unsupported(value, "this value is used before it is computed"))
    }

    /// Whether lanes are queries, each at an index of its own.
    fn has_clamped_lanes(&self) -> bool {
        matches!(self.lanes, Some(Lanes::Clamped(..)))
    }

    /// Emits a node whose operands have been emitted.
    fn emit_node(&mut self, value: Value, node: Node) -> Result<Ssa, CodegenError> {
        let plan = self.plan;
        let elem = |value: Value| plan.graph.ty(value).elem;
        match node {
            Node::Table(tensor) | Node::Input(tensor) => self.load(tensor),
            Node::Const(Scalar::F32(x)) => Ok(self.v.float(x)),
            Node::Const(Scalar::I32(x)) => Ok(self.v.int(x)),
            Node::Const(Scalar::Bool(x)) => Ok(self.v.bool(x)),
            Node::Iota(axis) => self.iota(value, axis),
            Node::Size(axis) => {
                let extent = self.extent(axis);
                Ok(self.count(extent))
            }
            Node::Unary(op, x) => {
                let made = self.made(x)?;
                Ok(self.unary(op, elem(x), made))
            }
            Node::MulAdd([x, y, z]) => {
                let (x, y, z) = (self.made(x)?, self.made(y)?, self.made(z)?);
                Ok(self.v.fma(x, y, z))
            }
            Node::Binary(op, [a, b]) => {
                // What is a number goes first, for the one instruction that takes its second operand where either is NaN.
                let [a, b] = if matches!(op, Binary::Min | Binary::Max) && self.is_number(b) { [b, a] } else { [a, b] };
                let (x, y) = (self.made(a)?, self.made(b)?);
                Ok(match op {
                    Binary::Min if self.is_number(a) => self.v.pseudo_min(x, y),
                    Binary::Max if self.is_number(a) => self.v.pseudo_max(x, y),
                    _ => self.binary(op, elem(a), x, y),
                })
            }
            Node::Compare(op, [a, b]) => {
                let (x, y) = (self.made(a)?, self.made(b)?);
                Ok(self.compare(op, elem(a), x, y))
            }
            Node::Select([cond, on_true, on_false]) => {
                let cond = self.made(cond)?;
                let (a, b) = (self.made(on_true)?, self.made(on_false)?);
                let float = elem(on_true) == Elem::F32;
                Ok(if float { self.v.select_float(cond, a, b) } else { self.v.select_int(cond, a, b) })
            }
            Node::Cast(to, x) => {
                let made = self.made(x)?;
                Ok(self.cast(elem(x), to, made))
            }
            Node::Gather { table, axis, index } => {
                if let Some(period) = self.period((table, axis, index)) {
                    return self.gather_row(table, axis, period);
                }
                let index = self.made(index)?;
                let by_lanes = self.lanes.is_some();
                if by_lanes { self.gather_lanes(table, axis, index) } else { self.gather(table, axis, index) }
            }
            Node::Dot { a, b, axis } if !self.v.is_vector() => self.dot(a, b, axis),
            // Outside its rotary block, or in the block of another rotation, a rotation passes its operand.
            Node::Rotate { x } if !self.has_clamped_lanes() => self.made(x),
            Node::Product | Node::Dot { .. } | Node::Rotate { .. } | Node::Opaque => {
                Err(self.unsupported(value, "this op can't be computed element by element"))
            }
        }
    }

    /// The index along an axis.
    fn iota(&mut self, value: Value, axis: Axis) -> Result<Ssa, CodegenError> {
        if let Some(Lanes::Clamped(of, clamped, _)) = self.lanes
            && of == axis
        {
            let ty = self.v.int_type();
            return Ok(self.fb().ins().load(ty, access(), clamped, 0));
        }
        let graph = &self.plan.graph;
        match self.index(axis) {
            Some(index) if self.lanes.is_none_or(|lanes| !graph.varies(AxisSet::EMPTY.with(axis), lanes.axis())) => {
                Ok(self.count(index))
            }
            _ => Err(self.unsupported(value, "no index along this axis here")),
        }
    }

    /// An index or a length as an int, the same in every lane.
    fn count(&mut self, count: Ssa) -> Ssa {
        let count = self.fb().ins().ireduce(types::I32, count);
        let ty = self.v.int_type();
        self.v.splat(count, ty)
    }

    fn dot(&mut self, a: Value, b: Value, axis: Axis) -> Result<Ssa, CodegenError> {
        let n = self.extent(axis);
        let zero = self.v.float(0.0);
        let saved = self.save();
        let mut failed = None;
        let sum = counted_loop(self, n, &[zero], |emitter, index, sums| {
            emitter.set(axis, index);
            emitter.forget(axis);
            let product = emitter.emit(a).and_then(|a| Ok((a, emitter.emit(b)?)));
            match product {
                Ok((a, b)) => vec![emitter.v.fma(a, b, sums[0])],
                Err(error) => {
                    failed = Some(error);
                    vec![sums[0]]
                }
            }
        });
        self.restore(saved);
        match failed {
            Some(error) => Err(error),
            None => Ok(sum[0]),
        }
    }
}
