//! Code generation: CLIF functions from a plan, machine code from CLIF.
//!
//! Every function is `fn(frame: *const u64, scratch: *mut u8)`; see [`crate::plan`] for the frame and the scratch memory. Code is free
//! of relocations and calls: it can be copied anywhere. Each function is checked by Cranelift's verifier before it is compiled.

mod angle_rows;
mod doubles;
mod element;
mod error;
mod expr;
mod half;
mod loops;
mod math;
mod pool;
mod rows;
mod squares;
mod stored;
mod table;
mod tile;
mod turned;
mod vocab;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, UserFuncName, types};
use cranelift_codegen::{Context, ir::Value as Ssa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use crate::plan::{Attention, Decode, Plan, Schedule};
use crate::target::Target;
pub use error::CodegenError;
use expr::ExprEmitter;
use pool::ConstantPool;
use vocab::{Shape, Vocab};

/// The purpose of a generated function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Makes the table of this index, over a range of its outermost loop.
    Table(usize),
    /// Loads a query tile and resets its state.
    Begin,
    /// Makes the rows of a key tile that those functions read that add it to query tiles.
    Load,
    /// Raises the references of a query tile to the key terms of some keys, with the mask evaluated per element.
    Reference,
    /// Sums the squares of each query of a tile.
    Squares,
    /// Adds a key tile that every query sees whole to a query tile of the shape with this index.
    Full(usize),
    /// Adds a key tile with the mask evaluated per element.
    Partial(usize),
    /// As [`Role::Partial`], and values that a query does not see can't reach it even if they are NaN or infinite; for query tiles of any
    /// shape.
    Guarded,
    /// Tells, in the first word of the range, whether the values of a key tile are all finite (0) or not (1).
    Scan,
    /// Normalises and stores a query tile.
    End,
}

impl Role {
    /// Whether the function is plain loops, whose addresses Cranelift's mid-end moves out.
    fn is_plain_loop(self) -> bool {
        matches!(self, Role::Table(_) | Role::Begin | Role::Load | Role::Squares | Role::End)
    }

    /// The function's name; of those that come in several shapes, with the index of the shape.
    pub fn name(self) -> String {
        match self {
            Role::Table(index) => format!("table{index}"),
            Role::Begin => "tile_begin".to_owned(),
            Role::Load => "tile_load".to_owned(),
            Role::Reference => "tile_reference".to_owned(),
            Role::Squares => "tile_squares".to_owned(),
            Role::Full(shape) => format!("tile_full{shape}"),
            Role::Partial(shape) => format!("tile_partial{shape}"),
            Role::Guarded => "tile_guarded".to_owned(),
            Role::Scan => "tile_scan".to_owned(),
            Role::End => "tile_end".to_owned(),
        }
    }
}

/// The CLIF functions of a plan.
#[derive(Clone, Debug)]
pub struct Clif {
    /// The functions and what they are for.
    pub functions: Vec<(Role, Function)>,
    /// Constants of vector code: each goes, repeated to 64 bytes, to the end of the scratch memory.
    pub constants: Vec<u32>,
}

/// A function as machine code.
#[derive(Clone, Debug)]
pub struct MachineFunction {
    /// Its purpose.
    pub role: Role,
    /// The code; its entry is at the start. Position-independent.
    pub bytes: Vec<u8>,
    /// The disassembly.
    pub assembly: String,
}

/// The machine code of a plan.
#[derive(Clone, Debug)]
pub struct MachineCode {
    /// The functions, in the order of the CLIF.
    pub functions: Vec<MachineFunction>,
    /// Constants of vector code: each goes, repeated to 64 bytes, to the end of the scratch memory.
    pub constants: Vec<u32>,
}

