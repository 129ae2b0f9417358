//! Addresses: sums, shifts and multiplications folded into base + index * scale + displacement.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::{Amode, Base};
use cranelift_codegen::ir::{Block, Endianness, Inst, InstructionData, Opcode, Value, types};

/// One step of taking an address apart.
enum Expand {
    Disp(i32),
    Slot(u32),
    /// One or two terms and a new displacement.
    Sum(Value, Option<Value>, i32),
    Scale(Value, u32),
}

impl Lower<'_> {
    /// The address that a load or store names.
    pub(super) fn load_address(&mut self, inst: Inst) -> Result<Amode> {
        let (address, offset) = match self.func.dfg.insts[inst] {
            InstructionData::Load { arg, offset, flags, .. }
            | InstructionData::Store { args: [_, arg], offset, flags, .. } => {
                let big = self.func.dfg.mem_flags[flags].endianness(Endianness::Little);
                if big != Endianness::Little {
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

    /// A step that takes one term apart, if there is one.
    fn expand(
        &self,
        (value, scale): (Value, u32),
        disp: i32,
        has_slot: bool,
        block: Option<Block>,
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
        if let InstructionData::StackAddr { stack_slot, offset, .. } = self.func.dfg.insts[inst] {
            let slots = terms.iter().filter(|t| self.def_of(t.0, Opcode::StackAddr).is_some()).count();
            let base = i64::from(self.slots.offsets[stack_slot]) + i64::from(i32::from(offset));
            let alone = scale == 1 && !has_slot && slots == 1;
            return u32::try_from(base).ok().filter(|_| alone).map(Expand::Slot);
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
