//! CLIF's `shuffle`: 16 bytes chosen from the 32 of two vectors.
//!
//! Shuffles that move 32-bit lanes whole transpose and interleave vectors of `f32`: they are instructions of the float domain, one where
//! there is one. What has no instruction of its own takes a `vpshufb` of each operand and a `vpor`.

use super::context::{Lower, Result};
use crate::error::Reason;
use crate::isa::x64::mach::Arg;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::{InstructionData, Value};
use regalloc2::VReg;

const W: Width = Width::W128;

/// Instructions for fixed choices of 32-bit lanes, 0 to 3 of the first operand and 4 to 7 of the second.
pub(super) static UNPACKS: [([u8; 4], &table::Op, Lane); 4] = [
    ([0, 4, 1, 5], table::UNPACK_LOW, Lane::F32),
    ([2, 6, 3, 7], table::UNPACK_HIGH, Lane::F32),
    ([0, 1, 4, 5], table::UNPACK_LOW, Lane::F64),
    ([2, 3, 6, 7], table::UNPACK_HIGH, Lane::F64),
];

/// `c ? b : a`, as the truth tables of `vpternlogd` number it.
const SECOND_WHERE_SET: i64 = 0xd8;

impl Lower<'_> {
    pub(super) fn shuffle(&mut self) -> Result<()> {
        let InstructionData::Shuffle { args: [a, b], imm, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let Some(&bytes) = self.func.dfg.immediates.get(imm).and_then(|data| data.as_slice().first_chunk::<16>())
        else {
            return Err(self.refuse(Reason::Operation));
        };
        let dst = self.result()?;
        let from_one = |start: u8| bytes.iter().all(|&byte| byte & 16 == start);
        if self.resolve(a).0 == self.resolve(b).0 || from_one(0) {
            return self.shuffle_one(dst, a, bytes.map(|byte| byte % 16));
        }
        if from_one(16) {
            return self.shuffle_one(dst, b, bytes.map(|byte| byte % 16));
        }
        if self.shuffle_two(dst, a, b, bytes)? || self.shuffle_two(dst, b, a, bytes.map(|byte| byte ^ 16))? {
            return Ok(());
        }
        if self.features.avx512() && bytes.iter().zip(0..).all(|(&byte, at)| byte % 16 == at) {
            let mask = bytes.map(|byte| if byte & 16 == 0 { 0 } else { 0xff });
            let mask = Arg::Mem(self.literal(mask.to_vec()));
            let code = self.code(table::TERNLOG, Lane::I32, W)?;
            let (from, b) = (self.reg(a)?, self.reg(b)?);
            self.emit(code, [Arg::Modify { def: dst, from }, Arg::Use(b), mask, Arg::Imm(SECOND_WHERE_SET)]);
            return Ok(());
        }
        // An index with its top bit set gives zero.
        let select = |start: u8| bytes.map(|byte| if byte & 16 == start { byte % 16 } else { 0x80 });
        let (from_a, from_b) = (self.literal(select(0).to_vec()), self.literal(select(16).to_vec()));
        let (a, b) = (self.reg(a)?, self.reg(b)?);
        let one = self.step(table::SHUFFLE_BYTES, Lane::I8, W, [Arg::Use(a), Arg::Mem(from_a)])?;
        let other = self.step(table::SHUFFLE_BYTES, Lane::I8, W, [Arg::Use(b), Arg::Mem(from_b)])?;
        let or = self.code(table::OR, Lane::I32, W)?;
        self.emit(or, [Arg::Def(dst), Arg::Use(one), Arg::Use(other)]);
        Ok(())
    }

    /// Bytes of one vector, in one instruction.
    fn shuffle_one(&mut self, dst: VReg, x: Value, bytes: [u8; 16]) -> Result<()> {
        if let Some(lanes) = whole_lanes(bytes) {
            let (op, imm) = match lanes {
                [0, 1, 2, 3] => (table::LOAD, None),
                _ => (table::PERMUTE_LANES, Some(Arg::Imm(by_pairs(lanes)))),
            };
            let code = self.code(op, Lane::F32, W)?;
            let source = self.source(x, code, Lane::F32)?;
            self.emit(code, [Arg::Def(dst), source].into_iter().chain(imm).collect::<Vec<_>>());
            return Ok(());
        }
        let x = self.reg(x)?;
        let (op, operand, imm) = match rotation(bytes, 16) {
            Some(start) => (table::ALIGN_BYTES, Arg::Use(x), Some(Arg::Imm(start))),
            None => (table::SHUFFLE_BYTES, Arg::Mem(self.literal(bytes.to_vec())), None),
        };
        let code = self.code(op, Lane::I8, W)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(x), operand].into_iter().chain(imm).collect::<Vec<_>>());
        Ok(())
    }

    /// Bytes of two vectors, if that is one instruction that takes them in this order.
    fn shuffle_two(&mut self, dst: VReg, a: Value, b: Value, bytes: [u8; 16]) -> Result<bool> {
        if let Some(lanes) = whole_lanes(bytes) {
            if let Some(&(_, op, lane)) = UNPACKS.iter().find(|(pattern, ..)| *pattern == lanes) {
                self.shuffle_pair(dst, op, lane, a, b, None)?;
                return Ok(true);
            }
            let second = lanes.map(|lane| lane >= 4);
            let in_place = lanes.iter().zip(0..).all(|(&lane, at)| lane % 4 == at);
            if in_place && !self.features.avx512() {
                let imm = second.iter().rev().fold(0, |bits, &second| bits << 1 | i64::from(second));
                self.shuffle_pair(dst, table::BLEND_I, Lane::F32, a, b, Some(imm))?;
                return Ok(true);
            }
            if second == [false, false, true, true] {
                self.shuffle_pair(dst, table::SHUFFLE_PAIRS, Lane::F32, a, b, Some(by_pairs(lanes)))?;
                return Ok(true);
            }
            // One lane of `b` among lanes of `a` that stay.
            let mut moved = lanes.iter().zip(0..).filter(|&(&lane, at)| lane != at);
            if let (Some((&from, to)), None) = (moved.next(), moved.next())
                && from >= 4
            {
                let (a, b) = (self.reg(a)?, self.reg(b)?);
                let code = self.code(table::INSERT_LANE, Lane::F32, W)?;
                let imm = i64::from(from % 4) << 6 | i64::from(to) << 4;
                self.emit(code, [Arg::Def(dst), Arg::Use(a), Arg::Use(b), Arg::Imm(imm)]);
                return Ok(true);
            }
        }
        if let Some(start) = rotation(bytes, 32) {
            self.shuffle_pair(dst, table::ALIGN_BYTES, Lane::I8, b, a, Some(start))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn shuffle_pair(
        &mut self,
        dst: VReg,
        op: &table::Op,
        lane: Lane,
        a: Value,
        b: Value,
        imm: Option<i64>,
    ) -> Result<()> {
        let code = self.code(op, lane, W)?;
        let left = self.reg(a)?;
        let right = self.source(b, code, lane)?;
        self.emit(
            code,
            [Arg::Def(dst), Arg::Use(left), right].into_iter().chain(imm.map(Arg::Imm)).collect::<Vec<_>>(),
        );
        Ok(())
    }
}

/// The shuffle as one of 32-bit lanes, if it moves such lanes whole.
fn whole_lanes(bytes: [u8; 16]) -> Option<[u8; 4]> {
    let lane = |at: usize| {
        let first = bytes[4 * at];
        let whole =
            first.is_multiple_of(4) && bytes[4 * at..4 * at + 4].iter().zip(first..).all(|(&byte, next)| byte == next);
        whole.then_some(first / 4)
    };
    Some([lane(0)?, lane(1)?, lane(2)?, lane(3)?])
}

/// Where the shuffle starts, if it takes bytes as they follow one another, the first of `length` behind the last.
fn rotation(bytes: [u8; 16], length: u8) -> Option<i64> {
    let start = bytes[0];
    let follows = bytes.iter().zip(start..).all(|(&byte, next)| byte == next % length);
    (start < 16 && follows).then_some(i64::from(start))
}

/// Lanes by two bits each, as immediates have them.
pub(super) fn by_pairs(lanes: [u8; 4]) -> i64 {
    lanes.iter().rev().fold(0, |bits, &lane| bits << 2 | i64::from(lane % 4))
}
