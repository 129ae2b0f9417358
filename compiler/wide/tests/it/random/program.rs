//! Random programs: operations, loops and branches.

use rhumb_random::Rng;

use super::generator::{Generator, Pool, SLOTS, flags};
use crate::jit::host_isa;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{AbiParam, Block, Function, InstBuilder, Signature, Type, UserFuncName, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

impl Generator<'_, '_> {
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
    fn enter(&mut self, block: Block) {
        let params = self.b.block_params(block).to_vec();
        self.pool.floats.extend(&params[..2]);
        self.pool.ints.push(params[2]);
        self.pool.scalars.push(params[3]);
        self.pool.float_scalars.push(params[4]);
    }
}

/// Parameters: output, input, table of scalars, two integers.
pub(super) fn program(seed: u64, lanes: u32, shuffles: bool) -> (Function, [bool; SLOTS]) {
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
