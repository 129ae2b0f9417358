//! Turns allocated machine code into bytes: real registers, the stack frame, moves and jumps.

use crate::abi::{RBP, RSP};
use crate::features::Features;
use crate::layout::{Item, Label};
use crate::lower::Lowered;
use crate::mach::{Amode, Arg, Base, Cc, Cond, Inst, MachineFunction, Op};
use crate::pool::LiteralId;
use crate::table::{self, Lane, Width};
use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpCodeOperandKind as Kind, OpKind, Register};
use regalloc2::{Allocation, Block, Edit, Function as _, InstOrEdit, Output, PReg, PRegSet, RegClass};

/// Bytes of stack that a function may take without more care than touching each page.
const MAX_FRAME: u64 = 1 << 20;
const PAGE: u32 = 4096;
const LOOP_ALIGN: usize = 32;

/// Why emission failed.
pub(crate) enum Failure {
    Frame(u64),
    Encoding(String),
}

type Result<T> = std::result::Result<T, Failure>;

/// The stack from rsp upwards: outgoing arguments, spill slots, saved vector registers, the function's own slots. Above them, below rbp,
/// are the saved general registers.
struct Frame {
    exists: bool,
    spills: u32,
    saved_vectors: u32,
    slots: u32,
    size: u32,
    align: u32,
    saved_gprs: Vec<PReg>,
    saved_xmms: Vec<PReg>,
}

pub(crate) struct Emitter<'a> {
    lowered: &'a Lowered,
    features: Features,
    frame: Frame,
    encoder: Encoder,
    text_len: usize,
    items: Vec<Item>,
    num_labels: usize,
}

/// Encoded instructions and the order in which they, labels and jumps follow each other.
pub(crate) fn emit(
    lowered: &Lowered,
    function: &MachineFunction,
    output: &Output,
    features: Features,
) -> Result<(Vec<Item>, Vec<u8>)> {
    let frame = frame(lowered, function, output)?;
    let mut emitter = Emitter {
        lowered,
        features,
        frame,
        encoder: Encoder::new(64),
        text_len: 0,
        items: Vec::new(),
        num_labels: function.num_blocks(),
    };
    let forward = forward(function, output);
    let resolve = |block: Block| forward[block.index()];
    let (kept, skipped): (Vec<Block>, Vec<Block>) =
        (0..function.num_blocks()).map(Block::new).partition(|&block| resolve(block) == block);
    for (position, &block) in kept.iter().enumerate() {
        if function.loop_heads[block.index()] {
            emitter.items.push(Item::Align(LOOP_ALIGN));
        }
        emitter.items.push(Item::Bind(Label(block.index())));
        let next = kept.get(position + 1).copied();
        for step in output.block_insts_and_edits(function, block) {
            match step {
                InstOrEdit::Edit(&Edit::Move { from, to }) => emitter.copy(from, to)?,
                InstOrEdit::Inst(index) => {
                    let allocs = output.inst_allocs(index);
                    emitter.inst(&function.insts[index.index()], allocs, next, &resolve)?;
                }
            }
        }
    }
    // Labels are numbered densely; no one jumps to these.
    emitter.items.extend(skipped.iter().map(|block| Item::Bind(Label(block.index()))));
    Ok((emitter.items, emitter.encoder.take_buffer()))
}

/// Where a jump to each block ends up: blocks on which nothing happens but a jump are skipped, unless they run in a circle.
fn forward(function: &MachineFunction, output: &Output) -> Vec<Block> {
    let blocks = function.num_blocks();
    let next: Vec<Option<Block>> = (0..blocks)
        .map(Block::new)
        .map(|block| match function.insts[function.block_insns(block).first().index()].op {
            Op::Jump(to) if output.block_insts_and_edits(function, block).count() == 1 => Some(to),
            _ => None,
        })
        .collect();
    let follow = |block: Block| {
        let mut at = block;
        for _ in 0..=blocks {
            match next[at.index()] {
                Some(to) => at = to,
                None => return at,
            }
        }
        block
    };
    (0..blocks).map(Block::new).map(follow).collect()
}

