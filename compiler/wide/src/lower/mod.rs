//! Instruction selection: CLIF to x86 instructions over virtual registers.
//!
//! Blocks are walked from the last to the first and each from its end, so that an instruction is met after everything that uses it: what
//! nothing asked for is left out, and what its user has taken into an operand is not computed again. Constants are never kept in registers;
//! each use reads them from the literal pool.

mod control;
mod float;
mod integer;
mod lanes;
mod memory;
mod operand;
mod plain;
mod scalar;
mod select;
mod shuffle;

use crate::abi::{self, Abi, Loc};
use crate::error::{Reason, Unsupported};
use crate::features::Features;
use crate::mach::{self, Amode, Arg, Base, BlockData, Op};
use crate::pool::Pool;
use crate::table::{self, Lane, Width};
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{self, Block, Function, Inst, Opcode, Type, Value, ValueDef};
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};
use iced_x86::Code;
use regalloc2::{RegClass, VReg};

pub(crate) type Result<T> = std::result::Result<T, Unsupported>;

/// What instruction selection hands to register allocation and emission.
pub(crate) struct Lowered {
    pub blocks: Vec<BlockData>,
    pub num_vregs: usize,
    pub pool: Pool,
    pub abi: Abi,
    /// The widest vector in the function.
    pub width: Width,
    pub slots_bytes: u32,
    pub slots_align: u32,
    pub outgoing_bytes: u32,
    /// Whether the wide half of a result register is live at the return.
    pub returns_wide: bool,
}

pub(crate) struct Lower<'f> {
    func: &'f Function,
    features: Features,
    abi: Abi,
    /// How many operands read each value.
    uses: SecondaryMap<Value, u32>,
    /// Values whose lanes are all ones or all zeros, because they come from vector comparisons.
    masks: SecondaryMap<Value, bool>,
    /// Two instructions of one colour are in one block with no side effect between them.
    colours: SecondaryMap<Inst, u32>,
    loops: LoopAnalysis,
    /// Instructions that were lowered out of their order.
    done: SecondaryMap<Inst, bool>,
    /// Registers of the values that something asked for.
    vregs: SecondaryMap<Value, Option<VReg>>,
    num_vregs: usize,
    pool: Pool,
    /// The machine code of the instruction being lowered.
    out: Vec<mach::Inst>,
    /// The instruction being lowered.
    here: Inst,
    slots: SecondaryMap<ir::StackSlot, u32>,
    width: Width,
    outgoing_bytes: u32,
    /// Machine blocks, the CLIF blocks first and then those of split edges and jump chains.
    blocks: Vec<BlockData>,
    machine_block: SecondaryMap<Block, Option<regalloc2::Block>>,
    /// Machine blocks that follow a CLIF block and are laid out right behind it.
    followers: Vec<regalloc2::Block>,
}

/// Instruction selection for the whole function.
pub(crate) fn lower(func: &Function, features: Features) -> Result<Lowered> {
    let Some(entry) = func.layout.entry_block() else {
        return Err(Unsupported::function(func, Reason::Invalid("it has no blocks".into())));
    };
    let abi = Abi::of(func, &func.signature)?;
    let cfg = ControlFlowGraph::with_function(func);
    let domtree = DominatorTree::with_function(func, &cfg);
    let mut loops = LoopAnalysis::new();
    loops.compute(func, &cfg, &domtree);
    if let Some(pred) = cfg.pred_iter(entry).next() {
        return Err(Unsupported::at(func, pred.inst, Reason::EntryBranch));
    }
    let order = block_order(func, entry, &loops);
    let Some(here) = func.layout.first_inst(entry) else {
        return Err(Unsupported::function(func, Reason::Invalid("its entry block is empty".into())));
    };

    let mut lower = Lower {
        func,
        features,
        abi,
        uses: SecondaryMap::new(),
        masks: SecondaryMap::new(),
        colours: SecondaryMap::new(),
        loops,
        done: SecondaryMap::new(),
        vregs: SecondaryMap::new(),
        num_vregs: 0,
        pool: Pool::default(),
        out: Vec::new(),
        here,
        slots: SecondaryMap::new(),
        width: Width::W128,
        outgoing_bytes: 0,
        blocks: Vec::new(),
        machine_block: SecondaryMap::new(),
        followers: Vec::new(),
    };
    lower.analyse(&order);
    let (slots_bytes, slots_align) = lower.place_slots();
    for (index, &block) in order.iter().enumerate() {
        lower.machine_block[block] = Some(regalloc2::Block::new(index));
        lower
            .blocks
            .push(BlockData { is_loop_head: lower.loops.is_loop_header(block).is_some(), ..BlockData::default() });
    }
    // Split edges stand behind the block that they leave.
    let mut layout = Vec::new();
    for (index, &block) in order.iter().enumerate().rev() {
        let insts = lower.block(block, block == entry)?;
        lower.blocks[index].insts = insts;
        layout.extend(lower.followers.drain(..).rev());
        layout.push(regalloc2::Block::new(index));
    }
    layout.reverse();
    let returns_wide = func.signature.returns.iter().any(|p| p.value_type.bits() > 128);
    Ok(Lowered {
        blocks: renumber(lower.blocks, &layout),
        num_vregs: lower.num_vregs,
        pool: lower.pool,
        abi,
        width: lower.width,
        slots_bytes,
        slots_align,
        outgoing_bytes: lower.outgoing_bytes,
        returns_wide,
    })
}

