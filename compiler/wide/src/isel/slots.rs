//! Where the stack slots of a function stand.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Function, StackSlot};

/// The area of a function's stack slots.
pub(crate) struct Slots {
    /// Each slot's offset into the area.
    pub offsets: SecondaryMap<StackSlot, u32>,
    pub bytes: u32,
    pub align: u32,
}

impl Slots {
    pub(crate) fn of(func: &Function) -> Self {
        let mut slots = Self { offsets: SecondaryMap::new(), bytes: 0, align: 1 };
        for (slot, data) in &func.sized_stack_slots {
            let align = 1u32.checked_shl(u32::from(data.align_shift)).unwrap_or(1).max(8);
            let start = slots.bytes.checked_next_multiple_of(align).unwrap_or(u32::MAX);
            slots.offsets[slot] = start;
            slots.bytes = start.saturating_add(data.size);
            slots.align = slots.align.max(align);
        }
        slots
    }
}
