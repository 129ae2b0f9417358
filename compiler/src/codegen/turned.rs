//! Cosines and sines of angles in proportion to an index, as those of rotary positions are, without a cosine of each: the angle at an index
//! is that at the first of its block and that of the rest together, and few of both have to be known. For calls of few queries, where a
//! row of angles is made for each key and read once or so.

use std::mem::offset_of;

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::{Axis, Binary, Elem, Op, Value};

use super::angle_rows::{AngleRows, ELEMENT_BYTES, angle_lanes};
use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::loops::{counted_loop, range_loop};
use super::rows::iconst;
use super::vocab::access;
use crate::abi::{TableCall, WORD_BYTES};
use crate::plan::{Problem, Source, Table, TensorId};

/// Indices of a block, a power of 2.
const BLOCK: usize = 16;

/// A table of cosines and one of sines, whose angles are in proportion to the index along their outer axis.
pub(super) struct Turned {
    angle: Value,
    /// The tables: cosines, sines.
    tables: [TensorId; 2],
    outer: Axis,
    inner: Axis,
    /// Lanes of double precision.
    lanes: usize,
}

impl Turned {
    /// Such tables, if the step makes some of a kernel for few queries.
    pub(super) fn of(emitter: &ExprEmitter<'_, '_>, step: &Table) -> Option<Turned> {
        let plan = emitter.plan;
        let (Source::Cos(angle), Some(sines), Some(inner)) = (&step.source, step.second, step.inner) else {
            return None;
        };
        let lanes = angle_lanes(emitter, step, inner)?;
        let &[outer, last] = plan.tensors[step.target].dims.as_slice() else { return None };
        let room = plan.scratch.value_rows - plan.scratch.key_rows;
        let length = plan.graph.static_extent(inner)? as usize;
        let fits = last == inner && BLOCK * ELEMENT_BYTES * length <= room && plan.machine.is_wide();
        let few = plan.schedule.is_for_few_queries();
        (few && fits && is_proportional(plan, *angle, outer)).then_some(Turned {
            angle: *angle,
            tables: [step.target, sines],
            outer,
            inner,
            lanes,
        })
    }

    pub(super) fn emit(&self, emitter: &mut ExprEmitter<'_, '_>) -> Result<(), CodegenError> {
        let (scratch, layout) = (emitter.scratch, emitter.plan.scratch);
        let [start, end] = [offset_of!(TableCall, first), offset_of!(TableCall, end)]
            .map(|field| emitter.fb().ins().load(types::I64, access(), scratch, (layout.call + field) as i32));
        let [steps, first] =
            [layout.key_rows, layout.scores].map(|place| emitter.fb().ins().iadd_imm_s(scratch, place as i64));
        let length = emitter.extent(self.inner);
        let bytes = emitter.fb().ins().ishl_imm_u(length, 4);
        let block = iconst(emitter, BLOCK as u32);
        let mut result = Ok(());
        counted_loop(emitter, block, &[steps], |emitter, index, place| {
            result = self.kept(emitter, index, place[0]);
            vec![emitter.fb().ins().iadd(place[0], bytes)]
        });
        result?;
        let mut result = Ok(());
        let blocks = emitter.fb().ins().band_imm_s(start, -(BLOCK as i64));
        range_loop(emitter, blocks, end, BLOCK as i64, &[], |emitter, block, _| {
            result = self.kept(emitter, block, first);
            let from = emitter.v.smax(block, start);
            let to = emitter.fb().ins().iadd_imm_s(block, BLOCK as i64);
            let to = emitter.v.smin(to, end);
            let skipped = emitter.fb().ins().isub(from, block);
            let skipped = emitter.fb().ins().imul(skipped, bytes);
            let step = emitter.fb().ins().iadd(steps, skipped);
            range_loop(emitter, from, to, 1, &[step], |emitter, index, step| {
                let made = self.row(emitter, index, (first, step[0]));
                result = std::mem::replace(&mut result, Ok(())).and(made);
                vec![emitter.fb().ins().iadd(step[0], bytes)]
            });
            Vec::new()
        });
        result
    }

    /// The cosines and sines at an index of the outer axis, in double precision.
    fn kept(&self, emitter: &mut ExprEmitter<'_, '_>, index: Ssa, place: Ssa) -> Result<(), CodegenError> {
        let saved = emitter.save();
        emitter.set(self.outer, index);
        emitter.forget(self.outer);
        let rows = AngleRows::at(emitter, self.inner, (place, 0));
        let done = rows.fill(emitter, self.angle, (self.inner, self.lanes));
        emitter.restore(saved);
        done
    }

    /// A row of both tables: of the sums of angles of two rows that are kept.
    fn row(&self, emitter: &mut ExprEmitter<'_, '_>, index: Ssa, kept: (Ssa, Ssa)) -> Result<(), CodegenError> {
        let saved = emitter.save();
        let zero = iconst(emitter, 0);
        emitter.set(self.outer, index);
        emitter.set(self.inner, zero);
        let [cosines, sines] = self.tables.map(|table| emitter.address(table, &[]));
        let (cosines, sines) = (cosines?, sines?);
        let length = emitter.extent(self.inner);
        let bytes = emitter.double_bytes(length);
        emitter.in_rows(self.inner, self.lanes, |emitter| {
            let ty = emitter.v.float_type();
            range_loop(emitter, zero, bytes, (WORD_BYTES * self.lanes) as i64, &[], |emitter, offset, _| {
                let [[c, s], [step_c, step_s]] = [kept.0, kept.1].map(|row| {
                    let cosine = emitter.fb().ins().iadd(row, offset);
                    let sine = emitter.fb().ins().iadd(cosine, bytes);
                    [cosine, sine].map(|address| emitter.fb().ins().load(ty, access(), address, 0))
                });
                let (cosine, sine) = (emitter.v.fmul(c, step_c), emitter.v.fmul(s, step_c));
                let minus = emitter.fb().ins().fneg(s);
                let cosine = emitter.v.fma(minus, step_s, cosine);
                let sine = emitter.v.fma(c, step_s, sine);
                let place = emitter.fb().ins().ushr_imm_u(offset, 1);
                for (row, x) in [(cosines, cosine), (sines, sine)] {
                    let address = emitter.fb().ins().iadd(row, place);
                    let x = emitter.v.demote(x);
                    emitter.fb().ins().store(access(), x, address, 0);
                }
                Vec::new()
            });
        });
        emitter.restore(saved);
        Ok(())
    }
}

/// Whether a value is an index along an axis, times what does not vary along it.
fn is_proportional(problem: &Problem, value: Value, axis: Axis) -> bool {
    let graph = &problem.graph;
    let mut value = value;
    loop {
        value = match *graph.op(value) {
            Op::Cast(Elem::F32, x) if matches!(*graph.op(x), Op::Iota(of) if of == axis) => return true,
            Op::Binary(Binary::Mul, a, b) => {
                let [a_varies, b_varies] = [a, b].map(|x| graph.varies(graph.ty(x).axes, axis));
                match (a_varies, b_varies) {
                    (true, false) => a,
                    (false, true) => b,
                    _ => return false,
                }
            }
            _ => return false,
        };
    }
}
