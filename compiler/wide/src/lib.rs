//! Compiles [Cranelift] IR with 128-, 256- and 512-bit vectors to x86-64 machine code for AVX2 with FMA, or for AVX-512.
//!
//! Cranelift's verifier and optimiser accept types such as `f32x8` and `f32x16`; its x86-64 backend stops at 128 bits. [`compile`] takes a
//! function that the verifier accepts, and gives back bytes for `cranelift_jit::JITModule::define_function_bytes`:
//!
//! ```
//! use clif_wide::{Features, MachineCode, compile};
//! use cranelift_codegen::settings;
//! use cranelift_jit::{JITBuilder, JITModule};
//! use cranelift_module::{Linkage, Module, default_libcall_names};
//!
//! # #[cfg(not(target_arch = "x86_64"))]
//! # fn main() {}
//! # #[cfg(target_arch = "x86_64")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "function %axpy(i64, i64, f32) system_v {
//! block0(v0: i64, v1: i64, v2: f32):
//!     v3 = load.f32x8 v0
//!     v4 = splat.f32x8 v2
//!     v5 = load.f32x8 v1
//!     v6 = fma v4, v5, v3
//!     store v6, v0
//!     return
//! }";
//! let func = cranelift_reader::parse_functions(text)?.remove(0);
//!
//! // None where this machine has no AVX2.
//! let Some(features) = Features::detect() else { return Ok(()) };
//! let code = compile(&func, features)?;
//!
//! let isa = cranelift_native::builder()?.finish(settings::Flags::new(settings::builder()))?;
//! let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
//! let id = module.declare_function("axpy", Linkage::Export, &func.signature)?;
//! module.define_function_bytes(id, MachineCode::ALIGNMENT, code.bytes(), &[])?;
//! module.finalize_definitions()?;
//!
//! let (mut y, x) = ([1.0f32; 8], [10.0f32; 8]);
//! let address = module.get_finalized_function(id);
//! // SAFETY: the function has this signature and touches eight floats behind each pointer.
//! unsafe {
//!     let axpy: unsafe extern "sysv64" fn(*mut f32, *const f32, f32) = std::mem::transmute(address);
//!     axpy(y.as_mut_ptr(), x.as_ptr(), 0.5);
//! }
//! assert_eq!(y, [6.0; 8]);
//! # unsafe { module.free_memory() };
//! # Ok(())
//! # }
//! ```
//!
//! # What is supported
//! - Vectors of `f32`, `f64` and integers of 128 and 256 bits, and of 512 with AVX-512; scalars `i8` to `i64`, `f32`, `f64`.
//! - Arithmetic with `fma`, rounding, conversions, comparisons, `bitselect` and `select`, shifts by scalars, lanes and 128-bit shuffles
//!   (wider ones by calls of [`PERMUTE`], conversions of wide floats by those of [`DEMOTE`], [`PROMOTE`] and [`WIDEN`], products of pairs of
//!   `bf16` by those of [`DOT_BF16`], of integers by those of [`DOT_I16`], with [`WIDEN_BYTES`] and [`INTERLEAVE_LOW`] beside),
//!   reductions of masks, memory and stack slots, blocks with parameters, `br_table`, traps, and `call_indirect`. The snapshot of the test `support_matrix` lists operations by type and width.
//! - Prefetches: a `load.i8` whose result nothing uses becomes `prefetcht0`, which never faults, a `load.i16` `prefetcht1`, which leaves the
//!   first cache alone.
//! - The System V convention, with vectors in registers, and Windows fastcall without them. There is no unwind information.
//!
//! # Stages
//! 1. `isel`, instruction selection: one line per CLIF operation. Loads, broadcasts, constants and address arithmetic become operands of
//!    what uses them. What holds for any architecture stands beside the rules of each, `isel::x64`.
//! 2. regalloc2 allocates registers: 16 vector registers, or 32 and 7 mask registers with AVX-512. Builds with debug assertions prove each
//!    allocation with its checker.
//! 3. `isa::x64::emit` encodes with iced-x86, and `isa::x64::layout` places the code and its literal pool, `pool`.
//!
//! `isa::x64` is all that selection and emission know of x86-64: its instructions, features and calling conventions, and the tables that
//! say which instruction an operation is for a lane type and a width. `isel` imports `isa`, never the other way round.
//!
//! # What holds
//! - Whatever is outside the subset is refused with [`Unsupported`], which names it; nothing is compiled to something else.
//! - No input makes it panic: the verifier runs first.
//! - Results are those of Cranelift's own backend bit for bit, but for the bits of NaNs.
//! - The same function and features give the same bytes.
//!
//! # What to know
//! - A value in a vector comparison's result type is a mask register with AVX-512 for as long as only comparisons, `band`, `bor`, `bxor`,
//!   `bnot` and the condition of `bitselect` touch it.
//! - `bitselect(fcmp gt a, b, a, b)` is one `vmaxps`, whose result is `b` where the comparison fails; CLIF's own `fmax` takes several
//!   instructions, because NaN has to win.
//! - Memory accesses need no alignment, and one that faults is not recorded: there is no trap table. `trap` is `ud2`.
//! - Some rules of Cranelift's optimiser make integer constants and panic beyond 128 bits: `isub x, x`, `bxor x, x`, `band x, (bnot x)`,
//!   comparisons of an integer vector with itself. Do not emit those before optimising.
//!
//! [Cranelift]: https://docs.rs/cranelift-codegen

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod error;
mod isa;
mod isel;
mod lane;
mod pool;

