//! Calls that are instructions, of functions with known names: what CLIF has for 128 bits alone. Lanes of two vectors in another order,
//! conversions between floats of different precisions, products of pairs of 16 bits.

use super::context::{Lower, Result};
use super::shuffle::{UNPACKS, by_pairs};
use crate::error::Reason;
use crate::isa::x64::mach::Arg;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use crate::{DEMOTE, DOT_BF16, DOT_I16, INTERLEAVE_HIGH, INTERLEAVE_LOW, PERMUTE, PROMOTE, WIDEN, WIDEN_BYTES};
use cranelift_codegen::ir::{ExternalName, InstructionData, Type, Value, types};
use iced_x86::Code;
use regalloc2::VReg;

/// Lanes of a quarter.
const QUARTER: usize = 4;

impl Lower<'_> {
    /// A call, which is an instruction: there are no others.
    pub(super) fn call(&mut self) -> Result<()> {
        let InstructionData::Call { func_ref, .. } = self.func.dfg.insts[self.here] else {
            return Err(self.refuse(Reason::Operation));
        };
        let ExternalName::TestCase(name) = &self.func.dfg.ext_funcs[func_ref].name else {
            return Err(self.refuse(Reason::Operation));
        };
        let (args, results) = (self.func.dfg.inst_args(self.here), self.func.dfg.inst_results(self.here));
        match (name.raw(), args, results) {
            (raw, &[a, b, order], [_]) if raw == PERMUTE.as_bytes() => self.permute_call((a, b), order),
            (raw, &[x], [_]) if raw == DEMOTE.as_bytes() => self.convert_vector(table::DEMOTE, x, types::F64),
            (raw, &[x], [_]) if raw == PROMOTE.as_bytes() => self.convert_vector(table::PROMOTE, x, types::F32),
            (raw, &[x], [_]) if raw == WIDEN.as_bytes() => self.widen_halves(x),
            (raw, &[sum, a, b], [_]) if raw == DOT_BF16.as_bytes() => {
                let has = self.features.bf16();
                self.dot((table::DOT_BF16, types::F32), (sum, a, b), (has, Reason::NeedsBf16))
            }
            (raw, &[sum, a, b], [_]) if raw == DOT_I16.as_bytes() => {
                let has = self.features.vnni();
                self.dot((table::DOT_I16, types::I32), (sum, a, b), (has, Reason::NeedsVnni))
            }
            (raw, &[x], [_]) if raw == WIDEN_BYTES.as_bytes() => self.widen_bytes(x),
            (raw, &[a, b], [_]) if raw == INTERLEAVE_LOW.as_bytes() => self.interleave(table::UNPACK_LOW, (a, b)),
            (raw, &[a, b], [_]) if raw == INTERLEAVE_HIGH.as_bytes() => self.interleave(table::UNPACK_HIGH, (a, b)),
            _ => Err(self.refuse(Reason::Operation)),
        }
    }

    /// Products of pairs, added to sums of this type: by an instruction that machines have, or lack for a reason.
    fn dot(
        &mut self,
        (op, of): (&table::Op, Type),
        (sum, a, b): (Value, Value, Value),
        (has, needed): (bool, Reason),
    ) -> Result<()> {
        let ty = self.result_ty();
        let pairs = types::I32.by(ty.lane_count());
        let fits = ty.is_vector()
            && ty.lane_type() == of
            && self.ty(sum) == ty
            && [a, b].iter().all(|of| Some(self.ty(*of)) == pairs);
        if !fits || !has {
            return Err(self.refuse(if fits { needed } else { Reason::Type }));
        }
        let (lane, width) = self.shape(ty)?;
        let code = self.code(op, lane, width)?;
        let (a, b) = if self.is_foldable(a, code, lane) && !self.is_foldable(b, code, lane) { (b, a) } else { (a, b) };
        let (dst, from, a) = (self.result()?, self.reg(sum)?, self.reg(a)?);
        let b = self.source(b, code, lane)?;
        self.emit(code, [Arg::Modify { def: dst, from }, Arg::Use(a), b]);
        Ok(())
    }

    /// Bytes to 16 bits.
    fn widen_bytes(&mut self, x: Value) -> Result<()> {
        let (ty, of) = (self.result_ty(), self.ty(x));
        let fits =
            of.lane_type() == types::I8 && ty.lane_type() == types::I32 && of.lane_count() == 2 * ty.lane_count();
        if !fits || !ty.is_vector() {
            return Err(self.refuse(Reason::Type));
        }
        let (_, width) = self.shape(ty)?;
        let dst = self.result()?;
        self.widen(table::WIDEN_BYTES, dst, (x, Lane::I8), width)
    }

    /// Elements of 16 bits of the halves of each quarter in turn.
    fn interleave(&mut self, op: &table::Op, (a, b): (Value, Value)) -> Result<()> {
        let ty = self.result_ty();
        if !ty.is_vector() || ty.lane_type() != types::I32 || [a, b].iter().any(|of| self.ty(*of) != ty) {
            return Err(self.refuse(Reason::Type));
        }
        let (_, width) = self.shape(ty)?;
        let dst = self.result()?;
        self.pair(dst, (op, Lane::I16, width), (a, b), None)
    }

    /// Floats of 16 bits to single precision.
    fn widen_halves(&mut self, x: Value) -> Result<()> {
        let (ty, of) = (self.result_ty(), self.ty(x));
        let fits = of.is_vector() && of.lane_type() == types::I16 && ty == types::F32.by(of.lane_count()).unwrap_or(of);
        if !fits {
            return Err(self.refuse(Reason::Type));
        }
        let (_, width) = self.shape(ty)?;
        let dst = self.result()?;
        self.widen(table::WIDEN_HALVES, dst, (x, Lane::I16), width)
    }

    /// Lanes of one float type to as many of the other.
    fn convert_vector(&mut self, op: &table::Op, x: Value, from: Type) -> Result<()> {
        let (ty, of) = (self.result_ty(), self.ty(x));
        let to = if from == types::F64 { types::F32 } else { types::F64 };
        let fits =
            of.is_vector() && of.lane_type() == from && ty.lane_type() == to && ty.lane_count() == of.lane_count();
        if !fits {
            return Err(self.refuse(Reason::Type));
        }
        // The width is that of the longer vector.
        let (_, width) = self.shape(if from == types::F64 { of } else { ty })?;
        let lane = if from == types::F64 { Lane::F64 } else { Lane::F32 };
        let (dst, x, code) = (self.result()?, self.reg(x)?, self.code(op, lane, width)?);
        self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
        Ok(())
    }

    fn permute_call(&mut self, (a, b): (Value, Value), order: Value) -> Result<()> {
        let (ty, from) = (self.result_ty(), self.ty(a));
        let fits = ty.is_vector() && from.is_vector() && self.ty(b) == from && ty.lane_type() == from.lane_type();
        if !fits || ty.lane_bits() != 32 || self.ty(order).lane_bits() != 32 {
            return Err(self.refuse(Reason::Type));
        }
        let lanes = self.order(order, ty.lane_count() as usize, 2 * from.lane_count() as usize)?;
        let dst = self.result()?;
        self.permute(dst, (a, b), &lanes)
    }

    /// The lanes that a constant chooses.
    fn order(&self, order: Value, length: usize, all: usize) -> Result<Vec<usize>> {
        let bytes = self.constant(order).ok_or_else(|| self.refuse(Reason::Operation))?;
        let lanes = bytes.chunks_exact(4).map(|lane| u32::from_le_bytes([lane[0], lane[1], lane[2], lane[3]]) as usize);
        let lanes: Vec<usize> = lanes.collect();
        let within = lanes.len() == length && lanes.iter().all(|lane| *lane < all);
        if within { Ok(lanes) } else { Err(self.refuse(Reason::Operation)) }
    }

    fn permute(&mut self, dst: VReg, (a, b): (Value, Value), lanes: &[usize]) -> Result<()> {
        let (_, width) = self.shape(self.ty(a))?;
        let count = self.ty(a).lane_count() as usize;
        let starts: Option<Vec<usize>> = lanes.chunks(QUARTER).map(quarter_of).collect();
        if lanes.len() == QUARTER && count > QUARTER {
            let Some(&[quarter]) = starts.as_deref() else { return Err(self.refuse(Reason::Operation)) };
            let x = self.reg(if quarter < count / QUARTER { a } else { b })?;
            return self.one_quarter(dst, x, quarter % (count / QUARTER), width);
        }
        if lanes.len() != count {
            return Err(self.refuse(Reason::Operation));
        }
        if let Some(quarters) = starts
            && let Some((code, imm)) = self.of_quarters(&quarters, width)
        {
            let (a, b) = (self.reg(a)?, self.reg(b)?);
            self.emit(code, [Arg::Def(dst), Arg::Use(a), Arg::Use(b), Arg::Imm(imm)]);
            return Ok(());
        }
        if let Some(pattern) = in_quarters(lanes) {
            if let Some(&(_, op, lane)) = UNPACKS.iter().find(|(unpack, ..)| *unpack == pattern) {
                return self.pair(dst, (op, lane, width), (a, b), None);
            }
            if pattern.map(|lane| lane >= 4) == [false, false, true, true] {
                return self.pair(dst, (table::SHUFFLE_PAIRS, Lane::F32, width), (a, b), Some(by_pairs(pattern)));
            }
        }
        self.any_order(dst, (a, b), lanes, width)
    }

    fn one_quarter(&mut self, dst: VReg, x: VReg, quarter: usize, width: Width) -> Result<()> {
        if quarter == 0 {
            let code = self.code(table::LOAD, Lane::F32, Width::W128)?;
            self.emit(code, [Arg::Def(dst), Arg::Use(x)]);
            return Ok(());
        }
        let code = self.quarter_code(width);
        self.emit(code, [Arg::Def(dst), Arg::Use(x), Arg::Imm(quarter as i64)]);
        Ok(())
    }

    /// The instruction that takes the lower half of the quarters from one vector and the upper half from another, if it can give these.
    fn of_quarters(&self, quarters: &[usize], width: Width) -> Option<(Code, i64)> {
        let count = quarters.len();
        let by_sides = quarters.iter().enumerate().all(|(at, quarter)| (at >= count / 2) == (*quarter >= count));
        match (width, self.features.avx512()) {
            (Width::W512, true) if by_sides => {
                let imm = quarters.iter().rev().fold(0, |bits, quarter| bits << 2 | (quarter % 4) as i64);
                Some((Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, imm))
            }
            (Width::W256, true) if by_sides => {
                let imm = quarters.iter().rev().fold(0, |bits, quarter| bits << 1 | (quarter % 2) as i64);
                Some((Code::EVEX_Vshuff32x4_ymm_k1z_ymm_ymmm256b32_imm8, imm))
            }
            (Width::W256, false) => {
                Some((Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, (quarters[0] | quarters[1] << 4) as i64))
            }
            _ => None,
        }
    }

    fn pair(
        &mut self,
        dst: VReg,
        (op, lane, width): (&table::Op, Lane, Width),
        (a, b): (Value, Value),
        imm: Option<i64>,
    ) -> Result<()> {
        let code = self.code(op, lane, width)?;
        let (a, b) = (self.reg(a)?, self.reg(b)?);
        let args = [Arg::Def(dst), Arg::Use(a), Arg::Use(b)];
        self.emit(code, args.into_iter().chain(imm.map(Arg::Imm)).collect::<Vec<_>>());
        Ok(())
    }

    /// Lanes in any order: an instruction that AVX-512 alone has.
    fn any_order(&mut self, dst: VReg, (a, b): (Value, Value), lanes: &[usize], width: Width) -> Result<()> {
        let code = match width {
            _ if !self.features.avx512() => return Err(self.refuse(Reason::NeedsAvx512)),
            Width::W512 => Code::EVEX_Vpermt2ps_zmm_k1z_zmm_zmmm512b32,
            Width::W256 => Code::EVEX_Vpermt2ps_ymm_k1z_ymm_ymmm256b32,
            _ => Code::EVEX_Vpermt2ps_xmm_k1z_xmm_xmmm128b32,
        };
        let bytes: Vec<u8> = lanes.iter().flat_map(|lane| (*lane as u32).to_le_bytes()).collect();
        let literal = Arg::Mem(self.literal(bytes));
        let order = self.step(table::LOAD, Lane::F32, width, [literal])?;
        let (from, b) = (self.reg(a)?, self.reg(b)?);
        self.emit(code, [Arg::Modify { def: dst, from }, Arg::Use(order), Arg::Use(b)]);
        Ok(())
    }
}

