//! What a random program is drawn from: the values there are, and choices among them.

use rhumb_random::Rng;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Vectors of 16 lanes in the input and output buffers.
pub(super) const SLOTS: usize = 24;
/// Scalars in the table.
pub(super) const SCALARS: usize = 16;

/// The values that a new operation may use. Never empty.
#[derive(Clone)]
pub(super) struct Pool {
    pub(super) floats: Vec<Value>,
    pub(super) ints: Vec<Value>,
    pub(super) masks: Vec<Value>,
    pub(super) scalars: Vec<Value>,
    pub(super) float_scalars: Vec<Value>,
}

pub(super) struct Generator<'a, 'f> {
    pub(super) rng: Rng,
    pub(super) b: &'a mut FunctionBuilder<'f>,
    pub(super) lanes: u32,
    /// Whether there are shuffles, which vectors of 128 bits alone have.
    pub(super) shuffles: bool,
    pub(super) out: Value,
    pub(super) input: Value,
    pub(super) table: Value,
    pub(super) pool: Pool,
    /// Which slots of the output hold floats.
    pub(super) float_slots: [bool; SLOTS],
}

impl Generator<'_, '_> {
    pub(super) fn float_ty(&self) -> Type {
        types::F32.by(self.lanes).unwrap()
    }

    pub(super) fn int_ty(&self) -> Type {
        types::I32.by(self.lanes).unwrap()
    }

    pub(super) fn float(&mut self) -> Value {
        let Self { rng, pool, .. } = self;
        // The latest values more often, so that programs get deep.
        let n = pool.floats.len();
        if rng.below(2) == 0 { pool.floats[n - 1 - rng.below(n.min(3))] } else { rng.pick(&pool.floats) }
    }

    pub(super) fn int(&mut self) -> Value {
        self.rng.pick(&self.pool.ints)
    }

    pub(super) fn mask(&mut self) -> Value {
        self.rng.pick(&self.pool.masks)
    }

    pub(super) fn scalar(&mut self) -> Value {
        self.rng.pick(&self.pool.scalars)
    }

    pub(super) fn float_scalar(&mut self) -> Value {
        self.rng.pick(&self.pool.float_scalars)
    }

    pub(super) fn condition(&mut self) -> Value {
        let (x, y) = (self.scalar(), self.scalar());
        let (p, q) = (self.float_scalar(), self.float_scalar());
        let cc = self.int_cc();
        let fcc = self.float_cc();
        match self.rng.below(3) {
            0 => self.b.ins().icmp(cc, x, y),
            1 => self.b.ins().fcmp(fcc, p, q),
            _ => {
                let one = self.b.ins().iconst(types::I64, 1);
                self.b.ins().band(x, one)
            }
        }
    }

    pub(super) fn int_cc(&mut self) -> IntCC {
        use IntCC::*;
        self.rng.pick(&[
            Equal,
            NotEqual,
            SignedLessThan,
            SignedLessThanOrEqual,
            SignedGreaterThan,
            SignedGreaterThanOrEqual,
            UnsignedLessThan,
            UnsignedLessThanOrEqual,
            UnsignedGreaterThan,
            UnsignedGreaterThanOrEqual,
        ])
    }

    /// Without the two that Cranelift has no vector lowering for.
    pub(super) fn float_cc(&mut self) -> FloatCC {
        use FloatCC::*;
        self.rng.pick(&[
            Ordered,
            Unordered,
            Equal,
            NotEqual,
            LessThan,
            LessThanOrEqual,
            GreaterThan,
            GreaterThanOrEqual,
            UnorderedOrLessThan,
            UnorderedOrLessThanOrEqual,
            UnorderedOrGreaterThan,
            UnorderedOrGreaterThanOrEqual,
        ])
    }

    pub(super) fn cast(&mut self, to: Type, value: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(to, flags, value)
    }

    pub(super) fn constant(&mut self) -> Value {
        let bits = match self.rng.below(4) {
            0 => self.rng.pick(&[0.0f32, -0.0, 1.0, 0.5, f32::INFINITY]),
            _ => (self.rng.bits() as i32) as f32 / 1e8,
        };
        let scalar = self.b.ins().f32const(bits);
        let ty = self.float_ty();
        self.b.ins().splat(ty, scalar)
    }
}

pub(super) fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}