pub use error::{Reason, Unsupported};
pub use isa::x64::features::Features;

use cranelift_codegen::ir::Function;
use cranelift_codegen::settings;
use isa::x64::function::MachineFunction;
use isa::x64::{emit, layout};
use regalloc2::{RegallocOptions, VReg};

/// The name of a function of two vectors of `f32` or `i32` and a constant, as `%permute(f32x16, f32x16, i32x16) -> f32x16`: its calls are
/// instructions. The result has the lanes that the constant numbers, through the first vector and on through the second. It is as long as
/// they are, or one quarter of a longer one: four lanes from a multiple of four on. Without AVX-512 its quarters are such, or take the
/// same lanes of the same quarters, as `vshufps` and `vunpcklps` can.
///
/// CLIF's own `shuffle` is for 128 bits.
pub const PERMUTE: &str = "permute";

/// The name of a function from a vector of `f64` to one of as many `f32`, as `%demote(f64x8) -> f32x8`: its calls are instructions. Lanes are
/// rounded as by `fdemote`.
pub const DEMOTE: &str = "demote";

/// The name of a function from a vector of `f32` to one of as many `f64`: as [`DEMOTE`], the other way round.
pub const PROMOTE: &str = "promote";

/// The name of a function from a vector of 8 or 16 `i16`, which hold the bits of floats of 16 bits (binary16 of IEEE 754), to one of as many
/// `f32`: as [`DEMOTE`]. Every such float is one of single precision, subnormal ones too; a signalling NaN becomes quiet.
pub const WIDEN: &str = "widen";

/// The name of a function of sums and two vectors of pairs of `bf16`, as `%dot_bf16(f32x16, i32x16, i32x16) -> f32x16`: its calls are
/// instructions, of 128, 256 or 512 bits, with AVX512_BF16 alone. To each sum both products of a pair are added, the second first: that of the
/// upper halves, then that of the lower halves, each rounded once. Subnormal numbers count as 0, and a subnormal sum becomes 0.
pub const DOT_BF16: &str = "dot_bf16";

/// The name of a function of sums and two vectors of pairs of signed 16 bits, as `%dot_i16(i32x16, i32x16, i32x16) -> i32x16`: its calls are
/// instructions, of 128, 256 or 512 bits, with AVX512_VNNI alone. To each sum both products of a pair are added; what passes 32 bits wraps.
pub const DOT_I16: &str = "dot_i16";

