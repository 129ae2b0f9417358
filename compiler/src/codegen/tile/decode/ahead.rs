//! Rows that are asked for while others are loaded: those of the next key tile, and once more those that come sooner. Cores drop much of what
//! they are asked for while they wait for as much as they can. First caches have room for little more than a key tile: what comes later waits in
//! the second.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::rows::{Rows, Turn, Turns};
use super::source::Source;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::tile::prefetch::{Cache, ask};
use crate::codegen::tile::query_tile::Mode;
use crate::machine::{Backend, LINE};

/// The fewest rows whose asking is alike.
const BLOCK: usize = 8;

/// What is asked for again: rows from those that are loaded, and the cache they are wanted in.
type Again = [(usize, Cache)];

/// Where rows come from memory.
const FAR: &Again = &[(48, Cache::Second), (32, Cache::Second), (16, Cache::Second), (8, Cache::First)];

/// Where they are in a cache. Each time takes a turn of the second cache; the last takes the one that loading the row would have taken.
const NEAR: &Again = &[(48, Cache::Second), (8, Cache::First)];

/// Where a row takes fewer bytes for as much arithmetic.
const NARROW: &Again = &[(16, Cache::Second)];

/// Rows some way on from those that are loaded, and the cache they are wanted in.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    cache: Cache,
    /// The key from which on they are of the next key tile.
    end: Ssa,
    /// Bytes to them before that key, and from there on.
    within: Ssa,
    past: Ssa,
}

impl Ahead {
    /// What is asked for while a register tile takes rows, so many at a time, in its turn.
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        (rows, turn): (Rows<'_>, Turn),
        (source, step): (Source, usize),
    ) -> Vec<Ahead> {
        let in_scratch = source.ahead == source.first;
        if turn == Turn::Later || in_scratch {
            return Vec::new();
        }
        let next = emitter.fb().ins().isub(source.ahead, source.first);
        let mut all = vec![Ahead { cache: Cache::Second, end: rows.keys, within: next, past: next }];
        let again: &Again = match emitter.plan.machine.backend {
            // To ask is to load, which takes longer.
            Backend::Cranelift => &[],
            Backend::Wide if source.storage.is_narrow() => NARROW,
            Backend::Wide if turn == Turn::Far => FAR,
            Backend::Wide => NEAR,
        };
        all.extend(again.iter().map(|&(on, cache)| {
            // Where two are as far on, lines are asked for twice at once: fewer are dropped.
            let on = on.max(block(step)) as i64;
            let end = emitter.fb().ins().iadd_imm_s(rows.keys, -on);
            let within = emitter.fb().ins().imul_imm_s(source.stride, on);
            let back = emitter.fb().ins().imul(end, source.stride);
            Ahead { cache, end, within, past: emitter.fb().ins().isub(next, back) }
        }));
        all
    }

    /// As seen from the rows of a block, whose first key is given.
    fn from(self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Away {
        let Ahead { cache, end, within, past } = self;
        if within == past {
            return Away { cache, bytes: past };
        }
        let is_within = emitter.fb().ins().icmp(IntCC::SignedLessThan, key, end);
        Away { cache, bytes: emitter.fb().ins().select(is_within, within, past) }
    }
}

/// Rows so many bytes away, and the cache they are wanted in.
#[derive(Clone, Copy)]
pub(super) struct Away {
    cache: Cache,
    bytes: Ssa,
}

/// Rows whose asking is alike, where so many are taken at a time.
fn block(step: usize) -> usize {
    BLOCK.max(step)
}

/// Emits a loop over the keys from one up to another, so many at a time. `body` gets the first, the rows that are asked for as seen from
/// theirs, and what is carried on.
pub(super) fn each_key(
    emitter: &mut ExprEmitter<'_, '_>,
    (from, to, step): (Ssa, Ssa, usize),
    ahead: &[Ahead],
    carried: &[Ssa],
    body: impl FnOnce(&mut ExprEmitter<'_, '_>, Ssa, &[Away], &[Ssa]) -> Vec<Ssa>,
) -> Vec<Ssa> {
    let (block, step) = (block(step) as i64, step as i64);
    range_loop(emitter, from, to, block, carried, |emitter, first, carried| {
        let ahead: Vec<Away> = ahead.iter().map(|ahead| ahead.from(emitter, first)).collect();
        let end = emitter.fb().ins().iadd_imm_s(first, block);
        let end = emitter.v.smin(end, to);
        range_loop(emitter, first, end, step, carried, |emitter, key, carried| body(emitter, key, &ahead, carried))
    })
}

/// Asks for the cache lines that lie like so many bytes from here, in rows some bytes away.
pub(super) fn ask_for(emitter: &mut ExprEmitter<'_, '_>, (place, length): (Ssa, i32), ahead: &[Away]) {
    for away in ahead {
        let row = emitter.fb().ins().iadd(place, away.bytes);
        (0..length).step_by(LINE).for_each(|line| ask(emitter, away.cache, row, line));
    }
}

/// What register tiles have code of their own for.
pub(super) fn turns(emitter: &ExprEmitter<'_, '_>, source: Source, mode: Mode) -> Turns {
    let wide = emitter.plan.machine.backend == Backend::Wide;
    // Guarded code runs where a value is not finite: there is less of it.
    let own = wide && !mode.guarded;
    // What takes fewer bytes for as much arithmetic comes in time. Masks are evaluated in few key tiles, most often: a copy of that code for
    // memory would be an eighth of compilation.
    Turns { far: own && !mode.masked && !source.storage.is_narrow(), later: own }
}
