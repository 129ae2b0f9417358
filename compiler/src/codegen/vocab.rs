//! The vocabulary kernels are written in: elementwise operations at any lane count.
//!
//! A value has one of three kinds, each with a CLIF type that the [`Shape`] decides: *float*, *int* (`i32`), *bool*. With one lane
//! these are scalars, a bool being an `i8` of 0 or 1; with more they are vectors, a bool being a vector of `i32` masks, all ones or 0.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    AbiParam, Endianness, ExtFuncData, ExternalName, InstBuilder, MemFlagsData, Signature, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;

use super::pool::ConstantPool;

/// The lanes and the precision of an expression's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Lanes: 1 for scalars.
    pub(crate) lanes: usize,
    /// `f64` instead of `f32`; vectors of them have arithmetic alone, no ints and bools.
    pub(crate) double: bool,
    /// Whether the target fuses multiply and add.
    pub(crate) fma: bool,
}

/// Emits elementwise operations of one [`Shape`].
pub(crate) struct Vocab<'a, 'f> {
    pub(crate) fb: &'a mut FunctionBuilder<'f>,
    pub(crate) shape: Shape,
    pool: &'a mut ConstantPool,
    /// Base of the constant pool: the scratch pointer.
    base: Value,
}

/// Flags of every access: the address is proved before the kernel runs, alignment is not.
pub(crate) fn access() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Flags of a read from the frame, which no function writes: it can be moved and shared.
pub(crate) fn frame_access() -> MemFlagsData {
    access().with_readonly().with_can_move()
}

impl<'a, 'f> Vocab<'a, 'f> {
    pub(crate) fn new(fb: &'a mut FunctionBuilder<'f>, shape: Shape, pool: &'a mut ConstantPool, base: Value) -> Self {
        Vocab { fb, shape, pool, base }
    }

    pub(crate) fn is_vector(&self) -> bool {
        self.shape.lanes > 1
    }

    pub(crate) fn float_type(&self) -> Type {
        let lane = if self.shape.double { types::F64 } else { types::F32 };
        self.widened(lane)
    }

    pub(crate) fn int_type(&self) -> Type {
        self.widened(types::I32)
    }

    /// The integer type with as many bits as the float type.
    fn bits_type(&self) -> Type {
        if self.shape.double { self.widened(types::I64) } else { self.int_type() }
    }

    fn widened(&self, lane: Type) -> Type {
        if self.is_vector() { lane.by(self.shape.lanes as u32).unwrap_or(lane) } else { lane }
    }

    pub(crate) fn float(&mut self, x: f64) -> Value {
        if self.is_vector() && self.shape.double {
            let (ty, x) = (self.float_type(), self.fb.ins().f64const(x));
            return self.fb.ins().splat(ty, x);
        }
        // A register becomes zero without a load.
        if self.is_vector() && x == 0.0 && x.is_sign_positive() {
            let (ty, x) = (self.float_type(), self.fb.ins().f32const(0.0));
            return self.fb.ins().splat(ty, x);
        }
        if self.is_vector() {
            // A fresh load for every use folds into the operation that takes it and holds no register across the loop.
            let offset = self.pool.float(x as f32);
            let ty = self.float_type();
            return self.fb.ins().load(ty, access(), self.base, offset);
        }
        if self.shape.double { self.fb.ins().f64const(x) } else { self.fb.ins().f32const(x as f32) }
    }

    pub(crate) fn int(&mut self, x: i32) -> Value {
        if self.is_vector() {
            let offset = self.pool.int(x);
            let ty = self.int_type();
            return self.fb.ins().load(ty, access(), self.base, offset);
        }
        self.fb.ins().iconst(types::I32, i64::from(x))
    }

    /// The numbers of the lanes.
    pub(crate) fn lane_numbers(&mut self) -> Value {
        let bytes: Vec<u8> = (0..self.shape.lanes as i32).flat_map(i32::to_le_bytes).collect();
        let constant = self.fb.func.dfg.constants.insert(bytes.into());
        let ty = self.int_type();
        self.fb.ins().vconst(ty, constant)
    }

    pub(crate) fn bool(&mut self, x: bool) -> Value {
        if self.is_vector() { self.int(-i32::from(x)) } else { self.fb.ins().iconst(types::I8, i64::from(x)) }
    }

    /// A scalar in every lane.
    pub(crate) fn splat(&mut self, scalar: Value, ty: Type) -> Value {
        if self.is_vector() { self.fb.ins().splat(ty, scalar) } else { scalar }
    }

