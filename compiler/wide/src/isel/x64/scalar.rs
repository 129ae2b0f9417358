//! Integers in general registers. Bits above a value's type hold anything, so 8 and 16 bits are computed with as 32.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::abi::{RAX, RDX, gpr};
use crate::isa::x64::mach::{Arg, Cc, Cond, Op};
use cranelift_codegen::ir::{Opcode, Type, Value, types};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    /// Whether the type is computed with in 64 bits.
    fn is_wide(&self, ty: Type) -> Result<bool> {
        match ty {
            types::I8 | types::I16 | types::I32 => Ok(false),
            types::I64 => Ok(true),
            _ => Err(self.refuse(Reason::Type)),
        }
    }

    fn immediate(&self, value: Value) -> Option<i64> {
        self.int_constant(value).filter(|&c| i32::try_from(c).is_ok())
    }

    /// A general register, or the memory of a load that nothing else needs.
    pub(super) fn int_source(&mut self, value: Value) -> Result<Arg> {
        match self.foldable_load(value) {
            Some(load) => Ok(Arg::Mem(self.load_address(load)?)),
            None => Ok(Arg::Use(self.reg(value)?)),
        }
    }

    /// As [`Lower::int_source`], where the instruction reads 32 bits or more: narrower loads must not be widened.
    fn wide_source(&mut self, value: Value) -> Result<Arg> {
        if self.ty(value).bits() < 32 { Ok(Arg::Use(self.reg(value)?)) } else { self.int_source(value) }
    }

    /// The value extended to 32 bits, or to 64.
    pub(super) fn extended(&mut self, value: Value, signed: bool, wide: bool) -> Result<VReg> {
        let ty = self.ty(value);
        let code = match (ty, signed, wide) {
            (types::I8, false, _) => Code::Movzx_r32_rm8,
            (types::I16, false, _) => Code::Movzx_r32_rm16,
            (types::I8, true, false) => Code::Movsx_r32_rm8,
            (types::I16, true, false) => Code::Movsx_r32_rm16,
            (types::I8, true, true) => Code::Movsx_r64_rm8,
            (types::I16, true, true) => Code::Movsx_r64_rm16,
            (types::I32, false, true) => Code::Mov_r32_rm32,
            (types::I32, true, true) => Code::Movsxd_r64_rm32,
            _ => return self.reg(value),
        };
        let dst = self.fresh_int();
        let source = self.int_source(value)?;
        self.emit(code, [Arg::Def(dst), source]);
        Ok(dst)
    }

    pub(super) fn extend(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let dst = self.result()?;
        let from = self.extended(self.arg(0), self.opcode() == Opcode::Sextend, wide)?;
        self.copy_int(dst, from);
        Ok(())
    }

    /// The register allocator drops this where it can put both in one register; here it follows the instruction that makes `from`.
    fn copy_int(&mut self, dst: VReg, from: VReg) {
        if let Some(Arg::Def(def)) = self.out.last_mut().and_then(|last| last.args.first_mut())
            && *def == from
        {
            *def = dst;
            return;
        }
        self.emit(Code::Mov_r64_rm64, [Arg::Def(dst), Arg::Use(from)]);
    }

    pub(super) fn ireduce(&mut self) -> Result<()> {
        self.is_wide(self.ty(self.arg(0)))?;
        let dst = self.result()?;
        let from = self.reg(self.arg(0))?;
        self.emit(Code::Mov_r32_rm32, [Arg::Def(dst), Arg::Use(from)]);
        Ok(())
    }

    /// Sums are addresses: `lea` leaves its operands alone and scales for free.
    pub(super) fn scalar_add(&mut self) -> Result<()> {
        let ty = self.result_ty();
        if self.is_wide(ty)? {
            for (a, b) in [(0, 1), (1, 0)] {
                if let Some(load) = self.foldable_load(self.arg(b)) {
                    let dst = self.result()?;
                    let from = self.reg(self.arg(a))?;
                    let address = self.load_address(load)?;
                    self.emit(Code::Add_r64_rm64, [Arg::Modify { def: dst, from }, Arg::Mem(address)]);
                    return Ok(());
                }
            }
            return self.address();
        }
        let (mut a, mut b) = (self.arg(0), self.arg(1));
        if self.immediate(a).is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        let dst = self.result()?;
        if let Some(number) = self.immediate(b) {
            let from = self.reg(a)?;
            let code = if i8::try_from(number).is_ok() { Code::Add_rm32_imm8 } else { Code::Add_rm32_imm32 };
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Imm(number)]);
            return Ok(());
        }
        self.two_address(dst, Code::Add_r32_rm32, a, b, true)
    }

    /// `dst = a op b` where x86 overwrites its first operand: one that is not needed any more, if there is.
    fn two_address(&mut self, dst: VReg, code: Code, a: Value, b: Value, commutes: bool) -> Result<()> {
        let swap = commutes && (self.foldable_load(a).is_some() || !self.dies_here(a) && self.dies_here(b));
        let (a, b) = if swap && self.foldable_load(b).is_none() { (b, a) } else { (a, b) };
        let from = self.reg(a)?;
        let source = self.wide_source(b)?;
        self.emit(code, [Arg::Modify { def: dst, from }, source]);
        Ok(())
    }

    pub(super) fn scalar_sub(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let (a, b) = (self.arg(0), self.arg(1));
        let dst = self.result()?;
        if let Some(number) = self.immediate(b) {
            let from = self.reg(a)?;
            let code = match (wide, i8::try_from(number).is_ok()) {
                (true, true) => Code::Sub_rm64_imm8,
                (true, false) => Code::Sub_rm64_imm32,
                (false, true) => Code::Sub_rm32_imm8,
                (false, false) => Code::Sub_rm32_imm32,
            };
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Imm(number)]);
            return Ok(());
        }
        self.two_address(dst, if wide { Code::Sub_r64_rm64 } else { Code::Sub_r32_rm32 }, a, b, false)
    }

    pub(super) fn scalar_mul(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let (mut a, mut b) = (self.arg(0), self.arg(1));
        if self.immediate(a).is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        let dst = self.result()?;
        if let Some(number) = self.immediate(b) {
            let source = self.wide_source(a)?;
            let code = if wide { Code::Imul_r64_rm64_imm32 } else { Code::Imul_r32_rm32_imm32 };
            self.emit(code, [Arg::Def(dst), source, Arg::Imm(number)]);
            return Ok(());
        }
        self.two_address(dst, if wide { Code::Imul_r64_rm64 } else { Code::Imul_r32_rm32 }, a, b, true)
    }

    pub(super) fn scalar_mul_high(&mut self) -> Result<()> {
        let signed = self.opcode() == Opcode::Smulhi;
        let ty = self.result_ty();
        let dst = self.result()?;
        let (a, b) = (self.arg(0), self.arg(1));
        if self.is_wide(ty)? {
            let (a, b) = (self.reg(a)?, self.reg(b)?);
            let code = if signed { Code::Imul_rm64 } else { Code::Mul_rm64 };
            let low = self.fresh_int();
            self.emit(
                code,
                [Arg::Use(b), Arg::UseFixed(a, gpr(RAX)), Arg::DefFixed(low, gpr(RAX)), Arg::DefFixed(dst, gpr(RDX))],
            );
            return Ok(());
        }
        let from = self.extended(a, signed, true)?;
        let other = self.extended(b, signed, true)?;
        let product = self.fresh_int();
        self.emit(Code::Imul_r64_rm64, [Arg::Modify { def: product, from }, Arg::Use(other)]);
        self.emit(Code::Shr_rm64_imm8, [Arg::Modify { def: dst, from: product }, Arg::Imm(i64::from(ty.bits()))]);
        Ok(())
    }

    /// The hardware traps on division by zero and overflow, as CLIF asks; the remainder of a division that overflows is zero.
    pub(super) fn scalar_div(&mut self) -> Result<()> {
        let op = self.opcode();
        let signed = matches!(op, Opcode::Sdiv | Opcode::Srem);
        let ty = self.result_ty();
        let wide = self.is_wide(ty)?;
        if ty.bits() < 32 || op == Opcode::Srem && wide {
            return Err(self.refuse(Reason::Type));
        }
        let dst = self.result()?;
        // In 64 bits no 32-bit remainder overflows.
        let wide = wide || op == Opcode::Srem;
        let (a, b) = if op == Opcode::Srem {
            (self.extended(self.arg(0), true, true)?, self.extended(self.arg(1), true, true)?)
        } else {
            (self.reg(self.arg(0))?, self.reg(self.arg(1))?)
        };
        let high = if signed {
            let high = self.fresh_int();
            let low = self.fresh_int();
            let code = if wide { Code::Cqo } else { Code::Cdq };
            // rax is written with what it holds, so that it stays in one virtual register.
            self.emit(code, [Arg::UseFixed(a, gpr(RAX)), Arg::DefFixed(low, gpr(RAX)), Arg::DefFixed(high, gpr(RDX))]);
            (low, high)
        } else {
            (a, self.int_immediate(0))
        };
        let code = match (signed, wide) {
            (true, true) => Code::Idiv_rm64,
            (true, false) => Code::Idiv_rm32,
            (false, true) => Code::Div_rm64,
            (false, false) => Code::Div_rm32,
        };
        let other = self.fresh_int();
        let (quotient, remainder) = if matches!(op, Opcode::Udiv | Opcode::Sdiv) { (dst, other) } else { (other, dst) };
        self.emit(
            code,
            [
                Arg::Use(b),
                Arg::UseFixed(high.0, gpr(RAX)),
                Arg::UseFixed(high.1, gpr(RDX)),
                Arg::DefFixed(quotient, gpr(RAX)),
                Arg::DefFixed(remainder, gpr(RDX)),
            ],
        );
        Ok(())
    }

    pub(super) fn scalar_unary(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let code = match (self.opcode(), wide) {
            (Opcode::Ineg, true) => Code::Neg_rm64,
            (Opcode::Ineg, false) => Code::Neg_rm32,
            (_, true) => Code::Not_rm64,
            (_, false) => Code::Not_rm32,
        };
        let dst = self.result()?;
        let from = self.reg(self.arg(0))?;
        self.emit(code, [Arg::Modify { def: dst, from }]);
        Ok(())
    }

    pub(super) fn scalar_bits(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let (mut a, mut b) = (self.arg(0), self.arg(1));
        let dst = self.result()?;
        if let Some((kept, inverted)) = self.and_not(a, b) {
            let (kept, inverted) = (self.reg(kept)?, self.reg(inverted)?);
            let code = if wide { Code::VEX_Andn_r64_r64_rm64 } else { Code::VEX_Andn_r32_r32_rm32 };
            self.emit(code, [Arg::Def(dst), Arg::Use(inverted), Arg::Use(kept)]);
            return Ok(());
        }
        let (by_source, by_imm) = match (self.opcode(), wide) {
            (Opcode::Band, true) => (Code::And_r64_rm64, Code::And_rm64_imm32),
            (Opcode::Band, false) => (Code::And_r32_rm32, Code::And_rm32_imm32),
            (Opcode::Bor, true) => (Code::Or_r64_rm64, Code::Or_rm64_imm32),
            (Opcode::Bor, false) => (Code::Or_r32_rm32, Code::Or_rm32_imm32),
            (_, true) => (Code::Xor_r64_rm64, Code::Xor_rm64_imm32),
            (_, false) => (Code::Xor_r32_rm32, Code::Xor_rm32_imm32),
        };
        if self.immediate(a).is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        if let Some(number) = self.immediate(b) {
            let from = self.reg(a)?;
            self.emit(by_imm, [Arg::Modify { def: dst, from }, Arg::Imm(number)]);
            return Ok(());
        }
        self.two_address(dst, by_source, a, b, true)
    }

    pub(super) fn scalar_bitselect(&mut self) -> Result<()> {
        self.is_wide(self.result_ty())?;
        let dst = self.result()?;
        let (mask, x, y) = (self.reg(self.arg(0))?, self.reg(self.arg(1))?, self.reg(self.arg(2))?);
        let (ones, zeros) = (self.fresh_int(), self.fresh_int());
        self.emit(Code::And_r64_rm64, [Arg::Modify { def: ones, from: x }, Arg::Use(mask)]);
        self.emit(Code::VEX_Andn_r64_r64_rm64, [Arg::Def(zeros), Arg::Use(mask), Arg::Use(y)]);
        self.emit(Code::Or_r64_rm64, [Arg::Modify { def: dst, from: ones }, Arg::Use(zeros)]);
        Ok(())
    }

    /// x86 takes amounts modulo 32 or 64 by itself; narrower types need it done, and their upper bits made right.
    pub(super) fn scalar_shift(&mut self) -> Result<()> {
        let ty = self.result_ty();
        let wide = self.is_wide(ty)?;
        let op = self.opcode();
        let (x, amount) = (self.arg(0), self.arg(1));
        let dst = self.result()?;
        let from = if op == Opcode::Ishl { self.reg(x)? } else { self.extended(x, op == Opcode::Sshr, wide)? };
        if let Some(amount) = self.int_constant(amount) {
            let code = match (op, wide) {
                (Opcode::Ishl, true) => Code::Shl_rm64_imm8,
                (Opcode::Ishl, false) => Code::Shl_rm32_imm8,
                (Opcode::Ushr, true) => Code::Shr_rm64_imm8,
                (Opcode::Ushr, false) => Code::Shr_rm32_imm8,
                (_, true) => Code::Sar_rm64_imm8,
                (_, false) => Code::Sar_rm32_imm8,
            };
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Imm(amount.rem_euclid(i64::from(ty.bits())))]);
            return Ok(());
        }
        let mut count = self.reg(amount)?;
        if ty.bits() < 32 {
            let masked = self.fresh_int();
            self.emit(
                Code::And_rm32_imm8,
                [Arg::Modify { def: masked, from: count }, Arg::Imm(i64::from(ty.bits() - 1))],
            );
            count = masked;
        }
        let code = match (op, wide) {
            (Opcode::Ishl, true) => Code::VEX_Shlx_r64_rm64_r64,
            (Opcode::Ishl, false) => Code::VEX_Shlx_r32_rm32_r32,
            (Opcode::Ushr, true) => Code::VEX_Shrx_r64_rm64_r64,
            (Opcode::Ushr, false) => Code::VEX_Shrx_r32_rm32_r32,
            (_, true) => Code::VEX_Sarx_r64_rm64_r64,
            (_, false) => Code::VEX_Sarx_r32_rm32_r32,
        };
        self.emit(code, [Arg::Def(dst), Arg::Use(from), Arg::Use(count)]);
        Ok(())
    }

    pub(super) fn scalar_rotate(&mut self) -> Result<()> {
        let ty = self.result_ty();
        let wide = self.is_wide(ty)?;
        let Some(amount) = self.int_constant(self.arg(1)).filter(|_| ty.bits() >= 32) else {
            return Err(self.refuse(Reason::Type));
        };
        let bits = i64::from(ty.bits());
        let right = if self.opcode() == Opcode::Rotr { amount } else { -amount }.rem_euclid(bits);
        let dst = self.result()?;
        let source = self.int_source(self.arg(0))?;
        let code = if wide { Code::VEX_Rorx_r64_rm64_imm8 } else { Code::VEX_Rorx_r32_rm32_imm8 };
        self.emit(code, [Arg::Def(dst), source, Arg::Imm(right)]);
        Ok(())
    }

    pub(super) fn scalar_min_max(&mut self) -> Result<()> {
        let ty = self.result_ty();
        let wide = self.is_wide(ty)?;
        let op = self.opcode();
        let signed = matches!(op, Opcode::Smin | Opcode::Smax);
        let dst = self.result()?;
        let x = self.extended(self.arg(0), signed, wide)?;
        let y = self.extended(self.arg(1), signed, wide)?;
        let cc = match op {
            Opcode::Smin => Cc::L,
            Opcode::Smax => Cc::G,
            Opcode::Umin => Cc::B,
            _ => Cc::A,
        };
        self.emit(if wide { Code::Cmp_r64_rm64 } else { Code::Cmp_r32_rm32 }, [Arg::Use(x), Arg::Use(y)]);
        self.emit_op(Op::Move(cc), [Arg::Modify { def: dst, from: y }, Arg::Use(x)]);
        Ok(())
    }

    pub(super) fn scalar_abs(&mut self) -> Result<()> {
        let wide = self.is_wide(self.result_ty())?;
        let dst = self.result()?;
        let x = self.extended(self.arg(0), true, wide)?;
        let negated = self.fresh_int();
        // `neg` sets the flags of 0 - x.
        self.emit(if wide { Code::Neg_rm64 } else { Code::Neg_rm32 }, [Arg::Modify { def: negated, from: x }]);
        self.emit_op(Op::Move(Cc::S), [Arg::Modify { def: dst, from: negated }, Arg::Use(x)]);
        Ok(())
    }

    /// All ones for a value that is not zero.
    pub(super) fn bmask(&mut self) -> Result<()> {
        self.is_wide(self.result_ty())?;
        let dst = self.result()?;
        let (ones, zero) = (self.int_immediate(-1), self.int_immediate(0));
        match self.flags(self.arg(0))? {
            Cond::One(cc) => {
                self.emit_op(Op::Move(cc), [Arg::Modify { def: dst, from: zero }, Arg::Use(ones)]);
                Ok(())
            }
            _ => Err(self.refuse(Reason::Type)),
        }
    }
}