/// The quarter that some lanes are, if they are a whole one: quarters of the second vector follow those of the first.
fn quarter_of(lanes: &[usize]) -> Option<usize> {
    let first = *lanes.first()?;
    let follows = lanes.iter().zip(first..).all(|(lane, next)| *lane == next);
    (first.is_multiple_of(QUARTER) && follows && lanes.len() == QUARTER).then_some(first / QUARTER)
}

/// What each quarter takes from the same quarters of two vectors, 0 to 3 of the first and 4 to 7 of the second, if all take the same.
fn in_quarters(lanes: &[usize]) -> Option<[u8; QUARTER]> {
    let count = lanes.len();
    let of_quarter = |(number, quarter): (usize, &[usize])| -> Option<Vec<u8>> {
        let start = QUARTER * number;
        let lane = |lane: &usize| {
            let within = (lane % count).checked_sub(start).filter(|at| *at < QUARTER)?;
            u8::try_from(within + lane / count * QUARTER).ok()
        };
        quarter.iter().map(lane).collect()
    };
    let all: Option<Vec<Vec<u8>>> = lanes.chunks(QUARTER).enumerate().map(of_quarter).collect();
    let all = all?;
    let first: [u8; QUARTER] = all.first()?.as_slice().try_into().ok()?;
    all.iter().all(|quarter| *quarter == first).then_some(first)
}
