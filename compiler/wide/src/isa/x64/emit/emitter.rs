//! The instructions that selection made, one after the other: their operands in real registers, and what takes several instructions.

use super::assembler::Assembler;
use super::failure::{Failure, Result};
use super::frame::Frame;
use super::operand::{Operand, Place, gpr64};
use super::prologue::{epilogue, prologue};
use crate::isa::x64::features::Features;
use crate::isa::x64::function::Lowered;
use crate::isa::x64::layout::Label;
use crate::isa::x64::mach::{Amode, Arg, Base, Cond, Inst, Op};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use iced_x86::{Code, Register};
use regalloc2::{Allocation, Block, PReg, RegClass};

/// The emission of one function.
pub(super) struct Emitter<'a> {
    pub lowered: &'a Lowered,
    pub features: Features,
    pub frame: Frame,
    pub asm: Assembler,
}

impl Emitter<'_> {
    pub(super) fn inst(
        &mut self,
        inst: &Inst,
        allocs: &[Allocation],
        next: Option<Block>,
        resolve: &dyn Fn(Block) -> Block,
    ) -> Result<()> {
        let (operands, mask) = self.operands(inst, allocs)?;
        match &inst.op {
            Op::Real(code) => self.asm.real(*code, &operands, mask, inst.zeroing),
            Op::Set(cc) => self.asm.real(SET[*cc as usize], &operands, None, false),
            Op::Move(cc) => self.asm.real(CMOV[*cc as usize], &operands, None, false),
            Op::Zero => self.zero(&operands),
            Op::MoveIf(conditions) => {
                let skip = self.asm.label();
                for cc in conditions {
                    self.asm.jump(Some(cc.negate()), skip);
                }
                let code = self.vector_code(table::LOAD)?;
                self.asm.real(code, &operands, None, false)?;
                self.asm.bind(skip);
                Ok(())
            }
            Op::Call { wide_args } => {
                if self.lowered.width > Width::W128 && !wide_args {
                    self.asm.real(Code::VEX_Vzeroupper, &[], None, false)?;
                }
                self.asm.real(Code::Call_rm64, &operands, None, false)
            }
            Op::Args => prologue(&mut self.asm, &self.frame, self.features),
            Op::Ret => {
                let clears = self.lowered.width > Width::W128 && !self.lowered.returns_wide;
                epilogue(&mut self.asm, &self.frame, self.features, clears)
            }
            Op::Jump(to) => {
                let to = resolve(*to);
                if Some(to) != next {
                    self.asm.jump(None, Label(to.index()));
                }
                Ok(())
            }
            Op::Branch { cond, then, otherwise } => {
                self.branch(*cond, resolve(*then), resolve(*otherwise), next);
                Ok(())
            }
            Op::Trap => self.asm.real(Code::Ud2, &[], None, false),
            Op::TrapIf(cond) => self.trap_if(*cond),
        }
    }

    fn zero(&mut self, operands: &[Operand]) -> Result<()> {
        let Some(&Operand::Reg(reg)) = operands.first() else {
            return Err(Failure::Encoding("zero without a register".into()));
        };
        // The VEX form is shorter, and known to break dependencies on more processors.
        let code =
            if reg.hw_enc() < 16 { Code::VEX_Vxorps_xmm_xmm_xmmm128 } else { Code::EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32 };
        self.asm.real(code, &[Operand::Reg(reg); 3], None, false)
    }

    /// Jumps to one of two blocks; the one that is `next` is fallen into.
    fn branch(&mut self, mut cond: Cond, mut then: Block, mut otherwise: Block, next: Option<Block>) {
        if Some(then) == next {
            (cond, then, otherwise) = (cond.negate(), otherwise, then);
        }
        let (yes, no) = (Label(then.index()), Label(otherwise.index()));
        match cond {
            Cond::One(cc) => self.asm.jump(Some(cc), yes),
            Cond::Or(a, b) => {
                self.asm.jump(Some(a), yes);
                self.asm.jump(Some(b), yes);
            }
            Cond::And(a, b) => {
                self.asm.jump(Some(a.negate()), no);
                self.asm.jump(Some(b), yes);
            }
        }
        if Some(otherwise) != next {
            self.asm.jump(None, no);
        }
    }

    fn trap_if(&mut self, cond: Cond) -> Result<()> {
        let (trap, skip) = (self.asm.label(), self.asm.label());
        match cond {
            Cond::One(cc) => self.asm.jump(Some(cc.negate()), skip),
            Cond::And(a, b) => {
                self.asm.jump(Some(a.negate()), skip);
                self.asm.jump(Some(b.negate()), skip);
            }
            Cond::Or(a, b) => {
                self.asm.jump(Some(a), trap);
                self.asm.jump(Some(b.negate()), skip);
            }
        }
        self.asm.bind(trap);
        self.asm.real(Code::Ud2, &[], None, false)?;
        self.asm.bind(skip);
        Ok(())
    }

    /// The printed operands, and the write mask.
    fn operands(&self, inst: &Inst, allocs: &[Allocation]) -> Result<(Vec<Operand>, Option<PReg>)> {
        let mut allocs = allocs.iter();
        let mut take = || {
            let reg = allocs.next().and_then(|alloc| alloc.as_reg());
            reg.ok_or_else(|| Failure::Encoding("an operand was not given a register".into()))
        };
        let mut operands = Vec::new();
        for arg in &inst.args {
            match arg {
                Arg::Def(_) | Arg::Use(_) => operands.push(Operand::Reg(take()?)),
                Arg::Modify { .. } => {
                    take()?;
                    operands.push(Operand::Reg(take()?));
                }
                Arg::Mem(mem) => operands.push(Operand::Mem(self.address(mem, &mut take)?)),
                Arg::Imm(number) => operands.push(Operand::Imm(*number)),
                Arg::UseFixed(..) | Arg::DefFixed(..) => {
                    take()?;
                }
            }
        }
        let mask = if inst.mask.is_some() { Some(take()?) } else { None };
        Ok((operands, mask))
    }

    fn address(&self, mem: &Amode, take: &mut dyn FnMut() -> Result<PReg>) -> Result<Place> {
        let disp = i64::from(mem.disp);
        let rsp = |offset: u32| Place::at(Register::RSP, disp + i64::from(offset));
        let mut place = match mem.base {
            Base::None => Place::at(Register::None, disp),
            Base::Reg(_) => Place::at(gpr64(take()?), disp),
            Base::Literal(id) => Place { literal: Some(id), ..Place::at(Register::RIP, disp) },
            Base::Slot(offset) => rsp(self.frame.slots + offset),
            Base::Outgoing(offset) => rsp(offset),
            Base::Incoming(offset) => Place::at(Register::RBP, disp + 16 + i64::from(offset)),
        };
        if let Some((_, scale)) = mem.index {
            place.index = gpr64(take()?);
            place.scale = scale;
        }
        place.broadcast = mem.broadcast;
        Ok(place)
    }

    /// The instruction of the function's widest vectors.
    fn vector_code(&self, op: &table::Op) -> Result<Code> {
        table::code(op, self.features, Lane::F32, self.lowered.width)
            .ok_or_else(|| Failure::Encoding("no vector move".into()))
    }

    pub(super) fn copy(&mut self, from: Allocation, to: Allocation) -> Result<()> {
        let slot = |alloc: Allocation| {
            let slot =
                alloc.as_stack().map(|slot| self.frame.spills + 8 * u32::try_from(slot.index()).unwrap_or(u32::MAX));
            slot.map(|offset| Operand::Mem(Place::at(Register::RSP, i64::from(offset))))
        };
        let (source, target) = (from.as_reg(), to.as_reg());
        let Some(class) = source.or(target).map(PReg::class) else {
            return Err(Failure::Encoding("a move from memory to memory".into()));
        };
        let (load, store) = match class {
            RegClass::Int => (Code::Mov_r64_rm64, Code::Mov_rm64_r64),
            RegClass::Float => (self.vector_code(table::LOAD)?, self.vector_code(table::STORE)?),
            RegClass::Vector => (Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr),
        };
        let operands = match (source, target) {
            (Some(source), Some(target)) => [Operand::Reg(target), Operand::Reg(source)],
            (None, Some(target)) => {
                [Operand::Reg(target), slot(from).ok_or_else(|| Failure::Encoding("a move from nowhere".into()))?]
            }
            (Some(source), None) => {
                [slot(to).ok_or_else(|| Failure::Encoding("a move to nowhere".into()))?, Operand::Reg(source)]
            }
            (None, None) => return Ok(()),
        };
        self.asm.real(if target.is_some() { load } else { store }, &operands, None, false)
    }
}

