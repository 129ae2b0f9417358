//! Rows of keys and values that vectors can be loaded of.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};
use rhumb_ir::Axis;

use super::integers::load_pairs;
use super::numbers::Numbers;
use super::rows::{Rows, load, padded, padded_pairs, scratch};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{counted_loop, either, range_loop};
use crate::codegen::rows::ROW_LANES;
use crate::codegen::stored;
use crate::codegen::tile::computed::fill_up;
use crate::codegen::tile::query_tile::{KeyTileRows, call_word};
use crate::codegen::vocab::access;
use crate::machine::{LANE_BYTES, LINE};
use crate::plan::{Scaled, Storage, TensorId};

/// What a vector of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// Elements, in single precision.
    Elements,
    /// Pairs of elements of `bf16`, as they are.
    Bf16Pairs,
    /// Pairs of elements of 8 bits, widened to 16.
    IntegerPairs,
}

impl Loaded {
    /// Whether it has two elements in each lane.
    pub(super) fn is_pairs(self) -> bool {
        self != Loaded::Elements
    }
}

/// Rows that end with whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// Address of the first.
    pub(super) first: Ssa,
    /// From each to the next, in bytes.
    pub(super) stride: Ssa,
    /// Address of the first of those of the next key tile, if that has as many keys.
    pub(super) ahead: Ssa,
    /// How elements are stored: in 32 bits, or in fewer, which are widened whenever they are loaded.
    pub(super) storage: Storage,
    /// What is loaded.
    pub(super) loaded: Loaded,
    /// Scales of rows, and what is added to their elements.
    pub(super) numbers: Numbers,
}

/// What rows are read.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) tensor: TensorId,
    pub(super) scaled: Option<Scaled>,
    pub(super) dim: Axis,
    pub(super) length: u32,
    /// What is loaded at once.
    pub(super) loaded: Loaded,
    /// The fields of the call record with the address of the first, here and in the next key tile, by their offsets.
    pub(super) fields: [usize; 2],
    /// Where in the scratch memory rows are computed or copied, and the bytes from one to the next.
    pub(super) place: usize,
    pub(super) pitch: i64,
    /// Where in the scratch memory the numbers of rows are computed.
    pub(super) numbers: usize,
}

impl Wanted {
    /// Elements of a row up to the end of a vector.
    fn padded(self, emitter: &ExprEmitter<'_, '_>) -> u32 {
        if self.loaded.is_pairs() { padded_pairs(emitter, self.length) } else { padded(emitter, self.length) }
    }

    /// Rows in the scratch memory, which are to be computed or copied there.
    pub(super) fn in_scratch(self, emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>) -> Result<Source, CodegenError> {
        let first = scratch(emitter, self.place);
        let stride = emitter.fb().ins().iconst(types::I64, self.pitch);
        let storage = emitter.plan.tensors[self.tensor].storage;
        let numbers = Numbers::new(emitter, rows, (self.scaled, self.numbers))?;
        Ok(Source { first, stride, ahead: first, storage, loaded: self.loaded, numbers })
    }

    /// Where the rows of a tensor lie that the call record has the address of, and whether their elements are contiguous.
    pub(super) fn lie(
        self,
        emitter: &mut ExprEmitter<'_, '_>,
        rows: Rows<'_>,
        tensor: TensorId,
    ) -> Result<(KeyTileRows, Ssa), CodegenError> {
        let mut lie = KeyTileRows::new(emitter, rows.tile.attention, (tensor, self.dim), self.fields[0])?;
        let skipped = emitter.fb().ins().imul(rows.before, lie.stride);
        lie.first = emitter.fb().ins().iadd(lie.first, skipped);
        let bytes = emitter.plan.tensors[tensor].storage.bytes();
        let dense = emitter.fb().ins().icmp_imm_s(IntCC::Equal, lie.element, bytes as i64);
        Ok((lie, dense))
    }

    /// The first row of the next key tile, if that has as many keys.
    pub(super) fn ahead(self, emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, lie: KeyTileRows) -> Ssa {
        let bytes = emitter.fb().ins().imul(rows.keys, lie.stride);
        let after = emitter.fb().ins().iadd(lie.first, bytes);
        let told = call_word(emitter, self.fields[1]);
        rows.next(emitter, [lie.first, after, told])
    }
}

