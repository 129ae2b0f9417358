//! Runs machine code. All `unsafe` of the tests is here.
#![allow(unsafe_code, reason = "machine code is called")]

use clif_wide::{Features, MachineCode, compile};
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, default_libcall_names};
use iced_x86::{Code, Decoder, DecoderOptions};

/// Cranelift for this machine.
pub(crate) fn host_isa() -> OwnedTargetIsa {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed").unwrap();
    flags.set("enable_verifier", "true").unwrap();
    cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap()
}

pub(crate) fn parse(text: &str) -> Function {
    let mut functions = cranelift_reader::parse_functions(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(functions.len(), 1);
    functions.remove(0)
}

/// What Cranelift's optimiser makes of a function.
pub(crate) fn optimised(func: &Function) -> Function {
    let mut context = Context::for_function(func.clone());
    context.optimize(&*host_isa(), &mut ControlPlane::default()).unwrap_or_else(|e| panic!("{e}\n{func}"));
    context.func
}

/// As [`optimised`], or `None` where Cranelift's optimiser panics: some of its rules (`isub x, x`, `bxor x, x`, a comparison of a value with
/// itself) make integer constants, and those rules end at 128 bits.
pub(crate) fn try_optimised(func: &Function) -> Option<Function> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| optimised(func))).ok()
}

/// Compiles, and reads back every byte that was emitted.
pub(crate) fn wide(func: &Function, features: Features) -> MachineCode {
    let code = compile(func, features).unwrap_or_else(|e| panic!("{e}\n{func}"));
    let mut decoder = Decoder::new(64, &code.bytes()[..code.code_len()], DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        assert_ne!(instruction.code(), Code::INVALID, "at {:#x}\n{}\n{func}", instruction.ip(), code.disassemble());
    }
    assert_eq!(decoder.position(), code.code_len());
    code
}

/// A function in executable memory.
pub(crate) struct Kernel {
    module: Option<JITModule>,
    address: *const u8,
}

impl Kernel {
    fn new(define: impl FnOnce(&mut JITModule) -> FuncId) -> Self {
        let mut module = JITModule::new(JITBuilder::with_isa(host_isa(), default_libcall_names()));
        let id = define(&mut module);
        module.finalize_definitions().unwrap();
        let address = module.get_finalized_function(id);
        Self { module: Some(module), address }
    }

    pub(crate) fn wide(func: &Function, features: Features) -> Self {
        Self::from_code(func, &wide(func, features))
    }

    pub(crate) fn from_code(func: &Function, code: &MachineCode) -> Self {
        Self::new(|module| {
            let id = module.declare_function("f", Linkage::Export, &func.signature).unwrap();
            module.define_function_bytes(id, MachineCode::ALIGNMENT, code.bytes(), &[]).unwrap();
            id
        })
    }

    pub(crate) fn cranelift(func: &Function) -> Self {
        Self::new(|module| {
            let id = module.declare_function("f", Linkage::Export, &func.signature).unwrap();
            let mut context = Context::for_function(func.clone());
            module.define_function(id, &mut context).unwrap_or_else(|e| panic!("{e:?}\n{func}"));
            id
        })
    }

    pub(crate) fn address(&self) -> *const u8 {
        self.address
    }

    /// Calls a function that takes this many integers or pointers and gives one or nothing back.
    pub(crate) fn call(&self, args: &[i64]) -> i64 {
        let mut padded = [0; 8];
        padded[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e, f, g, h] = padded;
        // SAFETY: the tests compile functions of at most eight integer parameters, and pass pointers to buffers as long as these access.
        // Parameters that the function does not have are ignored by the System V convention.
        unsafe {
            let function: extern "sysv64" fn(i64, i64, i64, i64, i64, i64, i64, i64) -> i64 =
                std::mem::transmute(self.address);
            function(a, b, c, d, e, f, g, h)
        }
    }

    pub(crate) fn call_windows(&self, args: [i64; 6]) -> i64 {
        let [a, b, c, d, e, f] = args;
        // SAFETY: as above, for functions of the Windows convention.
        unsafe {
            let function: extern "win64" fn(i64, i64, i64, i64, i64, i64) -> i64 = std::mem::transmute(self.address);
            function(a, b, c, d, e, f)
        }
    }

    pub(crate) fn call_floats(&self, ints: [i64; 2], floats: [f64; 10], float: f32) -> f64 {
        let [a, b, c, d, e, f, g, h, i, j] = floats;
        // SAFETY: the tests call this with a function of exactly this signature.
        unsafe {
            type F = extern "sysv64" fn(i64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f32, i64) -> f64;
            let function: F = std::mem::transmute(self.address);
            function(ints[0], a, b, c, d, e, f, g, h, i, j, float, ints[1])
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the kernel owns the memory, and its address is only used by its methods.
            unsafe { module.free_memory() };
        }
    }
}

/// Feature levels of this machine, the lowest first. Empty on a machine that cannot run any.
pub(crate) fn levels() -> Vec<Features> {
    let Some(features) = Features::detect() else { return Vec::new() };
    let mut levels = vec![features.without_avx512()];
    if features.avx512() {
        levels.push(features);
    }
    levels
}

pub(crate) fn pointer<T>(slice: &mut [T]) -> i64 {
    assert!(types::I64.bytes() as usize == size_of::<usize>());
    slice.as_mut_ptr() as i64
}
