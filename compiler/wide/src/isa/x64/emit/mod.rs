//! Turns allocated machine code into encoded instructions, with real registers, moves, jumps and the stack frame.
//!
//! `assembler` encodes one instruction, with its `operand`s; `emitter` makes of each instruction that selection made one or several, and
//! `prologue` what stands around them, by what `frame` says of the stack.

mod assembler;
mod emitter;
mod failure;
mod frame;
mod operand;
mod prologue;

pub(crate) use failure::Failure;

use super::features::Features;
use super::function::{Lowered, MachineFunction};
use super::layout::{Item, Label};
use super::mach::Op;
use assembler::Assembler;
use emitter::Emitter;
use failure::Result;
use frame::Frame;
use regalloc2::{Block, Edit, Function as _, InstOrEdit, Output};

const LOOP_ALIGN: usize = 32;

/// Encoded instructions and the order in which they, labels and jumps follow each other.
pub(crate) fn emit(
    lowered: &Lowered,
    function: &MachineFunction,
    output: &Output,
    features: Features,
) -> Result<(Vec<Item>, Vec<u8>)> {
    let frame = Frame::of(lowered, function, output)?;
    let mut emitter = Emitter { lowered, features, frame, asm: Assembler::new(function.num_blocks()) };
    let forward = forward(function, output);
    let resolve = |block: Block| forward[block.index()];
    let (kept, skipped): (Vec<Block>, Vec<Block>) =
        (0..function.num_blocks()).map(Block::new).partition(|&block| resolve(block) == block);
    for (position, &block) in kept.iter().enumerate() {
        if function.loop_heads[block.index()] {
            emitter.asm.align(LOOP_ALIGN);
        }
        emitter.asm.bind(Label(block.index()));
        let next = kept.get(position + 1).copied();
        for step in output.block_insts_and_edits(function, block) {
            match step {
                InstOrEdit::Edit(&Edit::Move { from, to }) => emitter.copy(from, to)?,
                InstOrEdit::Inst(index) => {
                    let allocs = output.inst_allocs(index);
                    emitter.inst(&function.insts[index.index()], allocs, next, &resolve)?;
                }
            }
        }
    }
    // Labels are numbered densely; no one jumps to these.
    for block in skipped {
        emitter.asm.bind(Label(block.index()));
    }
    Ok(emitter.asm.finish())
}

/// Where a jump to each block ends up: blocks on which nothing happens but a jump are skipped, unless they run in a circle.
fn forward(function: &MachineFunction, output: &Output) -> Vec<Block> {
    let blocks = function.num_blocks();
    let next: Vec<Option<Block>> = (0..blocks)
        .map(Block::new)
        .map(|block| match function.insts[function.block_insns(block).first().index()].op {
            Op::Jump(to) if output.block_insts_and_edits(function, block).count() == 1 => Some(to),
            _ => None,
        })
        .collect();
    let follow = |block: Block| {
        let mut at = block;
        for _ in 0..=blocks {
            match next[at.index()] {
                Some(to) => at = to,
                None => return at,
            }
        }
        block
    };
    (0..blocks).map(Block::new).map(follow).collect()
}