    pub(crate) fn fadd(&mut self, a: Value, b: Value) -> Value {
        self.fb.ins().fadd(a, b)
    }

    pub(crate) fn fsub(&mut self, a: Value, b: Value) -> Value {
        self.fb.ins().fsub(a, b)
    }

    pub(crate) fn fmul(&mut self, a: Value, b: Value) -> Value {
        self.fb.ins().fmul(a, b)
    }

    /// `a * b + c`, fused where the target fuses.
    pub(crate) fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.shape.fma {
            return self.fb.ins().fma(a, b, c);
        }
        let product = self.fb.ins().fmul(a, b);
        self.fb.ins().fadd(product, c)
    }

    /// Horner's rule; the first coefficient is the constant term.
    pub(crate) fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut terms = coefficients.iter().rev();
        let first = *terms.next().unwrap_or(&0.0);
        let mut sum = self.float(first);
        for &coefficient in terms {
            let coefficient = self.float(coefficient);
            sum = self.fma(sum, x, coefficient);
        }
        sum
    }

    pub(crate) fn fcmp(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        let (a, b) = (self.apart(a), self.apart(b));
        self.fb.ins().fcmp(cc, a, b)
    }

    /// A value that a comparison does not load itself: Cranelift has `cmpps` read memory that is not aligned, which faults without AVX.
    fn apart(&mut self, x: Value) -> Value {
        let dfg = &self.fb.func.dfg;
        let (ty, def) = (dfg.value_type(x), dfg.value_def(x).inst());
        let loads = def.is_some_and(|def| dfg.insts[def].opcode().can_load());
        if ty.bits() != 128 || !loads {
            return x;
        }
        // It looks through no cast.
        let bytes = self.fb.ins().bitcast(types::I8X16, lane_order(), x);
        self.fb.ins().bitcast(ty, lane_order(), bytes)
    }

    pub(crate) fn icmp(&mut self, cc: IntCC, a: Value, b: Value) -> Value {
        self.fb.ins().icmp(cc, a, b)
    }

    /// `a` where the bool holds, else `b`; floats.
    pub(crate) fn select_float(&mut self, mask: Value, a: Value, b: Value) -> Value {
        if !self.is_vector() {
            return self.fb.ins().select(mask, a, b);
        }
        let ty = self.float_type();
        let mask = self.fb.ins().bitcast(ty, lane_order(), mask);
        self.fb.ins().bitselect(mask, a, b)
    }

    /// `a` where the bool holds, else `b`; ints or bools.
    pub(crate) fn select_int(&mut self, mask: Value, a: Value, b: Value) -> Value {
        if self.is_vector() { self.fb.ins().bitselect(mask, a, b) } else { self.fb.ins().select(mask, a, b) }
    }

    /// The greater, `b` if either is NaN.
    pub(crate) fn pseudo_max(&mut self, a: Value, b: Value) -> Value {
        let less = self.fcmp(FloatCC::LessThan, b, a);
        self.select_float(less, a, b)
    }

    /// The lesser, `b` if either is NaN.
    pub(crate) fn pseudo_min(&mut self, a: Value, b: Value) -> Value {
        let less = self.fcmp(FloatCC::LessThan, a, b);
        self.select_float(less, a, b)
    }

    /// `a < b ? a : b`, signed.
    pub(crate) fn smin(&mut self, a: Value, b: Value) -> Value {
        let less = self.fb.ins().icmp(IntCC::SignedLessThan, a, b);
        self.fb.ins().select(less, a, b)
    }

    /// `a < b ? b : a`, signed.
    pub(crate) fn smax(&mut self, a: Value, b: Value) -> Value {
        let less = self.fb.ins().icmp(IntCC::SignedLessThan, a, b);
        self.fb.ins().select(less, b, a)
    }

    /// A number in double precision as the sum of two of single precision: itself, rounded, and what rounding took of it. What is infinite
    /// or NaN is so by its first part. For lanes of double precision.
    pub(crate) fn parts(&mut self, x: Value) -> (Value, Value) {
        // A finite number too large for single precision must not become infinite, which would hide a key or make NaN.
        let (least, most) = (self.float(-f64::from(f32::MAX)), self.float(f64::from(f32::MAX)));
        let raised = self.pseudo_max(least, x);
        let bounded = self.pseudo_min(most, raised);
        let difference = self.fsub(x, x);
        let finite = self.fcmp(FloatCC::Ordered, difference, difference);
        let high = self.select_float(finite, bounded, x);
        let single = self.demote(high);
        let rounded = self.promote(single);
        let rest = self.fsub(x, rounded);
        let zero = self.float(0.0);
        (high, self.select_float(finite, rest, zero))
    }

    /// As [`Vocab::parts`], of numbers that single precision holds but for their last digits; both parts in single precision.
    pub(crate) fn parts_of_finite(&mut self, x: Value) -> [Value; 2] {
        let high = self.demote(x);
        let rounded = self.promote(high);
        let rest = self.fsub(x, rounded);
        [high, self.demote(rest)]
    }

    pub(crate) fn bits_of(&mut self, x: Value) -> Value {
        let ty = self.bits_type();
        self.fb.ins().bitcast(ty, lane_order(), x)
    }

    pub(crate) fn float_of(&mut self, x: Value) -> Value {
        let ty = self.float_type();
        self.fb.ins().bitcast(ty, lane_order(), x)
    }

    /// A constant of the integer type as wide as the float.
    pub(crate) fn bits(&mut self, x: i64) -> Value {
        if self.shape.double {
            let (ty, x) = (self.bits_type(), self.fb.ins().iconst(types::I64, x));
            return self.splat(x, ty);
        }
        self.int(x as i32)
    }

    pub(crate) fn shl(&mut self, x: Value, by: i64) -> Value {
        self.fb.ins().ishl_imm_u(x, by)
    }

    pub(crate) fn int_to_float(&mut self, x: Value) -> Value {
        let ty = self.float_type();
        self.fb.ins().fcvt_from_sint(ty, x)
    }

    pub(crate) fn float_to_int(&mut self, x: Value) -> Value {
        let ty = self.int_type();
        self.fb.ins().fcvt_to_sint_sat(ty, x)
    }

    /// 1 where the bool holds, else 0.
    pub(crate) fn bool_to_int(&mut self, x: Value) -> Value {
        if self.is_vector() {
            let one = self.int(1);
            self.fb.ins().band(x, one)
        } else {
            self.fb.ins().uextend(types::I32, x)
        }
    }

    pub(crate) fn not(&mut self, x: Value) -> Value {
        if self.is_vector() { self.fb.ins().bnot(x) } else { self.fb.ins().bxor_imm_u(x, 1) }
    }

    /// Four lanes of two vectors of four floats, numbered through both.
    pub(crate) fn shuffle(&mut self, a: Value, b: Value, lanes: [u8; 4]) -> Value {
        let bytes: Vec<u8> = lanes.iter().flat_map(|lane| (0..4).map(move |byte| 4 * lane + byte)).collect();
        let mask = self.fb.func.dfg.immediates.push(bytes.into());
        let a = self.fb.ins().bitcast(types::I8X16, lane_order(), a);
        let b = self.fb.ins().bitcast(types::I8X16, lane_order(), b);
        let shuffled = self.fb.ins().shuffle(a, b, mask);
        self.fb.ins().bitcast(types::F32X4, lane_order(), shuffled)
    }

    /// Lanes of two vectors of floats of this shape, numbered through both: as many as `ty` has, which is as long or a quarter.
    pub(crate) fn permute(&mut self, (a, b): (Value, Value), lanes: &[u8], ty: Type) -> Value {
        let from = self.fb.func.dfg.value_type(a);
        if let (Ok(lanes), types::F32X4) = (<[u8; 4]>::try_from(lanes), from) {
            return self.shuffle(a, b, lanes);
        }
        let bytes: Vec<u8> = lanes.iter().flat_map(|lane| u32::from(*lane).to_le_bytes()).collect();
        let order = self.fb.func.dfg.constants.insert(bytes.into());
        let order = self.fb.ins().vconst(ty.as_int(), order);
        by_name(self.fb, clif_wide::PERMUTE, &[a, b, order], ty)
    }

    /// Double precision rounded to single, in as many lanes; vectors for `clif-wide` alone.
    pub(crate) fn demote(&mut self, x: Value) -> Value {
        match self.lanes_of(x) {
            1 => self.fb.ins().fdemote(types::F32, x),
            lanes => {
                let ty = types::F32.by(lanes).unwrap_or(types::F32);
                by_name(self.fb, clif_wide::DEMOTE, &[x], ty)
            }
        }
    }

    /// As [`Vocab::demote`], the other way round.
    pub(crate) fn promote(&mut self, x: Value) -> Value {
        match self.lanes_of(x) {
            1 => self.fb.ins().fpromote(types::F64, x),
            lanes => {
                let ty = types::F64.by(lanes).unwrap_or(types::F64);
                by_name(self.fb, clif_wide::PROMOTE, &[x], ty)
            }
        }
    }

    fn lanes_of(&self, x: Value) -> u32 {
        self.fb.func.dfg.value_type(x).lane_count()
    }

    /// The rows of a matrix of four vectors of four floats become its columns.
    pub(crate) fn transpose(&mut self, [a, b, c, d]: [Value; 4]) -> [Value; 4] {
        let (low, high) = ([0, 4, 1, 5], [2, 6, 3, 7]);
        let (first, second) = ([0, 1, 4, 5], [2, 3, 6, 7]);
        let (ab_low, ab_high) = (self.shuffle(a, b, low), self.shuffle(a, b, high));
        let (cd_low, cd_high) = (self.shuffle(c, d, low), self.shuffle(c, d, high));
        [
            self.shuffle(ab_low, cd_low, first),
            self.shuffle(ab_low, cd_low, second),
            self.shuffle(ab_high, cd_high, first),
            self.shuffle(ab_high, cd_high, second),
        ]
    }

    /// Applies a scalar function lane by lane.
    pub(crate) fn by_lane(
        &mut self,
        operands: &[Value],
        result: Type,
        mut scalar: impl FnMut(&mut FunctionBuilder<'f>, usize, &[Value]) -> Value,
    ) -> Value {
        let mut whole: Option<Value> = None;
        for lane in 0..self.shape.lanes {
            let lanes: Vec<Value> = if self.is_vector() {
                operands.iter().map(|x| self.fb.ins().extractlane(*x, lane as u8)).collect()
            } else {
                operands.to_vec()
            };
            let x = scalar(self.fb, lane, &lanes);
            whole = Some(match whole {
                _ if !self.is_vector() => x,
                None => self.fb.ins().splat(result, x),
                Some(whole) => self.fb.ins().insertlane(whole, x, lane as u8),
            });
        }
        whole.unwrap_or(self.base)
    }
}

