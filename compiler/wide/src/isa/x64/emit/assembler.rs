//! The encoding of instructions, and the order in which they, labels and jumps follow each other.

use super::failure::{Failure, Result};
use super::operand::{Operand, immediate, register};
use crate::isa::x64::layout::{Item, Label};
use crate::isa::x64::mach::Cc;
use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpKind, Register};
use regalloc2::PReg;

/// What has been emitted so far.
pub(super) struct Assembler {
    encoder: Encoder,
    text_len: usize,
    items: Vec<Item>,
    num_labels: usize,
}

impl Assembler {
    /// Nothing yet; labels up to `num_labels` are taken.
    pub(super) fn new(num_labels: usize) -> Self {
        Self { encoder: Encoder::new(64), text_len: 0, items: Vec::new(), num_labels }
    }

    pub(super) fn label(&mut self) -> Label {
        self.num_labels += 1;
        Label(self.num_labels - 1)
    }

    pub(super) fn bind(&mut self, label: Label) {
        self.items.push(Item::Bind(label));
    }

    pub(super) fn align(&mut self, bytes: usize) {
        self.items.push(Item::Align(bytes));
    }

    pub(super) fn jump(&mut self, cc: Option<Cc>, to: Label) {
        self.items.push(Item::Jump { cc, to });
    }

    pub(super) fn finish(mut self) -> (Vec<Item>, Vec<u8>) {
        let text = self.encoder.take_buffer();
        (self.items, text)
    }

    /// Encodes one instruction. The code says what kind of register or immediate stands where.
    pub(super) fn real(&mut self, code: Code, operands: &[Operand], mask: Option<PReg>, zeroing: bool) -> Result<()> {
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