/// Emits the CLIF of a plan.
///
/// # Errors
/// [`CodegenError`] if the plan is for another machine or an op can't be emitted; with debug assertions, if a function does not verify.
pub fn emit(plan: &Plan, target: &Target) -> Result<Clif, CodegenError> {
    if plan.machine != target.machine() {
        return Err(CodegenError::Machine { plan: plan.machine, target: target.machine() });
    }
    let cx = (plan, target);
    let mut pool = ConstantPool::new(plan.scratch.constants);
    let mut builders = FunctionBuilderContext::new();
    let mut functions = Vec::new();
    for (index, step) in plan.tables.iter().enumerate() {
        let role = Role::Table(index);
        let shape = Shape { lanes: 1, double: step.double, fma: plan.machine.has_fma() };
        let function = function(cx, role, functions.len(), shape, &mut pool, &mut builders, |emitter| {
            table::table(emitter, index, step)
        })?;
        functions.push((role, function));
    }
    if let Some(attention) = &plan.attention {
        for role in roles(plan, attention) {
            let is_end = role == Role::End;
            let lanes = if is_end { 1 } else { plan.machine.lanes };
            let shape = Shape { lanes, double: is_end, fma: plan.machine.has_fma() };
            let function =
                function(cx, role, functions.len(), shape, &mut pool, &mut builders, |emitter| match &plan.schedule {
                    Schedule::Prefill(_) => prefill(emitter, attention, role),
                    Schedule::Decode(schedule) => decode(emitter, attention, schedule, role),
                })?;
            functions.push((role, function));
        }
    }
    let constants = pool.into_bits().ok_or_else(|| CodegenError::Constants { graph: plan.graph.name.clone() })?;
    Ok(Clif { functions, constants })
}

/// The functions of an attention, in their order.
fn roles(plan: &Plan, attention: &Attention) -> Vec<Role> {
    let masked = !attention.masks.is_empty();
    let mut roles = vec![Role::Begin];
    if plan.loads_rows() {
        roles.push(Role::Load);
    }
    if plan.raises_references(attention) {
        roles.push(Role::Reference);
    }
    if attention.pruning.is_some() && !attention.products.is_empty() {
        roles.push(Role::Squares);
    }
    for shape in 0..plan.tiling.shapes.len() {
        roles.push(Role::Full(shape));
        if masked {
            roles.push(Role::Partial(shape));
        }
    }
    if !attention.reductions.is_empty() {
        roles.extend([Role::Guarded, Role::Scan]);
    }
    roles.push(Role::End);
    roles
}

/// Emits a function of the prefill schedule.
fn prefill(emitter: &mut ExprEmitter<'_, '_>, attention: &Attention, role: Role) -> Result<(), CodegenError> {
    let keys = |emitter: &mut ExprEmitter<'_, '_>, index: usize, masked: bool, guarded: bool| {
        tile::keys(emitter, attention, emitter.plan.tiling.shapes[index], tile::Mode { masked, guarded })
    };
    match role {
        Role::Begin => tile::begin(emitter, attention),
        Role::Load => tile::load(emitter, attention),
        Role::Reference => tile::reference(emitter, attention),
        Role::Squares => tile::squares(emitter, attention),
        Role::Full(index) => keys(emitter, index, false, false),
        Role::Partial(index) => keys(emitter, index, true, false),
        Role::Guarded => keys(emitter, 0, true, true),
        Role::End => tile::end(emitter, attention),
        Role::Scan | Role::Table(_) => tile::scan(emitter, attention),
    }
}

/// Emits a function of the decode schedule, which prunes nothing.
fn decode(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    schedule: &Decode,
    role: Role,
) -> Result<(), CodegenError> {
    let keys = |emitter: &mut ExprEmitter<'_, '_>, masked: bool, guarded: bool| {
        tile::decode::keys(emitter, attention, schedule, tile::Mode { masked, guarded })
    };
    match role {
        Role::Begin => tile::decode::begin(emitter, attention, schedule),
        Role::Reference => tile::decode::reference(emitter, attention, schedule),
        Role::Full(_) => keys(emitter, false, false),
        Role::Partial(_) => keys(emitter, true, false),
        Role::Guarded => keys(emitter, true, true),
        Role::End => tile::decode::end(emitter, attention, schedule),
        Role::Scan | Role::Load | Role::Squares | Role::Table(_) => tile::decode::scan(emitter, attention, schedule),
    }
}