/// Reverse postorder in which the blocks of a loop stand together: exits are visited first, so they come last.
fn block_order(func: &Function, entry: Block, loops: &LoopAnalysis) -> Vec<Block> {
    let mut seen: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut order = Vec::new();
    let successors = |block: Block| {
        let mut succs: Vec<Block> = func.block_successors(block).collect();
        succs.reverse();
        // Popped from the end: the shallowest loop first.
        succs.sort_by_key(|&s| std::cmp::Reverse(loops.loop_level(s)));
        succs
    };
    seen[entry] = true;
    let mut stack = vec![(entry, successors(entry))];
    while let Some((block, succs)) = stack.last_mut() {
        match succs.pop() {
            Some(succ) if !seen[succ] => {
                seen[succ] = true;
                stack.push((succ, successors(succ)));
            }
            Some(_) => {}
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
    order.reverse();
    order
}

/// Puts blocks into layout order, which is how regalloc2 numbers them.
fn renumber(mut blocks: Vec<BlockData>, layout: &[regalloc2::Block]) -> Vec<BlockData> {
    let mut new_number = vec![regalloc2::Block::new(0); blocks.len()];
    for (new, old) in layout.iter().enumerate() {
        new_number[old.index()] = regalloc2::Block::new(new);
    }
    let mut result: Vec<BlockData> = layout.iter().map(|old| std::mem::take(&mut blocks[old.index()])).collect();
    for block in &mut result {
        match block.insts.last_mut().map(|inst| &mut inst.op) {
            Some(Op::Jump(to)) => *to = new_number[to.index()],
            Some(Op::Branch { then, otherwise, .. }) => {
                *then = new_number[then.index()];
                *otherwise = new_number[otherwise.index()];
            }
            _ => {}
        }
    }
    result
}

impl<'f> Lower<'f> {
    /// Counts uses, colours instructions and finds masks.
    fn analyse(&mut self, order: &[Block]) {
        let func = self.func;
        let mut colour = 0;
        for &block in order {
            colour += 1;
            for inst in func.layout.block_insts(block) {
                for value in func.dfg.inst_values(inst) {
                    self.uses[func.dfg.resolve_aliases(value)] += 1;
                }
                self.colours[inst] = colour;
                let op = func.dfg.insts[inst].opcode();
                if op.can_store() || op.can_trap() || op.is_call() || op.other_side_effects() {
                    // A load may be moved across another load that could fault, not across anything that writes.
                    colour += u32::from(!op.can_load() || op.can_store() || op.is_call());
                }
                if let Some(&result) = func.dfg.inst_results(inst).first() {
                    self.masks[result] = self.makes_mask(inst, op, func.dfg.value_type(result));
                }
            }
        }
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

    /// Gives every stack slot its offset; the whole area's size and alignment.
    fn place_slots(&mut self) -> (u32, u32) {
        let (mut end, mut align) = (0u32, 1u32);
        for (slot, data) in &self.func.sized_stack_slots {
            let slot_align = 1u32.checked_shl(u32::from(data.align_shift)).unwrap_or(1).max(8);
            end = end.checked_next_multiple_of(slot_align).unwrap_or(u32::MAX);
            self.slots[slot] = end;
            end = end.saturating_add(data.size);
            align = align.max(slot_align);
        }
        (end, align)
    }

    /// Machine code of one CLIF block.
    fn block(&mut self, block: Block, is_entry: bool) -> Result<Vec<mach::Inst>> {
        let mut reversed = Vec::new();
        let mut insts: Vec<Inst> = self.func.layout.block_insts(block).collect();
        insts.reverse();
        if let Some((&last, rest)) = insts.split_first() {
            let sinking: Vec<Inst> = rest.iter().copied().filter(|&inst| self.sinks(inst, last)).collect();
            for inst in [last].into_iter().chain(sinking).chain(rest.iter().copied()) {
                if !self.done[inst] {
                    self.done[inst] = true;
                    self.here = inst;
                    self.inst(inst, block)?;
                    reversed.extend(self.out.drain(..).rev());
                }
            }
        }
        let params = self.func.dfg.block_params(block);
        if is_entry {
            self.entry(params)?;
            reversed.extend(self.out.drain(..).rev());
        } else {
            let mut vregs = Vec::new();
            for &param in params {
                vregs.push(self.demand(param)?);
            }
            if let Some(index) = self.machine_block[block] {
                self.blocks[index.index()].params = vregs;
            }
        }
        reversed.reverse();
        Ok(reversed)
    }

    /// Whether an instruction makes a value for the next round of a loop only, and so had better overwrite this round's value after its last
    /// use. Done earlier it would need a second register, and a copy on the back edge.
    fn sinks(&self, inst: Inst, last: Inst) -> bool {
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
        if let ir::InstructionData::Brif { arg, .. } = dfg.insts[last]
            && let Some(compare) = self.def(arg).filter(|&c| dfg.insts[c].opcode() == Opcode::Icmp)
            && self.uses[dfg.resolve_aliases(arg)] == 1
        {
            uses += count(compare);
        }
        uses > 0 && u32::try_from(uses).ok() == Some(self.uses[result])
    }

    /// Moves arguments out of the registers and stack slots they arrive in.
    fn entry(&mut self, params: &[Value]) -> Result<()> {
        let Some((locs, _)) = self.abi.args(&self.func.signature) else {
            return Err(Unsupported::signature(self.func, Reason::Signature));
        };
        let mut args = Vec::new();
        let mut loads = Vec::new();
        for (&param, loc) in params.iter().zip(locs) {
            match loc {
                Loc::Reg(reg) => args.push(Arg::DefFixed(self.demand(param)?, reg)),
                Loc::Stack(offset) if self.vregs[param].is_some() => loads.push((param, offset)),
                Loc::Stack(_) => {}
            }
        }
        self.out.push(mach::Inst::new(Op::Args, args));
        for (param, offset) in loads {
            let dst = self.demand(param)?;
            let ty = self.ty(param);
            self.load_into(dst, ty, Amode::base(Base::Incoming(offset)))?;
        }
        Ok(())
    }

    // Values

    fn ty(&self, value: Value) -> Type {
        self.func.dfg.value_type(value)
    }

    fn def(&self, value: Value) -> Option<Inst> {
        match self.func.dfg.value_def(self.func.dfg.resolve_aliases(value)) {
            ValueDef::Result(inst, 0) => Some(inst),
            _ => None,
        }
    }

    /// The defining instruction if it is of this operation, and its operands.
    fn def_of(&self, value: Value, op: Opcode) -> Option<&'f [Value]> {
        let inst = self.def(value)?;
        (self.func.dfg.insts[inst].opcode() == op).then(|| self.func.dfg.inst_args(inst))
    }

    fn opcode(&self) -> Opcode {
        self.func.dfg.insts[self.here].opcode()
    }

    fn arg(&self, index: usize) -> Value {
        self.func.dfg.resolve_aliases(self.func.dfg.inst_args(self.here)[index])
    }

    /// Whether the value lives in an AVX-512 mask register.
    fn is_k(&self, value: Value) -> bool {
        self.features.avx512() && self.masks[value]
    }

    fn fresh(&mut self, class: RegClass) -> VReg {
        // Beyond regalloc2's limit the number is refused after lowering; until then any valid one will do.
        let number = self.num_vregs.min(VReg::MAX);
        self.num_vregs += 1;
        VReg::new(number, class)
    }

    fn fresh_vector(&mut self) -> VReg {
        self.fresh(RegClass::Float)
    }

    fn fresh_int(&mut self) -> VReg {
        self.fresh(RegClass::Int)
    }

    fn fresh_mask(&mut self) -> VReg {
        self.fresh(RegClass::Vector)
    }

    /// The register of a value, which from now on has to be computed.
    fn demand(&mut self, value: Value) -> Result<VReg> {
        if let Some(vreg) = self.vregs[value] {
            return Ok(vreg);
        }
        let ty = self.ty(value);
        let class = if self.is_k(value) {
            RegClass::Vector
        } else {
            abi::register_class(ty).ok_or_else(|| self.refuse(Reason::Type))?
        };
        if ty.is_vector() {
            let width = Width::from_bits(ty.bits()).ok_or_else(|| self.refuse(Reason::Type))?;
            if width == Width::W512 && !self.features.avx512() {
                return Err(self.refuse(Reason::NeedsAvx512));
            }
            self.width = self.width.max(width);
        }
        let vreg = self.fresh(class);
        self.vregs[value] = Some(vreg);
        Ok(vreg)
    }

    /// The register for the first result of the instruction being lowered.
    fn result(&mut self) -> Result<VReg> {
        let value = self.func.dfg.first_result(self.here);
        self.demand(value)
    }

    fn result_ty(&self) -> Type {
        self.ty(self.func.dfg.first_result(self.here))
    }

    /// Whether the value is not needed after the instruction being lowered, so that its register may be overwritten.
    fn dies_here(&self, value: Value) -> bool {
        let value = self.resolve(value).0;
        let home = match self.func.dfg.value_def(value) {
            ValueDef::Result(inst, _) => self.func.layout.inst_block(inst),
            ValueDef::Param(block, _) => Some(block),
            ValueDef::Union(..) => None,
        };
        let innermost = |block: Option<Block>| -> Option<Loop> { block.and_then(|b| self.loops.innermost_loop(b)) };
        self.vregs[value].is_none() && innermost(home) == innermost(self.func.layout.inst_block(self.here))
    }

    // Output

    fn refuse(&self, reason: Reason) -> Unsupported {
        Unsupported::at(self.func, self.here, reason)
    }

    /// Lane and width of a vector or floating-point type.
    fn shape(&self, ty: Type) -> Result<(Lane, Width)> {
        let lane = Lane::of(ty).ok_or_else(|| self.refuse(Reason::Type))?;
        if !ty.is_vector() {
            return if lane.is_float() { Ok((lane, Width::Scalar)) } else { Err(self.refuse(Reason::Type)) };
        }
        let width = Width::from_bits(ty.bits()).ok_or_else(|| self.refuse(Reason::Type))?;
        if width == Width::W512 && !self.features.avx512() {
            return Err(self.refuse(Reason::NeedsAvx512));
        }
        Ok((lane, width))
    }

    fn code(&self, op: &table::Op, lane: Lane, width: Width) -> Result<Code> {
        table::code(op, self.features, lane, width).ok_or_else(|| {
            self.refuse(if table::has_evex(op, lane, width) { Reason::NeedsAvx512 } else { Reason::Type })
        })
    }

    fn emit(&mut self, code: Code, args: impl Into<Vec<Arg>>) {
        self.out.push(mach::Inst::new(Op::Real(code), args));
    }

    fn emit_op(&mut self, op: Op, args: impl Into<Vec<Arg>>) {
        self.out.push(mach::Inst::new(op, args));
    }

    /// `code` under a write mask. Where lanes are not zeroed the first operand has to be `Modify`.
    fn emit_masked(&mut self, code: Code, mask: VReg, zeroing: bool, args: impl Into<Vec<Arg>>) {
        let mut inst = mach::Inst::new(Op::Real(code), args);
        inst.mask = Some(mask);
        inst.zeroing = zeroing;
        self.out.push(inst);
    }

    /// A table instruction into a fresh vector register.
    fn step(
        &mut self,
        op: &table::Op,
        lane: Lane,
        width: Width,
        sources: impl IntoIterator<Item = Arg>,
    ) -> Result<VReg> {
        let code = self.code(op, lane, width)?;
        let dst = self.fresh_vector();
        let mut args = vec![Arg::Def(dst)];
        args.extend(sources);
        self.emit(code, args);
        Ok(dst)
    }
}

/// One CLIF operation, one line.
impl Lower<'_> {
    fn inst(&mut self, inst: Inst, block: Block) -> Result<()> {
        use Opcode as O;
        let op = self.func.dfg.insts[inst].opcode();
        let results = self.func.dfg.inst_results(inst);
        // A load that nothing wants is left out, or made a prefetch, should it fault or not; anything else that traps is kept for that.
        let traps = op.can_trap() && !op.can_load();
        let has_effect = op.is_terminator() || op.is_call() || op.can_store() || op.other_side_effects() || traps;
        let wanted = results.iter().any(|&r| self.vregs[r].is_some());
        if !(has_effect || wanted) {
            let is_byte = op == O::Load && results.first().is_some_and(|&r| self.ty(r) == ir::types::I8);
            return if is_byte && self.uses[results[0]] == 0 { self.prefetch() } else { Ok(()) };
        }
        let vector = results.first().map_or(self.func.dfg.ctrl_typevar(inst), |&r| self.ty(r)).is_vector();
        match op {
            // Constants are made where they are used
            O::Iconst | O::F32const | O::F64const | O::Vconst | O::Nop | O::SequencePoint => Ok(()),
            O::Splat => self.splat(),
            // Memory
            O::Load | O::Uload8 | O::Sload8 | O::Uload16 | O::Sload16 | O::Uload32 | O::Sload32 => self.load(),
            O::Store | O::Istore8 | O::Istore16 | O::Istore32 => self.store(),
            O::StackAddr => self.address(),
            // Floating point
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
            O::Fcmp if vector => self.vector_fcmp(),
            O::Fpromote | O::Fdemote => self.convert_scalar(),
            O::FvpromoteLow => self.promote_low(),
            O::Fvdemote => self.demote(),
            O::FcvtFromSint => self.convert_from_sint(),
            O::FcvtFromUint => self.convert_from_uint(),
            O::FcvtToSintSat => self.convert_to_sint_sat(),
            O::X86Cvtt2dq => self.unary_as(table::F32_TO_INT, Lane::I32),
            // Vector integers
            O::Iadd if vector => self.binary(table::IADD, true),
            O::Isub if vector => self.binary(table::ISUB, false),
            O::Imul if vector => self.binary(table::IMUL, true),
            O::Smin if vector => self.binary(table::SMIN, true),
            O::Smax if vector => self.binary(table::SMAX, true),
            O::Umin if vector => self.binary(table::UMIN, true),
            O::Umax if vector => self.binary(table::UMAX, true),
            O::Ineg if vector => self.vector_neg(),
            O::Iabs if vector => self.unary(table::IABS, None),
            O::Ishl if vector => self.vector_shift(table::SHL_I, table::SHL_X),
            O::Ushr if vector => self.vector_shift(table::USHR_I, table::USHR_X),
            O::Sshr if vector => self.vector_shift(table::SSHR_I, table::SSHR_X),
            O::Icmp if vector => self.vector_icmp(),
            // Bits
            O::Band if vector => self.bits(table::AND),
            O::Bor if vector => self.bits(table::OR),
            O::Bxor if vector => self.bits(table::XOR),
            O::Bnot if vector => self.vector_not(),
            O::Bitselect if vector => self.bitselect(),
            O::Blendv if vector => self.blend_top_bits(),
            O::VanyTrue | O::VallTrue | O::Icmp | O::Fcmp => self.set_flags(),
            O::VhighBits => self.high_bits(),
            O::Bitcast => self.bitcast(),
            // Lanes
            O::Extractlane => self.extract_lane(),
            O::Insertlane => self.insert_lane(),
            O::ScalarToVector => self.scalar_to_vector(),
            O::Shuffle => self.shuffle(),
            O::Swizzle | O::X86Pshufb => self.swizzle(),
            // Scalars
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
            O::Select | O::SelectSpectreGuard => self.select(),
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
            O::CallIndirect => self.call_indirect(),
            _ => Err(self.refuse(Reason::Operation)),
        }
    }
}
