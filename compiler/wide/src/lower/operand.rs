//! Operands: constants, folded loads, embedded broadcasts, and addresses.

use super::{Lower, Result};
use crate::error::Reason;
use crate::mach::{Amode, Arg, Base, Op};
use crate::table::{self, Lane, Width};
use cranelift_codegen::ir::{Inst, InstructionData, Opcode, Value, types};
use iced_x86::Code;
use regalloc2::VReg;

impl Lower<'_> {
    /// The value whose register holds `value`: bitcasts between vectors and reads of lane 0 cost nothing. Also whether nothing else uses
    /// what was looked through.
    pub(super) fn resolve(&self, value: Value) -> (Value, bool) {
        let mut value = self.func.dfg.resolve_aliases(value);
        let mut sole = true;
        loop {
            let Some(inst) = self.def(value) else { return (value, sole) };
            let through = match self.func.dfg.insts[inst] {
                InstructionData::LoadNoOffset { opcode: Opcode::Bitcast, arg, .. }
                    if self.ty(arg).is_vector() && self.ty(value).is_vector() =>
                {
                    arg
                }
                InstructionData::BinaryImm8 { opcode: Opcode::Extractlane, arg, imm: 0 }
                    if self.ty(value).is_float() =>
                {
                    arg
                }
                _ => return (value, sole),
            };
            sole &= self.uses[value] == 1;
            value = self.func.dfg.resolve_aliases(through);
        }
    }

    /// The bytes of a constant, of the value's own size.
    pub(super) fn constant(&self, value: Value) -> Option<Vec<u8>> {
        self.constant_through(value, 4)
    }

    /// As [`Lower::constant`], looking through this many splats and bitcasts.
    fn constant_through(&self, value: Value, depth: u32) -> Option<Vec<u8>> {
        let size = self.ty(value).bytes() as usize;
        let inst = self.def(value)?;
        Some(match self.func.dfg.insts[inst] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => imm.bits().to_le_bytes().get(..size)?.to_vec(),
            InstructionData::UnaryIeee32 { imm, .. } => imm.bits().to_le_bytes().to_vec(),
            InstructionData::UnaryIeee64 { imm, .. } => imm.bits().to_le_bytes().to_vec(),
            InstructionData::UnaryConst { opcode: Opcode::Vconst, constant_handle } => {
                let bytes = self.func.dfg.constants.get(constant_handle).as_slice();
                (bytes.len() == size).then(|| bytes.to_vec())?
            }
            InstructionData::Unary { opcode: Opcode::Splat, arg } if depth > 0 => {
                self.constant_through(arg, depth - 1)?.into_iter().cycle().take(size).collect()
            }
            InstructionData::LoadNoOffset { opcode: Opcode::Bitcast, arg, .. } if depth > 0 => {
                let bytes = self.constant_through(arg, depth - 1)?;
                (bytes.len() == size).then_some(bytes)?
            }
            _ => return None,
        })
    }

    /// A scalar integer constant, sign-extended.
    pub(super) fn int_constant(&self, value: Value) -> Option<i64> {
        let ty = self.ty(value);
        if !ty.is_int() || ty.bits() > 64 {
            return None;
        }
        let mut bytes = [0; 8];
        let constant = self.constant(value)?;
        bytes[..constant.len()].copy_from_slice(&constant);
        let shift = 64 - ty.bits();
        Some((i64::from_le_bytes(bytes) << shift) >> shift)
    }

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

    /// The address that a load or store names.
    pub(super) fn load_address(&mut self, inst: Inst) -> Result<Amode> {
        let (address, offset) = match self.func.dfg.insts[inst] {
            InstructionData::Load { arg, offset, flags, .. }
            | InstructionData::Store { args: [_, arg], offset, flags, .. } => {
                let big = self.func.dfg.mem_flags[flags].endianness(cranelift_codegen::ir::Endianness::Little);
                if big != cranelift_codegen::ir::Endianness::Little {
                    return Err(self.refuse(Reason::Endianness));
                }
                (arg, i32::from(offset))
            }
            _ => return Err(self.refuse(Reason::Operation)),
        };
        self.amode(address, offset)
    }

    /// Folds sums, shifts and multiplications into base + index * scale + displacement.
    pub(super) fn amode(&mut self, address: Value, offset: i32) -> Result<Amode> {
        if self.ty(address) != types::I64 {
            return Err(self.refuse(Reason::Type));
        }
        let mut terms = vec![(self.func.dfg.resolve_aliases(address), 1u32)];
        let mut disp = offset;
        let mut slot = None;
        // A sum computed in another block stays in one register: taking it apart would keep two alive.
        let block = self.func.layout.inst_block(self.here);
        while let Some((at, change)) = (0..terms.len())
            .find_map(|at| self.expand(terms[at], disp, slot.is_some(), block, &terms).map(|change| (at, change)))
        {
            let (_, scale) = terms.remove(at);
            match change {
                Expand::Disp(new) => disp = new,
                Expand::Slot(offset) => slot = Some(offset),
                Expand::Sum(a, b, new) => {
                    disp = new;
                    terms.push((a, scale));
                    terms.extend(b.map(|b| (b, scale)));
                }
                Expand::Scale(value, factor) => terms.push((value, scale * factor)),
            }
        }
        // At most two terms are left, one of them unscaled unless it stands alone.
        terms.sort_by_key(|&(_, scale)| scale);
        let mut mem = Amode { disp, ..Amode::base(slot.map_or(Base::None, Base::Slot)) };
        for (value, scale) in terms {
            let reg = self.reg(value)?;
            if mem.base == Base::None && scale == 1 {
                mem.base = Base::Reg(reg);
            } else {
                mem.index = Some((reg, scale));
            }
        }
        Ok(mem)
    }

    fn expand(
        &self,
        (value, scale): (Value, u32),
        disp: i32,
        has_slot: bool,
        block: Option<cranelift_codegen::ir::Block>,
        terms: &[(Value, u32)],
    ) -> Option<Expand> {
        let plus = |constant: i64| {
            let total = constant.checked_mul(i64::from(scale))?.checked_add(i64::from(disp))?;
            i32::try_from(total).ok()
        };
        if let Some(constant) = self.int_constant(value) {
            return plus(constant).map(Expand::Disp);
        }
        let inst = self.def(value)?;
        let op = self.func.dfg.insts[inst].opcode();
        if op == Opcode::StackAddr {
            let InstructionData::StackAddr { stack_slot, offset, .. } = self.func.dfg.insts[inst] else { return None };
            let base = i64::from(self.slots[stack_slot]) + i64::from(i32::from(offset));
            return if scale == 1
                && !has_slot
                && terms.iter().filter(|t| self.def_of(t.0, Opcode::StackAddr).is_some()).count() == 1
            {
                u32::try_from(base).ok().map(Expand::Slot)
            } else {
                None
            };
        }
        let &[a, b] = self.func.dfg.inst_args(inst) else { return None };
        let (a, b) = (self.func.dfg.resolve_aliases(a), self.func.dfg.resolve_aliases(b));
        let only_scaled = terms.iter().filter(|t| t.1 > 1).count() == usize::from(scale > 1);
        match op {
            Opcode::Iadd => {
                for (x, c) in [(a, b), (b, a)] {
                    if let Some(new) = self.int_constant(c).and_then(plus) {
                        return Some(Expand::Sum(x, None, new));
                    }
                }
                let near = block.is_some() && self.func.layout.inst_block(inst) == block;
                (terms.len() == 1 && !has_slot && scale == 1 && near).then_some(Expand::Sum(a, Some(b), disp))
            }
            Opcode::Isub => {
                let new = self.int_constant(b).and_then(i64::checked_neg).and_then(plus)?;
                Some(Expand::Sum(a, None, new))
            }
            Opcode::Ishl => {
                let shift = u32::try_from(self.int_constant(b)?).ok()?;
                let factor = 1u32.checked_shl(shift)?;
                (shift <= 3 && scale * factor <= 8 && only_scaled).then_some(Expand::Scale(a, factor))
            }
            Opcode::Imul => {
                for (x, c) in [(a, b), (b, a)] {
                    if let Some(factor @ (2 | 4 | 8)) = self.int_constant(c) {
                        let factor = u32::try_from(factor).ok()?;
                        return (scale * factor <= 8 && only_scaled).then_some(Expand::Scale(x, factor));
                    }
                }
                None
            }
            _ => None,
        }
    }
}

/// One step of taking an address apart.
enum Expand {
    Disp(i32),
    Slot(u32),
    /// One or two terms and a new displacement.
    Sum(Value, Option<Value>, i32),
    Scale(Value, u32),
}