fn frame(lowered: &Lowered, function: &MachineFunction, output: &Output) -> Result<Frame> {
    let mut used = PRegSet::empty();
    let mut add = |alloc: Allocation| {
        if let Some(reg) = alloc.as_reg() {
            used.add(reg);
        }
    };
    output.allocs.iter().copied().for_each(&mut add);
    for (_, Edit::Move { to, .. }) in &output.edits {
        add(*to);
    }
    let mut calls = false;
    let mut incoming = false;
    for inst in &function.insts {
        calls |= matches!(inst.op, Op::Call { .. });
        incoming |= inst.args.iter().any(|arg| matches!(arg, Arg::Mem(Amode { base: Base::Incoming(_), .. })));
        for reg in inst.clobbers {
            used.add(reg);
        }
    }
    let saved: Vec<PReg> = lowered.abi.callee_saved().into_iter().filter(|&reg| used.contains(reg)).collect();
    let (saved_gprs, saved_xmms): (Vec<_>, Vec<_>) = saved.into_iter().partition(|reg| reg.class() == RegClass::Int);

    let spill_bytes = output.num_spillslots as u64 * 8;
    let align = if spill_bytes > 0 { lowered.width.bytes() } else { 16 }.max(lowered.slots_align).max(16);
    let up = |bytes: u64| bytes.next_multiple_of(u64::from(align));
    let spills = up(u64::from(lowered.outgoing_bytes));
    let saved_vectors = up(spills + spill_bytes);
    let slots = up(saved_vectors + 16 * saved_xmms.len() as u64);
    let mut size = up(slots + u64::from(lowered.slots_bytes));
    if size > MAX_FRAME {
        return Err(Failure::Frame(size));
    }
    let exists = size > 0 || calls || incoming || !saved_gprs.is_empty();
    if align == 16 && saved_gprs.len() % 2 == 1 && exists {
        // rbp is aligned to 16; the registers below it moved rsp off.
        size += 8;
    }
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Frame {
        exists,
        spills: small(spills),
        saved_vectors: small(saved_vectors),
        slots: small(slots),
        size: small(size),
        align,
        saved_gprs,
        saved_xmms,
    })
}

/// A memory operand in real registers.
#[derive(Clone, Copy)]
struct Place {
    base: Register,
    index: Register,
    scale: u32,
    disp: i64,
    broadcast: bool,
    literal: Option<LiteralId>,
}

impl Place {
    fn at(base: Register, disp: i64) -> Self {
        Self { base, index: Register::None, scale: 1, disp, broadcast: false, literal: None }
    }
}

#[derive(Clone, Copy)]
enum Operand {
    Reg(PReg),
    Mem(Place),
    Imm(i64),
}

