//! Rows that are asked for while others are loaded: those of the next key tile, and once more those that come sooner. Cores drop much of what
//! they are asked for while they wait for as much as they can.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::rows::{Rows, Turn, Turns};
use super::source::Source;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::tile::computed::ask;
use crate::codegen::tile::query_tile::Mode;
use crate::machine::{Backend, LANE_BYTES, LINE};

/// Rows whose asking is alike.
const BLOCK: i64 = 16;

/// Rows from one that is loaded to those that are asked for again, whole blocks: the first always, the others where rows come from memory.
const AGAIN: [i64; 3] = [BLOCK, 2 * BLOCK, 3 * BLOCK];

/// Rows some way on from those that are loaded.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The key from which on they are of the next key tile.
    end: Ssa,
    /// Bytes to them before that key, and from there on.
    within: Ssa,
    past: Ssa,
}

impl Ahead {
    /// What is asked for while a register tile takes rows, in its turn.
    pub(super) fn new(emitter: &mut ExprEmitter<'_, '_>, (rows, turn): (Rows<'_>, Turn), source: Source) -> Vec<Ahead> {
        if turn == Turn::Later {
            return Vec::new();
        }
        let next = emitter.fb().ins().isub(source.ahead, source.first);
        let mut all = vec![Ahead { end: rows.keys, within: next, past: next }];
        let again: &[i64] = match emitter.plan.machine.backend {
            // To ask is to load, which takes longer.
            Backend::Cranelift => &[],
            Backend::Wide if turn == Turn::Far => &AGAIN,
            Backend::Wide => &AGAIN[..1],
        };
        all.extend(again.iter().map(|&on| {
            let end = emitter.fb().ins().iadd_imm_s(rows.keys, -on);
            let within = emitter.fb().ins().imul_imm_s(source.stride, on);
            let back = emitter.fb().ins().imul(end, source.stride);
            Ahead { end, within, past: emitter.fb().ins().isub(next, back) }
        }));
        all
    }

    /// Bytes from the rows of a block, whose first key is given.
    fn bytes(self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Ssa {
        if self.within == self.past {
            return self.past;
        }
        let is_within = emitter.fb().ins().icmp(IntCC::SignedLessThan, key, self.end);
        emitter.fb().ins().select(is_within, self.within, self.past)
    }
}

/// Emits a loop over the keys from one up to another, so many at a time. `body` gets the first, the bytes from their rows to those that are
/// asked for, and what is carried on.
pub(super) fn each_key(
    emitter: &mut ExprEmitter<'_, '_>,
    (from, to, step): (Ssa, Ssa, i64),
    ahead: &[Ahead],
    carried: &[Ssa],
    body: impl FnOnce(&mut ExprEmitter<'_, '_>, Ssa, &[Ssa], &[Ssa]) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let block = BLOCK.max(step);
    range_loop(emitter, from, to, block, carried, |emitter, first, carried| {
        let ahead: Vec<Ssa> = ahead.iter().map(|ahead| ahead.bytes(emitter, first)).collect();
        let end = emitter.fb().ins().iadd_imm_s(first, block);
        let end = emitter.v.smin(end, to);
        range_loop(emitter, first, end, step, carried, |emitter, key, carried| body(emitter, key, &ahead, carried))
    })
}

/// Asks for the cache lines that lie like so many bytes from here, in rows some bytes away.
pub(super) fn ask_for(emitter: &mut ExprEmitter<'_, '_>, (place, length): (Ssa, i32), ahead: &[Ssa]) {
    for bytes in ahead {
        let row = emitter.fb().ins().iadd(place, *bytes);
        (0..length).step_by(LINE).for_each(|line| ask(emitter, row, line));
    }
}

/// What register tiles have code of their own for.
pub(super) fn turns(emitter: &ExprEmitter<'_, '_>, source: Source, mode: Mode) -> Turns {
    let wide = emitter.plan.machine.backend == Backend::Wide;
    // Guarded code runs where a value is not finite: there is less of it.
    let own = wide && !mode.guarded;
    // What takes fewer bytes for as much arithmetic comes in time.
    Turns { far: own && source.storage.bytes() >= LANE_BYTES, later: own }
}
