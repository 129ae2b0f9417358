//! What selection asks of a CLIF function, whatever the architecture: who uses a value, which values are masks, which instructions may
//! change places, what is constant, and what stands for what.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Function, Inst, InstructionData, Opcode, Type, Value, ValueDef};
use cranelift_codegen::loop_analysis::LoopAnalysis;

/// What is known of a function before selection begins.
pub(crate) struct Facts<'f> {
    func: &'f Function,
    /// How many operands read each value.
    pub uses: SecondaryMap<Value, u32>,
    /// Values whose lanes are all ones or all zeros, because they come from vector comparisons.
    pub masks: SecondaryMap<Value, bool>,
    /// Two instructions of one colour are in one block with no side effect between them.
    pub colours: SecondaryMap<Inst, u32>,
    pub loops: LoopAnalysis,
}

impl<'f> Facts<'f> {
    /// Counts uses, colours instructions and finds masks, in blocks that stand in this order.
    pub(crate) fn of(func: &'f Function, order: &[Block], loops: LoopAnalysis) -> Self {
        let mut facts =
            Self { func, uses: SecondaryMap::new(), masks: SecondaryMap::new(), colours: SecondaryMap::new(), loops };
        let mut colour = 0;
        for &block in order {
            colour += 1;
            for inst in func.layout.block_insts(block) {
                for value in func.dfg.inst_values(inst) {
                    facts.uses[func.dfg.resolve_aliases(value)] += 1;
                }
                facts.colours[inst] = colour;
                let op = func.dfg.insts[inst].opcode();
                if op.can_store() || op.can_trap() || op.is_call() || op.other_side_effects() {
                    // A load may be moved across another load that could fault, not across anything that writes.
                    colour += u32::from(!op.can_load() || op.can_store() || op.is_call());
                }
                if let Some(&result) = func.dfg.inst_results(inst).first() {
                    facts.masks[result] = facts.makes_mask(inst, op, func.dfg.value_type(result));
                }
            }
        }
        facts
    }

    fn makes_mask(&self, inst: Inst, op: Opcode, ty: Type) -> bool {
        let all = |count: u32| {
            self.func.dfg.inst_args(inst).iter().all(|&arg| {
                let arg = self.func.dfg.resolve_aliases(arg);
                self.masks[arg] && self.func.dfg.value_type(arg).lane_count() == count
            })
        };
        match op {
            Opcode::Icmp | Opcode::Fcmp => ty.is_vector(),
            Opcode::Band | Opcode::Bor | Opcode::Bxor | Opcode::Bitcast => ty.is_vector() && all(ty.lane_count()),
            // `knot` would set bits beyond the last of fewer than 8 lanes.
            Opcode::Bnot => ty.is_vector() && ty.lane_count() >= 8 && all(ty.lane_count()),
            _ => false,
        }
    }

    /// Whether an instruction makes a value for the next round of a loop only, and so had better overwrite this round's value after its last
    /// use. Done earlier it would need a second register, and a copy on the back edge.
    pub(crate) fn sinks(&self, inst: Inst, last: Inst) -> bool {
        let dfg = &self.func.dfg;
        if !matches!(dfg.insts[inst].opcode(), Opcode::Iadd | Opcode::Isub) {
            return false;
        }
        let result = dfg.first_result(inst);
        // A load folded into it would move across stores.
        let loads =
            dfg.inst_args(inst).iter().any(|&arg| self.def(arg).is_some_and(|d| dfg.insts[d].opcode().can_load()));
        if self.ty(result).is_vector() || loads {
            return false;
        }
        let count = |inst: Inst| dfg.inst_values(inst).filter(|&v| dfg.resolve_aliases(v) == result).count();
        let mut uses = count(last);
        if let InstructionData::Brif { arg, .. } = dfg.insts[last]
            && let Some(compare) = self.def(arg).filter(|&c| dfg.insts[c].opcode() == Opcode::Icmp)
            && self.uses[dfg.resolve_aliases(arg)] == 1
        {
            uses += count(compare);
        }
        uses > 0 && u32::try_from(uses).ok() == Some(self.uses[result])
    }

    pub(crate) fn ty(&self, value: Value) -> Type {
        self.func.dfg.value_type(value)
    }

    /// The instruction whose first result a value is.
    pub(crate) fn def(&self, value: Value) -> Option<Inst> {
        match self.func.dfg.value_def(self.func.dfg.resolve_aliases(value)) {
            ValueDef::Result(inst, 0) => Some(inst),
            _ => None,
        }
    }

    /// The defining instruction if it is of this operation, and its operands.
    pub(crate) fn def_of(&self, value: Value, op: Opcode) -> Option<&'f [Value]> {
        let inst = self.def(value)?;
        (self.func.dfg.insts[inst].opcode() == op).then(|| self.func.dfg.inst_args(inst))
    }

    /// The value whose register holds `value`: bitcasts between vectors and reads of lane 0 cost nothing. Also whether nothing else uses
    /// what was looked through.
    pub(crate) fn resolve(&self, value: Value) -> (Value, bool) {
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
    pub(crate) fn constant(&self, value: Value) -> Option<Vec<u8>> {
        self.constant_through(value, 4)
    }

    /// As [`Facts::constant`], looking through this many splats and bitcasts.
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
    pub(crate) fn int_constant(&self, value: Value) -> Option<i64> {
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
}