impl Emitter<'_> {
    fn label(&mut self) -> Label {
        self.num_labels += 1;
        Label(self.num_labels - 1)
    }

    fn jump(&mut self, cc: Option<Cc>, to: Label) {
        self.items.push(Item::Jump { cc, to });
    }

    fn inst(
        &mut self,
        inst: &Inst,
        allocs: &[Allocation],
        next: Option<Block>,
        resolve: &dyn Fn(Block) -> Block,
    ) -> Result<()> {
        let (operands, mask) = self.operands(inst, allocs)?;
        let first = operands.first().copied();
        match &inst.op {
            Op::Real(code) => self.real(*code, &operands, mask, inst.zeroing),
            Op::Set(cc) => self.real(SET[*cc as usize], &operands, None, false),
            Op::Move(cc) => self.real(CMOV[*cc as usize], &operands, None, false),
            Op::Zero => {
                let Some(Operand::Reg(reg)) = first else {
                    return Err(Failure::Encoding("zero without a register".into()));
                };
                // The VEX form is shorter, and known to break dependencies on more processors.
                let code = if reg.hw_enc() < 16 {
                    Code::VEX_Vxorps_xmm_xmm_xmmm128
                } else {
                    Code::EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32
                };
                self.real(code, &[Operand::Reg(reg); 3], None, false)
            }
            Op::MoveIf(conditions) => {
                let skip = self.label();
                for cc in conditions {
                    self.jump(Some(cc.negate()), skip);
                }
                let code = self.vector_code(table::LOAD)?;
                self.real(code, &operands, None, false)?;
                self.items.push(Item::Bind(skip));
                Ok(())
            }
            Op::Call { wide_args } => {
                if self.lowered.width > Width::W128 && !wide_args {
                    self.real(Code::VEX_Vzeroupper, &[], None, false)?;
                }
                self.real(Code::Call_rm64, &operands, None, false)
            }
            Op::Args => self.prologue(),
            Op::Ret => self.epilogue(),
            Op::Jump(to) => {
                let to = resolve(*to);
                if Some(to) != next {
                    self.jump(None, Label(to.index()));
                }
                Ok(())
            }
            Op::Branch { cond, then, otherwise } => {
                let (mut cond, mut then, mut otherwise) = (*cond, resolve(*then), resolve(*otherwise));
                if Some(then) == next {
                    (cond, then, otherwise) = (cond.negate(), otherwise, then);
                }
                let (yes, no) = (Label(then.index()), Label(otherwise.index()));
                match cond {
                    Cond::One(cc) => self.jump(Some(cc), yes),
                    Cond::Or(a, b) => {
                        self.jump(Some(a), yes);
                        self.jump(Some(b), yes);
                    }
                    Cond::And(a, b) => {
                        self.jump(Some(a.negate()), no);
                        self.jump(Some(b), yes);
                    }
                }
                if Some(otherwise) != next {
                    self.jump(None, no);
                }
                Ok(())
            }
            Op::Trap => self.real(Code::Ud2, &[], None, false),
            Op::TrapIf(cond) => {
                let (trap, skip) = (self.label(), self.label());
                match *cond {
                    Cond::One(cc) => self.jump(Some(cc.negate()), skip),
                    Cond::And(a, b) => {
                        self.jump(Some(a.negate()), skip);
                        self.jump(Some(b.negate()), skip);
                    }
                    Cond::Or(a, b) => {
                        self.jump(Some(a), trap);
                        self.jump(Some(b.negate()), skip);
                    }
                }
                self.items.push(Item::Bind(trap));
                self.real(Code::Ud2, &[], None, false)?;
                self.items.push(Item::Bind(skip));
                Ok(())
            }
        }
    }

    /// The printed operands, and the write mask.
    fn operands(&self, inst: &Inst, allocs: &[Allocation]) -> Result<(Vec<Operand>, Option<PReg>)> {
        let mut allocs = allocs.iter();
        let mut take = || {
            let reg = allocs.next().and_then(|alloc| alloc.as_reg());
            reg.ok_or_else(|| Failure::Encoding("an operand was not given a register".into()))
        };
        let mut operands = Vec::new();
        for arg in &inst.args {
            match arg {
                Arg::Def(_) | Arg::Use(_) => operands.push(Operand::Reg(take()?)),
                Arg::Modify { .. } => {
                    take()?;
                    operands.push(Operand::Reg(take()?));
                }
                Arg::Mem(mem) => operands.push(Operand::Mem(self.address(mem, &mut take)?)),
                Arg::Imm(number) => operands.push(Operand::Imm(*number)),
                Arg::UseFixed(..) | Arg::DefFixed(..) => {
                    take()?;
                }
            }
        }
        let mask = if inst.mask.is_some() { Some(take()?) } else { None };
        Ok((operands, mask))
    }

    fn address(&self, mem: &Amode, take: &mut dyn FnMut() -> Result<PReg>) -> Result<Place> {
        let disp = i64::from(mem.disp);
        let rsp = |offset: u32| Place::at(Register::RSP, disp + i64::from(offset));
        let mut place = match mem.base {
            Base::None => Place::at(Register::None, disp),
            Base::Reg(_) => Place::at(gpr64(take()?), disp),
            Base::Literal(id) => Place { literal: Some(id), ..Place::at(Register::RIP, disp) },
            Base::Slot(offset) => rsp(self.frame.slots + offset),
            Base::Outgoing(offset) => rsp(offset),
            Base::Incoming(offset) => Place::at(Register::RBP, disp + 16 + i64::from(offset)),
        };
        if let Some((_, scale)) = mem.index {
            place.index = gpr64(take()?);
            place.scale = scale;
        }
        place.broadcast = mem.broadcast;
        Ok(place)
    }

    /// The instruction of the function's widest vectors.
    fn vector_code(&self, op: &table::Op) -> Result<Code> {
        table::code(op, self.features, Lane::F32, self.lowered.width)
            .ok_or_else(|| Failure::Encoding("no vector move".into()))
    }

    fn copy(&mut self, from: Allocation, to: Allocation) -> Result<()> {
        let slot = |alloc: Allocation| {
            let slot =
                alloc.as_stack().map(|slot| self.frame.spills + 8 * u32::try_from(slot.index()).unwrap_or(u32::MAX));
            slot.map(|offset| Operand::Mem(Place::at(Register::RSP, i64::from(offset))))
        };
        let (source, target) = (from.as_reg(), to.as_reg());
        let Some(class) = source.or(target).map(PReg::class) else {
            return Err(Failure::Encoding("a move from memory to memory".into()));
        };
        let (load, store) = match class {
            RegClass::Int => (Code::Mov_r64_rm64, Code::Mov_rm64_r64),
            RegClass::Float => (self.vector_code(table::LOAD)?, self.vector_code(table::STORE)?),
            RegClass::Vector => (Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr),
        };
        let operands = match (source, target) {
            (Some(source), Some(target)) => [Operand::Reg(target), Operand::Reg(source)],
            (None, Some(target)) => {
                [Operand::Reg(target), slot(from).ok_or_else(|| Failure::Encoding("a move from nowhere".into()))?]
            }
            (Some(source), None) => {
                [slot(to).ok_or_else(|| Failure::Encoding("a move to nowhere".into()))?, Operand::Reg(source)]
            }
            (None, None) => return Ok(()),
        };
        self.real(if target.is_some() { load } else { store }, &operands, None, false)
    }

    fn gpr_op(&mut self, code: Code, number: u8) -> Result<()> {
        self.real(code, &[Operand::Reg(PReg::new(usize::from(number), RegClass::Int))], None, false)
    }

    fn prologue(&mut self) -> Result<()> {
        if !self.frame.exists {
            return Ok(());
        }
        let (rsp, rbp) = (PReg::new(usize::from(RSP), RegClass::Int), PReg::new(usize::from(RBP), RegClass::Int));
        self.gpr_op(Code::Push_r64, RBP)?;
        self.real(Code::Mov_r64_rm64, &[Operand::Reg(rbp), Operand::Reg(rsp)], None, false)?;
        for reg in self.frame.saved_gprs.clone() {
            self.real(Code::Push_r64, &[Operand::Reg(reg)], None, false)?;
        }
        let mut left = self.frame.size;
        while left > 0 {
            let step = left.min(PAGE);
            self.real(Code::Sub_rm64_imm32, &[Operand::Reg(rsp), Operand::Imm(i64::from(step))], None, false)?;
            left -= step;
            if left > 0 {
                // The guard page has to be met, not jumped over.
                let top = Operand::Mem(Place::at(Register::RSP, 0));
                self.real(Code::Test_rm64_r64, &[top, Operand::Reg(rsp)], None, false)?;
            }
        }
        if self.frame.align > 16 {
            self.real(
                Code::And_rm64_imm32,
                &[Operand::Reg(rsp), Operand::Imm(-i64::from(self.frame.align))],
                None,
                false,
            )?;
        }
        self.saved_xmms(table::STORE)
    }

    fn saved_xmms(&mut self, op: &table::Op) -> Result<()> {
        let code = table::code(op, self.features, Lane::F32, Width::W128)
            .ok_or_else(|| Failure::Encoding("no vector move".into()))?;
        let store = std::ptr::eq(op, table::STORE);
        for (index, reg) in self.frame.saved_xmms.clone().into_iter().enumerate() {
            let offset = u64::from(self.frame.saved_vectors) + 16 * index as u64;
            let slot = Operand::Mem(Place::at(Register::RSP, i64::try_from(offset).unwrap_or(i64::MAX)));
            let operands = if store { [slot, Operand::Reg(reg)] } else { [Operand::Reg(reg), slot] };
            self.real(code, &operands, None, false)?;
        }
        Ok(())
    }

    fn epilogue(&mut self) -> Result<()> {
        if self.lowered.width > Width::W128 && !self.lowered.returns_wide {
            self.real(Code::VEX_Vzeroupper, &[], None, false)?;
        }
        if self.frame.exists {
            self.saved_xmms(table::LOAD)?;
            let (rsp, rbp) = (PReg::new(usize::from(RSP), RegClass::Int), PReg::new(usize::from(RBP), RegClass::Int));
            let saved = self.frame.saved_gprs.clone();
            if self.frame.size > 0 && !saved.is_empty() {
                let below = Place::at(Register::RBP, -8 * i64::try_from(saved.len()).unwrap_or(0));
                self.real(Code::Lea_r64_m, &[Operand::Reg(rsp), Operand::Mem(below)], None, false)?;
            } else if self.frame.size > 0 {
                self.real(Code::Mov_r64_rm64, &[Operand::Reg(rsp), Operand::Reg(rbp)], None, false)?;
            }
            for reg in saved.into_iter().rev() {
                self.real(Code::Pop_r64, &[Operand::Reg(reg)], None, false)?;
            }
            self.gpr_op(Code::Pop_r64, RBP)?;
        }
        self.real(Code::Retnq, &[], None, false)
    }

    /// Encodes one instruction. The code says what kind of register or immediate stands where.
    fn real(&mut self, code: Code, operands: &[Operand], mask: Option<PReg>, zeroing: bool) -> Result<()> {
        let info = code.op_code();
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let mut literal = None;
        for (position, operand) in operands.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let wrong = || Failure::Encoding(format!("{code:?} takes no such operand {position}"));
            let kind = info.try_op_kind(position).map_err(|e| Failure::Encoding(e.to_string()))?;
            match *operand {
                Operand::Reg(reg) => {
                    instruction.try_set_op_kind(position, OpKind::Register).map_err(|_| wrong())?;
                    instruction
                        .try_set_op_register(position, register(kind, reg).ok_or_else(wrong)?)
                        .map_err(|_| wrong())?;
                }
                Operand::Mem(place) => {
                    instruction.try_set_op_kind(position, OpKind::Memory).map_err(|_| wrong())?;
                    instruction.set_memory_base(place.base);
                    instruction.set_memory_index(place.index);
                    instruction.set_memory_index_scale(place.scale);
                    instruction.set_memory_displacement64(place.disp.cast_unsigned());
                    let size = match place.base {
                        Register::None | Register::RIP => 8,
                        _ => u32::from(place.disp != 0),
                    };
                    instruction.set_memory_displ_size(size);
                    instruction.set_is_broadcast(place.broadcast);
                    literal = place.literal;
                }
                Operand::Imm(number) => {
                    let kind = immediate(kind).ok_or_else(wrong)?;
                    instruction.try_set_op_kind(position, kind).map_err(|_| wrong())?;
                    instruction.try_set_immediate_i64(position, number).map_err(|_| wrong())?;
                }
            }
        }
        if let Some(mask) = mask {
            instruction.set_op_mask(Register::K0 + u32::try_from(mask.hw_enc()).unwrap_or(0));
            instruction.set_zeroing_masking(zeroing);
        }
        let len = self.encoder.encode(&instruction, 0).map_err(|e| Failure::Encoding(format!("{code:?}: {e}")))?;
        let literal = literal.map(|id| (self.encoder.get_constant_offsets().displacement_offset(), id));
        let fuses = matches!(code.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Add | Mnemonic::Sub);
        self.items.push(Item::Code { bytes: self.text_len..self.text_len + len, literal, fuses });
        self.text_len += len;
        Ok(())
    }
}

