//! Operands in real registers, and what kinds of them instructions take.

use crate::pool::LiteralId;
use iced_x86::{OpCodeOperandKind as Kind, OpKind, Register};
use regalloc2::{PReg, RegClass};

/// A memory operand in real registers.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub base: Register,
    pub index: Register,
    pub scale: u32,
    pub disp: i64,
    pub broadcast: bool,
    pub literal: Option<LiteralId>,
}

impl Place {
    pub(super) fn at(base: Register, disp: i64) -> Self {
        Self { base, index: Register::None, scale: 1, disp, broadcast: false, literal: None }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Operand {
    Reg(PReg),
    Mem(Place),
    Imm(i64),
}

pub(super) fn gpr64(reg: PReg) -> Register {
    Register::RAX + u32::try_from(reg.hw_enc()).unwrap_or(0)
}

/// The register of an operand: the allocator gives its number, the instruction its width.
pub(super) fn register(kind: Kind, reg: PReg) -> Option<Register> {
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

pub(super) fn immediate(kind: Kind) -> Option<OpKind> {
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
