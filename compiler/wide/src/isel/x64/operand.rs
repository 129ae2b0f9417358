//! Operands: registers, constants, folded loads and embedded broadcasts.

use super::context::{Lower, Result};
use crate::isa::x64::mach::{Amode, Arg, Base, Op};
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{Inst, Opcode, Value};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    /// The value in a register of its own class.
    pub(super) fn reg(&mut self, value: Value) -> Result<VReg> {
        let (value, _) = self.resolve(value);
        if let Some(bytes) = self.constant(value) {
            return self.materialise(value, bytes);
        }
        if self.is_k(value) {
            let ty = self.ty(value);
            let (lane, width) = self.shape(ty)?;
            let mask = self.demand(value)?;
            self.width = self.width.max(width);
            return self.step(table::MASK_TO_VECTOR, lane.as_int(), width, [Arg::Use(mask)]);
        }
        self.demand(value)
    }

    /// The value as a mask register: bits of the lanes' top bits.
    pub(super) fn mask_reg(&mut self, value: Value) -> Result<VReg> {
        let (value, _) = self.resolve(value);
        if self.is_k(value) {
            return self.demand(value);
        }
        let (lane, width) = self.shape(self.ty(value))?;
        let vector = self.reg(value)?;
        let code = self.code(table::VECTOR_TO_MASK, lane.as_int(), width)?;
        let mask = self.fresh_mask();
        self.emit(code, [Arg::Def(mask), Arg::Use(vector)]);
        Ok(mask)
    }

    fn materialise(&mut self, value: Value, bytes: Vec<u8>) -> Result<VReg> {
        if let Some(number) = self.int_constant(value) {
            return Ok(self.int_immediate(number));
        }
        if bytes.iter().all(|&b| b == 0) {
            return Ok(self.zero());
        }
        let (lane, width) = self.shape(self.ty(value))?;
        if width > Width::Scalar {
            self.width = self.width.max(width);
            // A splat costs as much as a load and a shorter literal.
            for lane in [Lane::F32, Lane::F64] {
                let size = lane.bytes() as usize;
                if bytes.chunks(size).all(|chunk| chunk == &bytes[..size])
                    && let Some(code) = table::code(table::SPLAT_M, self.features, lane, width)
                {
                    let literal = self.literal(bytes[..size].to_vec());
                    let dst = self.fresh_vector();
                    self.emit(code, [Arg::Def(dst), Arg::Mem(literal)]);
                    return Ok(dst);
                }
            }
        }
        let lane = if lane == Lane::F64 { Lane::F64 } else { Lane::F32 };
        let literal = self.literal(bytes);
        self.step(table::LOAD, lane, width, [Arg::Mem(literal)])
    }

    /// An integer constant in a fresh register. `mov` and not `xor` for zero, because flags may be live.
    pub(super) fn int_immediate(&mut self, number: i64) -> VReg {
        let dst = self.fresh_int();
        let code = if u32::try_from(number).is_ok() {
            Code::Mov_r32_imm32
        } else if i32::try_from(number).is_ok() {
            Code::Mov_rm64_imm32
        } else {
            Code::Mov_r64_imm64
        };
        self.emit(code, [Arg::Def(dst), Arg::Imm(number)]);
        dst
    }

    /// A vector register full of zeros.
    pub(super) fn zero(&mut self) -> VReg {
        let dst = self.fresh_vector();
        self.emit_op(Op::Zero, [Arg::Def(dst)]);
        dst
    }

    pub(super) fn literal(&mut self, bytes: Vec<u8>) -> Amode {
        Amode::base(Base::Literal(self.pool.insert(bytes)))
    }

    /// A lane repeated over the width, as an operand of `code`.
    pub(super) fn splat_literal(&mut self, code: Code, lane: Lane, width: Width, bits: u64) -> Arg {
        let bytes = &bits.to_le_bytes()[..lane.bytes() as usize];
        if width > Width::Scalar && self.can_broadcast(code, lane) {
            let literal = self.literal(bytes.to_vec());
            return Arg::Mem(Amode { broadcast: true, ..literal });
        }
        let size = if width == Width::Scalar { lane.bytes() } else { width.bytes() };
        Arg::Mem(self.literal(bytes.iter().copied().cycle().take(size as usize).collect()))
    }

    fn can_broadcast(&self, code: Code, lane: Lane) -> bool {
        self.features.avx512() && lane.bytes() >= 4 && code.op_code().can_broadcast()
    }

    /// The last operand of a vector instruction: memory where the value is a constant or a load that nothing else needs.
    pub(super) fn source(&mut self, value: Value, code: Code, lane: Lane) -> Result<Arg> {
        let size = self.ty(value).bytes();
        let (value, sole) = self.resolve(value);
        if self.is_k(value) {
            return Ok(Arg::Use(self.reg(value)?));
        }
        if let Some(mut bytes) = self.constant(value) {
            if bytes.iter().all(|&b| b == 0) {
                return Ok(Arg::Use(self.zero()));
            }
            bytes.truncate(size as usize);
            let unit = lane.bytes() as usize;
            if size > lane.bytes() && self.can_broadcast(code, lane) && bytes.chunks(unit).all(|c| c == &bytes[..unit])
            {
                bytes.truncate(unit);
                let literal = self.literal(bytes);
                return Ok(Arg::Mem(Amode { broadcast: true, ..literal }));
            }
            return Ok(Arg::Mem(self.literal(bytes)));
        }
        if sole && self.ty(value).bytes() == size {
            if let Some(load) = self.foldable_load(value) {
                return Ok(Arg::Mem(self.load_address(load)?));
            }
            if let Some(load) = self.foldable_splat(value, code, lane) {
                let address = self.load_address(load)?;
                return Ok(Arg::Mem(Amode { broadcast: true, ..address }));
            }
        }
        Ok(Arg::Use(self.reg(value)?))
    }

    /// Whether [`Lower::source`] would make a memory operand of it.
    pub(super) fn is_foldable(&self, value: Value, code: Code, lane: Lane) -> bool {
        let size = self.ty(value).bytes();
        let (value, sole) = self.resolve(value);
        if self.is_k(value) {
            return false;
        }
        if let Some(bytes) = self.constant(value) {
            return bytes.iter().any(|&b| b != 0);
        }
        sole && self.ty(value).bytes() == size
            && (self.foldable_load(value).is_some() || self.foldable_splat(value, code, lane).is_some())
    }

    /// The load that defines `value`, if only the instruction being lowered uses it and nothing is written in between.
    pub(super) fn foldable_load(&self, value: Value) -> Option<Inst> {
        let value = self.func.dfg.resolve_aliases(value);
        let inst = self.def(value)?;
        let is_load = self.func.dfg.insts[inst].opcode() == Opcode::Load;
        (is_load && self.uses[value] == 1 && self.colours[inst] == self.colours[self.here]).then_some(inst)
    }

    fn foldable_splat(&self, value: Value, code: Code, lane: Lane) -> Option<Inst> {
        if !self.can_broadcast(code, lane) || self.uses[value] != 1 {
            return None;
        }
        let &[scalar] = self.def_of(value, Opcode::Splat)? else { return None };
        (self.ty(scalar).bytes() == lane.bytes()).then(|| self.foldable_load(scalar))?
    }
}