fn gpr64(reg: PReg) -> Register {
    Register::RAX + u32::try_from(reg.hw_enc()).unwrap_or(0)
}

/// The register of an operand: the allocator gives its number, the instruction its width.
fn register(kind: Kind, reg: PReg) -> Option<Register> {
    const BYTES: [Register; 16] = [
        Register::AL,
        Register::CL,
        Register::DL,
        Register::BL,
        Register::SPL,
        Register::BPL,
        Register::SIL,
        Register::DIL,
        Register::R8L,
        Register::R9L,
        Register::R10L,
        Register::R11L,
        Register::R12L,
        Register::R13L,
        Register::R14L,
        Register::R15L,
    ];
    let number = u32::try_from(reg.hw_enc()).ok()?;
    let (class, first) = match kind {
        Kind::r8_reg | Kind::r8_or_mem => {
            return BYTES.get(reg.hw_enc()).copied().filter(|_| reg.class() == RegClass::Int);
        }
        Kind::r16_reg | Kind::r16_rm | Kind::r16_or_mem => (RegClass::Int, Register::AX),
        Kind::r32_reg | Kind::r32_rm | Kind::r32_or_mem | Kind::r32_vvvv | Kind::r32_opcode => {
            (RegClass::Int, Register::EAX)
        }
        Kind::r64_reg | Kind::r64_rm | Kind::r64_or_mem | Kind::r64_vvvv | Kind::r64_opcode => {
            (RegClass::Int, Register::RAX)
        }
        Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_or_mem | Kind::xmm_vvvv | Kind::xmm_is4 => {
            (RegClass::Float, Register::XMM0)
        }
        Kind::ymm_reg | Kind::ymm_rm | Kind::ymm_or_mem | Kind::ymm_vvvv | Kind::ymm_is4 => {
            (RegClass::Float, Register::YMM0)
        }
        Kind::zmm_reg | Kind::zmm_rm | Kind::zmm_or_mem | Kind::zmm_vvvv => (RegClass::Float, Register::ZMM0),
        Kind::k_reg | Kind::k_rm | Kind::k_vvvv | Kind::k_or_mem => (RegClass::Vector, Register::K0),
        _ => return None,
    };
    (reg.class() == class).then(|| first + number)
}

