//! Random operations, one at a time.

use super::generator::{Generator, SCALARS, SLOTS, flags};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{ConstantData, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

impl Generator<'_, '_> {
    fn shift(&mut self, amount: i64, op: impl FnOnce(&mut FunctionBuilder<'_>, Value) -> Value) -> Value {
        let amount = self.b.ins().iconst(types::I32, amount);
        op(self.b, amount)
    }

    /// 16 bytes of two vectors, by 32-bit lanes if these are to stay whole.
    fn shuffle(&mut self, x: Value, y: Value, whole: bool) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let (x, y) = (self.cast(types::I8X16, x), self.cast(types::I8X16, y));
        let lanes = match self.rng.below(6) {
            0 => [0, 4, 1, 5],
            1 => [2, 6, 3, 7],
            2 => [0, 1, 4, 5],
            3 => [6, 7, 2, 3],
            4 => [1, 3, 5, 7],
            _ => std::array::from_fn(|_| self.rng.below(8)),
        };
        let bytes: [u8; 16] = match self.rng.below(4) {
            0 if !whole => std::array::from_fn(|_| self.rng.below(32) as u8),
            1 if !whole => {
                let start = self.rng.below(32);
                std::array::from_fn(|at| ((start + at) % 32) as u8)
            }
            _ => std::array::from_fn(|at| (4 * lanes[at / 4] + at % 4) as u8),
        };
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(&bytes[..]));
        let shuffled = self.b.ins().shuffle(x, y, mask);
        self.cast(ty, shuffled)
    }

    fn rounded(&mut self, x: Value) -> Value {
        match self.rng.below(4) {
            0 => self.b.ins().nearest(x),
            1 => self.b.ins().floor(x),
            2 => self.b.ins().ceil(x),
            _ => self.b.ins().trunc(x),
        }
    }

    /// One of two by a comparison of them: some are the instructions for the lesser or the greater.
    fn by_comparison(&mut self, x: Value, y: Value) -> Value {
        let ty = self.float_ty();
        let cc = self.float_cc();
        let mask = self.b.ins().fcmp(cc, x, y);
        let mask = self.cast(ty, mask);
        if self.rng.below(2) == 0 { self.b.ins().bitselect(mask, x, y) } else { self.b.ins().bitselect(mask, y, x) }
    }

    pub(super) fn float_op(&mut self) {
        let ty = self.float_ty();
        let (x, y, z) = (self.float(), self.float(), self.float());
        let flags = flags();
        let slot = self.rng.below(SLOTS) as i32 * 64;
        let value = match self.rng.below(if self.shuffles { 28 } else { 22 }) {
            22.. => self.shuffle(x, y, true),
            0 => self.b.ins().fadd(x, y),
            1 => self.b.ins().fsub(x, y),
            2 => self.b.ins().fmul(x, y),
            3 => self.b.ins().fdiv(x, y),
            4 | 5 => self.b.ins().fma(x, y, z),
            6 => {
                let c = self.constant();
                self.b.ins().fma(x, y, c)
            }
            7 => self.b.ins().fneg(x),
            8 => self.b.ins().fabs(x),
            9 => self.b.ins().sqrt(x),
            10 => self.b.ins().fmin(x, y),
            11 => self.b.ins().fmax(x, y),
            12 => self.rounded(x),
            13 => self.by_comparison(x, y),
            14 => {
                let mask = self.mask();
                let mask = self.cast(ty, mask);
                self.b.ins().bitselect(mask, x, y)
            }
            15 => {
                let c = self.condition();
                self.b.ins().select(c, x, y)
            }
            16 | 17 => self.b.ins().load(ty, flags, self.input, slot),
            18 => {
                let scalar = self.float_scalar();
                self.b.ins().splat(ty, scalar)
            }
            19 => {
                let at = self.rng.below(SCALARS) as i32 * 4;
                let scalar = self.b.ins().load(types::F32, flags, self.table, at);
                let splat = self.b.ins().splat(ty, scalar);
                if self.rng.below(2) == 0 { self.b.ins().fmul(x, splat) } else { self.b.ins().fma(splat, x, y) }
            }
            20 => {
                let i = self.int();
                self.b.ins().fcvt_from_sint(ty, i)
            }
            _ => {
                let i = self.int();
                if self.rng.below(2) == 0 { self.cast(ty, i) } else { self.b.ins().fcvt_from_uint(ty, i) }
            }
        };
        self.pool.floats.push(value);
    }

    pub(super) fn int_op(&mut self) {
        let ty = self.int_ty();
        let (x, y, z) = (self.int(), self.int(), self.int());
        let flags = flags();
        let amount = i64::from(self.rng.below(40) as u32);
        let value = match self.rng.below(if self.shuffles { 24 } else { 20 }) {
            20.. => self.shuffle(x, y, false),
            0 | 1 => self.b.ins().iadd(x, y),
            2 => self.b.ins().isub(x, y),
            3 => self.b.ins().imul(x, y),
            4 => self.b.ins().band(x, y),
            5 => self.b.ins().bor(x, y),
            6 => self.b.ins().bxor(x, y),
            7 => {
                let not = self.b.ins().bnot(x);
                self.b.ins().band(not, y)
            }
            8 => match self.rng.below(4) {
                0 => self.b.ins().smin(x, y),
                1 => self.b.ins().smax(x, y),
                2 => self.b.ins().umin(x, y),
                _ => self.b.ins().umax(x, y),
            },
            9 => self.shift(amount, |b, n| b.ins().ishl(x, n)),
            10 => self.shift(amount, |b, n| b.ins().ushr(x, n)),
            11 => self.shift(amount, |b, n| b.ins().sshr(x, n)),
            12 => {
                let amount = self.scalar();
                self.b.ins().sshr(x, amount)
            }
            13 => self.b.ins().iabs(x),
            14 => self.b.ins().ineg(x),
            15 => {
                let f = self.float();
                self.b.ins().fcvt_to_sint_sat(ty, f)
            }
            16 => {
                // Only the bits of numbers.
                let f = self.float();
                let number = self.b.ins().fcmp(FloatCC::Ordered, f, f);
                let bits = self.cast(ty, f);
                self.b.ins().band(bits, number)
            }
            17 => self.b.ins().bitselect(x, y, z),
            18 => {
                let mask = self.mask();
                self.b.ins().bitselect(mask, x, y)
            }
            _ => {
                let at = self.rng.below(SCALARS) as i32 * 4;
                let scalar = self.b.ins().load(types::I32, flags, self.table, at);
                self.b.ins().splat(ty, scalar)
            }
        };
        self.pool.ints.push(value);
    }

    pub(super) fn mask_op(&mut self) {
        let (x, y) = (self.int(), self.int());
        let (p, q) = (self.float(), self.float());
        let (m, n) = (self.mask(), self.mask());
        let (cc, fcc) = (self.int_cc(), self.float_cc());
        let value = match self.rng.below(6) {
            0 => self.b.ins().icmp(cc, x, y),
            1 | 2 => self.b.ins().fcmp(fcc, p, q),
            3 => self.b.ins().band(m, n),
            4 => self.b.ins().bor(m, n),
            _ => self.b.ins().bnot(m),
        };
        self.pool.masks.push(value);
        if self.rng.below(4) == 0 {
            self.pool.ints.push(value);
        }
    }

    pub(super) fn scalar_op(&mut self) {
        let (x, y) = (self.scalar(), self.scalar());
        let (p, q) = (self.float_scalar(), self.float_scalar());
        let amount = i64::from(self.rng.below(70) as u32);
        match self.rng.below(14) {
            0 => {
                let v = self.b.ins().fadd(p, q);
                self.pool.float_scalars.push(v);
            }
            1 => {
                let v = self.b.ins().fma(p, q, p);
                self.pool.float_scalars.push(v);
            }
            2 => {
                let v = self.b.ins().fcvt_from_sint(types::F32, x);
                self.pool.float_scalars.push(v);
            }
            3 => {
                let c = self.condition();
                let v = self.b.ins().select(c, p, q);
                self.pool.float_scalars.push(v);
            }
            n => {
                let v = match n {
                    4 => self.b.ins().iadd(x, y),
                    5 => self.b.ins().isub(x, y),
                    6 => self.b.ins().imul(x, y),
                    7 => self.b.ins().iadd_imm_s(x, amount - 30),
                    8 => self.shift(amount, |b, n| b.ins().ishl(x, n)),
                    9 => self.b.ins().ushr(x, y),
                    10 => {
                        let c = self.condition();
                        self.b.ins().select(c, x, y)
                    }
                    11 => {
                        let low = self.b.ins().ireduce(types::I32, x);
                        self.b.ins().sextend(types::I64, low)
                    }
                    12 => self.b.ins().fcvt_to_sint_sat(types::I64, p),
                    _ => self.b.ins().band_not(x, y),
                };
                self.pool.scalars.push(v);
            }
        }
    }

    /// Stores a vector, and sometimes reads a slot that was stored before.
    pub(super) fn memory_op(&mut self) {
        let flags = flags();
        let slot = self.rng.below(SLOTS);
        let offset = slot as i32 * 64;
        if self.float_slots[slot] {
            let value = self.float();
            let ty = self.float_ty();
            let earlier = self.b.ins().load(ty, flags, self.out, offset);
            if self.rng.below(2) == 0 {
                self.pool.floats.push(earlier);
            }
            self.b.ins().store(flags, value, self.out, offset);
        } else {
            let value = self.int();
            self.b.ins().store(flags, value, self.out, offset);
        }
    }
}
