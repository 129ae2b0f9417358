//! Calling conventions: where arguments and results live, and which registers survive a call.

use super::features::Features;
use crate::error::{Reason, Unsupported};
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{AbiParam, ArgumentPurpose, Function, Signature, Type};
use cranelift_codegen::isa::CallConv;
use regalloc2::{MachineEnv, PReg, PRegSet, RegClass};

pub(crate) const RAX: u8 = 0;
pub(crate) const RCX: u8 = 1;
pub(crate) const RDX: u8 = 2;
const RBX: u8 = 3;
pub(crate) const RSP: u8 = 4;
pub(crate) const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;

pub(crate) const fn gpr(number: u8) -> PReg {
    PReg::new(number as usize, RegClass::Int)
}

pub(crate) const fn vector(number: u8) -> PReg {
    PReg::new(number as usize, RegClass::Float)
}

/// Where one argument or result lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loc {
    Reg(PReg),
    /// Offset from the first stack argument.
    Stack(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    SystemV,
    Windows,
}

impl Abi {
    pub(crate) fn of(func: &Function, sig: &Signature) -> Result<Self, Unsupported> {
        match sig.call_conv {
            CallConv::SystemV | CallConv::Fast => Ok(Self::SystemV),
            CallConv::WindowsFastcall => Ok(Self::Windows),
            other => Err(Unsupported::signature(func, Reason::CallConv(other))),
        }
    }

    /// Arguments and the bytes of stack they take, or `None` where one cannot be passed.
    pub(crate) fn args(self, sig: &Signature) -> Option<(Vec<Loc>, u32)> {
        let (ints, floats): (&[u8], u8) = match self {
            Self::SystemV => (&[RDI, RSI, RDX, RCX, 8, 9], 8),
            Self::Windows => (&[RCX, RDX, 8, 9], 4),
        };
        let (mut next_int, mut next_float) = (0, 0);
        // Windows callers leave 32 bytes for the callee to keep its register arguments in.
        let mut stack = if self == Self::Windows { 32 } else { 0 };
        let mut locs = Vec::new();
        for param in &sig.params {
            let class = class_of(param)?;
            if self == Self::Windows {
                // Arguments take register numbers by position, and vectors go by pointer.
                next_int = locs.len();
                next_float = u8::try_from(locs.len()).ok()?;
                if param.value_type.is_vector() {
                    return None;
                }
            }
            let loc = match class {
                RegClass::Int if next_int < ints.len() => {
                    next_int += 1;
                    Loc::Reg(gpr(ints[next_int - 1]))
                }
                RegClass::Float if next_float < floats => {
                    next_float += 1;
                    Loc::Reg(vector(next_float - 1))
                }
                _ if param.value_type.is_vector() => return None,
                _ => {
                    stack += 8;
                    Loc::Stack(stack - 8)
                }
            };
            locs.push(loc);
        }
        Some((locs, stack))
    }

    pub(crate) fn results(self, sig: &Signature) -> Option<Vec<PReg>> {
        let (max_ints, max_floats) = if self == Self::SystemV { (2, 2) } else { (1, 1) };
        let (mut ints, mut floats) = (0u8, 0u8);
        let mut regs = Vec::new();
        for param in &sig.returns {
            if class_of(param)? == RegClass::Int {
                regs.push(gpr([RAX, RDX, RDX][usize::from(ints)]));
                ints += 1;
            } else {
                regs.push(vector(floats));
                floats += 1;
            }
            if ints > max_ints || floats > max_floats {
                return None;
            }
        }
        Some(regs)
    }

    /// Registers that a callee must leave as they were. Of vector registers that is the low 128 bits.
    pub(crate) fn callee_saved(self) -> PRegSet {
        let mut set = PRegSet::empty();
        for number in [RBX, 12, 13, 14, 15] {
            set.add(gpr(number));
        }
        if self == Self::Windows {
            set.add(gpr(RSI));
            set.add(gpr(RDI));
            for number in 6..16 {
                set.add(vector(number));
            }
        }
        set
    }

    /// What a call overwrites. All vector registers are among them, because no convention keeps more than their low 128 bits.
    pub(crate) fn clobbers(self, features: Features) -> PRegSet {
        let mut set = all(features);
        for reg in self.callee_saved() {
            if reg.class() == RegClass::Int {
                set.remove(reg);
            }
        }
        set
    }

    /// What regalloc2 may use. rsp and rbp hold the frame, and k0 as a write mask means "all lanes".
    pub(crate) fn machine_env(self, features: Features) -> MachineEnv {
        let saved = self.callee_saved();
        let mut preferred = [PRegSet::empty(); 3];
        let mut other = [PRegSet::empty(); 3];
        for reg in all(features) {
            let sets = if saved.contains(reg) { &mut other } else { &mut preferred };
            sets[reg.class() as usize].add(reg);
        }
        MachineEnv {
            preferred_regs_by_class: preferred,
            non_preferred_regs_by_class: other,
            scratch_by_class: [None; 3],
            fixed_stack_slots: Vec::new(),
        }
    }
}

fn all(features: Features) -> PRegSet {
    let mut set = PRegSet::empty();
    for number in (0..16).filter(|&n| n != RSP && n != RBP) {
        set.add(gpr(number));
    }
    for number in 0..if features.avx512() { 32 } else { 16 } {
        set.add(vector(number));
    }
    if features.avx512() {
        for number in 1..8 {
            set.add(PReg::new(number, RegClass::Vector));
        }
    }
    set
}

fn class_of(param: &AbiParam) -> Option<RegClass> {
    if param.purpose != ArgumentPurpose::Normal {
        return None;
    }
    register_class(param.value_type)
}

/// The class of register that a value of this type lives in, or `None` for a type that is not supported.
pub(crate) fn register_class(ty: Type) -> Option<RegClass> {
    let lane = Lane::of(ty)?;
    if ty.is_vector() {
        Width::from_bits(ty.bits())?;
        return Some(RegClass::Float);
    }
    Some(if lane.is_float() { RegClass::Float } else { RegClass::Int })
}