impl Source {
    /// The rows of a key tile that no code computes: in the scratch memory if they are not contiguous, or end with a part of a vector.
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        rows: Rows<'_>,
        wanted: Wanted,
    ) -> Result<Source, CodegenError> {
        let in_scratch = wanted.in_scratch(emitter, rows)?;
        let Source { first: own, stride: pitch, storage, loaded, numbers, .. } = in_scratch;
        let (lie, dense) = wanted.lie(emitter, rows, wanted.tensor)?;
        if wanted.padded(emitter) != wanted.length {
            copy(emitter, rows, wanted, (lie, dense));
            return Ok(in_scratch);
        }
        let taken = either(
            emitter,
            dense,
            |emitter| vec![lie.first, lie.stride, wanted.ahead(emitter, rows, lie)],
            |emitter| {
                copy(emitter, rows, wanted, (lie, dense));
                vec![own, pitch, own]
            },
        );
        Ok(Source { first: taken[0], stride: taken[1], ahead: taken[2], storage, loaded, numbers })
    }

    /// The same rows, by elements.
    pub(super) fn by_elements(self) -> Source {
        Source { loaded: Loaded::Elements, ..self }
    }

    /// Whether what is loaded is converted.
    pub(super) fn is_converted(self) -> bool {
        self.storage.is_narrow() && self.loaded != Loaded::Bf16Pairs
    }

    /// Bytes of a vector of elements, or of pairs.
    pub(super) fn vector_bytes(self, emitter: &ExprEmitter<'_, '_>) -> i64 {
        let bytes = if self.loaded.is_pairs() { 2 * self.storage.bytes() } else { self.storage.bytes() };
        (bytes * emitter.plan.machine.lanes) as i64
    }

    /// What these bytes of a row in single precision are of one that is stored as these.
    pub(super) fn bytes_of(self, emitter: &mut ExprEmitter<'_, '_>, bytes: Ssa) -> Ssa {
        match LANE_BYTES / self.storage.bytes() {
            1 => bytes,
            times => emitter.fb().ins().ushr_imm_u(bytes, i64::from(times.ilog2())),
        }
    }

    /// Vectors of a row that are one step of a loop over so many: those of a cache line, which is asked for once.
    pub(super) fn vectors_at_once(self, emitter: &ExprEmitter<'_, '_>, vectors: usize) -> usize {
        let of_line = (LINE as i64 / self.vector_bytes(emitter)).clamp(1, 4) as usize;
        if vectors.is_multiple_of(of_line) { of_line } else { 1 }
    }

    /// A vector of a row: of what is loaded.
    pub(super) fn load(self, emitter: &mut ExprEmitter<'_, '_>, address: Ssa, offset: i32) -> Ssa {
        match self.loaded {
            Loaded::Bf16Pairs => {
                let ty = emitter.v.int_type();
                return load(emitter, ty, address, offset);
            }
            Loaded::IntegerPairs => return load_pairs(emitter, address, offset),
            Loaded::Elements => {}
        }
        if self.storage.is_narrow() {
            let lanes = emitter.plan.machine.lanes;
            return stored::load_floats(emitter.fb(), self.storage, lanes, (address, offset));
        }
        let ty = emitter.v.float_type();
        load(emitter, ty, address, offset)
    }
}

/// Copies rows, as they are stored: by vectors where they are contiguous.
fn copy(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, wanted: Wanted, (lie, dense): (KeyTileRows, Ssa)) {
    let length = i64::from(wanted.length);
    let bytes = emitter.plan.tensors[wanted.tensor].storage.bytes();
    // Bits are moved, whatever they mean.
    let (four, one) = match bytes {
        1 => (types::I32, types::I8),
        2 => (types::I64, types::I16),
        _ => (types::F32X4, types::F32),
    };
    let own = scratch(emitter, wanted.place);
    let zero = emitter.fb().ins().iconst(types::I64, 0);
    let whole = emitter.fb().ins().iconst(types::I64, length - length % ROW_LANES as i64);
    let vectors = emitter.fb().ins().select(dense, whole, zero);
    let length = emitter.fb().ins().iconst(types::I64, length);
    counted_loop(emitter, rows.keys, &[lie.first, own], |emitter, _, carried| {
        let (from, to) = (carried[0], carried[1]);
        range_loop(emitter, zero, vectors, ROW_LANES as i64, &[], |emitter, element, _| {
            let offset = emitter.fb().ins().imul_imm_s(element, bytes as i64);
            let [from, to] = [from, to].map(|row| emitter.fb().ins().iadd(row, offset));
            let x = emitter.fb().ins().load(four, access(), from, 0);
            emitter.fb().ins().store(access(), x, to, 0);
            Vec::new()
        });
        range_loop(emitter, vectors, length, 1, &[], |emitter, element, _| {
            let offset = emitter.fb().ins().imul(element, lie.element);
            let from = emitter.fb().ins().iadd(from, offset);
            let x = emitter.fb().ins().load(one, access(), from, 0);
            let offset = emitter.fb().ins().imul_imm_s(element, bytes as i64);
            let to = emitter.fb().ins().iadd(to, offset);
            emitter.fb().ins().store(access(), x, to, 0);
            Vec::new()
        });
        fill_up(emitter, to, (wanted.length, wanted.padded(emitter)), bytes);
        vec![emitter.fb().ins().iadd(from, lie.stride), emitter.fb().ins().iadd_imm_s(to, wanted.pitch)]
    });
}
