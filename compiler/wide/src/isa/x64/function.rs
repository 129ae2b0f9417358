//! Functions of machine instructions: their blocks, what instruction selection hands on beside them, and the view of them that register
//! allocation reads.

use super::abi::Abi;
use super::mach::{Inst, Op};
use crate::lane::Width;
use crate::pool::Pool;
use regalloc2::{Block, Inst as Index, InstRange, Operand, PRegSet, RegClass, VReg};

/// One block: its instructions, parameters, and what its jump passes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockData {
    pub insts: Vec<Inst>,
    pub params: Vec<VReg>,
    /// Arguments of the jump at the end; branches of two or more ways pass none.
    pub jump_args: Vec<VReg>,
    pub is_loop_head: bool,
}

/// What instruction selection hands to register allocation and emission.
pub(crate) struct Lowered {
    pub blocks: Vec<BlockData>,
    pub num_vregs: usize,
    pub pool: Pool,
    pub abi: Abi,
    /// The widest vector in the function.
    pub width: Width,
    pub slots_bytes: u32,
    pub slots_align: u32,
    pub outgoing_bytes: u32,
    /// Whether the wide half of a result register is live at the return.
    pub returns_wide: bool,
}

/// A whole function, as regalloc2 reads it.
pub(crate) struct MachineFunction {
    pub insts: Vec<Inst>,
    pub params: Vec<Vec<VReg>>,
    pub jump_args: Vec<Vec<VReg>>,
    pub loop_heads: Vec<bool>,
    ranges: Vec<InstRange>,
    succs: Vec<Vec<Block>>,
    preds: Vec<Vec<Block>>,
    operands: Vec<Operand>,
    operand_starts: Vec<usize>,
    num_vregs: usize,
    /// Spill slots of a vector register, in units of 8 bytes.
    vector_slots: usize,
}

impl MachineFunction {
    pub(crate) fn new(blocks: Vec<BlockData>, num_vregs: usize, vector_slots: usize) -> Self {
        let mut this = Self {
            insts: Vec::new(),
            params: Vec::new(),
            jump_args: Vec::new(),
            loop_heads: Vec::new(),
            ranges: Vec::new(),
            succs: Vec::new(),
            preds: vec![Vec::new(); blocks.len()],
            operands: Vec::new(),
            operand_starts: vec![0],
            num_vregs,
            vector_slots,
        };
        for (index, block) in blocks.into_iter().enumerate() {
            let start = this.insts.len();
            for inst in &block.insts {
                inst.operands(&mut this.operands);
                this.operand_starts.push(this.operands.len());
            }
            let succs = match block.insts.last().map(|inst| &inst.op) {
                Some(Op::Jump(to)) => vec![*to],
                Some(Op::Branch { then, otherwise, .. }) => vec![*then, *otherwise],
                _ => Vec::new(),
            };
            for succ in &succs {
                this.preds[succ.index()].push(Block::new(index));
            }
            this.succs.push(succs);
            this.insts.extend(block.insts);
            this.ranges.push(InstRange::new(Index::new(start), Index::new(this.insts.len())));
            this.params.push(block.params);
            this.jump_args.push(block.jump_args);
            this.loop_heads.push(block.is_loop_head);
        }
        this
    }
}

impl regalloc2::Function for MachineFunction {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.ranges.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        self.ranges[block.index()]
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.succs[block.index()]
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.preds[block.index()]
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.params[block.index()]
    }

    fn is_ret(&self, inst: Index) -> bool {
        matches!(self.insts[inst.index()].op, Op::Ret | Op::Trap)
    }

    fn is_branch(&self, inst: Index) -> bool {
        matches!(self.insts[inst.index()].op, Op::Jump(_) | Op::Branch { .. })
    }

    fn branch_blockparams(&self, block: Block, _: Index, _: usize) -> &[VReg] {
        &self.jump_args[block.index()]
    }

    fn inst_operands(&self, inst: Index) -> &[Operand] {
        &self.operands[self.operand_starts[inst.index()]..self.operand_starts[inst.index() + 1]]
    }

    fn inst_clobbers(&self, inst: Index) -> PRegSet {
        self.insts[inst.index()].clobbers
    }

    fn num_vregs(&self) -> usize {
        self.num_vregs
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        if class == RegClass::Float { self.vector_slots } else { 1 }
    }
}