fn immediate(kind: Kind) -> Option<OpKind> {
    Some(match kind {
        Kind::imm8 => OpKind::Immediate8,
        Kind::imm8sex16 => OpKind::Immediate8to16,
        Kind::imm8sex32 => OpKind::Immediate8to32,
        Kind::imm8sex64 => OpKind::Immediate8to64,
        Kind::imm16 => OpKind::Immediate16,
        Kind::imm32 => OpKind::Immediate32,
        Kind::imm32sex64 => OpKind::Immediate32to64,
        Kind::imm64 => OpKind::Immediate64,
        _ => return None,
    })
}

const SET: [Code; 16] = [
    Code::Seto_rm8,
    Code::Setno_rm8,
    Code::Setb_rm8,
    Code::Setae_rm8,
    Code::Sete_rm8,
    Code::Setne_rm8,
    Code::Setbe_rm8,
    Code::Seta_rm8,
    Code::Sets_rm8,
    Code::Setns_rm8,
    Code::Setp_rm8,
    Code::Setnp_rm8,
    Code::Setl_rm8,
    Code::Setge_rm8,
    Code::Setle_rm8,
    Code::Setg_rm8,
];

const CMOV: [Code; 16] = [
    Code::Cmovo_r64_rm64,
    Code::Cmovno_r64_rm64,
    Code::Cmovb_r64_rm64,
    Code::Cmovae_r64_rm64,
    Code::Cmove_r64_rm64,
    Code::Cmovne_r64_rm64,
    Code::Cmovbe_r64_rm64,
    Code::Cmova_r64_rm64,
    Code::Cmovs_r64_rm64,
    Code::Cmovns_r64_rm64,
    Code::Cmovp_r64_rm64,
    Code::Cmovnp_r64_rm64,
    Code::Cmovl_r64_rm64,
    Code::Cmovge_r64_rm64,
    Code::Cmovle_r64_rm64,
    Code::Cmovg_r64_rm64,
];
