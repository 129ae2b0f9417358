//! Places code: picks jump sizes, aligns loop heads, and keeps conditional jumps off 32-byte boundaries.
//!
//! Intel's microcode for the JCC erratum stops decoded code from being cached where a conditional jump, together with the comparison it is
//! fused with, crosses or ends at a 32-byte boundary.

use super::mach::Cc;
use crate::pool::{LiteralId, Pool};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) usize);

#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Encoded instructions; the displacement of a literal stands at this offset from the start, relative to the end.
    Code {
        bytes: Range<usize>,
        literal: Option<(usize, LiteralId)>,
        fuses: bool,
    },
    Jump {
        cc: Option<Cc>,
        to: Label,
    },
    Bind(Label),
    Align(usize),
}

const FETCH: usize = 32;

/// The bytes of the function and where the literal pool begins, or `None` where a jump is too far for x86.
pub(crate) fn assemble(items: &[Item], text: &[u8], pool: &Pool) -> Option<(Vec<u8>, usize)> {
    let Placed { is_long, starts, labels } = place_all(items)?;
    let mut code = Vec::new();
    let mut literals = Vec::new();
    for (index, item) in items.iter().enumerate() {
        pad(&mut code, starts[index]);
        match item {
            Item::Code { bytes, literal, .. } => {
                let start = code.len();
                code.extend_from_slice(&text[bytes.clone()]);
                if let Some((offset, id)) = *literal {
                    literals.push((start + offset, code.len(), id));
                }
            }
            Item::Jump { cc, to } => {
                let end = code.len() + jump_len(*cc, is_long[index]);
                let delta = distance(end, labels[to.0])?;
                push_jump(&mut code, *cc, delta, is_long[index])?;
            }
            Item::Bind(_) | Item::Align(_) => {}
        }
    }
    let code_len = code.len();
    if !literals.is_empty() {
        // `int3`, should anything run past the end.
        code.resize(code_len.next_multiple_of(64), 0xcc);
        let offsets = pool.append(&mut code);
        for (at, end, id) in literals {
            let delta = distance(end, offsets[id.index()])?;
            code[at..at + 4].copy_from_slice(&delta.to_le_bytes());
        }
    }
    Some((code, code_len))
}

/// Which jumps are long, and the starts of items and labels with these.
struct Placed {
    is_long: Vec<bool>,
    starts: Vec<usize>,
    labels: Vec<usize>,
}

/// Picks the sizes of jumps, or `None` where one is too far for x86.
fn place_all(items: &[Item]) -> Option<Placed> {
    let num_labels = items.iter().filter(|item| matches!(item, Item::Bind(_))).count();
    let mut is_long = vec![false; items.len()];
    // Jumps only grow, so this ends.
    loop {
        let (starts, labels) = place(items, &is_long, num_labels);
        let mut changed = false;
        for (index, item) in items.iter().enumerate() {
            if let Item::Jump { cc, to } = item {
                let end = starts[index] + jump_len(*cc, is_long[index]);
                if !is_long[index] && i8::try_from(distance(end, labels[to.0])?).is_err() {
                    is_long[index] = true;
                    changed = true;
                }
            }
        }
        if !changed {
            return Some(Placed { is_long, starts, labels });
        }
    }
}

fn push_jump(code: &mut Vec<u8>, cc: Option<Cc>, delta: i32, long: bool) -> Option<()> {
    match (cc, long) {
        (Some(cc), false) => code.extend([0x70 | cc as u8, i8::try_from(delta).ok()?.cast_unsigned()]),
        (None, false) => code.extend([0xeb, i8::try_from(delta).ok()?.cast_unsigned()]),
        (Some(cc), true) => {
            code.extend([0x0f, 0x80 | cc as u8]);
            code.extend(delta.to_le_bytes());
        }
        (None, true) => {
            code.push(0xe9);
            code.extend(delta.to_le_bytes());
        }
    }
    Some(())
}

fn distance(from: usize, to: usize) -> Option<i32> {
    i32::try_from(i64::try_from(to).ok()? - i64::try_from(from).ok()?).ok()
}

fn jump_len(cc: Option<Cc>, long: bool) -> usize {
    match (cc, long) {
        (_, false) => 2,
        (None, true) => 5,
        (Some(_), true) => 6,
    }
}

/// The start of every item behind its padding, and of every label.
fn place(items: &[Item], is_long: &[bool], num_labels: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = Vec::with_capacity(items.len());
    let mut labels = vec![0; num_labels];
    let mut at = 0usize;
    let mut fused_with_previous = false;
    for (index, item) in items.iter().enumerate() {
        let len = match item {
            Item::Code { bytes, .. } => bytes.len(),
            Item::Jump { cc, .. } => jump_len(*cc, is_long[index]),
            Item::Bind(_) => 0,
            Item::Align(to) => {
                at = at.next_multiple_of(*to);
                0
            }
        };
        let follower = match (item, items.get(index + 1)) {
            (Item::Code { fuses: true, .. }, Some(Item::Jump { cc: cc @ Some(_), .. })) => {
                Some(jump_len(*cc, is_long[index + 1]))
            }
            _ => None,
        };
        let unit = match item {
            Item::Code { .. } => follower.map_or(0, |jump| len + jump),
            Item::Jump { cc: Some(_), .. } if !fused_with_previous => len,
            _ => 0,
        };
        if unit > 0 && at / FETCH != (at + unit) / FETCH {
            at = at.next_multiple_of(FETCH);
        }
        fused_with_previous = follower.is_some();
        starts.push(at);
        if let Item::Bind(label) = item {
            labels[label.0] = at;
        }
        at += len;
    }
    (starts, labels)
}

/// Fills up to `end` with as few no-ops as possible.
fn pad(code: &mut Vec<u8>, end: usize) {
    const NOPS: [&[u8]; 9] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    while code.len() < end {
        let len = (end - code.len()).min(NOPS.len());
        code.extend_from_slice(NOPS[len - 1]);
    }
}
