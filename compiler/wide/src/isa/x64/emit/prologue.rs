//! The code around the body: the frame made and given back, the registers of the caller kept.

use super::assembler::Assembler;
use super::failure::{Failure, Result};
use super::frame::Frame;
use super::operand::{Operand, Place};
use crate::isa::x64::abi::{RBP, RSP, gpr};
use crate::isa::x64::features::Features;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use iced_x86::{Code, Register};

const PAGE: u32 = 4096;

/// Makes the frame.
pub(super) fn prologue(asm: &mut Assembler, frame: &Frame, features: Features) -> Result<()> {
    if !frame.exists {
        return Ok(());
    }
    let (rsp, rbp) = (Operand::Reg(gpr(RSP)), Operand::Reg(gpr(RBP)));
    asm.real(Code::Push_r64, &[rbp], None, false)?;
    asm.real(Code::Mov_r64_rm64, &[rbp, rsp], None, false)?;
    for &reg in &frame.saved_gprs {
        asm.real(Code::Push_r64, &[Operand::Reg(reg)], None, false)?;
    }
    let mut left = frame.size;
    while left > 0 {
        let step = left.min(PAGE);
        asm.real(Code::Sub_rm64_imm32, &[rsp, Operand::Imm(i64::from(step))], None, false)?;
        left -= step;
        if left > 0 {
            // The guard page has to be met, not jumped over.
            let top = Operand::Mem(Place::at(Register::RSP, 0));
            asm.real(Code::Test_rm64_r64, &[top, rsp], None, false)?;
        }
    }
    if frame.align > 16 {
        asm.real(Code::And_rm64_imm32, &[rsp, Operand::Imm(-i64::from(frame.align))], None, false)?;
    }
    saved_xmms(asm, frame, features, table::STORE)
}

/// Gives the frame back and returns. Where the upper halves of the vector registers are not live, `clears` zeroes them.
pub(super) fn epilogue(asm: &mut Assembler, frame: &Frame, features: Features, clears: bool) -> Result<()> {
    if clears {
        asm.real(Code::VEX_Vzeroupper, &[], None, false)?;
    }
    if frame.exists {
        saved_xmms(asm, frame, features, table::LOAD)?;
        let (rsp, rbp) = (Operand::Reg(gpr(RSP)), Operand::Reg(gpr(RBP)));
        let saved = &frame.saved_gprs;
        if frame.size > 0 && !saved.is_empty() {
            let below = Place::at(Register::RBP, -8 * i64::try_from(saved.len()).unwrap_or(0));
            asm.real(Code::Lea_r64_m, &[rsp, Operand::Mem(below)], None, false)?;
        } else if frame.size > 0 {
            asm.real(Code::Mov_r64_rm64, &[rsp, rbp], None, false)?;
        }
        for &reg in saved.iter().rev() {
            asm.real(Code::Pop_r64, &[Operand::Reg(reg)], None, false)?;
        }
        asm.real(Code::Pop_r64, &[rbp], None, false)?;
    }
    asm.real(Code::Retnq, &[], None, false)
}

fn saved_xmms(asm: &mut Assembler, frame: &Frame, features: Features, op: &table::Op) -> Result<()> {
    let code =
        table::code(op, features, Lane::F32, Width::W128).ok_or_else(|| Failure::Encoding("no vector move".into()))?;
    let store = std::ptr::eq(op, table::STORE);
    for (index, &reg) in frame.saved_xmms.iter().enumerate() {
        let offset = u64::from(frame.saved_vectors) + 16 * index as u64;
        let slot = Operand::Mem(Place::at(Register::RSP, i64::try_from(offset).unwrap_or(i64::MAX)));
        let operands = if store { [slot, Operand::Reg(reg)] } else { [Operand::Reg(reg), slot] };
        asm.real(code, &operands, None, false)?;
    }
    Ok(())
}
