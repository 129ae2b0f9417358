//! What rules of selection work with: the state of lowering, registers for values, and the instructions made so far.

use crate::error::{Reason, Unsupported};
use crate::isa::x64::abi::{self, Abi};
use crate::isa::x64::features::Features;
use crate::isa::x64::function::BlockData;
use crate::isa::x64::mach::{self, Arg, Op};
use crate::isa::x64::table;
use crate::isel::facts::Facts;
use crate::isel::slots::Slots;
use crate::lane::{Lane, Width};
use crate::pool::Pool;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Function, Inst, Opcode, Type, Value, ValueDef};
use cranelift_codegen::loop_analysis::Loop;
use iced_x86::Code;
use regalloc2::{RegClass, VReg};
use std::ops::Deref;

pub(super) type Result<T> = std::result::Result<T, Unsupported>;

/// The lowering of one function. What is known of the function reads as its own.
pub(super) struct Lower<'f> {
    pub func: &'f Function,
    pub features: Features,
    pub abi: Abi,
    pub facts: Facts<'f>,
    pub slots: Slots,
    /// Instructions that were lowered out of their order.
    pub done: SecondaryMap<Inst, bool>,
    /// Registers of the values that something asked for.
    pub vregs: SecondaryMap<Value, Option<VReg>>,
    pub num_vregs: usize,
    pub pool: Pool,
    /// The machine code of the instruction being lowered.
    pub out: Vec<mach::Inst>,
    /// The instruction being lowered.
    pub here: Inst,
    pub width: Width,
    pub outgoing_bytes: u32,
    /// Machine blocks, the CLIF blocks first and then those of split edges and jump chains.
    pub blocks: Vec<BlockData>,
    pub machine_block: SecondaryMap<Block, Option<regalloc2::Block>>,
    /// Machine blocks that follow a CLIF block and are laid out right behind it.
    pub followers: Vec<regalloc2::Block>,
}

impl<'f> Deref for Lower<'f> {
    type Target = Facts<'f>;
    fn deref(&self) -> &Facts<'f> {
        &self.facts
    }
}

impl<'f> Lower<'f> {
    /// Lowering that begins: nothing is asked for yet. `here` is any instruction of the function.
    pub(super) fn new(func: &'f Function, features: Features, abi: Abi, facts: Facts<'f>, here: Inst) -> Self {
        Self {
            func,
            features,
            abi,
            facts,
            slots: Slots::of(func),
            done: SecondaryMap::new(),
            vregs: SecondaryMap::new(),
            num_vregs: 0,
            pool: Pool::default(),
            out: Vec::new(),
            here,
            width: Width::W128,
            outgoing_bytes: 0,
            blocks: Vec::new(),
            machine_block: SecondaryMap::new(),
            followers: Vec::new(),
        }
    }

    // Values

    pub(super) fn opcode(&self) -> Opcode {
        self.func.dfg.insts[self.here].opcode()
    }

    pub(super) fn arg(&self, index: usize) -> Value {
        self.func.dfg.resolve_aliases(self.func.dfg.inst_args(self.here)[index])
    }

    /// Whether the value lives in an AVX-512 mask register.
    pub(super) fn is_k(&self, value: Value) -> bool {
        self.features.avx512() && self.masks[value]
    }

    pub(super) fn fresh(&mut self, class: RegClass) -> VReg {
        // Beyond regalloc2's limit the number is refused after lowering; until then any valid one will do.
        let number = self.num_vregs.min(VReg::MAX);
        self.num_vregs += 1;
        VReg::new(number, class)
    }

    pub(super) fn fresh_vector(&mut self) -> VReg {
        self.fresh(RegClass::Float)
    }

    pub(super) fn fresh_int(&mut self) -> VReg {
        self.fresh(RegClass::Int)
    }

    pub(super) fn fresh_mask(&mut self) -> VReg {
        self.fresh(RegClass::Vector)
    }

    /// The register of a value, which from now on has to be computed.
    pub(super) fn demand(&mut self, value: Value) -> Result<VReg> {
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
    pub(super) fn result(&mut self) -> Result<VReg> {
        let value = self.func.dfg.first_result(self.here);
        self.demand(value)
    }

    pub(super) fn result_ty(&self) -> Type {
        self.ty(self.func.dfg.first_result(self.here))
    }

    /// Whether the value is not needed after the instruction being lowered, so that its register may be overwritten.
    pub(super) fn dies_here(&self, value: Value) -> bool {
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

    pub(super) fn refuse(&self, reason: Reason) -> Unsupported {
        Unsupported::at(self.func, self.here, reason)
    }

    /// Lane and width of a vector or floating-point type.
    pub(super) fn shape(&self, ty: Type) -> Result<(Lane, Width)> {
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

    pub(super) fn code(&self, op: &table::Op, lane: Lane, width: Width) -> Result<Code> {
        table::code(op, self.features, lane, width).ok_or_else(|| {
            self.refuse(if table::has_evex(op, lane, width) { Reason::NeedsAvx512 } else { Reason::Type })
        })
    }

    pub(super) fn emit(&mut self, code: Code, args: impl Into<Vec<Arg>>) {
        self.out.push(mach::Inst::new(Op::Real(code), args));
    }

    pub(super) fn emit_op(&mut self, op: Op, args: impl Into<Vec<Arg>>) {
        self.out.push(mach::Inst::new(op, args));
    }

    /// `code` under a write mask. Where lanes are not zeroed the first operand has to be `Modify`.
    pub(super) fn emit_masked(&mut self, code: Code, mask: VReg, zeroing: bool, args: impl Into<Vec<Arg>>) {
        let mut inst = mach::Inst::new(Op::Real(code), args);
        inst.mask = Some(mask);
        inst.zeroing = zeroing;
        self.out.push(inst);
    }

    /// A table instruction into a fresh vector register.
    pub(super) fn step(
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
