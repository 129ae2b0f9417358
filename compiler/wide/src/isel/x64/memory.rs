//! Loads, stores, and addresses as values.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::{Amode, Arg};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{InstructionData, Opcode, Type, types};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    pub(super) fn load(&mut self) -> Result<()> {
        let dst = self.result()?;
        let address = self.load_address(self.here)?;
        let wide = self.result_ty() == types::I64;
        let code = match (self.opcode(), wide) {
            (Opcode::Load, _) => return self.load_into(dst, self.result_ty(), address),
            (Opcode::Uload8, _) => Code::Movzx_r32_rm8,
            (Opcode::Uload16, _) => Code::Movzx_r32_rm16,
            (Opcode::Uload32, _) => Code::Mov_r32_rm32,
            (Opcode::Sload8, true) => Code::Movsx_r64_rm8,
            (Opcode::Sload8, false) => Code::Movsx_r32_rm8,
            (Opcode::Sload16, true) => Code::Movsx_r64_rm16,
            (Opcode::Sload16, false) => Code::Movsx_r32_rm16,
            _ => Code::Movsxd_r64_rm32,
        };
        self.emit(code, [Arg::Def(dst), Arg::Mem(address)]);
        Ok(())
    }

    /// Four lanes of 16 bits, each widened by zeros.
    pub(super) fn load_widened(&mut self) -> Result<()> {
        let dst = self.result()?;
        let address = self.load_address(self.here)?;
        let code = match self.features.avx512() {
            true => Code::EVEX_Vpmovzxwd_xmm_k1z_xmmm64,
            false => Code::VEX_Vpmovzxwd_xmm_xmmm64,
        };
        self.emit(code, [Arg::Def(dst), Arg::Mem(address)]);
        Ok(())
    }

    /// What is read and not wanted: the program asks for its cache line.
    pub(super) fn prefetch(&mut self, code: Code) -> Result<()> {
        let address = self.load_address(self.here)?;
        self.emit(code, [Arg::Mem(address)]);
        Ok(())
    }

    /// A plain load of any supported type.
    pub(super) fn load_into(&mut self, dst: VReg, ty: Type, address: Amode) -> Result<()> {
        let code = match ty {
            types::I8 => Code::Movzx_r32_rm8,
            types::I16 => Code::Movzx_r32_rm16,
            types::I32 => Code::Mov_r32_rm32,
            types::I64 => Code::Mov_r64_rm64,
            _ if ty.is_vector() && ty.bits() == 64 && self.features.avx512() => Code::EVEX_Vmovq_xmm_xmmm64,
            _ if ty.is_vector() && ty.bits() == 64 => Code::VEX_Vmovq_xmm_xmmm64,
            _ => self.move_code(table::LOAD, ty)?,
        };
        self.emit(code, [Arg::Def(dst), Arg::Mem(address)]);
        Ok(())
    }

    /// Moves of vectors do not care about lanes: there is one for each width.
    fn move_code(&self, op: &table::Op, ty: Type) -> Result<Code> {
        let (lane, width) = self.shape(ty)?;
        let lane = if width == Width::Scalar { lane } else { Lane::F32 };
        self.code(op, lane, width)
    }

    pub(super) fn store(&mut self) -> Result<()> {
        let value = self.arg(0);
        let ty = self.ty(value);
        let InstructionData::Store { opcode, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let bits = match opcode {
            Opcode::Istore8 => 8,
            Opcode::Istore16 => 16,
            Opcode::Istore32 => 32,
            _ => ty.bits(),
        };
        if ty.is_vector() || ty.is_float() {
            let code = self.move_code(table::STORE, ty)?;
            let reg = self.reg(value)?;
            let address = self.load_address(self.here)?;
            self.emit(code, [Arg::Mem(address), Arg::Use(reg)]);
            return Ok(());
        }
        let constant = self.int_constant(value).filter(|&c| i32::try_from(c).is_ok());
        let (from_reg, from_imm) = match bits {
            8 => (Code::Mov_rm8_r8, Code::Mov_rm8_imm8),
            16 => (Code::Mov_rm16_r16, Code::Mov_rm16_imm16),
            32 => (Code::Mov_rm32_r32, Code::Mov_rm32_imm32),
            64 => (Code::Mov_rm64_r64, Code::Mov_rm64_imm32),
            _ => return Err(self.refuse(Reason::Type)),
        };
        let (code, source) = match constant {
            Some(number) => (from_imm, Arg::Imm(number)),
            None => (from_reg, Arg::Use(self.reg(value)?)),
        };
        let address = self.load_address(self.here)?;
        self.emit(code, [Arg::Mem(address), source]);
        Ok(())
    }

    /// `lea` of the value that the instruction being lowered defines.
    pub(super) fn address(&mut self) -> Result<()> {
        let dst = self.result()?;
        let value = self.func.dfg.first_result(self.here);
        let address = self.amode(value, 0)?;
        self.emit(Code::Lea_r64_m, [Arg::Def(dst), Arg::Mem(address)]);
        Ok(())
    }
}