const SET: [Code; 16] = [
    Code::Seto_rm8,
    Code::Setno_rm8,
    Code::Setb_rm8,
    Code::Setae_rm8,
    Code::Sete_rm8,
    Code::Setne_rm8,
    Code::Setbe_rm8,
    Code::Seta_rm8,
    Code::Sets_rm8,
    Code::Setns_rm8,
    Code::Setp_rm8,
    Code::Setnp_rm8,
    Code::Setl_rm8,
    Code::Setge_rm8,
    Code::Setle_rm8,
    Code::Setg_rm8,
];

const CMOV: [Code; 16] = [
    Code::Cmovo_r64_rm64,
    Code::Cmovno_r64_rm64,
    Code::Cmovb_r64_rm64,
    Code::Cmovae_r64_rm64,
    Code::Cmove_r64_rm64,
    Code::Cmovne_r64_rm64,
    Code::Cmovbe_r64_rm64,
    Code::Cmova_r64_rm64,
    Code::Cmovs_r64_rm64,
    Code::Cmovns_r64_rm64,
    Code::Cmovp_r64_rm64,
    Code::Cmovnp_r64_rm64,
    Code::Cmovl_r64_rm64,
    Code::Cmovge_r64_rm64,
    Code::Cmovle_r64_rm64,
    Code::Cmovg_r64_rm64,
];
