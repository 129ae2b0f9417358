//! The machine that code is planned and emitted for, as plain data. Nothing else knows how many lanes or registers there are.

use std::fmt;

/// Lanes of the narrowest vectors: as many as every machine has, and as a transposition by shuffles takes.
pub(crate) const ROW_LANES: usize = 4;
/// Lanes of vectors of AVX2.
pub(crate) const AVX2_LANES: usize = 8;
/// Lanes of vectors of AVX-512, the widest there are.
pub const MOST_LANES: usize = 16;
/// Bytes of a lane: a number of single precision, an integer, or the mask of one.
pub const LANE_BYTES: usize = 4;
/// Bytes of a cache line, on most machines, and of the widest vectors.
pub(crate) const LINE: usize = MOST_LANES * LANE_BYTES;
/// Registers of the larger register files: tiles of sums are planned for these, or for half of them.
const MANY_REGISTERS: usize = 32;

/// A code generator: CLIF to machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// `clif-wide`: x86-64 with AVX2 and FMA or with AVX-512, vectors of 4, 8 and 16 lanes.
    Wide,
    /// Cranelift's own backends: any target, vectors of 4 lanes. On x86-64 they copy a register for each multiply-add.
    Cranelift,
}

impl Backend {
    /// All there are.
    pub const ALL: [Backend; 2] = [Backend::Wide, Backend::Cranelift];

    /// The name that the `rhumb` command uses.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Wide => "clif-wide",
            Backend::Cranelift => "cranelift",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An instruction set, by its greatest part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstructionSet {
    /// x86-64 with no more than SSE4.1 for certain.
    Sse41,
    /// x86-64 with AVX, without fused multiply-add.
    Avx,
    /// x86-64 with AVX and fused multiply-add, by Cranelift.
    Fma,
    /// x86-64 with AVX2 and fused multiply-add, by `clif-wide`.
    Avx2,
    /// x86-64 with AVX-512, by `clif-wide`.
    Avx512,
    /// AArch64 with NEON.
    Aarch64,
}

impl InstructionSet {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Sse41 => "sse41",
            InstructionSet::Avx => "avx",
            InstructionSet::Fma => "fma",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Aarch64 => "aarch64",
        }
    }
}

impl InstructionSet {
    /// Vector registers.
    pub fn registers(self) -> usize {
        match self {
            InstructionSet::Avx512 | InstructionSet::Aarch64 => MANY_REGISTERS,
            InstructionSet::Sse41 | InstructionSet::Avx | InstructionSet::Fma | InstructionSet::Avx2 => {
                MANY_REGISTERS / 2
            }
        }
    }

    /// The lane counts that there is code for.
    pub fn lane_counts(self) -> &'static [usize] {
        match self {
            InstructionSet::Avx512 => &[ROW_LANES, AVX2_LANES, MOST_LANES],
            InstructionSet::Avx2 => &[ROW_LANES, AVX2_LANES],
            InstructionSet::Sse41 | InstructionSet::Avx | InstructionSet::Fma | InstructionSet::Aarch64 => &[ROW_LANES],
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The form of multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MultiplyAdd {
    /// In one instruction, which overwrites the sum.
    Fused,
    /// In one instruction, which overwrites a factor: a copy of it is made first.
    Copying,
    /// In two instructions.
    Separate,
}

/// A machine, with its code generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// The code generator.
    pub backend: Backend,
    /// The instructions that it uses.
    pub instructions: InstructionSet,
    /// Lanes of `f32` in a vector.
    pub lanes: usize,
    /// Vector registers.
    pub registers: usize,
    /// The form of multiply-adds.
    pub multiply_add: MultiplyAdd,
    /// Whether there is an instruction for products of pairs of `bf16`, which are summed up in single precision.
    pub dot_bf16: bool,
    /// Whether there is an instruction for products of pairs of integers of 16 bits, which are summed up in 32.
    pub dot_i16: bool,
}

impl Machine {
    /// A machine of some lanes and registers that fuses multiply-adds, by `clif-wide`: for plans that no code is made of.
    pub fn of(lanes: usize, registers: usize) -> Machine {
        let instructions = if registers >= MANY_REGISTERS { InstructionSet::Avx512 } else { InstructionSet::Avx2 };
        let multiply_add = MultiplyAdd::Fused;
        Machine {
            backend: Backend::Wide,
            instructions,
            lanes,
            registers,
            multiply_add,
            dot_bf16: false,
            dot_i16: false,
        }
    }

    /// Bytes of a vector of `f32`.
    pub fn vector_bytes(self) -> usize {
        LANE_BYTES * self.lanes
    }

    /// Whether its vectors are wider than those that every machine has: then doubles have vectors too, of half as many lanes.
    pub fn is_wide(self) -> bool {
        self.lanes > ROW_LANES
    }

    /// Lanes of `f64` in a vector.
    pub fn double_lanes(self) -> usize {
        self.lanes / 2
    }

    /// Whether registers hold a tile of sums, in two chains or of four rows, and what is multiplied for it.
    pub fn has_many_registers(self) -> bool {
        self.registers >= MANY_REGISTERS
    }

    /// Whether there is a fused multiply-add; without it a product is rounded before it is added.
    pub fn has_fma(self) -> bool {
        self.multiply_add != MultiplyAdd::Separate
    }
}

/// `16 lanes (clif-wide, avx512)`, or `16 lanes (clif-wide, avx512, bf16, vnni)`.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Backend::Wide => {
                let bf16 = if self.dot_bf16 { ", bf16" } else { "" };
                let vnni = if self.dot_i16 { ", vnni" } else { "" };
                write!(f, "{} lanes ({}, {}{bf16}{vnni})", self.lanes, self.backend, self.instructions)
            }
            Backend::Cranelift => write!(f, "{} lanes ({})", self.lanes, self.backend),
        }
    }
}
