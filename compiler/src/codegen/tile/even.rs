//! Addresses at even distances.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use crate::codegen::expr::ExprEmitter;

/// Addresses at even distances. Few registers hold them: one pointer serves four, as multiples up to 3 fit the addresses of x86.
pub(super) struct Even {
    /// The pointers, which step together from iteration to iteration.
    pub(super) pointers: Vec<Ssa>,
    distance: Ssa,
    thrice: Ssa,
    count: usize,
}

impl Even {
    pub(super) fn new(emitter: &mut ExprEmitter<'_, '_>, first: Ssa, distance: Ssa, count: usize) -> Even {
        let four = emitter.fb().ins().ishl_imm_u(distance, 2);
        let mut pointers = vec![first];
        for _ in 1..count.div_ceil(4) {
            let last = pointers[pointers.len() - 1];
            pointers.push(emitter.fb().ins().iadd(last, four));
        }
        let twice = emitter.fb().ins().ishl_imm_u(distance, 1);
        let thrice = emitter.fb().ins().iadd(twice, distance);
        Even { pointers, distance, thrice, count }
    }

    /// The addresses, from where the pointers are now.
    pub(super) fn addresses(&self, emitter: &mut ExprEmitter<'_, '_>, pointers: &[Ssa]) -> Vec<Ssa> {
        let address = |r: usize| {
            let pointer = pointers[r / 4];
            let offset = match r % 4 {
                0 => return pointer,
                1 => self.distance,
                2 => emitter.fb().ins().ishl_imm_u(self.distance, 1),
                _ => self.thrice,
            };
            emitter.fb().ins().iadd(pointer, offset)
        };
        (0..self.count).map(address).collect()
    }
}
