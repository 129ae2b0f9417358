//! A model of the few instructions that the tests of masks compile to: it runs AVX-512 code on machines that have none.

use crate::model::Lane;
use clif_wide::MachineCode;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Registers and memory. The code stands at address 0, the stack ends where memory does.
pub(crate) struct Machine {
    ints: [u64; 16],
    vectors: [[u8; 64]; 32],
    masks: [u64; 8],
    zero: bool,
    memory: Vec<u8>,
}

/// Whose return address ends a run.
const END: u64 = u64::MAX;
const STACK: usize = 1 << 14;

impl Machine {
    /// Runs code on parameters that are buffers or, behind them, numbers; buffers are written back.
    pub(crate) fn call(code: &MachineCode, buffers: &mut [&mut Vec<u8>], numbers: &[u64]) {
        let mut memory = code.bytes().to_vec();
        let mut machine = Machine {
            // What nothing has written is no valid address and no likely mask.
            ints: [0xdead_0000_0000_0000; 16],
            vectors: [[0x5a; 64]; 32],
            masks: [0x5a5a_5a5a_5a5a_5a5a; 8],
            zero: false,
            memory: Vec::new(),
        };
        let parameters = [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
        let mut parameters = parameters.into_iter();
        let mut places = Vec::new();
        for buffer in buffers.iter() {
            memory.resize(memory.len().next_multiple_of(64), 0);
            places.push(memory.len());
            machine.ints[number(parameters.next().unwrap())] = memory.len() as u64;
            memory.extend_from_slice(buffer);
        }
        for &value in numbers {
            machine.ints[number(parameters.next().unwrap())] = value;
        }
        memory.resize((memory.len() + STACK).next_multiple_of(64), 0x5a);
        machine.ints[number(Register::RSP)] = memory.len() as u64;
        machine.memory = memory;
        machine.push(END);
        machine.run(code.code_len());
        for (buffer, place) in buffers.iter_mut().zip(places) {
            let len = buffer.len();
            buffer.copy_from_slice(&machine.memory[place..place + len]);
        }
    }

    fn run(&mut self, code_len: usize) {
        let code = self.memory[..code_len].to_vec();
        let mut decoder = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE);
        for _ in 0..100_000 {
            let instruction = decoder.decode();
            let next = self.step(&instruction).unwrap_or_else(|| instruction.next_ip());
            if next == END {
                return;
            }
            decoder.set_position(next as usize).unwrap();
            decoder.set_ip(next);
        }
        panic!("the code does not end");
    }

    fn push(&mut self, value: u64) {
        let rsp = number(Register::RSP);
        self.ints[rsp] -= 8;
        self.write(self.ints[rsp], &value.to_le_bytes());
    }

