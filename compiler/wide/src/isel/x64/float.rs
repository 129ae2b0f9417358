//! Floating-point arithmetic and conversions, scalars and vectors alike.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::{Arg, Cc, Op};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{Opcode, Type, Value, types};
use iced_x86::Code;
use regalloc2::VReg;

/// Comparison predicates of `vcmpps`: quiet, unordered or not.
const ORDERED: i64 = 7;
const UNORDERED: i64 = 3;
const GREATER_EQUAL: i64 = 0x1d;

impl Lower<'_> {
    /// `x * y + z`. The 231 form overwrites the addend, the 213 form a factor: overwrite one that is not needed any more, and leave what
    /// can be a memory operand to the position that may be memory.
    pub(super) fn fma(&mut self) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let add_form = self.code(table::FMA231, lane, width)?;
        let mul_form = self.code(table::FMA213, lane, width)?;
        let dst = self.result()?;
        let (mut x, mut y, z) = (self.arg(0), self.arg(1), self.arg(2));
        let same = self.resolve(x).0 == self.resolve(y).0;
        let free = |this: &Self, v: Value| this.constant(v).is_none() && this.dies_here(v) && !same;
        if !free(self, x) && free(self, y) {
            std::mem::swap(&mut x, &mut y);
        }
        let factor_free = free(self, x) && self.resolve(x).0 != self.resolve(z).0;
        let addend_in_memory = self.is_foldable(z, mul_form, lane);
        let factor_in_memory = self.is_foldable(x, add_form, lane) || self.is_foldable(y, add_form, lane);
        let addend_free = self.constant(z).is_some() || self.dies_here(z);
        if factor_free && (addend_in_memory && !factor_in_memory || !addend_free) {
            let from = self.reg(x)?;
            let other = self.reg(y)?;
            let addend = self.source(z, mul_form, lane)?;
            self.emit(mul_form, [Arg::Modify { def: dst, from }, Arg::Use(other), addend]);
        } else {
            if self.is_foldable(x, add_form, lane) && !self.is_foldable(y, add_form, lane) {
                std::mem::swap(&mut x, &mut y);
            }
            let from = self.reg(z)?;
            let left = self.reg(x)?;
            let right = self.source(y, add_form, lane)?;
            self.emit(add_form, [Arg::Modify { def: dst, from }, Arg::Use(left), right]);
        }
        Ok(())
    }

    /// A bitwise operation with one constant in all lanes, given for `f64`: the sign bit, or all but it.
    pub(super) fn sign(&mut self, op: &table::Op, bits: u64) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let width = width.packed();
        let code = self.code(op, lane, width)?;
        let dst = self.result()?;
        let x = self.reg(self.arg(0))?;
        let mask = self.splat_literal(code, lane, width, top_bits(lane, bits));
        self.emit(code, [Arg::Def(dst), Arg::Use(x), mask]);
        Ok(())
    }

    pub(super) fn copysign(&mut self) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let width = width.packed();
        let dst = self.result()?;
        let (x, y) = (self.reg(self.arg(0))?, self.reg(self.arg(1))?);
        let and = self.code(table::AND, lane, width)?;
        let magnitude = self.splat_literal(and, lane, width, top_bits(lane, !(1 << 63)));
        let x = self.step(table::AND, lane, width, [Arg::Use(x), magnitude])?;
        let sign = self.splat_literal(and, lane, width, top_bits(lane, 1 << 63));
        let y = self.step(table::AND, lane, width, [Arg::Use(y), sign])?;
        let or = self.code(table::OR, lane, width)?;
        self.emit(or, [Arg::Def(dst), Arg::Use(x), Arg::Use(y)]);
        Ok(())
    }

    /// CLIF's `fmin` and `fmax`: a NaN operand gives NaN, and -0 is less than +0. The x86 instructions do neither.
    pub(super) fn float_min_max(&mut self, max: bool) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        let (x, y) = (self.reg(self.arg(0))?, self.reg(self.arg(1))?);
        let both = [Arg::Use(x), Arg::Use(y)];
        if self.features.avx512() {
            // Bit 2 of the immediate orders zeros by their sign.
            let imm = Arg::Imm(if max { 5 } else { 4 });
            let ordered = self.step(table::RANGE, lane, width, [Arg::Use(x), Arg::Use(y), imm])?;
            let compare = self.code(table::FCMP_K, lane, width)?;
            let nan = self.fresh_mask();
            self.emit(compare, [Arg::Def(nan), Arg::Use(x), Arg::Use(y), Arg::Imm(UNORDERED)]);
            let add = self.code(table::FADD, lane, width)?;
            self.emit_masked(add, nan, false, [Arg::Modify { def: dst, from: ordered }, Arg::Use(x), Arg::Use(y)]);
            return Ok(());
        }
        let width = width.packed();
        // Both orders differ only in NaNs and zeros; `or` keeps a minus sign, `and` drops it.
        let (op, join) = if max { (table::FMAX, table::AND) } else { (table::FMIN, table::OR) };
        let one = self.step(op, lane, width, both)?;
        let other = self.step(op, lane, width, [Arg::Use(y), Arg::Use(x)])?;
        let ordered = self.step(join, lane, width, [Arg::Use(one), Arg::Use(other)])?;
        let sum = self.step(table::FADD, lane, width, both)?;
        let nan = self.step(table::FCMP, lane, width, [Arg::Use(x), Arg::Use(y), Arg::Imm(UNORDERED)])?;
        let blend = self.code(table::BLEND, lane, width)?;
        self.emit(blend, [Arg::Def(dst), Arg::Use(ordered), Arg::Use(sum), Arg::Use(nan)]);
        Ok(())
    }

    pub(super) fn convert_scalar(&mut self) -> Result<()> {
        let (lane, width) = self.shape(self.ty(self.arg(0)))?;
        let code = self.code(table::CONVERT_FROM, lane, width)?;
        let dst = self.result()?;
        let x = self.reg(self.arg(0))?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(x)]);
        Ok(())
    }

    pub(super) fn promote_low(&mut self) -> Result<()> {
        let dst = self.result()?;
        let x = self.reg(self.arg(0))?;
        let code = self.code(table::PROMOTE, Lane::F32, Width::W128)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
        Ok(())
    }

    pub(super) fn demote(&mut self) -> Result<()> {
        let dst = self.result()?;
        let x = self.reg(self.arg(0))?;
        let code = self.code(table::DEMOTE, Lane::F64, Width::W128)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
        Ok(())
    }

    /// The instruction for a conversion to floating point.
    fn conversion(&self, signed: bool, int: Lane, float: Lane, width: Width) -> Result<Code> {
        let op = match (int, float, signed) {
            (Lane::I32, Lane::F32, true) => table::INT_TO_F32,
            (Lane::I32, Lane::F32, false) => table::UINT_TO_F32,
            (Lane::I32 | Lane::I64, Lane::F64, true) => table::INT_TO_F64,
            (Lane::I32 | Lane::I64, Lane::F64, false) => table::UINT_TO_F64,
            _ => return Err(self.refuse(Reason::Type)),
        };
        self.code(op, int, width)
    }

    pub(super) fn convert_from_sint(&mut self) -> Result<()> {
        let x = self.arg(0);
        let (from, to) = (self.ty(x), self.result_ty());
        let (lane, width) = self.shape(to)?;
        if !to.is_vector() {
            let wide = from == types::I64;
            let source = if from.bits() < 32 { self.extended(x, true, false)? } else { self.reg(x)? };
            let dst = self.result()?;
            return self.int_to_scalar(dst, lane, source, wide);
        }
        if from.lane_type() == types::I8 && lane == Lane::F32 {
            let (dst, wide) = (self.result()?, self.fresh_vector());
            self.widen(table::WIDEN, wide, (x, Lane::I8), width)?;
            let code = self.code(table::INT_TO_F32, Lane::I32, width)?;
            self.emit(code, [Arg::Def(dst), Arg::Use(wide)]);
            return Ok(());
        }
        let (int, _) = self.shape(from)?;
        let code = self.conversion(true, int, lane, width)?;
        let dst = self.result()?;
        let source = self.source(x, code, int)?;
        self.emit(code, [Arg::Def(dst), source]);
        Ok(())
    }

    /// `vcvtsi2ss` and its kin, merging into zero rather than waiting for an old value.
    fn int_to_scalar(&mut self, dst: VReg, lane: Lane, source: VReg, wide: bool) -> Result<()> {
        let zero = self.zero();
        let op = if wide { table::GPR64_TO_FLOAT } else { table::GPR32_TO_FLOAT };
        let code = self.code(op, lane, Width::Scalar)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(zero), Arg::Use(source)]);
        Ok(())
    }

    pub(super) fn convert_from_uint(&mut self) -> Result<()> {
        let x = self.arg(0);
        let (from, to) = (self.ty(x), self.result_ty());
        let (lane, width) = self.shape(to)?;
        let dst = self.result()?;
        if !to.is_vector() {
            if from == types::I64 {
                return Err(self.refuse(Reason::Type));
            }
            // Zero-extended to 64 bits it is not negative.
            let source = self.extended(x, false, true)?;
            return self.int_to_scalar(dst, lane, source, true);
        }
        let (int, _) = self.shape(from)?;
        if int == Lane::I16 && lane == Lane::F32 {
            let wide = self.fresh_vector();
            self.widen(table::WIDEN, wide, (x, Lane::I16), width)?;
            let code = self.code(table::INT_TO_F32, Lane::I32, width)?;
            self.emit(code, [Arg::Def(dst), Arg::Use(wide)]);
            return Ok(());
        }
        if int == Lane::I32 && lane == Lane::F32 && !self.features.avx512() {
            // Both halves are exact, and the fused multiply-add rounds once.
            let x = self.reg(x)?;
            let high = self.step(table::USHR_I, int, width, [Arg::Use(x), Arg::Imm(16)])?;
            let and = self.code(table::AND, int, width)?;
            let low_bits = self.splat_literal(and, int, width, 0xffff);
            let low = self.step(table::AND, int, width, [Arg::Use(x), low_bits])?;
            let high = self.step(table::INT_TO_F32, int, width, [Arg::Use(high)])?;
            let from = self.step(table::INT_TO_F32, int, width, [Arg::Use(low)])?;
            let code = self.code(table::FMA231, lane, width)?;
            let scale = self.splat_literal(code, lane, width, u64::from(65536f32.to_bits()));
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Use(high), scale]);
            return Ok(());
        }
        let code = self.conversion(false, int, lane, width)?;
        let source = self.source(x, code, int)?;
        self.emit(code, [Arg::Def(dst), source]);
        Ok(())
    }

    /// Lanes of 8 or 16 bits, each widened to one of 32 in a vector of this width.
    pub(super) fn widen(&mut self, op: &table::Op, dst: VReg, (x, lane): (Value, Lane), width: Width) -> Result<()> {
        let code = self.code(op, lane, width)?;
        let source = self.source(x, code, lane)?;
        self.emit(code, [Arg::Def(dst), source]);
        Ok(())
    }

    /// The lower half of the lanes, each widened by its sign to one of twice the bits.
    pub(super) fn widen_low(&mut self) -> Result<()> {
        let x = self.arg(0);
        let code = match (self.shape(self.ty(x))?, self.features.avx512()) {
            ((Lane::I8, Width::W128), true) => Code::EVEX_Vpmovsxbw_xmm_k1z_xmmm64,
            ((Lane::I8, Width::W128), false) => Code::VEX_Vpmovsxbw_xmm_xmmm64,
            ((Lane::I16, Width::W128), true) => Code::EVEX_Vpmovsxwd_xmm_k1z_xmmm64,
            ((Lane::I16, Width::W128), false) => Code::VEX_Vpmovsxwd_xmm_xmmm64,
            _ => return Err(self.refuse(Reason::Type)),
        };
        let (dst, x) = (self.result()?, self.reg(x)?);
        self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
        Ok(())
    }

    /// The lanes that a float was converted from by `opcode`, of this type, if that is all it is for.
    fn lanes_of(&self, float: Value, opcode: Opcode, lane: Type) -> Option<Value> {
        let &[x] = self.def_of(float, opcode)? else { return None };
        let sole = self.uses[self.func.dfg.resolve_aliases(float)] == 1;
        (sole && self.ty(x).is_vector() && self.ty(x).lane_type() == lane).then_some(x)
    }

    /// NaN becomes zero, and what is too large becomes the largest integer. What is too small, the x86 conversions turn into 0x80..0, the
    /// smallest integer, as it should be.
    pub(super) fn convert_to_sint_sat(&mut self) -> Result<()> {
        let x = self.arg(0);
        let to = self.result_ty();
        let (lane, width) = self.shape(self.ty(x))?;
        let dst = self.result()?;
        // There and back: a float holds every number of 16 bits and 8.
        if lane == Lane::F32 {
            if let Some(x) = self.lanes_of(x, Opcode::FcvtFromUint, types::I16) {
                return self.widen(table::WIDEN, dst, (x, Lane::I16), width);
            }
            if let Some(x) = self.lanes_of(x, Opcode::FcvtFromSint, types::I8) {
                return self.widen(table::WIDEN, dst, (x, Lane::I8), width);
            }
        }
        let packed = width.packed();
        if !to.is_vector() && to.bits() < 32 {
            return Err(self.refuse(Reason::Type));
        }
        let int = if to.lane_type() == types::I64 { Lane::I64 } else { Lane::I32 };
        let x = self.reg(x)?;
        let number = self.without_nan(x, lane, packed)?;
        let code = if to.is_vector() {
            self.code(if lane == Lane::F32 { table::F32_TO_INT } else { table::F64_TO_INT }, int, packed)?
        } else {
            self.code(
                if int == Lane::I64 { table::FLOAT_TO_GPR64 } else { table::FLOAT_TO_GPR32 },
                lane,
                Width::Scalar,
            )?
        };
        if lane == Lane::F64 && int == Lane::I32 {
            // The largest i32 is a double.
            let min = self.code(table::FMIN, lane, packed)?;
            let limit = self.splat_literal(min, lane, packed, f64::from(i32::MAX).to_bits());
            let number = self.step(table::FMIN, lane, packed, [Arg::Use(number), limit])?;
            self.emit(code, [Arg::Def(dst), Arg::Use(number)]);
            return Ok(());
        }
        // Lanes at or above the first power of two out of range are turned from 0x80..0 into 0x7f..f by flipping all bits.
        let limit = match (lane, int) {
            (Lane::F32, Lane::I32) => u64::from(2_147_483_648f32.to_bits()),
            (Lane::F32, _) => u64::from(9_223_372_036_854_775_808f32.to_bits()),
            _ => 9_223_372_036_854_775_808f64.to_bits(),
        };
        if to.is_vector() {
            let whole = self.fresh_vector();
            self.emit(code, [Arg::Def(whole), Arg::Use(number)]);
            let too_large = self.greater_equal(number, lane, packed, limit)?;
            let xor = self.code(table::XOR, int, packed)?;
            self.emit(xor, [Arg::Def(dst), Arg::Use(whole), Arg::Use(too_large)]);
            return Ok(());
        }
        let whole = self.fresh_int();
        self.emit(code, [Arg::Def(whole), Arg::Use(number)]);
        let too_large = self.greater_equal(number, lane, packed, limit)?;
        let flip = self.flip_of(too_large, lane, int);
        let xor = if int == Lane::I64 { Code::Xor_r64_rm64 } else { Code::Xor_r32_rm32 };
        self.emit(xor, [Arg::Modify { def: dst, from: whole }, Arg::Use(flip)]);
        Ok(())
    }

    /// Lane 0 of a comparison of floats, all ones or all zeros, in a general register as wide as the integer.
    fn flip_of(&mut self, comparison: VReg, lane: Lane, int: Lane) -> VReg {
        let flip = self.fresh_int();
        if lane == Lane::F32 && int == Lane::I64 {
            let narrow = self.fresh_int();
            self.move_between(Arg::Def(narrow), comparison, false);
            self.emit(Code::Movsxd_r64_rm32, [Arg::Def(flip), Arg::Use(narrow)]);
        } else {
            self.move_between(Arg::Def(flip), comparison, lane == Lane::F64);
        }
        flip
    }

    /// The operand with zero in place of NaN.
    fn without_nan(&mut self, x: VReg, lane: Lane, width: Width) -> Result<VReg> {
        if self.features.avx512() {
            let ordered = self.fresh_mask();
            let compare = self.code(table::FCMP_K, lane, width)?;
            self.emit(compare, [Arg::Def(ordered), Arg::Use(x), Arg::Use(x), Arg::Imm(ORDERED)]);
            let code = self.code(table::LOAD, lane, width)?;
            let dst = self.fresh_vector();
            self.emit_masked(code, ordered, true, [Arg::Def(dst), Arg::Use(x)]);
            return Ok(dst);
        }
        let ordered = self.step(table::FCMP, lane, width, [Arg::Use(x), Arg::Use(x), Arg::Imm(ORDERED)])?;
        self.step(table::AND, lane, width, [Arg::Use(x), Arg::Use(ordered)])
    }

    /// All ones in the lanes that are at least `limit`.
    fn greater_equal(&mut self, x: VReg, lane: Lane, width: Width, limit: u64) -> Result<VReg> {
        if self.features.avx512() {
            let compare = self.code(table::FCMP_K, lane, width)?;
            let limit = self.splat_literal(compare, lane, width, limit);
            let mask = self.fresh_mask();
            self.emit(compare, [Arg::Def(mask), Arg::Use(x), limit, Arg::Imm(GREATER_EQUAL)]);
            return self.step(table::MASK_TO_VECTOR, lane.as_int(), width, [Arg::Use(mask)]);
        }
        let compare = self.code(table::FCMP, lane, width)?;
        let limit = self.splat_literal(compare, lane, width, limit);
        self.step(table::FCMP, lane, width, [Arg::Use(x), limit, Arg::Imm(GREATER_EQUAL)])
    }

    /// `vmovd` or `vmovq` from a vector register to a general one.
    pub(super) fn move_between(&mut self, dst: Arg, from: VReg, wide: bool) {
        let code = match (self.features.avx512(), wide) {
            (true, true) => Code::EVEX_Vmovq_rm64_xmm,
            (true, false) => Code::EVEX_Vmovd_rm32_xmm,
            (false, true) => Code::VEX_Vmovq_rm64_xmm,
            (false, false) => Code::VEX_Vmovd_rm32_xmm,
        };
        self.emit(code, [dst, Arg::Use(from)]);
    }

    /// `vmovd` or `vmovq` from a general register to a vector one.
    pub(super) fn move_to_vector(&mut self, dst: VReg, from: VReg, wide: bool) {
        let code = match (self.features.avx512(), wide) {
            (true, true) => Code::EVEX_Vmovq_xmm_rm64,
            (true, false) => Code::EVEX_Vmovd_xmm_rm32,
            (false, true) => Code::VEX_Vmovq_xmm_rm64,
            (false, false) => Code::VEX_Vmovd_xmm_rm32,
        };
        self.emit(code, [Arg::Def(dst), Arg::Use(from)]);
    }

    /// A vector move that is skipped unless the flags say so.
    pub(super) fn move_if(&mut self, conditions: Vec<Cc>, dst: VReg, otherwise: VReg, then: VReg) {
        self.emit_op(Op::MoveIf(conditions), [Arg::Modify { def: dst, from: otherwise }, Arg::Use(then)]);
    }
}

/// A pattern given for 64-bit lanes, cut to the upper bits of narrower ones.
fn top_bits(lane: Lane, bits: u64) -> u64 {
    bits >> (64 - 8 * lane.bytes())
}