/// The name of a function from a vector of signed bytes to one of pairs of 16 bits, as `%widen_bytes(i8x32) -> i32x16`: its calls are
/// instructions. Bytes of fewer than 128 bits have to be loaded, for this alone.
pub const WIDEN_BYTES: &str = "widen_bytes";

/// The name of a function of two vectors of pairs of 16 bits, as `%interleave_low(i32x16, i32x16) -> i32x16`: its calls are instructions. Each
/// quarter of the result has the elements of the lower halves of the same quarters in turn, those of the first vector in the lower bits.
pub const INTERLEAVE_LOW: &str = "interleave_low";

/// As [`INTERLEAVE_LOW`], of the upper halves.
pub const INTERLEAVE_HIGH: &str = "interleave_high";

/// The machine code of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineCode {
    bytes: Vec<u8>,
    code_len: usize,
}

impl MachineCode {
    /// What the code has to be aligned to.
    pub const ALIGNMENT: u64 = 64;

    /// The code and, behind it, its literal pool. It can be copied to any address that is a multiple of [`MachineCode::ALIGNMENT`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of code before the literal pool.
    #[must_use]
    pub fn code_len(&self) -> usize {
        self.code_len
    }

    /// The code in Intel syntax, one instruction to a line behind its offset. Numbers are hexadecimal, literals named by their offset.
    #[must_use]
    pub fn disassemble(&self) -> String {
        use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
        let mut formatter = IntelFormatter::new();
        formatter.options_mut().set_rip_relative_addresses(false);
        formatter.options_mut().set_branch_leading_zeros(false);
        let mut text = String::new();
        let code = self.bytes.get(..self.code_len).unwrap_or_default();
        for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
            let mut line = format!("{:5x}: ", instruction.ip());
            formatter.format(&instruction, &mut line);
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Compiles a function that Cranelift's verifier accepts.
///
/// # Errors
/// [`Unsupported`] names the first instruction, type or signature that is outside the supported subset.
pub fn compile(func: &Function, features: Features) -> Result<MachineCode, Unsupported> {
    let whole = |reason| Unsupported::function(func, reason);
    let flags = settings::Flags::new(settings::builder());
    cranelift_codegen::verify_function(func, &flags).map_err(|errors| whole(Reason::Invalid(errors.to_string())))?;
    let mut lowered = isel::x64::lower(func, features)?;
    if lowered.num_vregs > VReg::MAX {
        return Err(whole(Reason::Allocation("the function has too many values".into())));
    }
    let blocks = std::mem::take(&mut lowered.blocks);
    let vector_slots = lowered.width.bytes() as usize / 8;
    let machine = MachineFunction::new(blocks, lowered.num_vregs, vector_slots);
    let env = lowered.abi.machine_env(features);
    let options = RegallocOptions { validate_ssa: cfg!(debug_assertions), ..RegallocOptions::default() };
    let output =
        regalloc2::run(&machine, &env, &options).map_err(|error| whole(Reason::Allocation(error.to_string())))?;
    #[cfg(debug_assertions)]
    check(&machine, &env, &output).map_err(|error| whole(Reason::Allocation(error)))?;
    let (items, text) = emit::emit(&lowered, &machine, &output, features).map_err(|failure| {
        whole(match failure {
            emit::Failure::Frame(bytes) => Reason::Frame(bytes),
            emit::Failure::Encoding(error) => Reason::Encoding(error),
        })
    })?;
    let assembled = layout::assemble(&items, &text, &lowered.pool);
    let (bytes, code_len) = assembled.ok_or_else(|| whole(Reason::Encoding("a jump is too far".into())))?;
    Ok(MachineCode { bytes, code_len })
}

/// An independent proof that every operand reads what it should.
#[cfg(debug_assertions)]
fn check(machine: &MachineFunction, env: &regalloc2::MachineEnv, output: &regalloc2::Output) -> Result<(), String> {
    let mut checker = regalloc2::checker::Checker::new(machine, env);
    checker.prepare(output);
    checker.run().map_err(|errors| format!("{errors:?}"))
}