    fn pop(&mut self) -> u64 {
        let rsp = number(Register::RSP);
        self.ints[rsp] += 8;
        u64::from_le_bytes(self.read(self.ints[rsp] - 8))
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        self.memory[address as usize..][..N].try_into().unwrap()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        self.memory[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn address(&self, i: &Instruction) -> u64 {
        let register = |register: Register| match register {
            Register::None | Register::RIP => 0,
            register => self.ints[number(register)],
        };
        let index = register(i.memory_index()).wrapping_mul(u64::from(i.memory_index_scale()));
        register(i.memory_base()).wrapping_add(index).wrapping_add(i.memory_displacement64())
    }

    /// A general or mask register, an immediate, or 64 bits of memory.
    fn word(&self, i: &Instruction, operand: u32) -> u64 {
        match i.op_kind(operand) {
            OpKind::Register if i.op_register(operand).is_k() => self.masks[number(i.op_register(operand))],
            OpKind::Register => self.ints[number(i.op_register(operand))],
            OpKind::Memory => u64::from_le_bytes(self.read(self.address(i))),
            _ => i.immediate(operand),
        }
    }

    fn set_word(&mut self, i: &Instruction, operand: u32, value: u64) {
        match i.op_kind(operand) {
            OpKind::Register if i.op_register(operand).is_k() => self.masks[number(i.op_register(operand))] = value,
            OpKind::Register => self.ints[number(i.op_register(operand))] = value,
            _ => self.write(self.address(i), &value.to_le_bytes()),
        }
    }

    /// A vector operand of this many bytes; zeros behind them.
    fn vector(&self, i: &Instruction, operand: u32, bytes: usize, lane: Lane) -> [u8; 64] {
        let mut vector = [0; 64];
        if i.op_kind(operand) == OpKind::Register {
            vector[..bytes].copy_from_slice(&self.vectors[number(i.op_register(operand))][..bytes]);
        } else {
            let (address, step) = (self.address(i) as usize, lane.bytes());
            #[expect(clippy::needless_range_loop, reason = "bytes and lanes in step")]
            for at in 0..bytes {
                let from = if i.is_broadcast() { at % step } else { at };
                vector[at] = self.memory[address + from];
            }
        }
        vector
    }

    /// Writes a vector register under the instruction's mask, or memory.
    fn set_vector(&mut self, i: &Instruction, bytes: usize, lane: Lane, value: [u8; 64]) {
        if i.op_kind(0) == OpKind::Memory {
            assert!(!i.has_op_mask(), "a masked store: {i:?}");
            return self.write(self.address(i), &value[..bytes]);
        }
        let register = &mut self.vectors[number(i.op_register(0))];
        let before = *register;
        *register = [0; 64];
        for at in 0..bytes {
            let chosen = !i.has_op_mask() || self.masks[number(i.op_mask())] >> (at / lane.bytes()) & 1 == 1;
            register[at] = match chosen {
                true => value[at],
                false if i.zeroing_masking() => 0,
                false => before[at],
            };
        }
    }

    /// Runs one instruction; where it goes if not to the next.
    fn step(&mut self, i: &Instruction) -> Option<u64> {
        match i.mnemonic() {
            Mnemonic::Push => self.push(self.word(i, 0)),
            Mnemonic::Pop => {
                let value = self.pop();
                self.set_word(i, 0, value);
            }
            Mnemonic::Mov => self.set_word(i, 0, self.word(i, 1)),
            Mnemonic::Lea => self.set_word(i, 0, self.address(i)),
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Test | Mnemonic::Inc | Mnemonic::Dec => {
                self.int(i);
            }
            Mnemonic::Jne if !self.zero => return Some(i.near_branch_target()),
            Mnemonic::Je if self.zero => return Some(i.near_branch_target()),
            Mnemonic::Jmp => return Some(i.near_branch_target()),
            Mnemonic::Ret => return Some(self.pop()),
            Mnemonic::Jne | Mnemonic::Je | Mnemonic::Nop | Mnemonic::Vzeroupper => {}
            Mnemonic::Kmovq | Mnemonic::Kxorw | Mnemonic::Kxord | Mnemonic::Kxorq => self.mask(i),
            _ => self.vectors(i),
        }
        None
    }

    fn int(&mut self, i: &Instruction) {
        let first = self.word(i, 0);
        let result = match i.mnemonic() {
            Mnemonic::Add => first.wrapping_add(self.word(i, 1)),
            Mnemonic::Sub => first.wrapping_sub(self.word(i, 1)),
            Mnemonic::Inc => first.wrapping_add(1),
            Mnemonic::Dec => first.wrapping_sub(1),
            _ => first & self.word(i, 1),
        };
        self.zero = result == 0;
        if i.mnemonic() != Mnemonic::Test {
            self.set_word(i, 0, result);
        }
    }

    fn mask(&mut self, i: &Instruction) {
        let value = match i.mnemonic() {
            Mnemonic::Kmovq => self.word(i, 1),
            Mnemonic::Kxorw => (self.word(i, 1) ^ self.word(i, 2)) & 0xffff,
            Mnemonic::Kxord => (self.word(i, 1) ^ self.word(i, 2)) & 0xffff_ffff,
            _ => self.word(i, 1) ^ self.word(i, 2),
        };
        self.set_word(i, 0, value);
    }

    fn vectors(&mut self, i: &Instruction) {
        let lane = match i.mnemonic() {
            Mnemonic::Vcmpps | Mnemonic::Vblendmps | Mnemonic::Vmovups => Lane::F32,
            Mnemonic::Vcmppd | Mnemonic::Vblendmpd | Mnemonic::Vmovupd => Lane::F64,
            Mnemonic::Vpmovm2q => Lane::I64,
            Mnemonic::Vpcmpb | Mnemonic::Vpcmpgtb | Mnemonic::Vpblendmb | Mnemonic::Vpmovm2b => Lane::I8,
            Mnemonic::Vpcmpd | Mnemonic::Vpcmpgtd | Mnemonic::Vpblendmd | Mnemonic::Vpmovm2d | Mnemonic::Vmovdqu32 => {
                Lane::I32
            }
            other => panic!("the model does not know {other:?}"),
        };
        let register = (0..i.op_count()).filter(|at| i.op_kind(*at) == OpKind::Register).map(|at| i.op_register(at));
        let bytes = register.filter(|register| register.is_vector_register()).map(size).max().unwrap();
        match i.mnemonic() {
            Mnemonic::Vcmpps
            | Mnemonic::Vcmppd
            | Mnemonic::Vpcmpd
            | Mnemonic::Vpcmpgtd
            | Mnemonic::Vpcmpb
            | Mnemonic::Vpcmpgtb => {
                let (a, b) = (self.vector(i, 1, bytes, lane), self.vector(i, 2, bytes, lane));
                let greater = matches!(i.mnemonic(), Mnemonic::Vpcmpgtd | Mnemonic::Vpcmpgtb);
                let predicate = if greater { 6 } else { i.immediate(3) };
                let bit = |at: usize| u64::from(compare(lane, predicate, lane.read(&a, at), lane.read(&b, at))) << at;
                assert!(!i.has_op_mask());
                self.set_word(i, 0, (0..bytes / lane.bytes()).map(bit).sum());
            }
            Mnemonic::Vpmovm2d | Mnemonic::Vpmovm2q | Mnemonic::Vpmovm2b => {
                let mask = self.word(i, 1);
                let byte = |at: usize| if mask >> (at / lane.bytes()) & 1 == 1 { 0xff } else { 0 };
                self.set_vector(i, bytes, lane, std::array::from_fn(byte));
            }
            Mnemonic::Vblendmps | Mnemonic::Vblendmpd | Mnemonic::Vpblendmd | Mnemonic::Vpblendmb => {
                let (no, yes) = (self.vector(i, 1, bytes, lane), self.vector(i, 2, bytes, lane));
                let mask = self.masks[number(i.op_mask())];
                assert!(i.has_op_mask() && !i.zeroing_masking());
                let byte = |at: usize| if mask >> (at / lane.bytes()) & 1 == 1 { yes[at] } else { no[at] };
                let register = number(i.op_register(0));
                self.vectors[register] = [0; 64];
                let blended: [u8; 64] = std::array::from_fn(byte);
                self.vectors[register][..bytes].copy_from_slice(&blended[..bytes]);
            }
            _ => {
                let value = self.vector(i, 1, bytes, lane);
                self.set_vector(i, bytes, lane, value);
            }
        }
    }
}

/// The number of a register among those of its kind.
fn number(register: Register) -> usize {
    let first = if register.is_gpr32() {
        Register::EAX
    } else if register.is_gpr64() {
        Register::RAX
    } else if register.is_k() {
        Register::K0
    } else if register.is_xmm() {
        Register::XMM0
    } else if register.is_ymm() {
        Register::YMM0
    } else {
        assert!(register.is_zmm(), "the model does not know {register:?}");
        Register::ZMM0
    };
    register as usize - first as usize
}

/// Bytes of a vector register.
fn size(register: Register) -> usize {
    if register.is_zmm() {
        64
    } else if register.is_ymm() {
        32
    } else {
        16
    }
}

/// What a predicate of `vcmpps` or `vpcmpd` says of two lanes.
fn compare(lane: Lane, predicate: u64, a: u64, b: u64) -> bool {
    let (order, float) = match lane {
        Lane::F32 => (f32::from_bits(a as u32).partial_cmp(&f32::from_bits(b as u32)), true),
        Lane::F64 => (f64::from_bits(a).partial_cmp(&f64::from_bits(b)), true),
        _ => (lane.sign_extend(a).partial_cmp(&lane.sign_extend(b)), false),
    };
    match (predicate, float) {
        // Quiet `lt` and `gt` of floats; `lt` and `gt` of integers.
        (0x11, true) | (1, false) => order.is_some_and(std::cmp::Ordering::is_lt),
        (0x1e, true) | (6, false) => order.is_some_and(std::cmp::Ordering::is_gt),
        _ => panic!("the model does not know predicate {predicate:#x} of {lane:?}"),
    }
}