fn function(
    (plan, target): (&Plan, &Target),
    role: Role,
    index: usize,
    shape: Shape,
    pool: &mut ConstantPool,
    builders: &mut FunctionBuilderContext,
    body: impl FnOnce(&mut ExprEmitter<'_, '_>) -> Result<(), CodegenError>,
) -> Result<Function, CodegenError> {
    let mut signature = Signature::new(target.isa().default_call_conv());
    signature.params = vec![AbiParam::new(types::I64), AbiParam::new(types::I64)];
    let mut function = Function::with_name_signature(UserFuncName::user(0, index as u32), signature);
    let mut fb = FunctionBuilder::new(&mut function, builders);
    let entry = fb.create_block();
    fb.append_block_params_for_function_params(entry);
    fb.switch_to_block(entry);
    fb.seal_block(entry);
    let params: Vec<Ssa> = fb.block_params(entry).to_vec();
    let vocab = Vocab::new(&mut fb, shape, pool, params[1]);
    let mut emitter = ExprEmitter::new(plan, vocab, params[0], params[1]);
    let result = body(&mut emitter);
    fb.ins().return_(&[]);
    fb.seal_all_blocks();
    fb.finalize(target.isa().frontend_config());
    result?;
    // Both backends verify what they compile; this names a mistake before they do.
    if cfg!(debug_assertions) {
        cranelift_codegen::verify_function(&function, target.isa()).map_err(|errors| CodegenError::Backend {
            function: role.name(),
            triple: target.triple(),
            reason: errors.to_string(),
        })?;
    }
    Ok(function)
}

/// Compiles CLIF to machine code; with `disassemble`, keeps the disassembly.
///
/// # Errors
/// [`CodegenError::Backend`] if a function does not verify, Cranelift refuses it or its code is not self-contained.
pub fn assemble(clif: &Clif, target: &Target, disassemble: bool) -> Result<MachineCode, CodegenError> {
    let mut functions = Vec::with_capacity(clif.functions.len());
    let mut context = Context::new();
    for (role, function) in &clif.functions {
        let refused = |reason: String| CodegenError::Backend { function: role.name(), triple: target.triple(), reason };
        let (wide, optimises) = (target.wide_features(), role.is_plain_loop());
        if wide.is_none() || optimises {
            context.clear();
            context.func = function.clone();
        }
        if let Some(features) = wide {
            let function = if optimises {
                let done = context.optimize(target.optimising_isa(), &mut ControlPlane::default());
                done.map_err(|error| refused(words(&error)))?;
                &context.func
            } else {
                function
            };
            let code = clif_wide::compile(function, features).map_err(|error| refused(error.to_string()))?;
            let assembly = if disassemble { code.disassemble() } else { String::new() };
            functions.push(MachineFunction { role: *role, bytes: code.bytes().to_vec(), assembly });
            continue;
        }
        context.set_disasm(disassemble);
        let isa = if optimises { target.optimising_isa() } else { target.isa() };
        let compiled =
            context.compile(isa, &mut ControlPlane::default()).map_err(|error| refused(words(&error.inner)))?;
        if !compiled.buffer.relocs().is_empty() {
            return Err(refused("the target needs library calls for this kernel".to_owned()));
        }
        let assembly = compiled.vcode.clone().unwrap_or_default();
        functions.push(MachineFunction { role: *role, bytes: compiled.code_buffer().to_vec(), assembly });
    }
    Ok(MachineCode { functions, constants: clif.constants.clone() })
}

/// What Cranelift says: of a function that does not verify, each mistake.
fn words(error: &cranelift_codegen::CodegenError) -> String {
    match error {
        cranelift_codegen::CodegenError::Verifier(errors) => errors.to_string(),
        other => other.to_string(),
    }
}

impl std::fmt::Display for Clif {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (role, function) in &self.functions {
            writeln!(f, "; {}\n{function}", role.name())?;
        }
        Ok(())
    }
}

impl std::fmt::Display for MachineCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for function in &self.functions {
            writeln!(f, "; {}: {} bytes\n{}", function.role.name(), function.bytes.len(), function.assembly)?;
        }
        Ok(())
    }
}
