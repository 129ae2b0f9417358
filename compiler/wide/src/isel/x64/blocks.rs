//! The walk over blocks and their instructions, and the arguments that arrive in the first.

use super::context::{Lower, Result};
use crate::error::{Reason, Unsupported};
use crate::isa::x64::abi::{Abi, Loc};
use crate::isa::x64::features::Features;
use crate::isa::x64::function::{BlockData, Lowered};
use crate::isa::x64::mach::{self, Amode, Arg, Base, Op};
use crate::isel::facts::Facts;
use crate::isel::order::block_order;
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{Block, Function, Inst, Value};
use cranelift_codegen::loop_analysis::LoopAnalysis;

/// Instruction selection for the whole function.
pub(crate) fn lower(func: &Function, features: Features) -> Result<Lowered> {
    let Some(entry) = func.layout.entry_block() else {
        return Err(Unsupported::function(func, Reason::Invalid("it has no blocks".into())));
    };
    let abi = Abi::of(func, &func.signature)?;
    let cfg = ControlFlowGraph::with_function(func);
    let domtree = DominatorTree::with_function(func, &cfg);
    let mut loops = LoopAnalysis::new();
    loops.compute(func, &cfg, &domtree);
    if let Some(pred) = cfg.pred_iter(entry).next() {
        return Err(Unsupported::at(func, pred.inst, Reason::EntryBranch));
    }
    let order = block_order(func, entry, &loops);
    let Some(here) = func.layout.first_inst(entry) else {
        return Err(Unsupported::function(func, Reason::Invalid("its entry block is empty".into())));
    };
    let mut lower = Lower::new(func, features, abi, Facts::of(func, &order, loops), here);
    let layout = lower.blocks(&order, entry)?;
    let returns_wide = func.signature.returns.iter().any(|p| p.value_type.bits() > 128);
    Ok(Lowered {
        blocks: renumber(lower.blocks, &layout),
        num_vregs: lower.num_vregs,
        pool: lower.pool,
        abi,
        width: lower.width,
        slots_bytes: lower.slots.bytes,
        slots_align: lower.slots.align,
        outgoing_bytes: lower.outgoing_bytes,
        returns_wide,
    })
}

/// Puts blocks into layout order, which is how regalloc2 numbers them.
fn renumber(mut blocks: Vec<BlockData>, layout: &[regalloc2::Block]) -> Vec<BlockData> {
    let mut new_number = vec![regalloc2::Block::new(0); blocks.len()];
    for (new, old) in layout.iter().enumerate() {
        new_number[old.index()] = regalloc2::Block::new(new);
    }
    let mut result: Vec<BlockData> = layout.iter().map(|old| std::mem::take(&mut blocks[old.index()])).collect();
    for block in &mut result {
        match block.insts.last_mut().map(|inst| &mut inst.op) {
            Some(Op::Jump(to)) => *to = new_number[to.index()],
            Some(Op::Branch { then, otherwise, .. }) => {
                *then = new_number[then.index()];
                *otherwise = new_number[otherwise.index()];
            }
            _ => {}
        }
    }
    result
}

impl Lower<'_> {
    /// Lowers all blocks, and says in which order machine blocks stand: split edges behind the block that they leave.
    fn blocks(&mut self, order: &[Block], entry: Block) -> Result<Vec<regalloc2::Block>> {
        for (index, &block) in order.iter().enumerate() {
            self.machine_block[block] = Some(regalloc2::Block::new(index));
            let is_loop_head = self.loops.is_loop_header(block).is_some();
            self.blocks.push(BlockData { is_loop_head, ..BlockData::default() });
        }
        let mut layout = Vec::new();
        for (index, &block) in order.iter().enumerate().rev() {
            let insts = self.block(block, block == entry)?;
            self.blocks[index].insts = insts;
            layout.extend(self.followers.drain(..).rev());
            layout.push(regalloc2::Block::new(index));
        }
        layout.reverse();
        Ok(layout)
    }

    /// Machine code of one CLIF block.
    fn block(&mut self, block: Block, is_entry: bool) -> Result<Vec<mach::Inst>> {
        let mut reversed = Vec::new();
        let mut insts: Vec<Inst> = self.func.layout.block_insts(block).collect();
        insts.reverse();
        if let Some((&last, rest)) = insts.split_first() {
            let sinking: Vec<Inst> = rest.iter().copied().filter(|&inst| self.sinks(inst, last)).collect();
            for inst in [last].into_iter().chain(sinking).chain(rest.iter().copied()) {
                if !self.done[inst] {
                    self.done[inst] = true;
                    self.here = inst;
                    self.inst(inst, block)?;
                    reversed.extend(self.out.drain(..).rev());
                }
            }
        }
        let params = self.func.dfg.block_params(block);
        if is_entry {
            self.entry(params)?;
            reversed.extend(self.out.drain(..).rev());
        } else {
            let mut vregs = Vec::new();
            for &param in params {
                vregs.push(self.demand(param)?);
            }
            if let Some(index) = self.machine_block[block] {
                self.blocks[index.index()].params = vregs;
            }
        }
        reversed.reverse();
        Ok(reversed)
    }

    /// Moves arguments out of the registers and stack slots they arrive in.
    fn entry(&mut self, params: &[Value]) -> Result<()> {
        let Some((locs, _)) = self.abi.args(&self.func.signature) else {
            return Err(Unsupported::signature(self.func, Reason::Signature));
        };
        let mut args = Vec::new();
        let mut loads = Vec::new();
        for (&param, loc) in params.iter().zip(locs) {
            match loc {
                Loc::Reg(reg) => args.push(Arg::DefFixed(self.demand(param)?, reg)),
                Loc::Stack(offset) if self.vregs[param].is_some() => loads.push((param, offset)),
                Loc::Stack(_) => {}
            }
        }
        self.out.push(mach::Inst::new(Op::Args, args));
        for (param, offset) in loads {
            let dst = self.demand(param)?;
            let ty = self.ty(param);
            self.load_into(dst, ty, Amode::base(Base::Incoming(offset)))?;
        }
        Ok(())
    }
}
