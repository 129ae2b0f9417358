//! Loop shapes.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value as Ssa, types};
use cranelift_frontend::FunctionBuilder;

/// A function under construction, with the indices and values that are known at the current point.
pub(crate) trait Emitter<'f> {
    /// A point's indices and values, to restore.
    type Known;

    fn fb(&mut self) -> &mut FunctionBuilder<'f>;

    fn save(&self) -> Self::Known;

    fn restore(&mut self, known: Self::Known);
}

/// `for i in 0..n { carried = body(i, carried) }`; gives the carried values after the last iteration.
pub(crate) fn counted_loop<'f, E: Emitter<'f>>(
    emitter: &mut E,
    n: Ssa,
    carried: &[Ssa],
    body: impl FnOnce(&mut E, Ssa, &[Ssa]) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let start = emitter.fb().ins().iconst(types::I64, 0);
    range_loop(emitter, start, n, 1, carried, body)
}

/// `for i in (start..end).step_by(step) { carried = body(i, carried) }`, signed.
pub(crate) fn range_loop<'f, E: Emitter<'f>>(
    emitter: &mut E,
    start: Ssa,
    end: Ssa,
    step: i64,
    carried: &[Ssa],
    body: impl FnOnce(&mut E, Ssa, &[Ssa]) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let fb = emitter.fb();
    let (head, done) = (fb.create_block(), fb.create_block());
    let index = fb.append_block_param(head, types::I64);
    let mut values = Vec::with_capacity(carried.len());
    for &value in carried {
        let ty = fb.func.dfg.value_type(value);
        values.push(fb.append_block_param(head, ty));
    }
    // The loop is entered and left by one test each: the first here, the others at the end of the body.
    let enters = fb.ins().icmp(IntCC::SignedLessThan, start, end);
    let entry: Vec<BlockArg> = std::iter::once(start).chain(carried.iter().copied()).map(Into::into).collect();
    for &value in carried {
        let ty = fb.func.dfg.value_type(value);
        fb.append_block_param(done, ty);
    }
    let skip: Vec<BlockArg> = carried.iter().copied().map(Into::into).collect();
    fb.ins().brif(enters, head, &entry, done, &skip);
    fb.switch_to_block(head);
    let next_values = body(emitter, index, &values);
    let fb = emitter.fb();
    let next = fb.ins().iadd_imm_s(index, step);
    let again = fb.ins().icmp(IntCC::SignedLessThan, next, end);
    let back: Vec<BlockArg> = std::iter::once(next).chain(next_values.iter().copied()).map(Into::into).collect();
    let leave: Vec<BlockArg> = next_values.iter().copied().map(Into::into).collect();
    fb.ins().brif(again, head, &back, done, &leave);
    fb.seal_block(head);
    fb.switch_to_block(done);
    fb.seal_block(done);
    fb.block_params(done).to_vec()
}

/// `while i < end { i = body(i) }` from `start` on, signed.
pub(crate) fn stepped_loop<'f, E: Emitter<'f>>(
    emitter: &mut E,
    start: Ssa,
    end: Ssa,
    body: impl FnOnce(&mut E, Ssa) -> Ssa,
) {
    let fb = emitter.fb();
    let (head, done) = (fb.create_block(), fb.create_block());
    let index = fb.append_block_param(head, types::I64);
    let enters = fb.ins().icmp(IntCC::SignedLessThan, start, end);
    fb.ins().brif(enters, head, &[start.into()], done, &[]);
    fb.switch_to_block(head);
    let next = body(emitter, index);
    let fb = emitter.fb();
    let again = fb.ins().icmp(IntCC::SignedLessThan, next, end);
    fb.ins().brif(again, head, &[next.into()], done, &[]);
    fb.seal_block(head);
    fb.switch_to_block(done);
    fb.seal_block(done);
}

/// `if cond { then } else { otherwise }`: the values of the side taken.
pub(crate) fn either<'f, E: Emitter<'f>>(
    emitter: &mut E,
    cond: Ssa,
    then: impl FnOnce(&mut E) -> Vec<Ssa>,
    otherwise: impl FnOnce(&mut E) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let fb = emitter.fb();
    let (yes, no, merge) = (fb.create_block(), fb.create_block(), fb.create_block());
    fb.ins().brif(cond, yes, &[], no, &[]);
    fb.seal_block(yes);
    fb.seal_block(no);
    fb.switch_to_block(yes);
    let saved = emitter.save();
    let taken = then(emitter);
    emitter.restore(saved);
    let fb = emitter.fb();
    let args: Vec<BlockArg> = taken.iter().copied().map(Into::into).collect();
    fb.ins().jump(merge, &args);
    for &value in &taken {
        let ty = fb.func.dfg.value_type(value);
        fb.append_block_param(merge, ty);
    }
    fb.switch_to_block(no);
    let saved = emitter.save();
    let other = otherwise(emitter);
    emitter.restore(saved);
    let fb = emitter.fb();
    let args: Vec<BlockArg> = other.iter().copied().map(Into::into).collect();
    fb.ins().jump(merge, &args);
    fb.seal_block(merge);
    fb.switch_to_block(merge);
    fb.block_params(merge).to_vec()
}
