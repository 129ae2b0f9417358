//! Constants of vector code, kept in the scratch memory of a kernel, one copy per lane.

use crate::abi::CONSTANT_BYTES;

/// The constants used by the functions of one kernel.
#[derive(Debug, Default)]
pub(crate) struct ConstantPool {
    start: usize,
    bits: Vec<u32>,
}

impl ConstantPool {
    /// A pool that starts `start` bytes into the scratch memory.
    pub(crate) fn new(start: usize) -> ConstantPool {
        ConstantPool { start, bits: Vec::new() }
    }

    /// Offset of a float constant in the scratch memory.
    pub(crate) fn float(&mut self, x: f32) -> i32 {
        self.offset(x.to_bits())
    }

    /// Offset of an integer constant in the scratch memory.
    pub(crate) fn int(&mut self, x: i32) -> i32 {
        self.offset(x as u32)
    }

    fn offset(&mut self, bits: u32) -> i32 {
        let index = self.bits.iter().position(|have| *have == bits).unwrap_or_else(|| {
            self.bits.push(bits);
            self.bits.len() - 1
        });
        // Code that has an offset too large for its type is dropped: `into_bits` tells.
        (self.start + index * CONSTANT_BYTES) as i32
    }

    /// The constants, in order of their offsets; none if an offset was too large for its type.
    pub(crate) fn into_bits(self) -> Option<Vec<u32>> {
        let end = self.start + self.bits.len() * CONSTANT_BYTES;
        i32::try_from(end).is_ok().then_some(self.bits)
    }
}