/// Bit casts between lane types name the order of the lanes.
pub(crate) fn lane_order() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// Quotient rounded down and remainder with the sign of the divisor; both 0 when the divisor is 0.
pub(crate) fn floor_divide(fb: &mut FunctionBuilder<'_>, a: Value, b: Value) -> (Value, Value) {
    let (a, b) = (fb.ins().sextend(types::I64, a), fb.ins().sextend(types::I64, b));
    let none = fb.ins().icmp_imm_s(IntCC::Equal, b, 0);
    let (zero, one) = (fb.ins().iconst(types::I64, 0), fb.ins().iconst(types::I64, 1));
    let divisor = fb.ins().select(none, one, b);
    let quotient = fb.ins().sdiv(a, divisor);
    let product = fb.ins().imul(quotient, divisor);
    let remainder = fb.ins().isub(a, product);
    let signs = fb.ins().bxor(remainder, divisor);
    let opposite = fb.ins().icmp(IntCC::SignedLessThan, signs, zero);
    let inexact = fb.ins().icmp_imm_s(IntCC::NotEqual, remainder, 0);
    let adjust = fb.ins().band(opposite, inexact);
    let step = fb.ins().uextend(types::I64, adjust);
    let quotient = fb.ins().isub(quotient, step);
    let shift = fb.ins().select(adjust, divisor, zero);
    let remainder = fb.ins().iadd(remainder, shift);
    let quotient = fb.ins().select(none, zero, quotient);
    let remainder = fb.ins().select(none, zero, remainder);
    (fb.ins().ireduce(types::I32, quotient), fb.ins().ireduce(types::I32, remainder))
}

/// Calls a function that `clif-wide` makes an instruction of.
pub(crate) fn by_name(fb: &mut FunctionBuilder<'_>, name: &str, args: &[Value], result: Type) -> Value {
    let dfg = &fb.func.dfg;
    let params: Vec<AbiParam> = args.iter().map(|arg| AbiParam::new(dfg.value_type(*arg))).collect();
    let name = ExternalName::testcase(name);
    let known = dfg.ext_funcs.iter().find(|(_, function)| {
        let signature = &dfg.signatures[function.signature];
        function.name == name && signature.params == params && signature.returns[0].value_type == result
    });
    let function = match known {
        Some((function, _)) => function,
        None => {
            let mut signature = Signature::new(fb.func.signature.call_conv);
            (signature.params, signature.returns) = (params, vec![AbiParam::new(result)]);
            let signature = fb.import_signature(signature);
            fb.import_function(ExtFuncData { name, signature, colocated: false, patchable: false })
        }
    };
    let call = fb.ins().call(function, args);
    fb.inst_results(call)[0]
}
