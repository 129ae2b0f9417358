//! Flags and what reads them: scalar comparisons, `select`, and the reductions of masks.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::{Arg, Cc, Cond, Op};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::condcodes::{CondCode, FloatCC, IntCC};
use cranelift_codegen::ir::{InstructionData, Opcode, Value, types};
use iced_x86::Code;

impl Lower<'_> {
    /// Emits a comparison and says which flags make `value` true. Whatever reads them has to follow at once.
    pub(super) fn flags(&mut self, value: Value) -> Result<Cond> {
        if let Some(inst) = self.def(value) {
            match self.func.dfg.insts[inst] {
                InstructionData::IntCompare { cond, args: [a, b], .. } if !self.ty(a).is_vector() => {
                    return self.int_flags(cond, a, b);
                }
                InstructionData::FloatCompare { cond, args: [a, b], .. } if !self.ty(a).is_vector() => {
                    return self.float_flags(cond, a, b);
                }
                InstructionData::Unary { opcode: Opcode::VanyTrue, arg } => return self.any_true(arg),
                InstructionData::Unary { opcode: Opcode::VallTrue, arg } => return self.all_true(arg),
                _ => {}
            }
        }
        if let Some(cond) = self.count_down(value)? {
            return Ok(cond);
        }
        let ty = self.ty(value);
        let test = match ty {
            types::I8 => Code::Test_rm8_r8,
            types::I16 => Code::Test_rm16_r16,
            types::I32 => Code::Test_rm32_r32,
            types::I64 => Code::Test_rm64_r64,
            _ => return Err(self.refuse(Reason::Type)),
        };
        let reg = self.reg(value)?;
        self.emit(test, [Arg::Use(reg), Arg::Use(reg)]);
        Ok(Cond::One(Cc::Ne))
    }

    /// The flags of a loop counter's own step, where the step can stand right before the branch.
    fn count_down(&mut self, value: Value) -> Result<Option<Cond>> {
        let value = self.func.dfg.resolve_aliases(value);
        let Some(inst) = self.def(value) else { return Ok(None) };
        if self.opcode() != Opcode::Brif || self.done[inst] || !self.sinks(inst, self.here) {
            return Ok(None);
        }
        let &[counter, step] = self.func.dfg.inst_args(inst) else { return Ok(None) };
        let Some(step) = self.int_constant(step).filter(|&c| i8::try_from(c).is_ok()) else { return Ok(None) };
        let code = match (self.func.dfg.insts[inst].opcode(), self.ty(value)) {
            (Opcode::Isub, types::I64) => Code::Sub_rm64_imm8,
            (Opcode::Isub, types::I32) => Code::Sub_rm32_imm8,
            (Opcode::Iadd, types::I64) => Code::Add_rm64_imm8,
            (Opcode::Iadd, types::I32) => Code::Add_rm32_imm8,
            _ => return Ok(None),
        };
        if self.func.layout.inst_block(inst) != self.func.layout.inst_block(self.here) {
            return Ok(None);
        }
        let def = self.demand(value)?;
        let from = self.reg(counter)?;
        self.emit(code, [Arg::Modify { def, from }, Arg::Imm(step)]);
        self.done[inst] = true;
        Ok(Some(Cond::One(Cc::Ne)))
    }

    fn int_flags(&mut self, cond: IntCC, a: Value, b: Value) -> Result<Cond> {
        let ty = self.ty(a);
        let (by_reg, by_imm, test) = match ty {
            types::I8 => (Code::Cmp_r8_rm8, Code::Cmp_rm8_imm8, Code::Test_rm8_r8),
            types::I16 => (Code::Cmp_r16_rm16, Code::Cmp_rm16_imm16, Code::Test_rm16_r16),
            types::I32 => (Code::Cmp_r32_rm32, Code::Cmp_rm32_imm32, Code::Test_rm32_r32),
            types::I64 => (Code::Cmp_r64_rm64, Code::Cmp_rm64_imm32, Code::Test_rm64_r64),
            _ => return Err(self.refuse(Reason::Type)),
        };
        let (mut a, mut b, mut cond) = (self.func.dfg.resolve_aliases(a), self.func.dfg.resolve_aliases(b), cond);
        let immediate = |this: &Self, v: Value| this.int_constant(v).filter(|&c| i32::try_from(c).is_ok());
        if immediate(self, a).is_some() && immediate(self, b).is_none() {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap_args();
        }
        let cc = match cond {
            IntCC::Equal => Cc::E,
            IntCC::NotEqual => Cc::Ne,
            IntCC::SignedLessThan => Cc::L,
            IntCC::SignedGreaterThanOrEqual => Cc::Ge,
            IntCC::SignedGreaterThan => Cc::G,
            IntCC::SignedLessThanOrEqual => Cc::Le,
            IntCC::UnsignedLessThan => Cc::B,
            IntCC::UnsignedGreaterThanOrEqual => Cc::Ae,
            IntCC::UnsignedGreaterThan => Cc::A,
            IntCC::UnsignedLessThanOrEqual => Cc::Be,
        };
        match immediate(self, b) {
            Some(0) if matches!(cc, Cc::E | Cc::Ne) => {
                if self.count_down(a)?.is_some() {
                    return Ok(Cond::One(cc));
                }
                let (left, right) = match self.def_of(a, Opcode::Band) {
                    Some(&[x, y]) if self.uses[a] == 1 => (self.reg(x)?, self.reg(y)?),
                    _ => {
                        let a = self.reg(a)?;
                        (a, a)
                    }
                };
                self.emit(test, [Arg::Use(left), Arg::Use(right)]);
            }
            Some(number) => {
                let left = self.int_source(a)?;
                let code = match ty {
                    types::I32 if i8::try_from(number).is_ok() => Code::Cmp_rm32_imm8,
                    types::I64 if i8::try_from(number).is_ok() => Code::Cmp_rm64_imm8,
                    _ => by_imm,
                };
                self.emit(code, [left, Arg::Imm(number)]);
            }
            None => {
                let left = self.reg(a)?;
                let right = self.int_source(b)?;
                self.emit(by_reg, [Arg::Use(left), right]);
            }
        }
        Ok(Cond::One(cc))
    }

    /// `vucomiss` sets ZF, PF and CF where unordered, CF where less, ZF where equal.
    fn float_flags(&mut self, cond: FloatCC, a: Value, b: Value) -> Result<Cond> {
        #[allow(clippy::enum_glob_use, reason = "all fourteen of them")]
        use FloatCC::*;
        let (lane, _) = self.shape(self.ty(a))?;
        let code = self.code(table::COMPARE, lane, Width::Scalar)?;
        let (swap, cond) = match cond {
            Ordered => (false, Cond::One(Cc::Np)),
            Unordered => (false, Cond::One(Cc::P)),
            Equal => (false, Cond::And(Cc::E, Cc::Np)),
            NotEqual => (false, Cond::Or(Cc::Ne, Cc::P)),
            OrderedNotEqual => (false, Cond::One(Cc::Ne)),
            UnorderedOrEqual => (false, Cond::One(Cc::E)),
            GreaterThan => (false, Cond::One(Cc::A)),
            GreaterThanOrEqual => (false, Cond::One(Cc::Ae)),
            LessThan => (true, Cond::One(Cc::A)),
            LessThanOrEqual => (true, Cond::One(Cc::Ae)),
            UnorderedOrLessThan => (false, Cond::One(Cc::B)),
            UnorderedOrLessThanOrEqual => (false, Cond::One(Cc::Be)),
            UnorderedOrGreaterThan => (true, Cond::One(Cc::B)),
            UnorderedOrGreaterThanOrEqual => (true, Cond::One(Cc::Be)),
        };
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let left = self.reg(a)?;
        let right = self.source(b, code, lane)?;
        self.emit(code, [Arg::Use(left), right]);
        Ok(cond)
    }

    fn any_true(&mut self, value: Value) -> Result<Cond> {
        let ty = self.ty(value);
        let (lane, width) = self.shape(ty)?;
        let resolved = self.resolve(value).0;
        if self.features.avx512() {
            let k = if self.is_k(resolved) {
                self.demand(resolved)?
            } else {
                let x = self.reg(resolved)?;
                let code = self.code(table::TEST_K, lane.as_int(), width)?;
                let k = self.fresh_mask();
                self.emit(code, [Arg::Def(k), Arg::Use(x), Arg::Use(x)]);
                k
            };
            self.emit(Code::VEX_Kortestq_kr_kr, [Arg::Use(k), Arg::Use(k)]);
            return Ok(Cond::One(Cc::Ne));
        }
        let x = self.reg(value)?;
        let test = self.code(table::TEST, Lane::I8, width)?;
        self.emit(test, [Arg::Use(x), Arg::Use(x)]);
        Ok(Cond::One(Cc::Ne))
    }

    fn all_true(&mut self, value: Value) -> Result<Cond> {
        let ty = self.ty(value);
        let (lane, width) = self.shape(ty)?;
        let resolved = self.resolve(value).0;
        if self.features.avx512() {
            let k = if self.is_k(resolved) && self.ty(resolved).lane_count() == ty.lane_count() {
                self.demand(resolved)?
            } else {
                let x = self.reg(resolved)?;
                let code = self.code(table::TEST_K, lane.as_int(), width)?;
                let k = self.fresh_mask();
                self.emit(code, [Arg::Def(k), Arg::Use(x), Arg::Use(x)]);
                k
            };
            // CF says that all bits of the operation's width are set.
            let code = match ty.lane_count() {
                64.. => Code::VEX_Kortestq_kr_kr,
                32.. => Code::VEX_Kortestd_kr_kr,
                16.. => Code::VEX_Kortestw_kr_kr,
                8.. => Code::VEX_Kortestb_kr_kr,
                lanes => {
                    let bits = self.fresh_int();
                    self.emit(Code::VEX_Kmovd_r32_kr, [Arg::Def(bits), Arg::Use(k)]);
                    self.emit(Code::Cmp_rm32_imm8, [Arg::Use(bits), Arg::Imm((1 << lanes) - 1)]);
                    return Ok(Cond::One(Cc::E));
                }
            };
            self.emit(code, [Arg::Use(k), Arg::Use(k)]);
            return Ok(Cond::One(Cc::B));
        }
        let x = self.reg(value)?;
        let zero = self.zero();
        let zeros = self.step(table::PCMPEQ, lane.as_int(), width, [Arg::Use(x), Arg::Use(zero)])?;
        let test = self.code(table::TEST, Lane::I8, width)?;
        self.emit(test, [Arg::Use(zeros), Arg::Use(zeros)]);
        Ok(Cond::One(Cc::E))
    }

    /// A comparison whose result is wanted as a number.
    pub(super) fn set_flags(&mut self) -> Result<()> {
        let dst = self.result()?;
        let value = self.func.dfg.first_result(self.here);
        let cond = self.flags(value)?;
        match cond {
            Cond::One(cc) => self.emit_op(Op::Set(cc), [Arg::Def(dst)]),
            Cond::And(a, b) | Cond::Or(a, b) => {
                let (first, second) = (self.fresh_int(), self.fresh_int());
                self.emit_op(Op::Set(a), [Arg::Def(first)]);
                self.emit_op(Op::Set(b), [Arg::Def(second)]);
                let join = if matches!(cond, Cond::And(..)) { Code::And_r32_rm32 } else { Code::Or_r32_rm32 };
                self.emit(join, [Arg::Modify { def: dst, from: first }, Arg::Use(second)]);
            }
        }
        Ok(())
    }

    pub(super) fn select(&mut self) -> Result<()> {
        let (condition, x, y) = (self.arg(0), self.arg(1), self.arg(2));
        let ty = self.result_ty();
        let dst = self.result()?;
        if !ty.is_vector() && ty.is_float() {
            let (lane, width) = self.shape(ty)?;
            if let Some((op, a, b)) = self.min_max(condition, x, y) {
                return self.binary_into(dst, op, lane, width, a, b, false);
            }
        }
        if self.is_k(self.func.dfg.first_result(self.here)) {
            return Err(self.refuse(Reason::Type));
        }
        // The operands first: computing them could overwrite the flags.
        let (then, otherwise) = (self.reg(x)?, self.reg(y)?);
        let (cond, then, otherwise) = match self.flags(condition)? {
            Cond::Or(a, b) => (Cond::And(a.negate(), b.negate()), otherwise, then),
            other => (other, then, otherwise),
        };
        let conditions = match cond {
            Cond::One(a) => vec![a],
            Cond::And(a, b) | Cond::Or(a, b) => vec![a, b],
        };
        if ty.is_vector() || ty.is_float() {
            self.move_if(conditions, dst, otherwise, then);
            return Ok(());
        }
        // All conditions have to hold: where the second fails, its move takes the first one back.
        match conditions[..] {
            [first, second] => {
                let partial = self.fresh_int();
                self.emit_op(Op::Move(first), [Arg::Modify { def: partial, from: otherwise }, Arg::Use(then)]);
                self.emit_op(Op::Move(second.negate()), [Arg::Modify { def: dst, from: partial }, Arg::Use(otherwise)]);
            }
            _ => self.emit_op(Op::Move(conditions[0]), [Arg::Modify { def: dst, from: otherwise }, Arg::Use(then)]),
        }
        Ok(())
    }
}
