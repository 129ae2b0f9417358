//! Splats, single lanes, swizzles and bitcasts.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::Arg;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{InstructionData, Opcode, types};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    pub(super) fn splat(&mut self) -> Result<()> {
        let x = self.arg(0);
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        if let Some(load) = self.foldable_load(x) {
            let code = self.code(table::SPLAT_M, lane, width)?;
            let address = self.load_address(load)?;
            self.emit(code, [Arg::Def(dst), Arg::Mem(address)]);
            return Ok(());
        }
        let source = self.reg(x)?;
        self.splat_into(dst, source, lane, width)
    }

    fn splat_into(&mut self, dst: VReg, source: VReg, lane: Lane, width: Width) -> Result<()> {
        let (code, source) = self.splat_source(source, lane, width)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(source)]);
        Ok(())
    }

    /// The splat instruction for a scalar in a register; AVX2 splats general registers by way of a vector register.
    fn splat_source(&mut self, source: VReg, lane: Lane, width: Width) -> Result<(Code, VReg)> {
        if lane.is_float() {
            return Ok((self.code(table::SPLAT_X, lane, width)?, source));
        }
        if self.features.avx512() {
            return Ok((self.code(table::SPLAT_R, lane, width)?, source));
        }
        let moved = self.fresh_vector();
        self.move_to_vector(moved, source, lane == Lane::I64);
        Ok((self.code(table::SPLAT_X, lane, width)?, moved))
    }

    pub(super) fn extract_lane(&mut self) -> Result<()> {
        let InstructionData::BinaryImm8 { arg, imm, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let (lane, width) = self.shape(self.ty(arg))?;
        let vector = self.reg(arg)?;
        let dst = self.result()?;
        let per_quarter = 16 / lane.bytes();
        let (quarter, index) = (u32::from(imm) / per_quarter, i64::from(u32::from(imm) % per_quarter));
        let low = self.quarter(vector, quarter, width);
        match lane {
            Lane::F32 | Lane::F64 if index == 0 => {
                let code = self.code(table::LOAD, Lane::F32, Width::W128)?;
                self.emit(code, [Arg::Def(dst), Arg::Use(low)]);
            }
            Lane::F32 => {
                let code = self.code(table::SHUFFLE_LANES, Lane::I32, Width::W128)?;
                self.emit(code, [Arg::Def(dst), Arg::Use(low), Arg::Imm(index)]);
            }
            Lane::F64 => {
                let code = self.code(table::SHUFFLE_LANES, Lane::I32, Width::W128)?;
                self.emit(code, [Arg::Def(dst), Arg::Use(low), Arg::Imm(0xee)]);
            }
            Lane::I32 | Lane::I64 if index == 0 => self.move_between(Arg::Def(dst), low, lane == Lane::I64),
            _ => {
                let code = match (self.features.avx512(), lane) {
                    (true, Lane::I8) => Code::EVEX_Vpextrb_r32m8_xmm_imm8,
                    (true, Lane::I16) => Code::EVEX_Vpextrw_r32_xmm_imm8,
                    (true, Lane::I32) => Code::EVEX_Vpextrd_rm32_xmm_imm8,
                    (true, _) => Code::EVEX_Vpextrq_rm64_xmm_imm8,
                    (false, Lane::I8) => Code::VEX_Vpextrb_r32m8_xmm_imm8,
                    (false, Lane::I16) => Code::VEX_Vpextrw_r32_xmm_imm8,
                    (false, Lane::I32) => Code::VEX_Vpextrd_rm32_xmm_imm8,
                    (false, _) => Code::VEX_Vpextrq_rm64_xmm_imm8,
                };
                self.emit(code, [Arg::Def(dst), Arg::Use(low), Arg::Imm(index)]);
            }
        }
        Ok(())
    }

    /// The 128 bits of a vector that hold a lane.
    fn quarter(&mut self, vector: VReg, quarter: u32, width: Width) -> VReg {
        if quarter == 0 {
            return vector;
        }
        let code = self.quarter_code(width);
        let dst = self.fresh_vector();
        self.emit(code, [Arg::Def(dst), Arg::Use(vector), Arg::Imm(i64::from(quarter))]);
        dst
    }

    /// The instruction that takes a quarter out of a vector.
    pub(super) fn quarter_code(&self, width: Width) -> Code {
        match (self.features.avx512(), width) {
            (false, _) => Code::VEX_Vextractf128_xmmm128_ymm_imm8,
            (true, Width::W512) => Code::EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8,
            (true, _) => Code::EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8,
        }
    }

    pub(super) fn insert_lane(&mut self) -> Result<()> {
        let InstructionData::TernaryImm8 { args: [x, scalar], imm, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let index = i64::from(imm);
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        if width == Width::W128 {
            let x = self.reg(x)?;
            let scalar = self.reg(scalar)?;
            return self.insert_128(dst, x, scalar, lane, index);
        }
        if self.features.avx512() {
            let bits = self.int_immediate(1i64.wrapping_shl(u32::from(imm)));
            let mask = self.fresh_mask();
            self.emit(Code::VEX_Kmovq_kr_r64, [Arg::Def(mask), Arg::Use(bits)]);
            let scalar = self.reg(scalar)?;
            let from = self.reg(x)?;
            let (code, source) = self.splat_source(scalar, lane, width)?;
            self.emit_masked(code, mask, false, [Arg::Modify { def: dst, from }, Arg::Use(source)]);
            return Ok(());
        }
        let x = self.reg(x)?;
        let scalar = self.reg(scalar)?;
        if lane.bytes() < 4 {
            let per_half = i64::from(16 / lane.bytes());
            let half = self.quarter(x, u32::from(index >= per_half), width);
            let changed = self.fresh_vector();
            self.insert_128(changed, half, scalar, lane, index % per_half)?;
            let place = Arg::Imm(i64::from(index >= per_half));
            self.emit(
                Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8,
                [Arg::Def(dst), Arg::Use(x), Arg::Use(changed), place],
            );
            return Ok(());
        }
        let (splat, source) = self.splat_source(scalar, lane, width)?;
        let everywhere = self.fresh_vector();
        self.emit(splat, [Arg::Def(everywhere), Arg::Use(source)]);
        let float = if lane.bytes() == 8 { Lane::F64 } else { Lane::F32 };
        let code = self.code(table::BLEND_I, float, width)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(everywhere), Arg::Imm(1 << index)]);
        Ok(())
    }

    fn insert_128(&mut self, dst: VReg, x: VReg, scalar: VReg, lane: Lane, index: i64) -> Result<()> {
        let evex = self.features.avx512();
        let (code, imm) = match lane {
            Lane::F32 => (self.code(table::INSERT_LANE, Lane::F32, Width::W128)?, index << 4),
            Lane::F64 => {
                // Both lanes by unpacking: the old high lane after the scalar, or the scalar after the old low lane.
                if index == 1 {
                    let code = self.code(table::UNPACK_LOW, Lane::F64, Width::W128)?;
                    self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(scalar)]);
                    return Ok(());
                }
                let high = self.step(table::UNPACK_HIGH, Lane::F64, Width::W128, [Arg::Use(x), Arg::Use(x)])?;
                let code = self.code(table::UNPACK_LOW, Lane::F64, Width::W128)?;
                self.emit(code, [Arg::Def(dst), Arg::Use(scalar), Arg::Use(high)]);
                return Ok(());
            }
            Lane::I8 if evex => (Code::EVEX_Vpinsrb_xmm_xmm_r32m8_imm8, index),
            Lane::I16 if evex => (Code::EVEX_Vpinsrw_xmm_xmm_r32m16_imm8, index),
            Lane::I32 if evex => (Code::EVEX_Vpinsrd_xmm_xmm_rm32_imm8, index),
            Lane::I64 if evex => (Code::EVEX_Vpinsrq_xmm_xmm_rm64_imm8, index),
            Lane::I8 => (Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, index),
            Lane::I16 => (Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, index),
            Lane::I32 => (Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8, index),
            Lane::I64 => (Code::VEX_Vpinsrq_xmm_xmm_rm64_imm8, index),
        };
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(scalar), Arg::Imm(imm)]);
        Ok(())
    }

    /// The scalar in lane 0, zeros above.
    pub(super) fn scalar_to_vector(&mut self) -> Result<()> {
        let x = self.arg(0);
        let (lane, _) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        match lane {
            Lane::F32 | Lane::F64 => {
                if let Some(load) = self.foldable_load(x) {
                    let code = self.code(table::LOAD, lane, Width::Scalar)?;
                    let address = self.load_address(load)?;
                    self.emit(code, [Arg::Def(dst), Arg::Mem(address)]);
                    return Ok(());
                }
                let scalar = self.reg(x)?;
                let zero = self.zero();
                let code = match (self.features.avx512(), lane) {
                    (true, Lane::F32) => Code::EVEX_Vmovss_xmm_k1z_xmm_xmm,
                    (true, _) => Code::EVEX_Vmovsd_xmm_k1z_xmm_xmm,
                    (false, Lane::F32) => Code::VEX_Vmovss_xmm_xmm_xmm,
                    (false, _) => Code::VEX_Vmovsd_xmm_xmm_xmm,
                };
                self.emit(code, [Arg::Def(dst), Arg::Use(zero), Arg::Use(scalar)]);
            }
            Lane::I32 | Lane::I64 => {
                let scalar = self.reg(x)?;
                self.move_to_vector(dst, scalar, lane == Lane::I64);
            }
            Lane::I8 | Lane::I16 => {
                let scalar = self.extended(x, false, false)?;
                self.move_to_vector(dst, scalar, false);
            }
        }
        Ok(())
    }

    /// CLIF's `swizzle` gives zero for any index past 15, `vpshufb` only for those with bit 7 set.
    pub(super) fn swizzle(&mut self) -> Result<()> {
        let w = Width::W128;
        let dst = self.result()?;
        let code = self.code(table::SHUFFLE_BYTES, Lane::I8, w)?;
        let x = self.reg(self.arg(0))?;
        if self.opcode() == Opcode::X86Pshufb {
            let source = self.source(self.arg(1), code, Lane::I8)?;
            self.emit(code, [Arg::Def(dst), Arg::Use(x), source]);
            return Ok(());
        }
        let indices = self.reg(self.arg(1))?;
        let add = self.code(table::ADD_SATURATING, Lane::I8, w)?;
        let offset = self.splat_literal(add, Lane::I8, w, 0x70);
        let indices = self.step(table::ADD_SATURATING, Lane::I8, w, [Arg::Use(indices), offset])?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(indices)]);
        Ok(())
    }

    pub(super) fn bitcast(&mut self) -> Result<()> {
        let x = self.arg(0);
        let (from, to) = (self.ty(x), self.result_ty());
        let dst = self.result()?;
        match (from, to) {
            (types::I32, types::F32) | (types::I64, types::F64) => {
                let source = self.reg(x)?;
                self.move_to_vector(dst, source, from == types::I64);
            }
            (types::F32, types::I32) | (types::F64, types::I64) => {
                let source = self.reg(x)?;
                self.move_between(Arg::Def(dst), source, to == types::I64);
            }
            (a, b) if a == b && a.is_int() && !a.is_vector() => {
                let source = self.reg(x)?;
                self.emit(Code::Mov_r64_rm64, [Arg::Def(dst), Arg::Use(source)]);
            }
            (a, b) if a == b && a.is_float() => {
                let source = self.reg(x)?;
                let code = self.code(table::LOAD, Lane::F32, Width::W128)?;
                self.emit(code, [Arg::Def(dst), Arg::Use(source)]);
            }
            // Between vectors there is nothing to do, and no one asks for this result.
            _ => return Err(self.refuse(Reason::Type)),
        }
        Ok(())
    }
}
