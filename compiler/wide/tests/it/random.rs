//! Random functions, straight-line and with branches and loops, at every width against Cranelift's own backend at 128 bits.
//!
//! The generator draws the same numbers whatever the lane count, so one seed is one program at any width. Its operations never look across
//! lanes; a function of 16 lanes and four calls of one of 4 lanes must store the same bits. A second kind of programs, of 4 lanes alone,
//! shuffles too. NaNs count as equal, and their bits never become integers, because which operand's NaN an addition returns is not specified.

use rhumb_random::{Rng, seeds};

use crate::jit::{Kernel, host_isa, levels, pointer, try_optimised, wide};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    AbiParam, ConstantData, Endianness, Function, InstBuilder, MemFlagsData, Signature, Type, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// Vectors of 16 lanes in the input and output buffers.
const SLOTS: usize = 24;
const SCALARS: usize = 16;

/// The values that a new operation may use. Never empty.
#[derive(Clone)]
struct Pool {
    floats: Vec<Value>,
    ints: Vec<Value>,
    masks: Vec<Value>,
    scalars: Vec<Value>,
    float_scalars: Vec<Value>,
}

struct Generator<'a, 'f> {
    rng: Rng,
    b: &'a mut FunctionBuilder<'f>,
    lanes: u32,
    /// Whether there are shuffles, which vectors of 128 bits alone have.
    shuffles: bool,
    out: Value,
    input: Value,
    table: Value,
    pool: Pool,
    /// Which slots of the output hold floats.
    float_slots: [bool; SLOTS],
}

impl Generator<'_, '_> {
    fn float_ty(&self) -> Type {
        types::F32.by(self.lanes).unwrap()
    }

    fn int_ty(&self) -> Type {
        types::I32.by(self.lanes).unwrap()
    }

    fn float(&mut self) -> Value {
        let Self { rng, pool, .. } = self;
        // The latest values more often, so that programs get deep.
        let n = pool.floats.len();
        if rng.below(2) == 0 { pool.floats[n - 1 - rng.below(n.min(3))] } else { rng.pick(&pool.floats) }
    }

    fn int(&mut self) -> Value {
        self.rng.pick(&self.pool.ints)
    }

    fn mask(&mut self) -> Value {
        self.rng.pick(&self.pool.masks)
    }

    fn scalar(&mut self) -> Value {
        self.rng.pick(&self.pool.scalars)
    }

    fn float_scalar(&mut self) -> Value {
        self.rng.pick(&self.pool.float_scalars)
    }

