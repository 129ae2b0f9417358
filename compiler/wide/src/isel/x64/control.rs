//! Jumps, branches, calls and returns. An edge between a block with several successors and one with several predecessors, or one that
//! passes arguments, gets a block of its own, as regalloc2 requires.

use super::context::{Lower, Result};
use crate::error::{Reason, Unsupported};
use crate::isa::x64::abi::{Abi, Loc};
use crate::isa::x64::function::BlockData;
use crate::isa::x64::mach::{self, Amode, Arg, Base, Cc, Cond, Op};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{ArgumentExtension, Block, BlockArg, BlockCall, InstructionData};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    fn target(&self, block: Block) -> Result<regalloc2::Block> {
        self.machine_block[block].ok_or_else(|| self.refuse(Reason::Operation))
    }

    fn call_args(&mut self, call: BlockCall) -> Result<Vec<VReg>> {
        let args: Vec<BlockArg> = call.args(&self.func.dfg.value_lists).collect();
        let mut regs = Vec::new();
        for arg in args {
            match arg {
                BlockArg::Value(value) => regs.push(self.reg(value)?),
                _ => return Err(self.refuse(Reason::Operation)),
            }
        }
        Ok(regs)
    }

    pub(super) fn jump(&mut self, block: Block) -> Result<()> {
        let InstructionData::Jump { destination, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let args = self.call_args(destination)?;
        let to = self.target(destination.block(&self.func.dfg.value_lists))?;
        self.emit_op(Op::Jump(to), []);
        let here = self.target(block)?;
        self.blocks[here.index()].jump_args = args;
        Ok(())
    }

    /// A machine block that only passes arguments on.
    fn edge(&mut self, call: BlockCall) -> Result<regalloc2::Block> {
        let before = std::mem::take(&mut self.out);
        let args = self.call_args(call)?;
        let to = self.target(call.block(&self.func.dfg.value_lists))?;
        self.emit_op(Op::Jump(to), []);
        let insts = std::mem::replace(&mut self.out, before);
        Ok(self.new_block(BlockData { insts, jump_args: args, ..BlockData::default() }))
    }

    fn new_block(&mut self, data: BlockData) -> regalloc2::Block {
        self.blocks.push(data);
        let block = regalloc2::Block::new(self.blocks.len() - 1);
        self.followers.push(block);
        block
    }

    pub(super) fn brif(&mut self) -> Result<()> {
        let InstructionData::Brif { arg, blocks: [then, otherwise], .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let then = self.edge(then)?;
        let otherwise = self.edge(otherwise)?;
        let cond = self.flags(arg)?;
        self.emit_op(Op::Branch { cond, then, otherwise }, []);
        Ok(())
    }

    /// A chain of comparisons: tables in kernels are short.
    pub(super) fn br_table(&mut self) -> Result<()> {
        let InstructionData::BranchTable { arg, table, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let table = &self.func.dfg.jump_tables[table];
        let index = self.reg(arg)?;
        let compare = |number: usize| {
            mach::Inst::new(
                Op::Real(Code::Cmp_rm32_imm32),
                [Arg::Use(index), Arg::Imm(i64::try_from(number).unwrap_or(i64::MAX))],
            )
        };
        // In the order in which they run: regalloc2 wants definitions before uses in block order too.
        let mut links = Vec::new();
        for number in 0..table.as_slice().len() {
            if number > 0 {
                links.push(self.new_block(BlockData::default()));
            }
            links.push(self.edge(table.as_slice()[number])?);
        }
        links.push(self.edge(table.default_block())?);
        // Edge, comparison, edge, comparison, ..., edge, default.
        let mut at = None;
        for pair in links.chunks(2) {
            let &[then, otherwise] = pair else {
                self.emit_op(Op::Jump(pair[0]), []);
                break;
            };
            let branch = mach::Inst::new(Op::Branch { cond: Cond::One(Cc::E), then, otherwise }, []);
            let number = at.map_or(0, |(number, _)| number + 1);
            let insts = [compare(number), branch];
            match at {
                None => self.out.extend(insts),
                Some((_, block)) => self.blocks[regalloc2::Block::index(block)].insts = insts.into(),
            }
            at = Some((number, otherwise));
        }
        Ok(())
    }

    pub(super) fn ret(&mut self) -> Result<()> {
        let sig = &self.func.signature;
        let regs = self.abi.results(sig).ok_or_else(|| Unsupported::signature(self.func, Reason::Signature))?;
        let mut args = Vec::new();
        for (index, (reg, param)) in regs.into_iter().zip(&sig.returns).enumerate() {
            let value = self.arg(index);
            let source = match param.extension {
                ArgumentExtension::None => self.reg(value)?,
                extension if param.value_type.bits() < 64 => {
                    self.extended(value, extension == ArgumentExtension::Sext, true)?
                }
                _ => self.reg(value)?,
            };
            args.push(Arg::UseFixed(source, reg));
        }
        self.emit_op(Op::Ret, args);
        Ok(())
    }

    pub(super) fn trap_if(&mut self, nonzero: bool) -> Result<()> {
        let cond = self.flags(self.arg(0))?;
        self.emit_op(Op::TrapIf(if nonzero { cond } else { cond.negate() }), []);
        Ok(())
    }

    pub(super) fn call_indirect(&mut self) -> Result<()> {
        let InstructionData::CallIndirect { sig_ref, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let sig = &self.func.dfg.signatures[sig_ref];
        let abi = Abi::of(self.func, sig)?;
        if abi != self.abi {
            // The callee could destroy registers that this function's caller expects to find as they were.
            return Err(self.refuse(Reason::CallConv(sig.call_conv)));
        }
        let refuse = || Unsupported::at(self.func, self.here, Reason::Signature);
        let (locs, stack) = abi.args(sig).ok_or_else(refuse)?;
        let result_regs = abi.results(sig).ok_or_else(refuse)?;
        self.outgoing_bytes = self.outgoing_bytes.max(stack);
        let mut args = vec![Arg::Use(self.reg(self.arg(0))?)];
        for (index, (loc, param)) in locs.into_iter().zip(&sig.params).enumerate() {
            let value = self.arg(index + 1);
            let source = match param.extension {
                ArgumentExtension::None => self.reg(value)?,
                extension if param.value_type.bits() < 64 => {
                    self.extended(value, extension == ArgumentExtension::Sext, true)?
                }
                _ => self.reg(value)?,
            };
            match loc {
                Loc::Reg(reg) => args.push(Arg::UseFixed(source, reg)),
                Loc::Stack(offset) => {
                    let to = Arg::Mem(Amode::base(Base::Outgoing(offset)));
                    let code = match Lane::of(param.value_type) {
                        Some(lane) if lane.is_float() => self.code(table::STORE, lane, Width::Scalar)?,
                        _ => Code::Mov_rm64_r64,
                    };
                    self.emit(code, [to, Arg::Use(source)]);
                }
            }
        }
        let mut clobbers = abi.clobbers(self.features);
        let results: Vec<_> = self.func.dfg.inst_results(self.here).to_vec();
        for (value, reg) in results.into_iter().zip(result_regs) {
            clobbers.remove(reg);
            args.push(Arg::DefFixed(self.demand(value)?, reg));
        }
        let wide_args = sig.params.iter().any(|param| param.value_type.bits() > 128);
        let mut inst = mach::Inst::new(Op::Call { wide_args }, args);
        inst.clobbers = clobbers;
        self.out.push(inst);
        Ok(())
    }
}
