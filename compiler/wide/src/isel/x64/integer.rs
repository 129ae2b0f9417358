//! Vector integers and bitwise operations, and the masks that comparisons make.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::Arg;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::condcodes::{CondCode, FloatCC, IntCC};
use cranelift_codegen::ir::{InstructionData, Opcode, Value};
use iced_x86::Code;
use regalloc2::VReg;

/// The operands as the truth tables of `vpternlogd` number them: `a ? b : c`.
const SELECT: i64 = 0xca;

impl Lower<'_> {
    pub(super) fn vector_neg(&mut self) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        let code = self.code(table::ISUB, lane, width)?;
        let zero = self.zero();
        let source = self.source(self.arg(0), code, lane)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(zero), source]);
        Ok(())
    }

    /// CLIF takes shift amounts modulo the lane's bits; x86 shifts everything out.
    pub(super) fn vector_shift(&mut self, by_imm: &table::Op, by_reg: &table::Op) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        let (x, amount) = (self.arg(0), self.arg(1));
        let modulus = i64::from(lane.bytes() * 8);
        if let Some(amount) = self.int_constant(amount) {
            let code = self.code(by_imm, lane, width)?;
            // VEX forms shift registers only.
            let source = if self.features.avx512() { self.source(x, code, lane)? } else { Arg::Use(self.reg(x)?) };
            self.emit(code, [Arg::Def(dst), source, Arg::Imm(amount.rem_euclid(modulus))]);
            return Ok(());
        }
        let code = self.code(by_reg, lane, width)?;
        let x = self.reg(x)?;
        let from = self.reg(amount)?;
        let masked = self.fresh_int();
        self.emit(Code::And_rm32_imm8, [Arg::Modify { def: masked, from }, Arg::Imm(modulus - 1)]);
        let count = self.fresh_vector();
        self.move_to_vector(count, masked, false);
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Use(count)]);
        Ok(())
    }

    /// Bitwise `and`, `or`, `xor`, on vectors or on mask registers.
    pub(super) fn bits(&mut self, op: &table::Op) -> Result<()> {
        let result = self.func.dfg.first_result(self.here);
        let dst = self.result()?;
        let (a, b) = (self.arg(0), self.arg(1));
        if self.is_k(result) {
            let (a, b) = (self.mask_reg(a)?, self.mask_reg(b)?);
            // Masks of fewer than 16 lanes have zeros above, which these keep.
            let (narrow, medium, wide) = match self.opcode() {
                Opcode::Band => (Code::VEX_Kandw_kr_kr_kr, Code::VEX_Kandd_kr_kr_kr, Code::VEX_Kandq_kr_kr_kr),
                Opcode::Bor => (Code::VEX_Korw_kr_kr_kr, Code::VEX_Kord_kr_kr_kr, Code::VEX_Korq_kr_kr_kr),
                _ => (Code::VEX_Kxorw_kr_kr_kr, Code::VEX_Kxord_kr_kr_kr, Code::VEX_Kxorq_kr_kr_kr),
            };
            let code = match self.ty(result).lane_count() {
                64.. => wide,
                32.. => medium,
                _ => narrow,
            };
            self.emit(code, [Arg::Def(dst), Arg::Use(a), Arg::Use(b)]);
            return Ok(());
        }
        let (lane, width) = self.shape(self.result_ty())?;
        if let Some((kept, inverted)) = self.and_not(a, b) {
            return self.binary_into(dst, table::ANDN, bit_lane(lane), width, inverted, kept, false);
        }
        self.binary_into(dst, op, bit_lane(lane), width, a, b, true)
    }

    /// `x` and `y` if the instruction is `x & !y` in either order and nothing else uses `!y`.
    pub(super) fn and_not(&self, a: Value, b: Value) -> Option<(Value, Value)> {
        if self.opcode() != Opcode::Band {
            return None;
        }
        [(a, b), (b, a)].into_iter().find_map(|(kept, other)| {
            let (other, sole) = self.resolve(other);
            let &[inverted] = self.def_of(other, Opcode::Bnot)? else { return None };
            (sole && self.uses[other] == 1).then_some((kept, inverted))
        })
    }

    pub(super) fn vector_not(&mut self) -> Result<()> {
        let result = self.func.dfg.first_result(self.here);
        let dst = self.result()?;
        if self.is_k(result) {
            let mask = self.mask_reg(self.arg(0))?;
            let code = match self.ty(result).lane_count() {
                64.. => Code::VEX_Knotq_kr_kr,
                32.. => Code::VEX_Knotd_kr_kr,
                16.. => Code::VEX_Knotw_kr_kr,
                _ => Code::VEX_Knotb_kr_kr,
            };
            self.emit(code, [Arg::Def(dst), Arg::Use(mask)]);
            return Ok(());
        }
        let (lane, width) = self.shape(self.result_ty())?;
        let x = self.reg(self.arg(0))?;
        self.invert(dst, x, bit_lane(lane), width)
    }

    fn invert(&mut self, dst: VReg, x: VReg, lane: Lane, width: Width) -> Result<()> {
        let lane = bit_lane(lane);
        let code = self.code(table::XOR, lane, width)?;
        let ones = self.splat_literal(code, lane, width, u64::MAX);
        self.emit(code, [Arg::Def(dst), Arg::Use(x), ones]);
        Ok(())
    }

    pub(super) fn vector_fcmp(&mut self) -> Result<()> {
        let InstructionData::FloatCompare { cond, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let (mut a, mut b) = (self.arg(0), self.arg(1));
        let (lane, width) = self.shape(self.ty(a))?;
        let dst = self.result()?;
        let op = if self.features.avx512() { table::FCMP_K } else { table::FCMP };
        let code = self.code(op, lane, width)?;
        let mut cond = cond;
        if self.is_foldable(a, code, lane) && !self.is_foldable(b, code, lane) {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap_args();
        }
        // The quiet predicates.
        let predicate = match cond {
            FloatCC::Ordered => 0x07,
            FloatCC::Unordered => 0x03,
            FloatCC::Equal => 0x00,
            FloatCC::NotEqual => 0x04,
            FloatCC::OrderedNotEqual => 0x0c,
            FloatCC::UnorderedOrEqual => 0x08,
            FloatCC::LessThan => 0x11,
            FloatCC::LessThanOrEqual => 0x12,
            FloatCC::GreaterThan => 0x1e,
            FloatCC::GreaterThanOrEqual => 0x1d,
            FloatCC::UnorderedOrLessThan => 0x19,
            FloatCC::UnorderedOrLessThanOrEqual => 0x1a,
            FloatCC::UnorderedOrGreaterThan => 0x16,
            FloatCC::UnorderedOrGreaterThanOrEqual => 0x15,
        };
        let left = self.reg(a)?;
        let right = self.source(b, code, lane)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(left), right, Arg::Imm(predicate)]);
        Ok(())
    }

    pub(super) fn vector_icmp(&mut self) -> Result<()> {
        let InstructionData::IntCompare { cond, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let (mut a, mut b) = (self.arg(0), self.arg(1));
        let (lane, width) = self.shape(self.ty(a))?;
        let dst = self.result()?;
        if !self.features.avx512() {
            return self.vector_icmp_avx2(dst, cond, a, b, lane, width);
        }
        let mut cond = cond;
        let ordered = !matches!(cond, IntCC::Equal | IntCC::NotEqual);
        let op = if ordered && cond == cond.unsigned() { table::PCMPU_K } else { table::PCMP_K };
        let code = self.code(op, lane, width)?;
        if self.is_foldable(a, code, lane) && !self.is_foldable(b, code, lane) {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap_args();
        }
        let predicate = match cond {
            IntCC::Equal => 0,
            IntCC::SignedLessThan | IntCC::UnsignedLessThan => 1,
            IntCC::SignedLessThanOrEqual | IntCC::UnsignedLessThanOrEqual => 2,
            IntCC::NotEqual => 4,
            IntCC::SignedGreaterThanOrEqual | IntCC::UnsignedGreaterThanOrEqual => 5,
            IntCC::SignedGreaterThan | IntCC::UnsignedGreaterThan => 6,
        };
        let left = self.reg(a)?;
        let right = self.source(b, code, lane)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(left), right, Arg::Imm(predicate)]);
        Ok(())
    }

    /// AVX2 compares for equality and signed greater-than only.
    fn vector_icmp_avx2(&mut self, dst: VReg, cond: IntCC, a: Value, b: Value, lane: Lane, width: Width) -> Result<()> {
        #[allow(clippy::enum_glob_use, reason = "all ten of them")]
        use IntCC::*;
        let (mut a, mut b) = (self.reg(a)?, self.reg(b)?);
        let unsigned = matches!(
            cond,
            UnsignedLessThan | UnsignedLessThanOrEqual | UnsignedGreaterThan | UnsignedGreaterThanOrEqual
        );
        if unsigned {
            // With the sign bits flipped, unsigned order is signed order.
            let bits = bit_lane(lane);
            let xor = self.code(table::XOR, bits, width)?;
            let sign = (1u64 << (8 * lane.bytes() - 1)).wrapping_mul(u64::MAX / (u64::MAX >> (64 - 8 * lane.bytes())));
            let sign = self.splat_literal(xor, bits, width, sign);
            a = self.step(table::XOR, bits, width, [Arg::Use(a), sign])?;
            b = self.step(table::XOR, bits, width, [Arg::Use(b), sign])?;
        }
        let (op, swapped, negated) = match cond {
            Equal => (table::PCMPEQ, false, false),
            NotEqual => (table::PCMPEQ, false, true),
            SignedGreaterThan | UnsignedGreaterThan => (table::PCMPGT, false, false),
            SignedLessThan | UnsignedLessThan => (table::PCMPGT, true, false),
            SignedLessThanOrEqual | UnsignedLessThanOrEqual => (table::PCMPGT, false, true),
            SignedGreaterThanOrEqual | UnsignedGreaterThanOrEqual => (table::PCMPGT, true, true),
        };
        let (x, y) = if swapped { (b, a) } else { (a, b) };
        let code = self.code(op, lane, width)?;
        let target = if negated { self.fresh_vector() } else { dst };
        self.emit(code, [Arg::Def(target), Arg::Use(x), Arg::Use(y)]);
        if negated { self.invert(dst, target, lane, width) } else { Ok(()) }
    }

    /// Lanes of `b` where the mask says so, else of `a`.
    pub(super) fn blend(&mut self, dst: VReg, mask: Value, x: Value, y: Value, lane: Lane, width: Width) -> Result<()> {
        if self.features.avx512() {
            let k = self.mask_reg(mask)?;
            if self.constant(y).is_some_and(|bytes| bytes.iter().all(|&b| b == 0)) && lane.bytes() >= 4 {
                let lane = if lane.bytes() == 8 { Lane::F64 } else { Lane::F32 };
                let code = self.code(table::LOAD, lane, width)?;
                let source = self.source(x, code, lane)?;
                self.emit_masked(code, k, true, [Arg::Def(dst), source]);
                return Ok(());
            }
            let code = self.code(table::BLEND_K, lane, width)?;
            let otherwise = self.reg(y)?;
            let source = self.source(x, code, lane)?;
            self.emit_masked(code, k, false, [Arg::Def(dst), Arg::Use(otherwise), source]);
            return Ok(());
        }
        let lane = match lane.bytes() {
            8 => Lane::F64,
            4 => Lane::F32,
            _ => Lane::I8,
        };
        let code = self.code(table::BLEND, lane, width)?;
        let mask = self.reg(mask)?;
        let otherwise = self.reg(y)?;
        let source = self.source(x, code, lane)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(otherwise), source, Arg::Use(mask)]);
        Ok(())
    }

    /// Whether every lane of the value is all ones or all zeros, lane for lane of a vector of this many.
    fn is_lane_mask(&self, value: Value, count: u32) -> bool {
        let value = self.resolve(value).0;
        self.masks[value] && self.ty(value).lane_count() == count
    }

    pub(super) fn bitselect(&mut self) -> Result<()> {
        let (mask, x, y) = (self.arg(0), self.arg(1), self.arg(2));
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        if let Some((op, a, b)) = self.min_max(self.resolve(mask).0, x, y) {
            return self.binary_into(dst, op, lane, width, a, b, false);
        }
        if self.is_lane_mask(mask, self.result_ty().lane_count()) {
            return self.blend(dst, mask, x, y, lane, width);
        }
        let lane = bit_lane(lane);
        if self.features.avx512() {
            let int = if lane.bytes() == 8 { Lane::I64 } else { Lane::I32 };
            let code = self.code(table::TERNLOG, int, width)?;
            let from = self.reg(mask)?;
            let x = self.reg(x)?;
            let source = self.source(y, code, int)?;
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Use(x), source, Arg::Imm(SELECT)]);
            return Ok(());
        }
        let mask = self.reg(mask)?;
        let (x, y) = (self.reg(x)?, self.reg(y)?);
        let ones = self.step(table::AND, lane, width, [Arg::Use(mask), Arg::Use(x)])?;
        let zeros = self.step(table::ANDN, lane, width, [Arg::Use(mask), Arg::Use(y)])?;
        let or = self.code(table::OR, lane, width)?;
        self.emit(or, [Arg::Def(dst), Arg::Use(ones), Arg::Use(zeros)]);
        Ok(())
    }

    /// `a > b ? a : b` and its variants are `vmaxps` and `vminps`, which give the second operand where the comparison fails.
    pub(super) fn min_max(&self, condition: Value, x: Value, y: Value) -> Option<(&'static table::Op, Value, Value)> {
        let inst = self.def(condition)?;
        let InstructionData::FloatCompare { cond, args: [a, b], .. } = self.func.dfg.insts[inst] else { return None };
        if self.ty(a) != self.ty(x) {
            return None;
        }
        let (cond, x, y) = match cond {
            FloatCC::UnorderedOrLessThanOrEqual | FloatCC::UnorderedOrGreaterThanOrEqual => (cond.complement(), y, x),
            _ => (cond, x, y),
        };
        let (a, b) = (self.resolve(a).0, self.resolve(b).0);
        let (p, q) = (self.resolve(x).0, self.resolve(y).0);
        let straight = (p, q) == (a, b);
        if !straight && (p, q) != (b, a) {
            return None;
        }
        match (cond, straight) {
            (FloatCC::GreaterThan, true) | (FloatCC::LessThan, false) => Some((table::FMAX, x, y)),
            (FloatCC::LessThan, true) | (FloatCC::GreaterThan, false) => Some((table::FMIN, x, y)),
            _ => None,
        }
    }

    /// CLIF's `blendv`: the top bit of each lane chooses.
    pub(super) fn blend_top_bits(&mut self) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        if lane == Lane::I16 && !self.features.avx512() {
            return Err(self.refuse(Reason::NeedsAvx512));
        }
        let dst = self.result()?;
        let (mask, x, y) = (self.arg(0), self.arg(1), self.arg(2));
        self.blend(dst, mask, x, y, lane, width)
    }

    pub(super) fn high_bits(&mut self) -> Result<()> {
        let x = self.resolve(self.arg(0)).0;
        let ty = self.ty(self.arg(0));
        let (lane, width) = self.shape(ty)?;
        let dst = self.result()?;
        if self.features.avx512() {
            let k = if self.is_lane_mask(x, ty.lane_count()) {
                self.demand(x)?
            } else {
                self.top_bits_mask(x, lane, width)?
            };
            let code = if ty.lane_count() > 32 { Code::VEX_Kmovq_r64_kr } else { Code::VEX_Kmovd_r32_kr };
            self.emit(code, [Arg::Def(dst), Arg::Use(k)]);
            return Ok(());
        }
        let lane = match lane.bytes() {
            8 => Lane::F64,
            4 => Lane::F32,
            1 => Lane::I8,
            _ => return Err(self.refuse(Reason::NeedsAvx512)),
        };
        let code = self.code(table::TOP_BITS, lane, width)?;
        let x = self.reg(x)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
        Ok(())
    }

    fn top_bits_mask(&mut self, x: Value, lane: Lane, width: Width) -> Result<VReg> {
        let code = self.code(table::VECTOR_TO_MASK, lane.as_int(), width)?;
        let vector = self.reg(x)?;
        let k = self.fresh_mask();
        self.emit(code, [Arg::Def(k), Arg::Use(vector)]);
        Ok(k)
    }
}

/// The lane under which a bitwise operation stands in the table: embedded broadcasts come in 32 and 64 bits.
fn bit_lane(lane: Lane) -> Lane {
    match lane {
        Lane::I8 | Lane::I16 => Lane::I32,
        other => other,
    }
}