    fn condition(&mut self) -> Value {
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

    fn int_cc(&mut self) -> IntCC {
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
    fn float_cc(&mut self) -> FloatCC {
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

    fn cast(&mut self, to: Type, value: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(to, flags, value)
    }

    fn constant(&mut self) -> Value {
        let bits = match self.rng.below(4) {
            0 => self.rng.pick(&[0.0f32, -0.0, 1.0, 0.5, f32::INFINITY]),
            _ => (self.rng.bits() as i32) as f32 / 1e8,
        };
        let scalar = self.b.ins().f32const(bits);
        let ty = self.float_ty();
        self.b.ins().splat(ty, scalar)
    }

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

    fn float_op(&mut self) {
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
            12 => match self.rng.below(4) {
                0 => self.b.ins().nearest(x),
                1 => self.b.ins().floor(x),
                2 => self.b.ins().ceil(x),
                _ => self.b.ins().trunc(x),
            },
            13 => {
                let cc = self.float_cc();
                let mask = self.b.ins().fcmp(cc, x, y);
                let mask = self.cast(ty, mask);
                if self.rng.below(2) == 0 {
                    self.b.ins().bitselect(mask, x, y)
                } else {
                    self.b.ins().bitselect(mask, y, x)
                }
            }
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

    fn int_op(&mut self) {
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

    fn mask_op(&mut self) {
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

    fn scalar_op(&mut self) {
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
    fn memory_op(&mut self) {
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

    fn ops(&mut self, count: usize, depth: usize) {
        for _ in 0..count {
            match self.rng.below(26) {
                0..11 => self.float_op(),
                11..17 => self.int_op(),
                17..20 => self.mask_op(),
                20..23 => self.scalar_op(),
                23 => self.memory_op(),
                _ if depth == 0 => self.float_op(),
                24 => self.repeat(depth),
                _ => self.either(depth),
            }
        }
    }

    /// A counted loop that carries vectors and scalars.
    fn repeat(&mut self, depth: usize) {
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let steps = 1 + self.rng.below(4) as i64;
        let count = self.b.ins().iconst(types::I64, steps);
        let carried = [self.float(), self.float(), self.int(), self.scalar(), self.float_scalar()];
        let tys: Vec<Type> = carried.iter().map(|&v| self.b.func.dfg.value_type(v)).collect();
        for block in [head, exit] {
            for &ty in &tys {
                self.b.append_block_param(block, ty);
            }
        }
        let counter = self.b.append_block_param(head, types::I64);
        let mut args: Vec<_> = carried.into_iter().map(Into::into).collect();
        args.push(count.into());
        self.b.ins().jump(head, &args);
        self.b.switch_to_block(head);
        let outer = self.pool.clone();
        self.enter(head);
        let n = 2 + self.rng.below(12);
        self.ops(n, depth - 1);
        let next = [self.float(), self.float(), self.int(), self.scalar(), self.float_scalar()];
        let left = self.b.ins().iadd_imm_s(counter, -1);
        let mut again: Vec<_> = next.into_iter().map(Into::into).collect();
        let done = again.clone();
        again.push(left.into());
        self.b.ins().brif(left, head, &again, exit, &done);
        self.b.switch_to_block(exit);
        self.pool = outer;
        self.enter(exit);
    }

    fn either(&mut self, depth: usize) {
        let (then, otherwise, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let values = [self.float(), self.float(), self.int(), self.scalar(), self.float_scalar()];
        for v in values {
            let ty = self.b.func.dfg.value_type(v);
            self.b.append_block_param(join, ty);
        }
        let c = self.condition();
        self.b.ins().brif(c, then, &[], otherwise, &[]);
        let outer = self.pool.clone();
        for block in [then, otherwise] {
            self.b.switch_to_block(block);
            self.pool = outer.clone();
            let n = self.rng.below(8);
            self.ops(n, depth - 1);
            let values = [self.float(), self.float(), self.int(), self.scalar(), self.float_scalar()];
            let args: Vec<_> = values.into_iter().map(Into::into).collect();
            self.b.ins().jump(join, &args);
        }
        self.b.switch_to_block(join);
        self.pool = outer;
        self.enter(join);
    }

    /// The parameters of a block, which stand in the order float, float, int, scalar, float scalar.
    fn enter(&mut self, block: cranelift_codegen::ir::Block) {
        let params = self.b.block_params(block).to_vec();
        self.pool.floats.extend(&params[..2]);
        self.pool.ints.push(params[2]);
        self.pool.scalars.push(params[3]);
        self.pool.float_scalars.push(params[4]);
    }
}

fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}

/// Parameters: output, input, table of scalars, two integers.
fn program(seed: u64, lanes: u32, shuffles: bool) -> (Function, [bool; SLOTS]) {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params = vec![AbiParam::new(types::I64); 5];
    let mut func = Function::with_name_signature(UserFuncName::default(), sig);
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params = b.block_params(block).to_vec();
    let flags = flags();
    let (f, i) = (types::F32.by(lanes).unwrap(), types::I32.by(lanes).unwrap());
    let floats: Vec<Value> = (0..3).map(|n| b.ins().load(f, flags, params[1], 64 * n)).collect();
    let ints: Vec<Value> = (8..11).map(|n| b.ins().load(i, flags, params[1], 64 * n)).collect();
    let masks = vec![b.ins().fcmp(FloatCC::LessThan, floats[0], floats[1])];
    let float_scalars = vec![b.ins().load(types::F32, flags, params[2], 0), b.ins().f32const(1.25)];
    let pool = Pool { floats, ints, masks, scalars: params[3..].to_vec(), float_scalars };
    let mut rng = Rng::new(seed);
    let mut float_slots = [false; SLOTS];
    for slot in &mut float_slots {
        *slot = rng.below(2) == 0;
    }
    let size = 5 + rng.below(80);
    let [out, input, table] = [params[0], params[1], params[2]];
    let mut g = Generator { rng, b: &mut b, lanes, shuffles, out, input, table, pool, float_slots };
    g.ops(size, 3);
    // What was computed last is stored, many values alive at once.
    for (slot, is_float) in float_slots.into_iter().enumerate() {
        let value = if is_float { g.float() } else { g.int() };
        g.b.ins().store(flags, value, g.out, slot as i32 * 64);
    }
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(host_isa().frontend_config());
    (func, float_slots)
}

fn run(kernel: &Kernel, lanes: usize, input: &[u32], table: &[u32], scalars: [i64; 2]) -> Vec<u32> {
    let mut out = vec![0u32; SLOTS * 16];
    let (mut input, mut table) = (input.to_vec(), table.to_vec());
    for part in 0..16 / lanes {
        let at = (part * lanes * 4) as i64;
        kernel.call(&[pointer(&mut out) + at, pointer(&mut input) + at, pointer(&mut table), scalars[0], scalars[1]]);
    }
    out
}

/// Compares random programs with Cranelift's code of 4 lanes, at these lane counts.
fn compare(lane_counts: &[u32], shuffles: bool) {
    let all = seeds(if shuffles { 43 } else { 42 }, 150);
    let count = all.end - all.start;
    let (mut functions, mut insts, mut not_optimised) = (0, 0, 0);
    for seed in all {
        let mut values = Rng::new(seed ^ 1);
        let mut value = |_| {
            let lane = if values.below(3) == 0 { crate::model::Lane::I32 } else { crate::model::Lane::F32 };
            lane.value(&mut values) as u32
        };
        let input: Vec<u32> = (0..SLOTS * 16).map(&mut value).collect();
        let table: Vec<u32> = (0..SCALARS).map(&mut value).collect();
        let scalars = [i64::from(value(0) as i32), i64::from(value(0)) - 7];
        let (narrow, float_slots) = program(seed, 4, shuffles);
        let expected = run(&Kernel::cranelift(&narrow), 4, &input, &table, scalars);
        for features in levels() {
            for &lanes in lane_counts {
                if lanes * 32 > features.max_vector_bits() {
                    continue;
                }
                let (func, _) = program(seed, lanes, shuffles);
                insts += func.dfg.num_insts();
                let optimised = try_optimised(&func);
                not_optimised += usize::from(optimised.is_none());
                for func in [Some(func), optimised].into_iter().flatten() {
                    functions += 1;
                    let found = run(&Kernel::wide(&func, features), lanes as usize, &input, &table, scalars);
                    for (at, (&e, &f)) in expected.iter().zip(&found).enumerate() {
                        let nans = float_slots[at / 16] && f32::from_bits(e).is_nan() && f32::from_bits(f).is_nan();
                        assert!(
                            e == f || nans,
                            "seed {seed}, {features:?}, {lanes} lanes, slot {} lane {}: expected {e:#x}, found {f:#x}\n{func}\n{}",
                            at / 16,
                            at % 16,
                            wide(&func, features).disassemble()
                        );
                    }
                }
            }
        }
    }
    println!(
        "{count} programs, {functions} functions, {insts} instructions; {not_optimised} that Cranelift could not optimise"
    );
    assert!(not_optimised < functions / 4);
}

#[test]
fn random_functions_agree_with_cranelift() {
    compare(&[4, 8, 16], false);
}

#[test]
fn random_shuffles_agree_with_cranelift() {
    compare(&[4], true);
}
