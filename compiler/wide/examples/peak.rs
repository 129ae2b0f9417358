//! Measures the multiply-add microkernel against the machine's peak: `cargo run --release --example peak [-- --asm]`.
//!
//! The peak is that of independent chains of multiply-adds of vectors as wide, with nothing to load.

#![allow(unsafe_code, reason = "machine code is called")]
#![allow(clippy::cast_precision_loss, reason = "counts of operations")]

use clif_wide::{Features, MachineCode, compile};
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use std::time::{Duration, Instant};

#[path = "../../../benches/common/chains.rs"]
mod chains;
#[path = "../tests/kernels/mod.rs"]
#[allow(dead_code, reason = "only one of the kernels is measured")]
mod kernels;

fn main() {
    let asm = std::env::args().any(|arg| arg == "--asm");
    let Some(features) = Features::detect() else {
        println!("this machine has neither AVX2 nor AVX-512");
        return;
    };
    let mut levels = vec![features.without_avx512()];
    if features.avx512() {
        levels.push(features);
    }
    for features in levels {
        println!("{}", if features.avx512() { "AVX-512" } else { "AVX2" });
        let tiles: &[(usize, usize, usize)] = if features.avx512() {
            &[(16, 8, 3), (16, 12, 2), (8, 8, 3), (8, 4, 3), (4, 4, 3), (4, 8, 3)]
        } else {
            &[(8, 4, 3), (8, 6, 2), (4, 4, 3), (4, 6, 2)]
        };
        for &(lanes, rows, cols) in tiles {
            let Some(peak) = chains::available().into_iter().find(|(bits, _)| *bits == 32 * lanes) else { continue };
            let tile = Measured::new(&kernels::microkernel(rows, cols, lanes), features, rows * cols * lanes);
            if asm {
                println!("{}", tile.code.disassemble());
            }
            let compiled_in = tile.compiled_in.as_micros();
            let (peak, reached) = compare(peak, &tile);
            println!(
                "  {lanes:2} lanes {rows:2}x{cols}: {reached:6.1} of {peak:6.1} GFLOP/s, {:5.1} %, compiled in {compiled_in} us",
                100.0 * reached / peak
            );
        }
    }
}

const STEPS: usize = 256;
const CALLS: usize = 50;

struct Measured {
    module: Option<JITModule>,
    code: MachineCode,
    kernel: extern "C" fn(*mut f32, *const f32, *const f32, usize),
    fma_lanes: usize,
    compiled_in: Duration,
}

impl Measured {
    fn new(text: &str, features: Features, fma_lanes: usize) -> Self {
        let func = optimised(text);
        let start = Instant::now();
        let code = compile(&func, features).unwrap_or_else(|e| panic!("{e}"));
        let compiled_in = start.elapsed();
        let isa = cranelift_native::builder().unwrap().finish(flags()).unwrap();
        let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
        let id = module.declare_function("f", Linkage::Export, &func.signature).unwrap();
        module.define_function_bytes(id, MachineCode::ALIGNMENT, code.bytes(), &[]).unwrap();
        module.finalize_definitions().unwrap();
        // SAFETY: the kernels have this signature.
        let kernel = unsafe {
            std::mem::transmute::<*const u8, extern "C" fn(*mut f32, *const f32, *const f32, usize)>(
                module.get_finalized_function(id),
            )
        };
        Self { module: Some(module), code, kernel, fma_lanes, compiled_in }
    }

    /// GFLOP/s of a short run. The operands stay in the first-level cache.
    fn run(&self, out: &mut [f32], a: &[f32], b: &[f32]) -> f64 {
        assert!(out.len() >= 64 * 16 && a.len() >= STEPS * 3 * 16 && b.len() >= STEPS * 12);
        let start = Instant::now();
        for _ in 0..CALLS {
            (self.kernel)(out.as_mut_ptr(), a.as_ptr(), b.as_ptr(), STEPS);
        }
        2.0 * (CALLS * STEPS * self.fma_lanes) as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the kernel is not called any more.
            unsafe { module.free_memory() };
        }
    }
}

/// The best of many short runs of the chains and of the tile, in turn, so that both see the same clock and the same neighbours.
fn compare((bits, chains): (usize, chains::Run), tile: &Measured) -> (f64, f64) {
    let (mut out, a, b) = (vec![0f32; 64 * 16], vec![1f32; STEPS * 3 * 16 + 16], vec![1f32; STEPS * 12]);
    // On a cache line, so that no load takes two.
    let a = &a[a.as_ptr().align_offset(64)..];
    let mut best = (0f64, 0f64);
    for _ in 0..2000 {
        let start = Instant::now();
        std::hint::black_box(chains());
        best.0 = best.0.max(chains::operations(bits) as f64 / start.elapsed().as_secs_f64() / 1e9);
        best.1 = best.1.max(tile.run(&mut out, a, &b));
    }
    best
}

fn flags() -> cranelift_codegen::settings::Flags {
    let mut flags = cranelift_codegen::settings::builder();
    cranelift_codegen::settings::Configurable::set(&mut flags, "opt_level", "speed").unwrap();
    cranelift_codegen::settings::Flags::new(flags)
}

fn optimised(text: &str) -> Function {
    let func = cranelift_reader::parse_functions(text).unwrap_or_else(|e| panic!("{e}\n{text}")).remove(0);
    let isa = cranelift_native::builder().unwrap().finish(flags()).unwrap();
    let mut context = Context::for_function(func);
    context.optimize(&*isa, &mut ControlPlane::default()).unwrap();
    context.func
}
