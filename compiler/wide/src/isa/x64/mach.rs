//! Machine instructions before register allocation: x86 instructions by their iced code, and what takes several of them, over virtual
//! registers.
//!
//! General registers are regalloc2's `Int` class, vector registers `Float`, AVX-512 mask registers `Vector`.

use crate::pool::LiteralId;
use iced_x86::Code;
use regalloc2::{Block, Operand, PReg, PRegSet, VReg};

/// An x86 condition, numbered as in the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cc {
    O = 0,
    No = 1,
    B = 2,
    Ae = 3,
    E = 4,
    Ne = 5,
    Be = 6,
    A = 7,
    S = 8,
    Ns = 9,
    P = 10,
    Np = 11,
    L = 12,
    Ge = 13,
    Le = 14,
    G = 15,
}

impl Cc {
    pub(crate) fn negate(self) -> Self {
        #[allow(clippy::enum_glob_use, reason = "all sixteen of them")]
        use Cc::*;
        match self {
            O => No,
            No => O,
            B => Ae,
            Ae => B,
            E => Ne,
            Ne => E,
            Be => A,
            A => Be,
            S => Ns,
            Ns => S,
            P => Np,
            Np => P,
            L => Ge,
            Ge => L,
            Le => G,
            G => Le,
        }
    }
}

/// A test of the flags. Float equality needs two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cond {
    One(Cc),
    And(Cc, Cc),
    Or(Cc, Cc),
}

impl Cond {
    pub(crate) fn negate(self) -> Self {
        match self {
            Self::One(a) => Self::One(a.negate()),
            Self::And(a, b) => Self::Or(a.negate(), b.negate()),
            Self::Or(a, b) => Self::And(a.negate(), b.negate()),
        }
    }
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    None,
    Reg(VReg),
    Literal(LiteralId),
    /// Offset into the function's stack slots.
    Slot(u32),
    /// Offset into the arguments that the caller put on the stack.
    Incoming(u32),
    /// Offset into the arguments put on the stack for a callee.
    Outgoing(u32),
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amode {
    pub base: Base,
    /// The index and its scale: 1, 2, 4 or 8.
    pub index: Option<(VReg, u32)>,
    pub disp: i32,
    /// AVX-512: one lane is read and splatted.
    pub broadcast: bool,
}

impl Amode {
    pub(crate) fn base(base: Base) -> Self {
        Self { base, index: None, disp: 0, broadcast: false }
    }
}

/// One operand, in the order in which iced lists them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    Def(VReg),
    /// Read and written: `from` is read, `def` is the new value in the same register.
    Modify {
        def: VReg,
        from: VReg,
    },
    Use(VReg),
    Mem(Amode),
    Imm(i64),
    /// Not printed in the instruction: the register is implied by it or by a calling convention.
    UseFixed(VReg, PReg),
    DefFixed(VReg, PReg),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// One x86 instruction.
    Real(Code),
    /// `setcc` of the first operand.
    Set(Cc),
    /// `cmovcc`, 64 bits: `Modify`, `Use`.
    Move(Cc),
    /// A vector move that is jumped over unless all conditions hold: `Modify`, `Use`.
    MoveIf(Vec<Cc>),
    /// A vector register becomes zero.
    Zero,
    /// A call of the first operand. Wide arguments forbid clearing the upper halves of the vector registers first.
    Call {
        wide_args: bool,
    },
    /// Parameters arrive.
    Args,
    Ret,
    Jump(Block),
    Branch {
        cond: Cond,
        then: Block,
        otherwise: Block,
    },
    Trap,
    TrapIf(Cond),
}

#[derive(Clone, Debug)]
pub(crate) struct Inst {
    pub op: Op,
    pub args: Vec<Arg>,
    /// AVX-512 write mask; lanes it leaves out are zeroed or keep the destination's value.
    pub mask: Option<VReg>,
    pub zeroing: bool,
    pub clobbers: PRegSet,
}

impl Inst {
    pub(crate) fn new(op: Op, args: impl Into<Vec<Arg>>) -> Self {
        Self { op, args: args.into(), mask: None, zeroing: false, clobbers: PRegSet::empty() }
    }

    /// Appends what the register allocator sees, in the order in which [`Inst::args`] and the mask are met.
    pub(super) fn operands(&self, out: &mut Vec<Operand>) {
        let start = out.len();
        for arg in &self.args {
            match *arg {
                Arg::Def(v) => out.push(Operand::reg_def(v)),
                Arg::Modify { def, from } => {
                    out.push(Operand::reg_use(from));
                    out.push(Operand::reg_reuse_def(def, out.len() - 1 - start));
                }
                Arg::Use(v) => out.push(Operand::reg_use(v)),
                Arg::Mem(mem) => {
                    if let Base::Reg(v) = mem.base {
                        out.push(Operand::reg_use(v));
                    }
                    if let Some((v, _)) = mem.index {
                        out.push(Operand::reg_use(v));
                    }
                }
                Arg::Imm(_) => {}
                Arg::UseFixed(v, p) => out.push(Operand::reg_fixed_use(v, p)),
                Arg::DefFixed(v, p) => out.push(Operand::reg_fixed_def(v, p)),
            }
        }
        if let Some(mask) = self.mask {
            out.push(Operand::reg_use(mask));
        }
    }
}
