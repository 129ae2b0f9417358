//! The stack frame: what stands where, and how large it is.

use super::failure::{Failure, Result};
use crate::isa::x64::function::{Lowered, MachineFunction};
use crate::isa::x64::mach::{Amode, Arg, Base, Inst, Op};
use regalloc2::{Edit, Output, PReg, PRegSet, RegClass};

/// Bytes of stack that a function may take without more care than touching each page.
const MAX_FRAME: u64 = 1 << 20;

/// The stack from rsp upwards: outgoing arguments, spill slots, saved vector registers, the function's own slots. Above them, below rbp,
/// are the saved general registers.
pub(super) struct Frame {
    pub exists: bool,
    pub spills: u32,
    pub saved_vectors: u32,
    pub slots: u32,
    pub size: u32,
    pub align: u32,
    pub saved_gprs: Vec<PReg>,
    pub saved_xmms: Vec<PReg>,
}

impl Frame {
    pub(super) fn of(lowered: &Lowered, function: &MachineFunction, output: &Output) -> Result<Self> {
        let uses = |test: &dyn Fn(&Inst) -> bool| function.insts.iter().any(test);
        let calls = uses(&|inst| matches!(inst.op, Op::Call { .. }));
        let incoming =
            uses(&|inst| inst.args.iter().any(|arg| matches!(arg, Arg::Mem(Amode { base: Base::Incoming(_), .. }))));
        let used = used(function, output);
        let saved: Vec<PReg> = lowered.abi.callee_saved().into_iter().filter(|&reg| used.contains(reg)).collect();
        let (saved_gprs, saved_xmms): (Vec<_>, Vec<_>) =
            saved.into_iter().partition(|reg| reg.class() == RegClass::Int);

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
        Ok(Self {
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
}

/// The registers that the function writes.
fn used(function: &MachineFunction, output: &Output) -> PRegSet {
    let mut used = PRegSet::empty();
    let moved = output.edits.iter().map(|(_, Edit::Move { to, .. })| to);
    for reg in output.allocs.iter().chain(moved).filter_map(|alloc| alloc.as_reg()) {
        used.add(reg);
    }
    for reg in function.insts.iter().flat_map(|inst| inst.clobbers) {
        used.add(reg);
    }
    used
}
