//! Which rule each CLIF operation takes: one operation, one line.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::Op;
use crate::isa::x64::table;
use crate::lane::Lane;
use cranelift_codegen::ir::{Block, Inst, Opcode as O, types};
use iced_x86::Code;

impl Lower<'_> {
    /// Lowers one instruction, unless nothing asks for what it does.
    pub(super) fn inst(&mut self, inst: Inst, block: Block) -> Result<()> {
        let op = self.func.dfg.insts[inst].opcode();
        let results = self.func.dfg.inst_results(inst);
        // A load that nothing wants is left out, or made a prefetch, should it fault or not; anything else that traps is kept for that.
        let traps = op.can_trap() && !op.can_load();
        let has_effect = op.is_terminator() || op.is_call() || op.can_store() || op.other_side_effects() || traps;
        let wanted = results.iter().any(|&r| self.vregs[r].is_some());
        if !(has_effect || wanted) {
            let Some(&result) = results.first().filter(|&&r| op == O::Load && self.uses[r] == 0) else { return Ok(()) };
            return match self.ty(result) {
                types::I8 => self.prefetch(Code::Prefetcht0_m8),
                types::I16 => self.prefetch(Code::Prefetcht1_m8),
                _ => Ok(()),
            };
        }
        let vector = results.first().map_or(self.func.dfg.ctrl_typevar(inst), |&r| self.ty(r)).is_vector();
        match op {
            // Constants are made where they are used
            O::Iconst | O::F32const | O::F64const | O::Vconst | O::Nop | O::SequencePoint => Ok(()),
            O::Splat => self.splat(),
            // Memory
            O::Load | O::Uload8 | O::Sload8 | O::Uload16 | O::Sload16 | O::Uload32 | O::Sload32 => self.load(),
            O::Uload16x4 => self.load_widened(),
            O::Store | O::Istore8 | O::Istore16 | O::Istore32 => self.store(),
            O::StackAddr => self.address(),
            // Control
            O::Jump => self.jump(block),
            O::Brif => self.brif(),
            O::BrTable => self.br_table(),
            O::Return => self.ret(),
            O::Trap => {
                self.emit_op(Op::Trap, []);
                Ok(())
            }
            O::Trapz | O::Trapnz => self.trap_if(op == O::Trapnz),
            O::Call => self.call(),
            O::CallIndirect => self.call_indirect(),
            _ if vector => self.vector_op(op),
            _ => self.scalar_op(op),
        }
    }

    /// What has a rule of its own where the result is a vector.
    fn vector_op(&mut self, op: O) -> Result<()> {
        match op {
            // Integers
            O::Iadd => self.binary(table::IADD, true),
            O::Isub => self.binary(table::ISUB, false),
            O::Imul => self.binary(table::IMUL, true),
            O::Smin => self.binary(table::SMIN, true),
            O::Smax => self.binary(table::SMAX, true),
            O::Umin => self.binary(table::UMIN, true),
            O::Umax => self.binary(table::UMAX, true),
            O::Ineg => self.vector_neg(),
            O::Iabs => self.unary(table::IABS, None),
            O::Ishl => self.vector_shift(table::SHL_I, table::SHL_X),
            O::Ushr => self.vector_shift(table::USHR_I, table::USHR_X),
            O::Sshr => self.vector_shift(table::SSHR_I, table::SSHR_X),
            O::Icmp => self.vector_icmp(),
            // Bits
            O::Band => self.bits(table::AND),
            O::Bor => self.bits(table::OR),
            O::Bxor => self.bits(table::XOR),
            O::Bnot => self.vector_not(),
            O::Bitselect => self.bitselect(),
            O::Blendv => self.blend_top_bits(),
            // Lanes
            O::Insertlane => self.insert_lane(),
            O::ScalarToVector => self.scalar_to_vector(),
            O::SwidenLow => self.widen_low(),
            O::Shuffle => self.shuffle(),
            O::Swizzle | O::X86Pshufb => self.swizzle(),
            // Floating point
            O::Fcmp => self.vector_fcmp(),
            _ => self.scalar_op(op),
        }
    }

    /// Scalars, and what has one rule for them and vectors.
    fn scalar_op(&mut self, op: O) -> Result<()> {
        match op {
            // Integers
            O::Iadd => self.scalar_add(),
            O::Isub => self.scalar_sub(),
            O::Imul => self.scalar_mul(),
            O::Umulhi | O::Smulhi => self.scalar_mul_high(),
            O::Udiv | O::Sdiv | O::Urem | O::Srem => self.scalar_div(),
            O::Ineg | O::Bnot => self.scalar_unary(),
            O::Band | O::Bor | O::Bxor => self.scalar_bits(),
            O::Bitselect => self.scalar_bitselect(),
            O::Ishl | O::Ushr | O::Sshr => self.scalar_shift(),
            O::Rotl | O::Rotr => self.scalar_rotate(),
            O::Smin | O::Smax | O::Umin | O::Umax => self.scalar_min_max(),
            O::Iabs => self.scalar_abs(),
            O::Bmask => self.bmask(),
            O::Uextend | O::Sextend => self.extend(),
            O::Ireduce => self.ireduce(),
            // Vectors too
            O::VanyTrue | O::VallTrue | O::Icmp | O::Fcmp => self.set_flags(),
            O::VhighBits => self.high_bits(),
            O::Bitcast => self.bitcast(),
            O::Select | O::SelectSpectreGuard => self.select(),
            O::Extractlane => self.extract_lane(),
            _ => self.float_op(op),
        }
    }

    /// Arithmetic of floating point, in vectors or not.
    fn float_op(&mut self, op: O) -> Result<()> {
        match op {
            O::Fadd => self.binary(table::FADD, true),
            O::Fsub => self.binary(table::FSUB, false),
            O::Fmul => self.binary(table::FMUL, true),
            O::Fdiv => self.binary(table::FDIV, false),
            O::Fma => self.fma(),
            O::Fneg => self.sign(table::XOR, 1 << 63),
            O::Fabs => self.sign(table::AND, !(1 << 63)),
            O::Fcopysign => self.copysign(),
            O::Sqrt => self.unary(table::SQRT, None),
            O::Nearest => self.unary(table::ROUND, Some(0x8)),
            O::Floor => self.unary(table::ROUND, Some(0x9)),
            O::Ceil => self.unary(table::ROUND, Some(0xa)),
            O::Trunc => self.unary(table::ROUND, Some(0xb)),
            O::Fmin => self.float_min_max(false),
            O::Fmax => self.float_min_max(true),
            O::Fpromote | O::Fdemote => self.convert_scalar(),
            O::FvpromoteLow => self.promote_low(),
            O::Fvdemote => self.demote(),
            O::FcvtFromSint => self.convert_from_sint(),
            O::FcvtFromUint => self.convert_from_uint(),
            O::FcvtToSintSat => self.convert_to_sint_sat(),
            O::X86Cvtt2dq => self.unary_as(table::F32_TO_INT, Lane::I32),
            _ => Err(self.refuse(Reason::Operation)),
        }
    }
}
